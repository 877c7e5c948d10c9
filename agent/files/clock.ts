/** The time by which alerts wait: the machine's own, or that of a simulation. */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Monotonic, in milliseconds. */
  now(): number;
  /** Resolves after `millis`, or at once when the signal is aborted. */
  wait(millis: number, signal: AbortSignal): Promise<void>;
  /** @returns the function that calls it off. */
  after: (millis: number, action: () => void) => () => void;
}

/** What is to come after some time keeps no process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wait: (millis, signal) => delay(millis, undefined, { signal }).catch(() => undefined),
  after(millis, action) {
    const timer = setTimeout(action, millis).unref();
    return () => clearTimeout(timer);
  },
};

/** What is to come after some time keeps the process alive. */
export const holdingClock: Clock = {
  ...systemClock,
  after(millis, action) {
    const timer = setTimeout(action, millis);
    return () => clearTimeout(timer);
  },
};
