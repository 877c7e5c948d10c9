// Runs jest on ES modules, with this process's arguments. The tests on a whole cluster run only when they are asked
// for.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';

const jest = createRequire(import.meta.url).resolve('jest/bin/jest');
const args = process.argv.slice(2);
const chosen = args.indexOf('--selectProjects');
if (chosen === -1 && !args.some((arg) => arg.startsWith('--selectProjects='))) args.push('--ignoreProjects', 'cluster');
// jest takes all that follows, up to a flag, for projects: what looks like a path ends the list.
const end = args.findIndex((arg, index) => index > chosen && /^-|[/.]/.test(arg));
if (chosen !== -1 && end !== -1 && !args[end]?.startsWith('-')) args.splice(end, 0, '--testPathPatterns');
const { status } = spawnSync(
  process.execPath,
  ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning', jest, ...args],
  { stdio: 'inherit', env: { ...process.env, NODE_ENV: 'test' } },
);
process.exit(status ?? 1);
