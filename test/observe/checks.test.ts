import { afterEach, expect, jest, test } from '@jest/globals';
import { pino } from 'pino';
import { watchClock } from '../../agent/observe/checks.ts';

afterEach(() => void jest.restoreAllMocks());

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
