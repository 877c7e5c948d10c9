import { describe, expect, test } from '@jest/globals';
import { PARTS, isPart } from './parts.ts';
import { brokenSeeds } from './seeds.ts';

// The others are in more-seeds.test.ts, which another worker runs meanwhile.
test('from an engine to a destination, no alert is lost and none is told of twice, on 120 seeds', async () => {
  expect(await brokenSeeds('alerts', 1, 120)).toEqual([]);
});

test('an update of a rule set happened whole, or not at all, on 100 seeds', async () => {
  expect(await brokenSeeds('updates', 1, 100)).toEqual([]);
});

test('no dead letter is lost by a redrive, on 60 seeds', async () => {
  expect(await brokenSeeds('letters', 1, 60)).toEqual([]);
});

test('a lock has one holder at a time, on 200 seeds', async () => {
  expect(await brokenSeeds('locks', 1, 200)).toEqual([]);
});

describe.each(Object.keys(PARTS).filter(isPart))('%s', (part) => {
  test('a seed replays exactly', async () => {
    const calls: string[][] = [[], []];
    for (const trace of calls) await PARTS[part](7, (line) => trace.push(line));
    expect(calls[0]?.length).toBeGreaterThan(30);
    expect(calls[0]).toEqual(calls[1]);
  });
});
