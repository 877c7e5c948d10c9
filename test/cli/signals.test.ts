import { afterEach, expect, test } from '@jest/globals';
import { abortedBySignal, untilAborted } from '../../agent/cli/signals.ts';

afterEach(() => {
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.removeAllListeners(name);
});

test('the first signal ends a command, and a second one does not kill it on the way', async () => {
  const signal = abortedBySignal();
  expect(signal.aborted).toBe(false);
  process.emit('SIGTERM');
  await untilAborted(signal);
  expect(signal.reason).toBe('SIGTERM');
  process.emit('SIGINT');
  expect(signal.reason).toBe('SIGTERM');
  // Where nobody listens, a signal kills.
  for (const name of ['SIGTERM', 'SIGINT'] as const) expect(process.listenerCount(name)).toBe(1);
});
