import { expect, test } from '@jest/globals';
import { simulate } from './run.ts';
import { brokenSeeds } from './seeds.ts';

// The others are in more-seeds.test.ts, which another worker runs meanwhile.
test('from an engine to a destination, no alert is lost and none is told of twice, on 250 seeds', async () => {
  expect(await brokenSeeds(1, 250)).toEqual([]);
});

test('a seed replays exactly', async () => {
  const calls: string[][] = [[], []];
  for (const trace of calls) await simulate(7, (line) => trace.push(line));
  expect(calls[0]?.length).toBeGreaterThan(100);
  expect(calls[0]).toEqual(calls[1]);
});
