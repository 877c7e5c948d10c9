/** What the sends so far say of the destination: how long to wait before the next, and whether the circuit is open. */
import type { SendFailure } from './destination.ts';
import { pendingOf, type SinkState } from './state.ts';

const FAILED_SENDS_TO_OPEN = 3;

export function countFailure({ counts }: SinkState, failure: SendFailure | 'retry', message: string): void {
  counts.failures[failure] = (counts.failures[failure] ?? 0) + 1;
  counts.lastError = message;
}

/** Of a send that settled nothing. */
export function noteFailed(sink: SinkState, failure: SendFailure | 'retry', message: string): void {
  const { breaker } = sink;
  const { name, log, clock } = sink.settings;
  countFailure(sink, failure, message);
  breaker.failedInARow += 1;
  breaker.backoffs += 1;
  if (breaker.open !== undefined || breaker.failedInARow < FAILED_SENDS_TO_OPEN) return;
  breaker.open = { since: clock.now(), tries: 0 };
  const pending = pendingOf(sink);
  log.warn({ sink: name, failure, error: message, pending }, 'events are not getting through; they wait');
}

/** Of a send that settled something. */
export function noteSucceeded({ breaker, counts, settings }: SinkState): void {
  const { name, log, clock } = settings;
  breaker.failedInARow = 0;
  breaker.backoffs = 0;
  counts.lastSuccess = clock.date().getTime();
  const { open } = breaker;
  if (open === undefined) return;
  const seconds = Math.round((clock.now() - open.since) / 1000);
  log.info({ sink: name, seconds, tries: open.tries }, 'events are getting through again');
  breaker.open = undefined;
}

/** @param millis When the destination wants to be asked again, if it said so. */
export function noteWanted({ breaker, settings: { clock } }: SinkState, millis: number | undefined): void {
  if (millis !== undefined) breaker.notBefore = Math.max(breaker.notBefore, clock.now() + millis);
}

/** How long to wait before the next send, in milliseconds. */
export function backoffMillis({ breaker, settings: { clock, random, retry } }: SinkState): number {
  const jitter = random() * Math.min(retry.max, retry.base * 2 ** Math.min(breaker.backoffs - 1, 30));
  return Math.max(jitter, breaker.notBefore - clock.now());
}
