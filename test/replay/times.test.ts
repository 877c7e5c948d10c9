import { expect, test } from '@jest/globals';
import { createTimes, isOrdinary } from '../../agent/replay/times.ts';

/** What an engine is given for these seconds, and what comes back of it. */
function through(seconds: readonly number[]): { given: number[]; back: number[] } {
  const times = createTimes();
  const given = seconds.map((second, index) => times.give(second, index + 1));
  return { given, back: given.map((second, index) => second + times.lack(index + 1)) };
}

test('times that an engine holds are given as they are', () => {
  const seconds = [0, 1_700_000_000, 1, 1_990_000_000];
  expect(through(seconds)).toEqual({ given: seconds, back: seconds });
});

test('times beyond 2038 are moved together, and back', () => {
  const seconds = [2 ** 31 - 1, 2 ** 31, 2 ** 31 + 5, 2 ** 31 + 4];
  const { given, back } = through(seconds);
  expect(back).toEqual(seconds);
  expect(given.map((second) => second - (given[0] ?? 0))).toEqual([0, 1, 6, 5]);
  expect(given.every(isOrdinary)).toBe(true);
});

test('jumps over decades, back and forth, are moved each', () => {
  const seconds = [2 ** 32 - 1, 0, 2 ** 32 - 1, 1_700_000_000, 2 ** 31 + 1, 5];
  const { given, back } = through(seconds);
  expect(back).toEqual(seconds);
  expect(given.every(isOrdinary)).toBe(true);
});

test('an alert of no record has the last move', () => {
  const times = createTimes();
  const given = times.give(2 ** 32 - 1, 1);
  expect(given + times.lack(undefined)).toBe(2 ** 32 - 1);
});
