# Two images of the agent, each with its engine:
#   docker build -t dpi-agent .                               Snort 3, on Alpine (the default)
#   docker build -t dpi-agent --target suricata .             Suricata 7, on Debian
# Base images are arguments, for a mirror or for a machine that reaches no registry (scripts/image.ts makes them itself).
#
# Who runs as what: the container starts as root, because capture needs CAP_NET_RAW and only root can give the engine a user of its
# own. The engine, which parses hostile bytes, runs as nobody (65534) without capabilities, in a network namespace without interfaces.
# Started with another user (`--user`), everything runs as that one: `check`, `explain` and `replay` need no more.
ARG ALPINE_NODE=node:24-alpine3.22
ARG ALPINE=alpine:3.22
ARG DEBIAN_NODE=node:24-bookworm-slim
ARG DEBIAN=debian:bookworm-slim

# --- Build, once for each libc: the capture has native code -------------------------------------------------------------
FROM ${ALPINE_NODE} AS build-alpine
RUN apk add --no-cache g++ libpcap-dev linux-headers make python3
WORKDIR /opt/dpi-agent
COPY package.json package-lock.json ./
COPY scripts/image-app.sh scripts/native.mjs scripts/
RUN sh scripts/image-app.sh install
COPY tsconfig.json tsconfig.build.json bundle.config.mjs ./
COPY agent agent
COPY native native
COPY web web
RUN sh scripts/image-app.sh compile
COPY bin bin
COPY rules rules
COPY LICENSE ./

FROM ${DEBIAN_NODE} AS build-debian
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends g++ libpcap-dev make python3 >/dev/null \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/dpi-agent
COPY package.json package-lock.json ./
COPY scripts/image-app.sh scripts/native.mjs scripts/
RUN sh scripts/image-app.sh install
COPY tsconfig.json tsconfig.build.json bundle.config.mjs ./
COPY agent agent
COPY native native
COPY web web
RUN sh scripts/image-app.sh compile
COPY bin bin
COPY rules rules
COPY LICENSE ./

# --- Suricata on Debian -------------------------------------------------------------------------------------------------
FROM ${DEBIAN} AS suricata
# Debian 12 has Suricata in its backports only; that suite has the main one's address and key. setpriv and unshare (util-linux) are
# parts of every Debian.
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get update -qq; \
    suite="$(. /etc/os-release && echo "$VERSION_CODENAME")"; \
    if apt-cache policy suricata | grep -q 'Candidate: [0-9]'; then from="$suite"; else \
      from="$suite-backports"; \
      uri="$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $suite" | head -n 1)"; \
      echo "deb $uri $from main" > /etc/apt/sources.list.d/backports.list; \
      apt-get update -qq; \
    fi; \
    apt-get install -qq -y --no-install-recommends -t "$from" suricata libpcap0.8 libstdc++6 libatomic1 util-linux >/dev/null; \
    suricata -V | grep -Eq 'Suricata version ([7-9]|[1-9][0-9])\.' || { echo "Suricata 7 is needed, this is: $(suricata -V)"; exit 1; }; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log
COPY --from=build-debian /usr/local/bin/node /usr/local/bin/node
COPY --from=build-debian /opt/dpi-agent /opt/dpi-agent
RUN ln -s /opt/dpi-agent/bin/dpi-agent.js /usr/local/bin/dpi-agent && dpi-agent --version \
 && node -e "process.dlopen({ exports: {} }, '/opt/dpi-agent/dist/native/capture.node')"
LABEL org.opencontainers.image.title="dpi-agent" \
      org.opencontainers.image.description="Deep packet inspection for Kubernetes pods, with Suricata 7" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
EXPOSE 9097 9098
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9097/health').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/opt/dpi-agent/bin/dpi-agent.js"]
CMD ["run"]

# --- Snort 3 on Alpine: the default -------------------------------------------------------------------------------------
FROM ${ALPINE} AS snort
# BusyBox has id, but a setpriv that can't change users.
RUN apk add --no-cache libpcap libstdc++ setpriv snort util-linux-misc \
 && { snort -V 2>&1 | grep -q 'Version 3\.' || { echo "Snort 3 is needed, this is: $(snort -V 2>&1)"; exit 1; }; } \
 && { test -f /etc/snort/snort.lua || test -f /usr/etc/snort/snort.lua; }
COPY --from=build-alpine /usr/local/bin/node /usr/local/bin/node
COPY --from=build-alpine /opt/dpi-agent /opt/dpi-agent
RUN ln -s /opt/dpi-agent/bin/dpi-agent.js /usr/local/bin/dpi-agent && dpi-agent --version \
 && node -e "process.dlopen({ exports: {} }, '/opt/dpi-agent/dist/native/capture.node')"
LABEL org.opencontainers.image.title="dpi-agent" \
      org.opencontainers.image.description="Deep packet inspection for Kubernetes pods, with Snort 3" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
EXPOSE 9097 9098
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9097/health').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/opt/dpi-agent/bin/dpi-agent.js"]
CMD ["run"]
