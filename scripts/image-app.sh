#!/bin/sh
# Steps of the Dockerfile's build stages, in the folder that becomes /opt/dpi-agent of the image:
#   image-app.sh install    packages, with node-pcap's native code for this stage's libc
#   image-app.sh compile    the native capture, TypeScript and the page to dist/, then all that the agent does not need
#                           to run is removed
set -eu
case "$1" in
  install)
    # The headers that this Node came with, instead of a download.
    npm_config_nodedir="$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")" npm ci --no-audit --no-fund
    test -f node_modules/pcap/build/Release/pcap_binding.node
    ;;
  compile)
    node scripts/native.mjs
    strip dist/native/capture.node
    node node_modules/typescript/bin/tsc -p tsconfig.build.json --sourceMap false
    node node_modules/vite/bin/vite.js build --config bundle.config.mjs --logLevel warn
    node node_modules/vite/bin/vite.js build web --config web/vite.config.mjs --logLevel warn
    npm prune --omit=dev --ignore-scripts --no-audit --no-fund
    mv node_modules/pcap/build/Release/pcap_binding.node /tmp/
    rm -rf node_modules/pcap/build node_modules/nan node_modules/.bin node_modules/.package-lock.json
    find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
    mkdir -p node_modules/pcap/build/Release
    mv /tmp/pcap_binding.node node_modules/pcap/build/Release/
    strip node_modules/pcap/build/Release/pcap_binding.node
    rm -rf agent native web scripts bundle.config.mjs package-lock.json tsconfig.json tsconfig.build.json
    ;;
  *)
    echo "image-app.sh: install or compile, not $1" >&2
    exit 2
    ;;
esac
