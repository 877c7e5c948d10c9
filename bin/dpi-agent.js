#!/usr/bin/env node
// The command's entry; the code is built into dist/ by `npm run build`.
import { existsSync } from 'node:fs';

const main = new URL('../dist/agent/cli/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('dpi-agent is not built yet: run  npm run setup\n');
  process.exit(1);
}
await import(main.href);
