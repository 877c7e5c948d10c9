/**
 * The alerts of this machine's journal: the newest 100,000 in memory, followed as they are written. About 70 MB of
 * memory when it is full; the documents stay on disk. Queries take some tens of milliseconds. Older alerts are for
 * `dpi-agent events`.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { evidenceDirectory } from '../evidence/place.ts';
import { errorCode } from '../files/errors.ts';
import { followJournal, journalEnd, searchJournal, type FoundEvent, type Place } from '../journal/search.ts';
import { MAX_LINE_BYTES, segmentPath } from '../journal/segment.ts';
import { LEVELS, type Act, type AlertRow, type Group, type Page } from './api.ts';
import { followKnownFlows } from './known-flows.ts';
import { openMarks, type Marks } from './marks.ts';
import { inScope, matches, type AlertQuery, type Scope } from './query.ts';
import { fields, flowOf, podsOf, rowOf, withMark } from './row.ts';
import { GROUPS, SourceError, type AlertListener, type AlertSource, type PageRequest } from './source.ts';
import { flowsOf, listValues, spanOf } from './counting.ts';
import { summarize } from './summarize.ts';

const LIMIT = 100_000;
/** Texts of which one copy is kept. */
const SHARED = 50_000;
const RETRY_MILLIS = 1000;
/** Alerts that come within this time go to the pages together. */
const GATHER_MILLIS = 200;
const MOST_AT_ONCE = 200;

interface Entry {
  row: AlertRow;
  /** Milliseconds since the epoch. */
  time: number;
  at: Place;
}

export interface JournalSourceOptions {
  directory: string;
  /** Where marks are kept. */
  marksFile: string;
  limit?: number;
  now?: () => number;
}

interface State {
  readonly directory: string;
  readonly limit: number;
  readonly marks: Marks;
  readonly share: (text: string) => string;
  readonly stopping: AbortController;
  readonly listeners: Set<AlertListener>;
  /** By time, oldest first. */
  entries: Entry[];
  readonly byId: Map<string, Entry>;
  problem: string | undefined;
  /** For the listeners, and how many more there were. */
  gathered: AlertRow[];
  left: number;
  timer: NodeJS.Timeout | undefined;
}

/** Resolves when what is there has been read. The folder need not be there yet. */
export async function openJournalSource(options: JournalSourceOptions): Promise<AlertSource> {
  const { directory, marksFile, limit = LIMIT, now = Date.now } = options;
  const state: State = {
    directory,
    limit,
    marks: await openMarks(marksFile),
    share: createShare(),
    stopping: new AbortController(),
    listeners: new Set(),
    entries: [],
    byId: new Map(),
    problem: undefined,
    gathered: [],
    left: 0,
    timer: undefined,
  };
  const end = await quietly(() => journalEnd(directory));
  if (end !== undefined) await readUntil(state, end);
  return sourceOf(state, Promise.all([follow(state, end), followFlows(state)]), now);
}

function sourceOf(state: State, following: Promise<unknown>, now: () => number): AlertSource {
  const { directory, limit, listeners } = state;
  return {
    about: { kind: 'journal', directory, limit },
    list: async (query, scope, page) => pageOf(entriesOf(state), query, scope, page),
    matching: async (query, scope, most) => newestOf(entriesOf(state), query, scope, most),
    summary: async (query, scope) => summarize(entriesOf(state), query, scope, now()),
    groups: async (by, query, scope) => groupsOf(entriesOf(state), by, query, scope),
    values: async (of, query, scope) => listValues(selectedRows(entriesOf(state), query, scope), of),
    flows: async (query, scope) => flowsOf(selectedRows(entriesOf(state), query, scope)),
    span: async (query, scope) => spanOf(selectedRows(entriesOf(state), query, scope)),
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
function entriesOf({ problem, entries }: State): readonly Entry[] {
  if (problem !== undefined && entries.length === 0) throw new SourceError(problem);
  return entries;
}

/** What the journal has. */
async function readUntil(state: State, end: Place): Promise<void> {
  const { directory, limit, byId, entries } = state;
  for await (const hit of searchJournal({ directory, filter: {}, order: 'newest' })) {
    if (entries.length >= limit) break;
    const entry = entryOf(state, hit);
    if (entry === undefined || !isBefore(hit.at, end)) continue;
    byId.set(entry.row.id, entry);
    entries.push(entry);
  }
  entries.sort(byTime);
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
function followFlows({ directory, byId, share, stopping }: State): Promise<void> {
  return followKnownFlows({
    directory: evidenceDirectory(directory),
    signal: stopping.signal,
    wants: (eventId) => byId.has(eventId),
    learn(eventId, record) {
      const entry = byId.get(eventId);
      if (entry !== undefined) entry.row = { ...entry.row, ...flowOf(fields(record), share) };
    },
  });
}

function entryOf({ marks, share, byId }: State, { event, at }: FoundEvent): Entry | undefined {
  const id = (event.record as { event_id?: unknown }).event_id;
  const row = rowOf(event, marks.get(String(id)), share);
  return row === undefined || byId.has(row.id) ? undefined : { row, time: Date.parse(row.timestamp), at };
}

function add(state: State, hit: FoundEvent): void {
  const { byId, entries, limit } = state;
  const entry = entryOf(state, hit);
  if (entry === undefined) return;
  byId.set(entry.row.id, entry);
  let index = entries.length;
  while (index > 0 && byTime(entries[index - 1] ?? entry, entry) > 0) index -= 1;
  entries.splice(index, 0, entry);
  if (entries.length > limit + limit / 10) {
    for (const { row } of entries.slice(0, -limit)) byId.delete(row.id);
    state.entries = entries.slice(-limit);
  }
  announce(state, entry.row);
}

function announce(state: State, row: AlertRow): void {
  if (state.listeners.size === 0) return;
  if (state.gathered.length < MOST_AT_ONCE) state.gathered.push(row);
  else state.left += 1;
  state.timer ??= setTimeout(() => announceGathered(state), GATHER_MILLIS);
}

function announceGathered(state: State): void {
  const { gathered, left, listeners } = state;
  state.gathered = [];
  state.left = 0;
  state.timer = undefined;
  for (const listener of listeners) listener.rows(gathered, left > 0);
}

function pageOf(entries: readonly Entry[], query: AlertQuery, scope: Scope, { after, size, order }: PageRequest): Page {
  const compare = order === 'time' ? byAge : bySeverity;
  const last = after === undefined ? undefined : keyOf(after);
  const rows: AlertRow[] = [];
  for (const { row } of newestFirst(entries, query, scope)) {
    if (last !== undefined && compare(row, last) >= 0) continue;
    rows.push(row);
    // By severity, the oldest may be the first.
    if (order === 'time' && rows.length > size) break;
  }
  if (order === 'severity') rows.sort((a, b) => bySeverity(b, a));
  const shown = rows.slice(0, size);
  const end = shown.at(-1);
  return { rows: shown, ...(rows.length <= size || end === undefined ? {} : { next: placeOf(end, order) }) };
}

function newestOf(entries: readonly Entry[], query: AlertQuery, scope: Scope, limit: number): AlertRow[] {
  const found: AlertRow[] = [];
  for (const { row } of newestFirst(entries, query, scope)) {
    if (found.length === limit) break;
    found.push(row);
  }
  return found;
}

function* newestFirst(entries: readonly Entry[], query: AlertQuery, scope: Scope): Generator<Entry> {
  for (let index = entries.length - 1; index >= 0; index -= 1) {
    const entry = entries[index];
    if (entry === undefined || !inScope(scope, entry.row.namespace)) continue;
    if (matches(query, entry.row, entry.time)) yield entry;
  }
}

function* selectedRows(entries: readonly Entry[], query: AlertQuery, scope: Scope): Generator<AlertRow> {
  for (const { row } of newestFirst(entries, query, scope)) yield row;
}

/** Where in the order a row is, as `next` says it. */
function placeOf({ severity, timestamp, id }: Key, order: PageRequest['order']): string {
  return `${order === 'time' ? '' : `${severity}~`}${timestamp},${id}`;
}

function keyOf(place: string): Key {
  const [, severity = '0', timestamp = '', id = ''] = /^(?:(\d+)~)?([^,]*),([^,]*)/.exec(place) ?? [];
  return { severity: Number(severity), timestamp, id };
}

function groupsOf(entries: readonly Entry[], by: 'pod' | 'signature', query: AlertQuery, scope: Scope): Group[] {
  const groups = new Map<string, Group>();
  for (const { row, time } of entries) {
    if (!inScope(scope, row.namespace) || !matches(query, row, time)) continue;
    if (by === 'pod') for (const pod of podsOf(row)) addTo(groups, pod, pod, row);
    else addTo(groups, `${row.gid}:${row.sid}`, row.message, row);
  }
  return [...groups.values()].toSorted((a, b) => b.count - a.count).slice(0, GROUPS);
}

/** @param row Of the alerts that are added, the newest comes last. */
function addTo(groups: Map<string, Group>, key: string, label: string, row: AlertRow): void {
  const { level, timestamp: newest } = row;
  const group = groups.get(key);
  if (group === undefined) {
    groups.set(key, { key, label, count: 1, level, newest });
    return;
  }
  group.count += 1;
  group.newest = newest;
  group.label = label;
  if (LEVELS.indexOf(level) < LEVELS.indexOf(group.level)) group.level = level;
}

async function find(
  { directory, byId, marks }: State,
  ids: readonly string[],
): Promise<{ row: AlertRow; event: unknown; history: Act[] }[]> {
  const found = [];
  for (const id of ids) {
    const entry = byId.get(id);
    if (entry !== undefined) {
      found.push({ row: entry.row, event: await documentAt(directory, entry.at), history: marks.history(id) });
    }
  }
  return found;
}

async function setMarks({ marks, byId }: State, ids: readonly string[], act: Act): Promise<void> {
  await marks.add(ids, act);
  for (const id of ids) {
    const entry = byId.get(id);
    if (entry !== undefined) entry.row = withMark(entry.row, marks.get(id));
  }
}

function byTime(a: Entry, b: Entry): number {
  return byAge(a.row, b.row);
}

type Key = Pick<AlertRow, 'severity' | 'timestamp' | 'id'>;

function bySeverity(a: Key, b: Key): number {
  return a.severity - b.severity || byAge(a, b);
}

/** Times of one form, in UTC, are in the order of their texts. */
function byAge(a: Key, b: Key): number {
  if (a.timestamp !== b.timestamp) return a.timestamp < b.timestamp ? -1 : 1;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
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

/** One copy of equal texts, of as many as are worth it. */
function createShare(): (text: string) => string {
  const texts = new Map<string, string>();
  return (text) => {
    const known = texts.get(text);
    if (known !== undefined) return known;
    if (texts.size >= SHARED) texts.clear();
    texts.set(text, text);
    return text;
  };
}
