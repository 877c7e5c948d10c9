import { expect, jest, test } from '@jest/globals';
import { pino } from 'pino';
import { followLaneCount, lanesFor } from '../agent/lane-count.ts';
import type { Granted } from '../agent/observe/limits.ts';

const GIB = 2 ** 30;
const settings = (lanes: 'auto' | number) => ({ lanes, engine: { memoryLimit: 768 * 2 ** 20 } }) as never;

test.each<[string, 'auto' | number, Granted, number]>([
  ['what the configuration says, whatever the limits are', 3, { cpus: 1, memoryBytes: GIB }, 3],
  ['one without a limit', 'auto', {}, 1],
  ['one for each whole CPU', 'auto', { cpus: 3.9 }, 3],
  ['one for less than a CPU', 'auto', { cpus: 0.25 }, 1],
  ['as many as the memory does for', 'auto', { cpus: 8, memoryBytes: 2 * GIB }, 2],
  ['one where the memory does for none', 'auto', { cpus: 8, memoryBytes: GIB / 2 }, 1],
  ['64 at most', 'auto', { cpus: 200 }, 64],
])('%s', (_what, lanes, granted, count) => {
  expect(lanesFor(settings(lanes), granted)).toBe(count);
});

test('a limit that changed counts once it is the same twice, and settings at once', () => {
  jest.useFakeTimers();
  try {
    let granted: Granted = { cpus: 2 };
    const asked: number[] = [];
    const resize = (count: number): void => {
      asked.push(count);
    };
    const log = pino({ level: 'silent' });
    const followed = followLaneCount({ settings: settings('auto'), count: () => 2, resize, log, read: () => granted });
    const look = (): unknown => jest.advanceTimersByTime(5_000);
    look();
    granted = { cpus: 40 };
    look();
    granted = { cpus: 4 };
    look();
    expect(asked).toEqual([]);
    look();
    look();
    expect(asked).toEqual([4]);
    followed.change(settings(1));
    expect(asked).toEqual([4, 1]);
    look();
    look();
    followed.change(settings('auto'));
    granted = { cpus: 1 };
    look();
    look();
    expect(asked).toEqual([4, 1, 4, 1]);
    followed.stop();
    granted = { cpus: 3 };
    look();
    look();
    expect(asked).toHaveLength(4);
  } finally {
    jest.useRealTimers();
  }
});
