import { expect, test } from '@jest/globals';
import { simulate } from './run.ts';

const SEEDS = 30;

test(`journal, cursor, dead letters and a sink keep their promises on ${SEEDS} seeds`, async () => {
  const broken = [];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = await simulate(seed);
    if (result.broken !== undefined) broken.push(`npm run test:sim -- --seed ${seed}    # ${result.broken}`);
  }
  expect(broken).toEqual([]);
});

test('a seed replays exactly', async () => {
  const calls: string[][] = [[], []];
  for (const trace of calls) await simulate(7, (line) => trace.push(line));
  expect(calls[0]?.length).toBeGreaterThan(100);
  expect(calls[0]).toEqual(calls[1]);
});
