/** The time by which alerts wait: the machine's own, or that of a simulation. */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Monotonic, in milliseconds. */
  now(): number;
  /** Resolves after `millis`, or at once when the signal is aborted. */
  wait(millis: number, signal: AbortSignal): Promise<void>;
  /** Keeps no process alive. @returns the function that calls it off. */
  after: (millis: number, action: () => void) => () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wait: (millis, signal) => delay(millis, undefined, { signal }).catch(() => undefined),
  after(millis, action) {
    const timer = setTimeout(action, millis).unref();
    return () => clearTimeout(timer);
  },
};
