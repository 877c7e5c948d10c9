/** What becomes of each event of a send that was answered: delivered, refused for good, or to be sent again. */
import { countFailure, noteFailed, noteSucceeded, noteWanted } from './breaker.ts';
import { cleanReason, type DeadLetter } from './dead-letter.ts';
import type { Outcome } from './destination.ts';
import { isUnsettled, type Entry, type Unsettled } from './entry.ts';
import type { SinkState } from './state.ts';

/** How often an event may be asked to wait while others went through. */
const MAX_STRIKES = 8;
const NO_OUTCOME: Outcome = { is: 'retry', reason: 'the destination gave no outcome' };

/** @param outcomes Of each of the group, in order. */
export function settle(sink: SinkState, group: readonly Unsettled[], outcomes: readonly Outcome[]): void {
  countDelivered(
    sink,
    group.filter((_, index) => outcomes[index]?.is === 'delivered'),
  );
  let left: string | undefined;
  for (const [index, entry] of group.entries()) {
    const reason = settleEntry(sink, entry, outcomes[index]);
    left ??= reason;
  }
  if (left === undefined) noteSucceeded(sink);
  else if (group.every((entry) => isUnsettled(entry))) noteFailed(sink, 'retry', cleanReason(left));
  else {
    noteSucceeded(sink);
    countFailure(sink, 'retry', cleanReason(left));
  }
}

function countDelivered({ counts, settings }: SinkState, delivered: readonly Unsettled[]): void {
  if (delivered.length === 0) return;
  counts.delivered += delivered.length;
  settings.onDelivered?.(delivered.length, Math.min(...delivered.map(({ time }) => time)));
}

/** @returns why it is to be sent again; undefined: it is settled. */
function settleEntry(sink: SinkState, entry: Unsettled, outcome = NO_OUTCOME): string | undefined {
  if (outcome.is === 'delivered') {
    become(entry, { is: 'delivered', duplicate: outcome.duplicate === true }, 0);
    return undefined;
  }
  if (outcome.is === 'rejected') {
    refuse(sink, entry, outcome.reason, outcome.status);
    return undefined;
  }
  noteWanted(sink, outcome.afterMillis);
  if (outcome.throttled !== true) countStrike(sink, entry);
  if (entry.strikes < MAX_STRIKES) return outcome.reason;
  refuse(sink, entry, `failed ${MAX_STRIKES} times while others went through: ${outcome.reason}`);
  return undefined;
}

/** Against an event that has to go again, where others went through since it last had to. */
function countStrike({ counts }: SinkState, entry: Unsettled): void {
  if (counts.delivered <= entry.seen) return;
  entry.strikes += 1;
  entry.seen = counts.delivered;
}

/** Makes a dead letter of it. @param status The destination's code, where it gave one. */
export function refuse({ settings }: SinkState, entry: Unsettled, reason: string, status?: number): void {
  const { item, event } = entry.state;
  const letter: DeadLetter = {
    time: settings.clock.date().toISOString(),
    number: item.number,
    reason: cleanReason(reason),
    ...(status === undefined ? {} : { status }),
    attempts: entry.attempts,
    event,
  };
  become(entry, { is: 'refused', letter, stored: false }, entry.bytes);
}

function become(entry: Entry, state: Entry['state'], bytes: number): void {
  entry.state = state;
  entry.bytes = bytes;
}
