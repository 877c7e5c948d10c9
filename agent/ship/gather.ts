/** Reads the journal on into the window, as far as there is room, and says when what was gathered is to be sent. */
import { readJournal, type Cursor } from '../journal/journal.ts';
import { listSegments } from '../journal/segment.ts';
import { append, isUnsettled, isWaiting, passOver, toEntry, toGap, type Entry, type Unsettled } from './entry.ts';
import { release } from './quiet.ts';
import { unsettledOf, type SinkState, type Window } from './state.ts';
import { attempt, rest, TICK_MILLIS } from './wait.ts';

/** Of this many batches, the window may hold what is settled but has an unsettled one before it. */
const WINDOW_BATCHES = 10;
/** Where events are held back it may hold so many in any case. */
const MAX_QUIET_ENTRIES = 10_000;

/** What the window holds, as far as it is bounded. */
interface Load {
  /** To be sent, now or once more is known of them, and their bytes. */
  events: number;
  bytes: number;
  /** Bytes of those that are held back. */
  held: number;
  /** Bytes of dead letters. */
  letters: number;
}

export async function gather(sink: SinkState): Promise<void> {
  const { window, settings } = sink;
  window.isOverfull = false;
  release(window.entries, settings.clock.now(), sink.isHurried);
  const load = loadOf(window);
  if (load.events === 0 && !hasRoom(sink, load)) release(window.entries, settings.clock.now(), true);
  const to = settings.journal.end();
  if (to.event <= window.position.event || !hasRoom(sink, load)) return;
  window.isSteady = false;
  const hasRead = await attempt(sink, 'journal', () => readOn(sink, to, load));
  window.isSteady = true;
  // Nothing there although there should be: gone by retention, or the folder can't be read.
  if (hasRead !== true && load.events === 0 && !window.isOverfull) {
    await noticeEvicted(sink);
    await rest(sink, TICK_MILLIS, false);
  }
}

/** @returns whether there was anything that had room. */
async function readOn(sink: SinkState, to: Cursor, load: Load): Promise<boolean> {
  const { window, settings, counts, stop } = sink;
  const { directory, fileSystem } = settings.journal;
  let hasRead = false;
  for await (const line of readJournal({ directory, from: window.position, to, fileSystem })) {
    const entry = toEntry(line, line.number - window.position.event, counts.delivered, settings.clock);
    if (isUnsettled(entry) && sink.takes?.(entry.state.event) === false) passOver(entry, 'filtered');
    window.isOverfull = isUnsettled(entry) && load.events > 0 && load.bytes + entry.bytes > settings.batch.batchSize;
    if (window.isOverfull) break;
    if (isUnsettled(entry) && !sink.isHurried) sink.quiet?.(entry);
    if (isUnsettled(entry)) expectMore(sink, entry);
    add(load, entry);
    if (entry.gap > 0) logEvicted(sink, entry.gap);
    hasRead = true;
    append(window.entries, entry);
    window.position = line.end;
    if (!hasRoom(sink, load) || stop.aborted) break;
  }
  return hasRead;
}

function expectMore({ settings: { late, clock } }: SinkState, entry: Unsettled): void {
  if (late === undefined) return;
  entry.late = { until: clock.now() + late.patienceMillis, waited: late.isPending(entry.state.item.id) };
}

function loadOf({ entries }: Window): Load {
  const load = { events: 0, bytes: 0, held: 0, letters: 0 };
  for (const entry of entries) add(load, entry);
  return load;
}

function add(load: Load, entry: Entry): void {
  if (isWaiting(entry) || entry.late !== undefined) {
    load.events += 1;
    load.bytes += entry.bytes;
  } else if (isUnsettled(entry)) load.held += entry.bytes;
  else load.letters += entry.bytes;
}

function hasRoom({ window, settings: { batch, quiet } }: SinkState, { events, held, letters }: Load): boolean {
  const maxEntries = Math.max(WINDOW_BATCHES * batch.batchEvents, quiet === undefined ? 0 : MAX_QUIET_ENTRIES);
  return (
    events < batch.batchEvents &&
    letters <= batch.batchSize &&
    held <= batch.batchSize &&
    window.entries.length < maxEntries
  );
}

/** Looks whether retention has passed the reader, also while the destination is away. */
export async function noticeEvicted(sink: SinkState): Promise<void> {
  const { window, settings } = sink;
  const [oldest] = await listSegments(settings.journal.directory, undefined, settings.journal.fileSystem).catch(
    () => [],
  );
  if (oldest === undefined || !window.isSteady || oldest <= window.position.event) return;
  const gap = oldest - window.position.event;
  const end = { segment: oldest, offset: 0, event: oldest };
  window.entries.push(toGap(end, gap));
  window.position = end;
  logEvicted(sink, gap);
}

function logEvicted({ settings: { name, log } }: SinkState, events: number): void {
  log.warn({ sink: name, events }, 'events were deleted by retention before they were delivered');
}

/** How long the gathered events still wait for others, in ms; with none, until the next look. */
export function dueIn({ window, settings }: SinkState, unsettled: readonly Unsettled[]): number {
  const { batch, clock } = settings;
  const [oldest] = unsettled;
  if (oldest === undefined) return TICK_MILLIS;
  const isFull = window.isOverfull || unsettled.length >= batch.batchEvents;
  if (isFull || unsettled.some(({ attempts }) => attempts > 0)) return 0;
  return oldest.gatheredAt + batch.batchMillis - clock.now();
}

/** Whether what the journal has now is worth ending a wait: the first event, or enough for a batch. */
export function isWorthWaking({ window, settings: { journal, batch } }: SinkState): boolean {
  const waiting = unsettledOf(window).length;
  return waiting === 0 || waiting + journal.end().event - window.position.event >= batch.batchEvents;
}
