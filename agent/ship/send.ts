/** Sends what is unsettled, each event once; halves a batch that is refused whole, until the guilty event is alone. */
import { countFailure, noteFailed, noteSucceeded, noteWanted } from './breaker.ts';
import { SendError, type Outcome } from './destination.ts';
import { isUnsettled, type Unsettled } from './entry.ts';
import { refuse, settle } from './settle.ts';
import type { SinkState } from './state.ts';
import { reasonOf } from './wait.ts';

/** What is to come after a send. */
type Sent = 'next' | 'halve' | 'stop';

export async function sendRound(sink: SinkState, unsettled: readonly Unsettled[]): Promise<void> {
  const { breaker, stop } = sink;
  const entries = toSend(sink, unsettled);
  const groups = [entries];
  for (let group = groups.shift(); group !== undefined && !stop.aborted; group = groups.shift()) {
    const sent = await send(sink, group);
    if (sent === 'stop') return;
    if (sent === 'halve') {
      const half = Math.ceil(group.length / 2);
      groups.unshift(group.slice(0, half), group.slice(half));
    }
  }
  if (breaker.backoffs === 0 && entries.some((entry) => isUnsettled(entry))) breaker.backoffs = 1;
}

/** All, or while the circuit is open a single one, each time another. */
function toSend({ breaker: { open } }: SinkState, unsettled: readonly Unsettled[]): readonly Unsettled[] {
  const probe = open === undefined ? undefined : unsettled[open.tries % unsettled.length];
  return probe === undefined ? unsettled : [probe];
}

async function send(sink: SinkState, group: readonly Unsettled[]): Promise<Sent> {
  const { settings, abort } = sink;
  countTry(sink, group);
  const items = group.map(({ state }) => state.item);
  let outcomes: Outcome[];
  const startedAt = performance.now();
  try {
    outcomes = await untilAborted(settings.destination.send(items, abort), abort);
  } catch (error) {
    return abort.aborted ? 'stop' : settleFailed(sink, group, error);
  }
  settings.onSent?.((performance.now() - startedAt) / 1000);
  settle(sink, group, outcomes);
  return 'next';
}

function countTry({ breaker, counts }: SinkState, group: readonly Unsettled[]): void {
  if (group.some(({ attempts }) => attempts > 0)) counts.retries += 1;
  if (breaker.open !== undefined) breaker.open.tries += 1;
  for (const entry of group) entry.attempts += 1;
}

/** Nothing is known of any of them. */
function settleFailed(sink: SinkState, group: readonly Unsettled[], error: unknown): Sent {
  const failure = error instanceof SendError ? error.failure : 'incomplete';
  const message = reasonOf(error);
  if (failure !== 'too_large' && failure !== 'refused') {
    noteFailed(sink, failure, message);
    noteWanted(sink, error instanceof SendError ? error.afterMillis : undefined);
    return 'stop';
  }
  countFailure(sink, failure, message);
  if (group.length > 1) return 'halve';
  const [only] = group;
  if (only !== undefined) refuse(sink, only, message);
  noteSucceeded(sink);
  return 'next';
}

/** A destination that ignores its signal must not hold up a stop. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let abort = (): void => undefined;
  const abortion = new Promise<never>((_, reject) => {
    abort = () => reject(new Error('the sink was stopped'));
  });
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, abortion]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
