/**
 * The alerts of this machine's journal: the newest in memory (a million by default), followed as they are written; the documents stay
 * on disk. Those of before are read the newest first: the page has the first of them at once, and the others as they
 * are read. Older alerts are for `dpi-agent events`.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { evidenceDirectory } from '../evidence/place.ts';
import { errorCode } from '../files/errors.ts';
import { followJournal, journalEnd, searchJournal, type FoundEvent, type Place } from '../journal/search.ts';
import { MAX_LINE_BYTES, segmentPath } from '../journal/segment.ts';
import type { Act, AlertRow } from './api.ts';
import { followKnownFlows } from './known-flows.ts';
import { openMarks, type Marks } from './marks.ts';
import { flowsOf, spanOf, valuesOf } from './memory/counts.ts';
import { groupRows } from './memory/groups.ts';
import { listRows, newestRows } from './memory/list.ts';
import { summarize } from './memory/summary.ts';
import { addRows, createTable, hasRoom, rowAt, setFlow, setMark, type Entry, type Table } from './memory/table.ts';
import { fields, flowOf, rowOf, withMark } from './row.ts';
import { SourceError, type AlertListener, type AlertSource } from './source.ts';

const LIMIT = 1_000_000;
/** Read before the page is there. */
const FIRST = 50_000;
/** Read at once. */
const BATCH = 10_000;
const RETRY_MILLIS = 1000;
/** Alerts that come within this time go to the pages together. */
const GATHER_MILLIS = 200;
const MOST_AT_ONCE = 200;

export interface JournalSourceOptions {
  directory: string;
  /** Where marks are kept. */
  marksFile: string;
  limit?: number;
  now?: () => number;
}

interface State {
  readonly directory: string;
  readonly marks: Marks;
  readonly stopping: AbortController;
  readonly listeners: Set<AlertListener>;
  readonly table: Table;
  /** Older ones are still being read. */
  reading: boolean;
  problem: string | undefined;
  /** For the listeners, and how many more there were. */
  gathered: AlertRow[];
  left: number;
  timer: NodeJS.Timeout | undefined;
}

/** Resolves when the newest that are there have been read. The folder need not be there yet. */
export async function openJournalSource(options: JournalSourceOptions): Promise<AlertSource> {
  const { directory, marksFile, limit = LIMIT, now = Date.now } = options;
  const state: State = {
    directory,
    marks: await openMarks(marksFile),
    stopping: new AbortController(),
    listeners: new Set(),
    table: createTable(limit),
    reading: false,
    problem: undefined,
    gathered: [],
    left: 0,
    timer: undefined,
  };
  const end = await quietly(() => journalEnd(directory));
  const older = end === undefined ? undefined : readBefore(state, end);
  state.reading = await nextRead(older, FIRST);
  return sourceOf(state, Promise.all([readOn(state, older), follow(state, end), followFlows(state)]), now);
}

function sourceOf(state: State, following: Promise<unknown>, now: () => number): AlertSource {
  const { directory, listeners, table } = state;
  return {
    about: { kind: 'journal', directory, limit: table.limit },
    list: async (query, scope, page) => listRows(readable(state), query, scope, page),
    matching: async (query, scope, most) => newestRows(readable(state), query, scope, most),
    summary: async (query, scope) => ({
      ...summarize(readable(state), query, scope, now()),
      ...(state.reading ? { reading: true } : {}),
    }),
    groups: async (by, query, scope) => groupRows(readable(state), by, query, scope),
    values: async (of, query, scope) => valuesOf(readable(state), of, query, scope),
    flows: async (query, scope) => flowsOf(readable(state), query, scope),
    span: async (query, scope) => spanOf(readable(state), query, scope),
    get: (ids) => find(state, ids),
    mark: (ids, act) => setMarks(state, ids, act),
    subscribe(listener) {
      listeners.add(listener);
      listener.ready();
      return () => void listeners.delete(listener);
    },
    async close() {
      state.stopping.abort();
      clearTimeout(state.timer);
      await following;
      await state.marks.close();
    },
  };
}

/** @throws SourceError where nothing can be read. */
function readable({ problem, table }: State): Table {
  if (problem !== undefined && table.size === 0) throw new SourceError(problem);
  return table;
}

/** Reads what the journal has before a place, the newest first, as far as there is room. Yields how many have been. */
async function* readBefore(state: State, end: Place): AsyncGenerator<number> {
  const { directory, table, stopping } = state;
  const { signal } = stopping;
  let batch: Entry[] = [];
  for await (const hit of searchJournal({ directory, filter: {}, order: 'newest', signal })) {
    const entry = isBefore(hit.at, end) ? entryOf(state, hit) : undefined;
    if (entry !== undefined) batch.push(entry);
    if (batch.length < Math.min(BATCH, table.limit - table.size)) continue;
    addRows(table, batch);
    batch = [];
    yield table.size;
    if (!hasRoom(table)) return;
  }
  addRows(table, batch);
}

/** Until so many have been read. @returns whether there are more. */
async function nextRead(older: AsyncGenerator<number> | undefined, count: number): Promise<boolean> {
  for (;;) {
    const read = await older?.next();
    if (read === undefined || read.done === true) return false;
    if (read.value >= count) return true;
  }
}

async function readOn(state: State, older: AsyncGenerator<number> | undefined): Promise<void> {
  if (!state.reading) return;
  // The folder may go away; what follows it says so.
  await nextRead(older, Infinity).catch(() => undefined);
  state.reading = false;
  // Pages look again.
  for (const listener of state.listeners) listener.rows([], true);
}

/** Goes on behind what was read, also when the folder goes away and comes back. */
async function follow(state: State, from: Place | undefined): Promise<void> {
  const { directory, stopping } = state;
  const { signal } = stopping;
  let next = from;
  while (!signal.aborted) {
    try {
      const search = { directory, filter: {}, signal, ...(next === undefined ? {} : { from: next }) };
      for await (const hit of followJournal(search)) {
        state.problem = undefined;
        next = { segment: hit.at.segment, offset: hit.at.offset };
        add(state, hit);
      }
    } catch (error) {
      state.problem = `can't read the journal in ${directory}: ${errorCode(error) ?? String(error)}`;
      await sleep(RETRY_MILLIS, undefined, { signal }).catch(() => undefined);
    }
  }
}

/** What is known of a flow is known later than the alert. */
function followFlows({ directory, table, stopping }: State): Promise<void> {
  return followKnownFlows({
    directory: evidenceDirectory(directory),
    signal: stopping.signal,
    wants: (eventId) => table.slots.has(eventId),
    learn(eventId, record) {
      const slot = table.slots.get(eventId);
      if (slot !== undefined) setFlow(table, slot, { ...rowAt(table, slot), ...flowOf(fields(record)) });
    },
  });
}

function entryOf({ marks }: State, { event, at }: FoundEvent): Entry | undefined {
  const id = (event.record as { event_id?: unknown }).event_id;
  const row = rowOf(event, marks.get(String(id)));
  return row === undefined ? undefined : { row, at };
}

function add(state: State, hit: FoundEvent): void {
  const entry = entryOf(state, hit);
  if (entry === undefined) return;
  for (const row of addRows(state.table, [entry])) announce(state, row);
}

function announce(state: State, row: AlertRow): void {
  if (state.listeners.size === 0) return;
  if (state.gathered.length < MOST_AT_ONCE) state.gathered.push(row);
  else state.left += 1;
  state.timer ??= setTimeout(() => announceGathered(state), GATHER_MILLIS);
}

function announceGathered(state: State): void {
  const { gathered, left, listeners, table } = state;
  // As they are by now: one may have been marked meanwhile.
  const rows = gathered.map((row) => {
    const slot = table.slots.get(row.id);
    return slot === undefined ? row : rowAt(table, slot);
  });
  state.gathered = [];
  state.left = 0;
  state.timer = undefined;
  for (const listener of listeners) listener.rows(rows, left > 0);
}

async function find(
  { directory, table, marks }: State,
  ids: readonly string[],
): Promise<{ row: AlertRow; event: unknown; history: Act[] }[]> {
  const found = [];
  for (const id of ids) {
    const slot = table.slots.get(id);
    if (slot === undefined) continue;
    const row = rowAt(table, slot);
    const at = { segment: table.segment[slot] ?? 0, offset: table.offset[slot] ?? 0 };
    found.push({ row, event: await documentAt(directory, at), history: marks.history(id) });
  }
  return found;
}

async function setMarks({ marks, table }: State, ids: readonly string[], act: Act): Promise<void> {
  await marks.add(ids, act);
  for (const id of ids) {
    const slot = table.slots.get(id);
    if (slot !== undefined) setMark(table, slot, withMark(rowAt(table, slot), marks.get(id)));
  }
}

function isBefore(a: Place, b: Place): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset);
}

/** @returns undefined when the segment has been evicted meanwhile. */
async function documentAt(directory: string, { segment, offset }: Place): Promise<unknown> {
  const handle = await quietly(() => open(segmentPath(directory, segment), 'r'));
  if (handle === undefined) return undefined;
  try {
    let bytes = Buffer.alloc(0);
    while (bytes.length <= MAX_LINE_BYTES) {
      const buffer = Buffer.allocUnsafe(1 << 17);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset + bytes.length);
      bytes = Buffer.concat([bytes, buffer.subarray(0, bytesRead)]);
      const end = bytes.indexOf(0x0a);
      if (end !== -1) return JSON.parse(bytes.toString('utf8', 0, end)) as unknown;
      if (bytesRead === 0) return undefined;
    }
    return undefined;
  } finally {
    await handle.close();
  }
}

async function quietly<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
