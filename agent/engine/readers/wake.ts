/** Waits of a reader: for time, for a call, and for the system's notice that a folder changed. */
import { watch, type FSWatcher } from 'node:fs';

/** A wait that a call ends. A call between `arm` and `wait` ends the wait at once. */
export interface Wake {
  arm(): void;
  now: () => void;
  /** @returns whether a call ended it. */
  wait(millis: number): Promise<boolean>;
}

export function createWake(after: typeof afterMillis): Wake {
  let woken = false;
  let resolve: (() => void) | undefined;
  return {
    arm() {
      woken = false;
    },
    now() {
      woken = true;
      resolve?.();
    },
    async wait(millis) {
      if (woken) return true;
      await new Promise<void>((done) => {
        const callOff = after(millis, done);
        resolve = () => {
          callOff();
          done();
        };
      });
      resolve = undefined;
      return woken;
    },
  };
}

/** @returns the function that calls it off. */
export function afterMillis(millis: number, action: () => void): () => void {
  const timer = setTimeout(action, millis);
  return () => clearTimeout(timer);
}

/**
 * Tells of changes in the directory, as far as the system can: without inotify, or before the directory exists, there
 * is only the poll.
 */
export function createNotice(directory: string, changed: () => void): { start(): void; stop(): void } {
  let watcher: FSWatcher | undefined;
  const stop = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  return {
    start() {
      if (watcher) return;
      try {
        watcher = watch(directory, { persistent: false }, changed);
        watcher.on('error', stop);
      } catch {
        watcher = undefined;
      }
    },
    stop,
  };
}
