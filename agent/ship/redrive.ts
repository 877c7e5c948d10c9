/**
 * Sends once more what a destination refused: takes a sink's dead letters, and puts back those that are refused again.
 */
import type { EeEvent } from '../events/event.ts';
import { systemClock } from '../files/clock.ts';
import {
  appendDeadLetters,
  takeDeadLetters,
  type DeadLetter,
  type LetterSystem,
  type TakingSystem,
} from './dead-letter.ts';
import { SendError, type Destination, type Item, type Outcome } from './destination.ts';

export interface Redriven {
  letters: number;
  /** With duplicates: those that had been there already. */
  delivered: number;
  duplicates: number;
  /** Put back because they were refused again. */
  refused: number;
  /** Put back because they could not be sent now. */
  left: number;
  /** Old letters that had to go for those that were put back. */
  evicted: number;
  /** Why some are left. */
  problem?: string;
}

const BATCH = 500;
/** After each try but the last; milliseconds. */
const PAUSES = [500, 1000, 2000, 4000];

const INTERRUPTED: Outcome = { is: 'retry', reason: 'it was interrupted' };
const UNKNOWN: Outcome = { is: 'retry', reason: 'the destination did not tell what became of it' };

export interface RedriveOptions {
  /** Of the dead letters. */
  directory: string;
  /** Bytes that those put back may take. */
  maxSize: number;
  destination: Destination;
  signal: AbortSignal;
  onProgress?: (counts: Readonly<Redriven>) => void;
  pauses?: readonly number[];
  now?: () => number;
  system?: TakingSystem & LetterSystem;
}

/**
 * Sends all dead letters once more, and puts back what is refused or can't be sent. Once a batch can't be sent, or when
 * the signal is aborted, the rest is put back as it is. A letter is put back before the taken ones are deleted: killed
 * or failed in between, the next redrive sends them all again.
 * @throws JournalError when letters can't be taken or put back.
 */
export async function redriveLetters(options: RedriveOptions): Promise<Redriven> {
  const { directory, signal, onProgress, system } = options;
  const counts: Redriven = { letters: 0, delivered: 0, duplicates: 0, refused: 0, left: 0, evicted: 0 };
  const deadLetters = await takeDeadLetters(directory, undefined, system);
  let complete = false;
  try {
    for await (const letters of batches(deadLetters.letters, BATCH)) {
      const goesOn = counts.problem === undefined && !signal.aborted;
      const outcomes = goesOn ? await deliver(options, letters) : letters.map(() => INTERRUPTED);
      const back = settle(letters, outcomes, counts, options.now);
      if (back.length > 0) counts.evicted += await putBack(options, back);
      onProgress?.(counts);
    }
    complete = true;
  } finally {
    if (complete) await deadLetters.done();
    else deadLetters.release();
  }
  return counts;
}

/** Counts them. @returns those that are put back. */
function settle(
  letters: readonly DeadLetter[],
  outcomes: readonly Outcome[],
  counts: Redriven,
  now = Date.now,
): DeadLetter[] {
  counts.letters += letters.length;
  return letters.flatMap((letter, index): DeadLetter[] => {
    const outcome = outcomes[index] ?? UNKNOWN;
    if (outcome.is === 'delivered') {
      counts.delivered += 1;
      if (outcome.duplicate === true) counts.duplicates += 1;
      return [];
    }
    if (outcome.is === 'retry') {
      counts.left += 1;
      counts.problem ??= outcome.reason;
      return [letter];
    }
    counts.refused += 1;
    return [refusedAgain(letter, outcome, now())];
  });
}

function refusedAgain(
  letter: DeadLetter,
  { reason, status }: Extract<Outcome, { is: 'rejected' }>,
  now: number,
): DeadLetter {
  const { number, event, attempts } = letter;
  if (event === undefined) return letter;
  const time = new Date(now).toISOString();
  return { number, event, time, reason, attempts: attempts + 1, ...(status === undefined ? {} : { status }) };
}

/** @returns how many old ones had to go for them. */
async function putBack(
  { directory, maxSize, now = Date.now, system }: RedriveOptions,
  letters: readonly DeadLetter[],
): Promise<number> {
  const put = { directory, maxSize, letters, ...(system === undefined ? {} : { system, now }) };
  return (await appendDeadLetters(put)).evicted;
}

/** An outcome for each letter; retry only after the last try. */
async function deliver(
  { destination, signal, pauses = PAUSES, system }: RedriveOptions,
  letters: readonly DeadLetter[],
): Promise<Outcome[]> {
  const { clock } = system ?? { clock: systemClock };
  const outcomes: Outcome[] = letters.map(({ event, reason }) =>
    event === undefined ? { is: 'rejected', reason } : INTERRUPTED,
  );
  for (let attempt = 0; attempt <= pauses.length && !signal.aborted; attempt++) {
    const open = letters.flatMap(({ number, event }, index) => {
      if (event === undefined || outcomes[index]?.is !== 'retry') return [];
      const { record } = event as Partial<EeEvent>;
      return [{ index, item: { number, id: String(record?.event_id), json: JSON.stringify(event) } }];
    });
    if (open.length === 0) break;
    const sent = await send(
      destination,
      open.map(({ item }) => item),
      signal,
    );
    for (const [position, { index }] of open.entries()) outcomes[index] = sent[position] ?? UNKNOWN;
    const pause = pauses[attempt];
    if (pause === undefined || !outcomes.some(({ is }) => is === 'retry')) break;
    await clock.wait(pause, signal);
  }
  return outcomes;
}

/** A batch that is refused as a whole is halved until it is known whose fault it is. */
async function send(destination: Destination, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  try {
    return await destination.send(items, signal);
  } catch (error) {
    if (signal.aborted) return items.map(() => INTERRUPTED);
    if (!(error instanceof SendError)) throw error;
    const reason = error.message;
    if (error.failure !== 'too_large' && error.failure !== 'refused') return items.map(() => ({ is: 'retry', reason }));
    if (items.length === 1) return [{ is: 'rejected', reason }];
    const half = Math.ceil(items.length / 2);
    return [
      ...(await send(destination, items.slice(0, half), signal)),
      ...(await send(destination, items.slice(half), signal)),
    ];
  }
}

async function* batches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    if (batch.push(item) < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}
