#!/usr/bin/env node
/**
 * Runs the full fault campaign of the delivery, from the engine's file to Elasticsearch; it takes about an hour:
 *   node scripts/faults.mjs [--seed N] [further arguments of jest]
 * The seed decides the moments of the faults; by default it is a new one each time. It is printed.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const args = process.argv.slice(2);
const at = args.findIndex((arg) => arg === '--seed' || arg.startsWith('--seed='));
const [name = '', inline] = at < 0 ? [] : (args[at] ?? '').split('=');
const given = inline ?? (name === '' ? undefined : args[at + 1]);
if (at >= 0) args.splice(at, inline === undefined ? 2 : 1);
if (at >= 0 && !/^\d{1,9}$/.test(given ?? '')) {
  process.stderr.write('--seed: expected a number of at most 9 digits\n');
  process.exit(2);
}
const seed = given ?? String(Date.now() % 1_000_000_000);
process.stderr.write(`seed ${seed}\n`);
const { status } = spawnSync(
  process.execPath,
  [
    join(import.meta.dirname, 'jest.mjs'),
    '--selectProjects',
    'elasticsearch',
    '--runInBand',
    '--testPathPatterns',
    'test/faults/',
    ...args,
  ],
  { stdio: 'inherit', env: { ...process.env, DPI_AGENT_TEST_FAULTS: 'full', DPI_AGENT_TEST_FAULTS_SEED: seed } },
);
process.exit(status ?? 1);
