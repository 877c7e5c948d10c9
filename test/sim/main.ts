/**
 * `npm run test:sim -- --seeds N [--from N] [--part NAME]`, or `--seed N --part NAME [--trace]`: runs them, of all
 * parts unless one is named, and says how to run again what failed.
 */
import { parseArgs } from 'node:util';
import { isPart, PARTS, type Part } from './parts.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    part: { type: 'string' },
    trace: { type: 'boolean', default: false },
  },
});

const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count)) fail('--seeds, --from and --seed are whole numbers');
const names = Object.keys(PARTS).filter(isPart);
if (values.part !== undefined && !isPart(values.part)) fail(`--part is one of ${names.join(', ')}`);

let failed = 0;
for (const part of names) {
  if (values.part === undefined || values.part === part) failed += await runAll(part);
}
process.exit(failed === 0 ? 0 : 1);

/** @returns how many failed. */
async function runAll(part: Part): Promise<number> {
  const begin = performance.now();
  const sum: Record<string, number> = {};
  let broke = 0;
  for (let seed = from; seed < from + count; seed++) {
    const trace = values.trace ? (line: string) => process.stdout.write(`${line}\n`) : undefined;
    const { broken, digest, ...counts } = await PARTS[part](seed, trace);
    for (const [name, value] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + Number(value);
    if (values.seed !== undefined) process.stdout.write(`digest ${digest >>> 0}\n`);
    if (broken === undefined) continue;
    broke += 1;
    process.stdout.write(`seed ${seed}: ${broken}\n  npm run test:sim -- --part ${part} --seed ${seed}\n`);
  }
  const minutes = (performance.now() - begin) / 60_000;
  const facts = Object.entries(sum).map(([name, value]) => `${value} ${name}`);
  process.stdout.write(
    `${part}: ${count} seeds, ${Math.round(count / minutes)} a minute: ${broke} failed; ${facts.join(', ')}\n`,
  );
  return broke;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}
