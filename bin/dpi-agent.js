#!/usr/bin/env node
// The command's entry; the code is built into dist/ by `npm run build`.
import { statSync } from 'node:fs';

const built = (path) => {
  const { href } = new URL(path, import.meta.url);
  return { href, time: statSync(new URL(href), { throwIfNoEntry: false })?.mtimeMs ?? 0 };
};
const compiled = built('../dist/agent/cli/main.js');
// Made of what was compiled; older, it is of what was compiled before.
const bundle = built('../dist/bundle/cli.js');
if (compiled.time === 0 && bundle.time === 0) {
  process.stderr.write('dpi-agent is not built yet: run  npm run setup\n');
  process.exit(1);
}
await import(bundle.time >= compiled.time ? bundle.href : compiled.href);
