import { beforeEach, describe, expect, test } from '@jest/globals';
import { watchCanary, type Canary } from '../../agent/observe/canary.ts';

const NOW = 1_700_000_000_000;
/** A frame that came back at once. */
const WAY = { sentAt: 5, seconds: 0.04 };

let seconds: number[];
let changes: string[];

beforeEach(() => {
  seconds = [];
  changes = [];
});

function watch(isOff = false): Canary {
  return watchCanary({
    isOff,
    returned: (after) => seconds.push(after),
    changed: ({ is }) => changes.push(is),
    now: () => NOW,
  });
}

function miss(canary: Canary, times: number): void {
  for (let time = 0; time < times; time++) canary.missed();
}

test('a lane waits until a frame is back', () => {
  const canary = watch();
  expect(canary.status()).toEqual({ is: 'waiting', missed: 0 });
  canary.returned(WAY);
  expect(seconds).toEqual([0.04]);
  expect(canary.status()).toEqual({ is: 'alive', missed: 0, lastSuccess: NOW, lastSeconds: 0.04, provenAt: 5 });
});

test('a lane without frames is off, also when a proof brings one back', () => {
  const canary = watch(true);
  expect(canary.status().is).toBe('off');
  canary.returned(WAY);
  expect(canary.status().is).toBe('off');
});

test('a frame that took too long to be known is a success without a latency', () => {
  const canary = watch();
  canary.returned(WAY);
  canary.returned(undefined);
  expect(seconds).toEqual([0.04]);
  expect(canary.status()).toEqual({ is: 'alive', missed: 0, lastSuccess: NOW });
});

describe('a lane is missing', () => {
  test('after three misses in a row, and alive again after one success', () => {
    const canary = watch();
    canary.returned(WAY);
    miss(canary, 2);
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 2 });
    miss(canary, 1);
    expect(canary.status()).toMatchObject({ is: 'missing', missed: 3 });
    miss(canary, 5);
    expect(changes).toEqual(['missing']);
    canary.returned(WAY);
    expect(changes).toEqual(['missing', 'alive']);
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 8 });
  });

  test('not by misses with a success between them', () => {
    const canary = watch();
    for (let round = 0; round < 10; round++) {
      miss(canary, 2);
      canary.returned(WAY);
    }
    expect(canary.status().missed).toBe(20);
    expect(changes).toEqual([]);
  });

  test('also when none has ever come back', () => {
    const canary = watch();
    miss(canary, 3);
    expect(canary.status()).toEqual({ is: 'missing', missed: 3 });
  });
});
