/**
 * `npm run test:sim -- --seeds N [--from N]`, or `--seed N [--trace]`: runs them, and says how to run again what
 * failed.
 */
import { parseArgs } from 'node:util';
import { simulate } from './run.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
});

const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count)) {
  process.stderr.write('--seeds, --from and --seed are whole numbers\n');
  process.exit(2);
}

const begin = performance.now();
const sum: Record<string, number> = {};
const failed: number[] = [];
for (let seed = from; seed < from + count; seed++) {
  const {
    seed: _,
    broken,
    digest,
    ...counts
  } = await simulate(seed, values.trace ? (line) => process.stdout.write(`${line}\n`) : undefined);
  for (const [name, value] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + value;
  if (values.seed !== undefined) process.stdout.write(`digest ${digest >>> 0}\n`);
  if (broken === undefined) continue;
  failed.push(seed);
  process.stdout.write(`seed ${seed}: ${broken}\n  npm run test:sim -- --seed ${seed}\n`);
}
const minutes = (performance.now() - begin) / 60_000;
const facts = Object.entries(sum).map(([name, value]) => `${value} ${name}`);
process.stdout.write(
  `${count} seeds, ${Math.round(count / minutes)} a minute: ${failed.length} failed; ${facts.join(', ')}\n`,
);
process.exit(failed.length === 0 ? 0 : 1);
