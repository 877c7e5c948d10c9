/** Saves what is settled: the dead letters go to the disk, then the cursor. Counts it only then. */
import type { Progress } from './cursor.ts';
import { isUnsettled, type Entry, type Refused } from './entry.ts';
import type { SinkState, Window } from './state.ts';
import { attempt, rest, TICK_MILLIS } from './wait.ts';

/**
 * Moves the cursor over all that is settled before the first event that isn't. Tries until it is done; after a stop
 * only once: what isn't saved is sent again after the restart.
 */
export async function commit(sink: SinkState): Promise<void> {
  const { window, stop } = sink;
  const settled = settledOf(window);
  const last = settled.at(-1);
  if (last === undefined || !isWorthSaving(sink, settled)) return;
  const next = { ...advance(sink.progress, settled), cursor: last.end };
  const refused = settled.flatMap(({ state }) => (state.is === 'refused' && !state.stored ? [state] : []));
  while (!((await storeLetters(sink, refused)) && (await saveCursor(sink, next)))) {
    if (stop.aborted) return;
    await rest(sink, TICK_MILLIS, false);
  }
  sink.progress = next;
  sink.savedAt = sink.settings.clock.now();
  window.entries = window.entries.slice(settled.length);
}

function settledOf({ entries }: Window): Entry[] {
  const first = entries.findIndex(isUnsettled);
  return first === -1 ? entries.slice() : entries.slice(0, first);
}

/** Where events are only passed over, the disk is not kept busy for each of them. */
function isWorthSaving({ settings: { clock }, savedAt, stop }: SinkState, settled: readonly Entry[]): boolean {
  if (stop.aborted || clock.now() - savedAt >= TICK_MILLIS) return true;
  return settled.some(({ state }) => state.is !== 'passed over');
}

/** What is counted when these are. */
function advance(progress: Progress, settled: readonly Entry[]): Progress {
  const next = { ...progress };
  for (const { gap, state } of settled) {
    next.evicted += gap;
    if (state.is === 'refused') next.deadLettered += 1;
    if (state.is === 'passed over') {
      next.filtered += state.filtered;
      next.digested += state.digested;
    }
    if (state.is !== 'delivered') continue;
    next.delivered += 1;
    if (state.duplicate) next.duplicates += 1;
  }
  return next;
}

/** @returns whether all are on the disk. */
async function storeLetters(sink: SinkState, refused: readonly Refused[]): Promise<boolean> {
  const { name, log, io, deadLetterSize: maxSize } = sink.settings;
  const letters = refused.filter(({ stored }) => !stored).map(({ letter }) => letter);
  if (letters.length === 0) return true;
  const directory = sink.files.deadLetters;
  const result = await attempt(sink, 'dead letters', () => io.appendLetters({ directory, maxSize, letters }));
  if (result === undefined) return false;
  for (const state of refused) state.stored = true;
  sink.counts.deadLettersEvicted += result.evicted;
  log.warn({ sink: name, events: letters.length, reason: letters[0]?.reason }, 'events were set aside as dead letters');
  if (result.evicted > 0)
    log.warn({ sink: name, events: result.evicted }, 'old dead letters were deleted to make room');
  return true;
}

/** @returns whether it is on the disk. */
async function saveCursor(sink: SinkState, next: Progress): Promise<boolean> {
  const saved = await attempt(sink, 'cursor', async () => {
    await sink.settings.io.save(sink.files.cursor, next);
    return true;
  });
  return saved === true;
}
