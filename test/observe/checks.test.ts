import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { pino } from 'pino';
import type { Counters } from '../../agent/capture/protocol.ts';
import { watchClock, watchLimits } from '../../agent/observe/checks.ts';
import type { LimitsSeen } from '../../agent/observe/limits.ts';
import { zeroCounters } from '../../agent/capture/protocol.ts';

afterEach(() => {
  jest.restoreAllMocks();
  jest.useRealTimers();
});

test('a clock that was set is told of until that is taken', () => {
  const moved = jest.fn<(agoMicros: number) => void>();
  const clock = watchClock(moved, pino({ level: 'silent' }));
  const now = Date.now;
  jest.spyOn(Date, 'now').mockImplementation(() => now() + 3_600_000);
  moved.mockImplementationOnce(() => {
    throw new Error('no space left');
  });
  for (let check = 0; check < 3; check++) clock.check();
  clock.stop();
  expect(moved).toHaveBeenCalledTimes(2);
});

describe('a CPU limit', () => {
  /** Checks every 5 s of a clock that only `pass` moves. */
  function watched() {
    jest.useFakeTimers();
    const counters: Counters = zeroCounters();
    const seen: LimitsSeen = { cpu: { periods: 0, throttled: 0, throttledSeconds: 0 }, pressure: {} };
    const limits = watchLimits({
      endpoints: () => [{ counters }],
      log: pino({ level: 'silent' }),
      read: () => structuredClone(seen),
    });
    const pass = (throttled: number, lost: number): void => {
      if (seen.cpu !== undefined) seen.cpu = { ...seen.cpu, throttled: seen.cpu.throttled + throttled };
      counters.droppedKernel += lost;
      jest.advanceTimersByTime(5_000);
    };
    return { limits, pass };
  }

  test('that stops the agent costs the packets that are lost meanwhile, and no others', () => {
    const { limits, pass } = watched();
    pass(0, 1_000);
    pass(7, 0);
    expect(limits.limited()).toMatchObject({ lostWhileThrottled: 0 });
    expect(limits.limited().problem).toBeUndefined();
    pass(3, 40);
    pass(0, 5_000);
    expect(limits.limited()).toMatchObject({ lostWhileThrottled: 40, cpu: { throttled: 10 } });
    limits.stop();
  });

  test('is a problem for as long as it costs packets, and a minute', () => {
    const { limits, pass } = watched();
    pass(3, 40);
    expect(limits.limited().problem).toMatch(/packets are lost while the container's CPU limit stops the agent/);
    for (let check = 0; check < 11; check++) pass(1, 0);
    expect(limits.limited().problem).toBeDefined();
    pass(1, 0);
    expect(limits.limited().problem).toBeUndefined();
    limits.stop();
  });
});
