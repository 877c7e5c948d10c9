/**
 * The alerts of this machine's journal: the newest 100,000 in memory, followed as they are written. About 70 MB of
 * memory when it is full; the documents stay on disk. Queries take some tens of milliseconds. Older alerts are for
 * `dpi-agent events`.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../files/errors.ts';
import { followJournal, journalEnd, searchJournal, type FoundEvent, type Place } from '../journal/search.ts';
import { MAX_LINE_BYTES, segmentPath } from '../journal/segment.ts';
import { FACETS, LEVELS, STATES, type AlertRow, type FacetName, type Group, type Level, type Summary } from './api.ts';
import { openMarks } from './marks.ts';
import { barsOf, failing, inScope, matches, type AlertQuery, type Scope } from './query.ts';
import { podsOf, rowOf } from './row.ts';
import { FACET_VALUES, GROUPS, PAGE_ROWS, SourceError, type AlertSource } from './source.ts';

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

/** Resolves when what is there has been read. The folder need not be there yet. */
export async function openJournalSource(options: JournalSourceOptions): Promise<AlertSource> {
  const { directory, marksFile, limit = LIMIT, now = Date.now } = options;
  const marks = await openMarks(marksFile);
  const share = createShare();
  const stopping = new AbortController();
  const listeners = new Set<(rows: AlertRow[], more: boolean) => void>();
  /** By time, oldest first. */
  let entries: Entry[] = [];
  const byId = new Map<string, Entry>();
  let problem: string | undefined;

  const entryOf = ({ event, at }: FoundEvent): Entry | undefined => {
    const id = (event.record as { event_id?: unknown }).event_id;
    const row = rowOf(event, marks.get(String(id)), share);
    return row === undefined || byId.has(row.id) ? undefined : { row, time: Date.parse(row.timestamp), at };
  };

  const end = await quietly(() => journalEnd(directory));
  if (end !== undefined) {
    for await (const hit of searchJournal({ directory, filter: {}, order: 'newest' })) {
      if (entries.length >= limit) break;
      const entry = entryOf(hit);
      if (entry === undefined || !isBefore(hit.at, end)) continue;
      byId.set(entry.row.id, entry);
      entries.push(entry);
    }
    entries.sort(byTime);
  }
  const following = follow(end);

  /** Goes on behind what was read, also when the folder goes away and comes back. */
  async function follow(from: Place | undefined): Promise<void> {
    let next = from;
    while (!stopping.signal.aborted) {
      try {
        const search = {
          directory,
          filter: {},
          signal: stopping.signal,
          ...(next === undefined ? {} : { from: next }),
        };
        for await (const hit of followJournal(search)) {
          problem = undefined;
          next = { segment: hit.at.segment, offset: hit.at.offset };
          add(hit);
        }
      } catch (error) {
        problem = `can't read the journal in ${directory}: ${errorCode(error) ?? String(error)}`;
        await sleep(RETRY_MILLIS, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  }

  function add(hit: FoundEvent): void {
    const entry = entryOf(hit);
    if (entry === undefined) return;
    byId.set(entry.row.id, entry);
    let index = entries.length;
    while (index > 0 && byTime(entries[index - 1] ?? entry, entry) > 0) index -= 1;
    entries.splice(index, 0, entry);
    if (entries.length > limit + limit / 10) {
      for (const { row } of entries.slice(0, -limit)) byId.delete(row.id);
      entries = entries.slice(-limit);
    }
    announce(entry.row);
  }

  let gathered: AlertRow[] = [];
  let left = 0;
  let timer: NodeJS.Timeout | undefined;
  function announce(row: AlertRow): void {
    if (listeners.size === 0) return;
    if (gathered.length < MOST_AT_ONCE) gathered.push(row);
    else left += 1;
    timer ??= setTimeout(() => {
      const [rows, more] = [gathered, left > 0];
      gathered = [];
      left = 0;
      timer = undefined;
      for (const listener of listeners) listener(rows, more);
    }, GATHER_MILLIS);
  }

  function check(): void {
    if (problem !== undefined && entries.length === 0) throw new SourceError(problem);
  }

  return {
    about: { kind: 'journal', directory, limit },
    async list(query, scope, after) {
      check();
      const rows: AlertRow[] = [];
      const [timestamp = '', id = ''] = after?.split(',') ?? [];
      for (let index = entries.length - 1; index >= 0; index -= 1) {
        const entry = entries[index];
        if (entry === undefined || !inScope(scope, entry.row.namespace)) continue;
        if (after !== undefined && compare(entry.row, { timestamp, id }) >= 0) continue;
        if (!matches(query, entry.row, entry.time)) continue;
        if (rows.length === PAGE_ROWS) {
          const last = rows[PAGE_ROWS - 1];
          return { rows, ...(last === undefined ? {} : { next: `${last.timestamp},${last.id}` }) };
        }
        rows.push(entry.row);
      }
      return { rows };
    },
    async summary(query, scope) {
      check();
      return summarize(entries, query, scope, now());
    },
    async groups(by, query, scope) {
      check();
      const groups = new Map<string, Group>();
      for (const { row, time } of entries) {
        if (!inScope(scope, row.namespace) || !matches(query, row, time)) continue;
        for (const key of by === 'pod' ? podsOf(row) : [`${row.gid}:${row.sid}`]) {
          const group = groups.get(key);
          const label = by === 'pod' ? key : row.message;
          if (group === undefined) groups.set(key, { key, label, count: 1, level: row.level, newest: row.timestamp });
          else {
            group.count += 1;
            // Oldest first: the last one is the newest.
            group.newest = row.timestamp;
            group.label = label;
            if (LEVELS.indexOf(row.level) < LEVELS.indexOf(group.level)) group.level = row.level;
          }
        }
      }
      return [...groups.values()].toSorted((a, b) => b.count - a.count).slice(0, GROUPS);
    },
    async get(ids) {
      const found = [];
      for (const id of ids) {
        const entry = byId.get(id);
        if (entry !== undefined) found.push({ row: entry.row, event: await documentAt(directory, entry.at) });
      }
      return found;
    },
    async mark(ids, state, by, at) {
      const mark = { state, by, at: at.toISOString() };
      await marks.set(ids, mark);
      for (const id of ids) {
        const entry = byId.get(id);
        if (entry !== undefined) entry.row = { ...entry.row, state, handledBy: by, handledAt: mark.at };
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      stopping.abort();
      clearTimeout(timer);
      await following;
      await marks.close();
    },
  };
}

function byTime(a: Entry, b: Entry): number {
  return compare(a.row, b.row);
}

type Key = Pick<AlertRow, 'timestamp' | 'id'>;

/** Times of one form, in UTC, are in the order of their texts. */
function compare(a: Key, b: Key): number {
  if (a.timestamp !== b.timestamp) return a.timestamp < b.timestamp ? -1 : 1;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
}

function isBefore(a: Place, b: Place): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset);
}

function summarize(entries: readonly Entry[], query: AlertQuery, scope: Scope, now: number): Summary {
  const counts = noCounts();
  const facets = Object.fromEntries(FACETS.map((name) => [name, new Map<string, Counted>()])) as Record<
    FacetName,
    Map<string, Counted>
  >;
  const selected: Entry[] = [];
  let total = 0;
  /** Of all that time and words leave, so that the histogram stays where it is when a facet is chosen. */
  let first: number | undefined;
  for (const entry of entries) {
    const { row, time } = entry;
    if (!inScope(scope, row.namespace)) continue;
    const failed = failing(query, row, time);
    if (failed === undefined) continue;
    first ??= time;
    const [only, ...others] = failed;
    if (others.length > 0) continue;
    for (const name of only === undefined ? FACETS : [only]) count(facets[name], name, row);
    if (only !== undefined) continue;
    total += 1;
    counts[row.level] += 1;
    selected.push(entry);
  }
  const bars = barsOf(query.from ?? first ?? now - 3_600_000, query.to ?? now);
  const buckets = new Map<number, Summary['histogram']['buckets'][number]>();
  for (const { row, time } of selected) {
    const start = Math.floor(time / bars.interval) * bars.interval;
    const bucket = buckets.get(start) ?? { start, counts: noCounts() };
    buckets.set(start, bucket);
    bucket.counts[row.level] += 1;
  }
  return {
    total,
    counts,
    histogram: { ...bars, buckets: [...buckets.values()] },
    facets: Object.fromEntries(
      FACETS.map((name) => [name, listed(name, facets[name], query[name])]),
    ) as Summary['facets'],
  };
}

function noCounts(): Record<Level, number> {
  return { critical: 0, high: 0, medium: 0, low: 0 };
}

interface Counted {
  count: number;
  label?: string;
}

function count(facet: Map<string, Counted>, name: FacetName, row: AlertRow): void {
  const values = {
    namespace: [row.namespace],
    pod: name === 'pod' ? podsOf(row) : [],
    signature: [`${row.gid}:${row.sid}`],
    level: [row.level],
    tactic: [row.tactic ?? 'none'],
    state: [row.state],
  }[name];
  for (const value of values) {
    const known = facet.get(value);
    if (known !== undefined) known.count += 1;
    else facet.set(value, { count: 1, ...(name === 'signature' ? { label: row.message } : {}) });
  }
}

/** The most frequent, and those that are chosen whatever their number. */
function listed(
  name: FacetName,
  facet: ReadonlyMap<string, Counted>,
  chosen: readonly string[],
): Summary['facets'][FacetName] {
  if (name === 'level') return LEVELS.map((value) => ({ value, count: facet.get(value)?.count ?? 0 }));
  if (name === 'state') return STATES.map((value) => ({ value, count: facet.get(value)?.count ?? 0 }));
  const all = [...facet].map(([value, counted]) => ({ value, ...counted })).toSorted((a, b) => b.count - a.count);
  const wanted = chosen.map((value) => value || 'none');
  return [
    ...all.slice(0, FACET_VALUES),
    ...all.slice(FACET_VALUES).filter(({ value }) => wanted.includes(value)),
    ...wanted.filter((value) => !facet.has(value)).map((value) => ({ value, count: 0 })),
  ];
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
