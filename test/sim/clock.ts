/**
 * Virtual time: whoever waits is woken in the order of time, and of asking where the times are the same. Nothing waits
 * for real.
 *
 * Invariant: with the same calls, the same order. All that goes on between two steps is microtasks.
 */
import type { Clock } from '../../agent/files/clock.ts';
import type { SinkClock } from '../../agent/ship/clock.ts';

const BEGIN = Date.UTC(2026, 0, 2);

export interface VirtualClock extends SinkClock, Clock {
  /** The wall clock, ms since the epoch. */
  wall: () => number;
  sleep(millis: number): Promise<void>;
  /** As `after`, for what goes on beside the process. */
  outside(millis: number, action: () => void): void;
  /** @returns the function that ends it. */
  every: (millis: number, action: () => void) => () => void;
  /** Moves to the next that waits, and wakes it. @returns whether there was one. */
  step(): boolean;
  /** Forgets all that wait in the process: it has died. */
  clear(): void;
}

interface Timer {
  at: number;
  order: number;
  isOutside: boolean;
  action: () => void;
}

export function createClock(): VirtualClock {
  let now = 0;
  let asked = 0;
  /** The latest first. */
  let timers: Timer[] = [];

  function add(millis: number, action: () => void, isOutside: boolean): () => void {
    const timer: Timer = { at: now + Math.max(0, millis), order: asked++, isOutside, action };
    const place = timers.findLastIndex(({ at }) => at > timer.at) + 1;
    timers.splice(place, 0, timer);
    return () => {
      const index = timers.indexOf(timer);
      if (index >= 0) timers.splice(index, 1);
    };
  }

  const after = (millis: number, action: () => void): (() => void) => add(millis, action, false);

  return {
    now: () => now,
    date: () => new Date(BEGIN + now),
    wall: () => BEGIN + now,
    sleep: (millis) => new Promise((resolve) => void after(millis, resolve)),
    after,
    outside: (millis, action) => void add(millis, action, true),
    every(millis, action) {
      let end = after(millis, again);
      function again(): void {
        end = after(millis, again);
        action();
      }
      return () => end();
    },
    async wait(millis, signal) {
      if (signal.aborted) return;
      await new Promise<void>((resolve) => {
        const callOff = after(millis, () => (signal.removeEventListener('abort', abort), resolve()));
        const abort = (): void => (callOff(), resolve());
        signal.addEventListener('abort', abort, { once: true });
      });
    },
    step() {
      const timer = timers.pop();
      if (timer === undefined) return false;
      now = timer.at;
      timer.action();
      return true;
    },
    clear() {
      timers = timers.filter(({ isOutside }) => isOutside);
    },
  };
}

/** All that the last step made possible: Node takes this up when no promise is left to go on. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    process.nextTick(resolve);
  });
}
