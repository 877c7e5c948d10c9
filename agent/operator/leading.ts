/** Only a replica that leads acts: its rounds, and the client that it writes with. */
import type { Logger } from 'pino';
import { ApiError, type ApiClient } from '../kube/api.ts';
import type { Lease } from './lease.ts';

/** First and longest wait after a failure. */
const FAILURE_MILLIS = [500, 60_000] as const;

export interface RoundsOptions {
  lease: Pick<Lease, 'isLeader' | 'signal'>;
  /** Ends them. */
  signal: AbortSignal;
  /** Counts rounds of all who share it. */
  rounds: { done: number; failed: number };
  log: Logger;
}

export interface Rounds {
  /** There may be something to do. */
  changed: () => void;
}

/**
 * Runs rounds while this replica leads: after changes, after what a round asks for, and after failures.
 * @param round Resolves with the milliseconds until the next one at the latest.
 * @param settleMillis Rounds that follow each other at once become one.
 */
export function whileLeading(
  { lease, signal, rounds, log }: RoundsOptions,
  round: (signal: AbortSignal) => Promise<number>,
  settleMillis: number,
): Rounds {
  let timer: NodeJS.Timeout | undefined;
  let due = Infinity;
  let running = false;
  let failures = 0;

  function plan(millis: number): void {
    if (signal.aborted || performance.now() + millis >= due) return;
    due = performance.now() + millis;
    clearTimeout(timer);
    if (!running) timer = setTimeout(() => void run(), millis).unref();
  }

  async function run(): Promise<void> {
    due = Infinity;
    if (!lease.isLeader()) return;
    running = true;
    const next = await attempt();
    running = false;
    const soonest = due;
    due = Infinity;
    plan(Math.max(settleMillis, Math.min(next, soonest - performance.now())));
  }

  /** @returns the milliseconds until the next one. */
  async function attempt(): Promise<number> {
    try {
      const next = await round(AbortSignal.any([signal, lease.signal()]));
      if (failures > 0) log.info('a round succeeds again');
      failures = 0;
      rounds.done++;
      return next;
    } catch (error) {
      const next = Math.min(FAILURE_MILLIS[0] * 2 ** failures++, FAILURE_MILLIS[1]);
      // Read again, and compared again.
      const isRoutine = error instanceof ApiError && (error.status === 409 || error.reason === 'Aborted');
      if (!isRoutine) {
        rounds.failed++;
        if (failures === 1) log.warn({ err: error }, 'a round failed; it is tried again');
      }
      return next;
    }
  }

  return { changed: () => plan(settleMillis) };
}

/** The same client, for one who leads: a process that was stopped for a while finds out here that it no longer does. */
export function clientOfLeader(client: ApiClient, isLeader: () => boolean): ApiClient {
  const check = (): void => {
    if (!isLeader()) throw new ApiError('this replica does not lead', undefined, 'Aborted');
  };
  return {
    ...client,
    async mergePatch(path, patch, signal) {
      check();
      return client.mergePatch(path, patch, signal);
    },
    async apply(path, object, manager, signal) {
      check();
      return client.apply(path, object, manager, signal);
    },
    async create(path, object, signal) {
      check();
      return client.create(path, object, signal);
    },
    async remove(path, uid, signal) {
      check();
      return client.remove(path, uid, signal);
    },
  };
}
