/**
 * What a restarting agent has already done, by the journal's lines: where reading an engine's output has to go on, and
 * which alerts behind that place are in the journal all the same.
 *
 * Format: of a line, `origin` and `record` are looked at. Positions are `<generation>:<offset of an alert>`.
 * - `position`: the alert, or the first of those that the line stands for; `event_id`: the line's id.
 * - `merged_positions`: further alerts that went into it.
 * - `count` > 1 and `last_position`: a fold, one line for many alerts of the same key (`foldKey`) from `position` to
 *   there. It is appended when its time is over, so maybe long after lines with higher positions.
 * - `checkpoint`: all alerts before it are consumed. Without it, a line that is no fold says so of those before its
 *   position; a fold says nothing. It is lower than the position while alerts from there on are held in memory.
 */
import { errorCode } from '../files/errors.ts';
import { nodeFileSystem, type FileSystem } from '../files/file-system.ts';
import { isRecord } from '../files/record.ts';
import type { Line } from './segment.ts';
import { EVENT_JOURNAL, listSegments, parseLine, readLines, segmentPath } from './segment.ts';

/** A line that is no event: longer than 1 MiB, with NUL bytes, or not a JSON object. */
export interface Skipped {
  /** Sequence number of the segment. */
  segment: number;
  /** Bytes from its start. */
  offset: number;
  bytes: number;
}

/** What the journal holds of one generation of an engine's output. */
export interface Consumed {
  /** All alerts before it are consumed. The one that starts there may lack lines, or all of them. */
  offset: number;
  /** Ids (`record.event_id`) of lines whose position is at or behind `offset`. */
  ids: Set<string>;
  /**
   * Alerts, by offset, from `offset` on that went into another alert's event, each with the `origin`s of those events:
   * for other resources, the alert may still lack its own lines.
   */
  merged: Map<number, Set<string>>;
  /** By `foldKey`: folds that reach `offset` or further. Both ends are alerts' offsets and belong to the fold. */
  folds: Map<string, { from: number; until: number }[]>;
}

/**
 * What the alerts of a fold have in common.
 * @param origin `dpi.<namespace>/<name>` of the resource. @param endpointName `<namespace>/<name>` of the first
 * endpoint that saw it.
 */
export function foldKey(origin: string, gid: number | string, sid: number | string, endpointName: string): string {
  return `${origin} ${gid}:${sid} ${endpointName}`;
}

/**
 * Whether an alert at or behind `consumed.offset` is in the journal.
 * @param alert its `offset` in the generation, `id` and `origin` of the event, and `foldKey`.
 */
export function isConsumed(
  consumed: Consumed | undefined,
  alert: { offset: number; id: string; origin: string; key: string },
): boolean {
  if (consumed === undefined) return false;
  return (
    consumed.ids.has(alert.id) ||
    consumed.merged.get(alert.offset)?.has(alert.origin) === true ||
    consumed.folds.get(alert.key)?.some(({ from, until }) => from <= alert.offset && alert.offset <= until) === true
  );
}

/** `Consumed` while the journal is read. */
interface Progress {
  offset: number;
  /** Whether a line gave `offset`. */
  claimed: boolean;
  /** The highest alert that any line stands for, but for merged ones. */
  front: number;
  /** With their positions' offsets. */
  ids: Map<string, number>;
  merged: Consumed['merged'];
  folds: Consumed['folds'];
  /** Entries since what is before `offset` was last dropped, and at how many it will be again. */
  entries: number;
  pruneAt: number;
}

/** What a segment held of a generation: `plain` when only what changes nothing, a line among it that is no fold. */
type SegmentContent = 'plain' | 'changes';

const PRUNE_ENTRIES = 4096;

/**
 * Finds where reading an engine's output has to go on, for each generation that the journal knows.
 *
 * Segments are read from the newest to the oldest. A generation is done when a whole older segment held nothing of it
 * that changes the answer: neither a higher offset, nor an id, a merged alert or a fold that reaches it. Where lines
 * are known behind the offset (alerts were held when they were written), or none gave an offset, that segment must also
 * have a line of it that is no fold: more of them may be behind segments that other generations filled. The scan ends
 * when all are done; a generation that the journal doesn't have costs a look through everything, at the speed of a text
 * search. This relies on a generation's lines that are no folds being appended in the order of their positions, but for
 * what a merge window holds, and on a merge window's events being fewer than a whole segment.
 *
 * Memory: a small multiple of what is at or behind the offset.
 *
 * @param onSkip called for lines that hold a generation's name but are no event, and for those too long to look into.
 * @returns generations without any line are not in it; so are generations whose lines were all evicted.
 */
export async function scanConsumed(
  directory: string,
  generations: string[],
  onSkip?: (skipped: Skipped) => void,
  fileSystem: Pick<FileSystem, 'open' | 'readdir'> = nodeFileSystem,
): Promise<Map<string, Consumed>> {
  const progress = new Map<string, Progress>();
  const open = new Map(generations.map((generation) => [generation, Buffer.from(`"${generation}:`)]));
  for (const sequence of (await listSegments(directory, EVENT_JOURNAL, fileSystem)).toReversed()) {
    if (open.size === 0) break;
    const before = new Set(progress.keys());
    const scan: Scan = { open, progress, contents: new Map() };
    try {
      for await (const lines of readLines(segmentPath(directory, sequence), 0, Infinity, fileSystem)) {
        for (const line of lines) {
          if (!line.complete || (line.bytes && !mentions(line.bytes, open))) continue;
          const event = line.bytes && !line.hole ? parseLine(line.bytes) : undefined;
          if (event === undefined) onSkip?.(skipped(sequence, line));
          else addEvent(scan, event);
        }
      }
    } catch (error) {
      // Evicted in the meantime.
      if (errorCode(error) !== 'ENOENT') throw error;
    }
    for (const generation of before) {
      const state = progress.get(generation);
      const sure = state !== undefined && state.claimed && state.front <= state.offset;
      const content = scan.contents.get(generation);
      if (content === 'plain' || (content === undefined && sure)) open.delete(generation);
    }
  }
  return new Map(
    [...progress].map(([generation, state]) => {
      prune(state);
      const { offset, ids, merged, folds } = state;
      return [generation, { offset, ids: new Set(ids.keys()), merged, folds }];
    }),
  );
}

function mentions(bytes: Buffer, needles: Map<string, Buffer>): boolean {
  for (const needle of needles.values()) if (bytes.includes(needle)) return true;
  return false;
}

/** What is found, while segments are read. */
interface Scan {
  /** Generations that are not done. */
  readonly open: ReadonlyMap<string, unknown>;
  readonly progress: Map<string, Progress>;
  /** Of the segment at hand, by generation. */
  readonly contents: Map<string, SegmentContent>;
}

function addEvent(scan: Scan, event: Record<string, unknown>): void {
  const record = isRecord(event.record) ? event.record : {};
  const origin = typeof event.origin === 'string' ? event.origin : '';
  const isFold = typeof record.count === 'number' && record.count > 1;
  const position = parsePosition(record.position);
  const claim = record.checkpoint === undefined ? (isFold ? undefined : position) : parsePosition(record.checkpoint);
  if (claim && scan.open.has(claim.generation)) addClaim(scan, claim);
  if (position && scan.open.has(position.generation)) {
    addPosition(scan, position, isFold, record.event_id);
    const until = isFold ? parsePosition(record.last_position) : undefined;
    if (until?.generation === position.generation) addFold(scan, position, until.offset, origin, record);
  }
  for (const item of Array.isArray(record.merged_positions) ? record.merged_positions : []) {
    const merged = parsePosition(item);
    if (merged && scan.open.has(merged.generation)) addMerged(scan, merged, origin);
  }
}

/** All alerts before it are consumed. */
function addClaim(scan: Scan, { generation, offset }: Position): void {
  const state = progressOf(scan, generation);
  if (!state.claimed || offset > state.offset) scan.contents.set(generation, 'changes');
  state.claimed = true;
  state.offset = Math.max(state.offset, offset);
}

function addPosition(scan: Scan, { generation, offset }: Position, isFold: boolean, id: unknown): void {
  const state = progressOf(scan, generation);
  state.front = Math.max(state.front, offset);
  if (!isFold && !scan.contents.has(generation)) scan.contents.set(generation, 'plain');
  if (offset < state.offset || typeof id !== 'string') return;
  state.ids.set(id, offset);
  countEntry(scan, generation, state);
}

function addFold(
  scan: Scan,
  { generation, offset }: Position,
  until: number,
  origin: string,
  record: Record<string, unknown>,
): void {
  const state = progressOf(scan, generation);
  state.front = Math.max(state.front, until);
  if (until < state.offset) return;
  const key = foldKey(origin, text(record.generator_id), text(record.snort_signature_id), endpointOf(record));
  const folds = state.folds.get(key) ?? [];
  folds.push({ from: offset, until });
  state.folds.set(key, folds);
  countEntry(scan, generation, state);
}

function addMerged(scan: Scan, { generation, offset }: Position, origin: string): void {
  const state = progressOf(scan, generation);
  if (offset < state.offset) return;
  const origins = state.merged.get(offset) ?? new Set();
  state.merged.set(offset, origins.add(origin));
  countEntry(scan, generation, state);
}

function progressOf({ progress }: Scan, generation: string): Progress {
  const known = progress.get(generation);
  if (known !== undefined) return known;
  const fresh: Progress = {
    offset: 0,
    claimed: false,
    front: 0,
    ids: new Map(),
    merged: new Map(),
    folds: new Map(),
    entries: 0,
    pruneAt: PRUNE_ENTRIES,
  };
  progress.set(generation, fresh);
  return fresh;
}

function countEntry({ contents }: Scan, generation: string, state: Progress): void {
  contents.set(generation, 'changes');
  state.entries += 1;
  if (state.entries >= state.pruneAt) prune(state);
}

/** Drops what is before the offset, which only grows. */
function prune(state: Progress): void {
  const { offset, ids, merged, folds } = state;
  for (const [id, at] of ids) if (at < offset) ids.delete(id);
  for (const at of merged.keys()) if (at < offset) merged.delete(at);
  let ranges = 0;
  for (const [key, list] of folds) {
    const left = list.filter(({ until }) => until >= offset);
    if (left.length === 0) folds.delete(key);
    else folds.set(key, left);
    ranges += left.length;
  }
  state.entries = ids.size + merged.size + ranges;
  state.pruneAt = PRUNE_ENTRIES + 2 * state.entries;
}

/** `<namespace>/<name>` of the first endpoint that saw it. */
function endpointOf(record: Record<string, unknown>): string {
  const first: unknown = Array.isArray(record.seen_at) ? record.seen_at[0] : undefined;
  return isRecord(first) ? `${text(first.namespace)}/${text(first.name)}` : '/';
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

interface Position {
  generation: string;
  offset: number;
}

function parsePosition(value: unknown): Position | undefined {
  const match = typeof value === 'string' ? /^([^:]+):(\d{1,15})$/.exec(value) : null;
  return match?.[1] === undefined ? undefined : { generation: match[1], offset: Number(match[2]) };
}

function skipped(segment: number, { start, end }: Line): Skipped {
  return { segment, offset: start, bytes: end - start };
}
