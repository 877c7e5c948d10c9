/** The time as a sink has it: tests put their own in its place. */
import { setTimeout as delay } from 'node:timers/promises';

export interface SinkClock {
  /** Monotonic, in milliseconds. */
  now(): number;
  /** The wall clock. */
  date(): Date;
  /** Resolves after `millis`, or at once when the signal is aborted. */
  wait(millis: number, signal: AbortSignal): Promise<void>;
}

export const systemClock: SinkClock = {
  now: () => performance.now(),
  date: () => new Date(),
  wait: (millis, signal) => delay(millis, undefined, { signal }).catch(() => undefined),
};
