/** Reading a journal, while it is written or not: what a restarting agent has already done, and the events for a sink. */
import { stat } from 'node:fs/promises';
import { errorCode } from './error.ts';
import type { Line } from './segment.ts';
import { isRecord, listSegments, parseLine, readLines, segmentPath } from './segment.ts';

/** A place between two lines. */
export interface Cursor {
  /** Sequence number of the segment. */
  segment: number;
  /** Bytes from its start. */
  offset: number;
}

/** A line that is no event: longer than 1 MiB, with NUL bytes, or not a JSON object. */
export interface Skipped extends Cursor {
  bytes: number;
}

/** What the journal holds of one generation of an engine's output. */
export interface Consumed {
  /** The highest offset of an alert that has a line; 0 when there are only merged ones. */
  offset: number;
  /** Ids (`record.event_id`) of the lines of the alert at `offset`. Lines of it may be missing. */
  ids: Set<string>;
  /**
   * Alerts, by offset, from `offset` on that went into another alert's event, each with the `origin`s of those events: for other
   * resources, the alert may still lack its own lines.
   */
  merged: Map<number, Set<string>>;
}

/**
 * Finds where reading an engine's output has to go on: for each generation that the journal knows, all alerts up to `offset` are
 * consumed, but the one that starts there may lack lines (an alert makes one for each resource); those in `merged` are consumed for
 * the resources given there.
 *
 * A line belongs to a generation by `record.position` or `record.merged_positions`, each `<generation>:<offset of its first byte>`.
 *
 * Segments are read from the newest to the oldest. A generation is done when it was found and a whole older segment held nothing of it
 * that changes the answer: neither a higher offset, nor an id of the highest, nor a merged alert from there on. It ends when all
 * are done; a generation that the journal doesn't have costs a look through everything, at the speed of a text search.
 * This relies on lines of a generation being appended in the order of their positions, but for what a merge window holds, and
 * on a merge window's events being fewer than a whole segment.
 *
 * @param onSkip called for lines that hold a generation's name but are no event, and for those too long to look into.
 * @returns generations without any line are not in it; so are generations whose lines were all evicted.
 */
export async function scanConsumed(
  directory: string,
  generations: string[],
  onSkip?: (skipped: Skipped) => void,
): Promise<Map<string, Consumed>> {
  const found = new Map<string, Consumed>();
  const open = new Map(generations.map((generation) => [generation, Buffer.from(`"${generation}:`)]));
  for (const sequence of (await listSegments(directory)).toReversed()) {
    if (open.size === 0) break;
    const before = new Set(found.keys());
    const changed = new Set<string>();
    for await (const lines of readLines(segmentPath(directory, sequence))) {
      for (const line of lines) {
        if (!line.complete || (line.bytes && !mentions(line.bytes, open))) continue;
        const event = eventOf(line);
        if (event === undefined) onSkip?.(skipped(sequence, line));
        else take(event, open, found, changed);
      }
    }
    for (const generation of before) if (!changed.has(generation)) open.delete(generation);
  }
  for (const { offset, merged } of found.values())
    for (const end of merged.keys()) if (end < offset) merged.delete(end);
  return found;
}

function mentions(bytes: Buffer, needles: Map<string, Buffer>): boolean {
  for (const needle of needles.values()) if (bytes.includes(needle)) return true;
  return false;
}

function take(
  event: Record<string, unknown>,
  wanted: ReadonlyMap<string, unknown>,
  found: Map<string, Consumed>,
  changed: Set<string>,
): void {
  const record = isRecord(event.record) ? event.record : {};
  const consumedOf = (generation: string): Consumed => {
    const consumed = found.get(generation) ?? { offset: 0, ids: new Set(), merged: new Map() };
    found.set(generation, consumed);
    return consumed;
  };

  const position = parsePosition(record.position);
  if (position && wanted.has(position.generation)) {
    const consumed = consumedOf(position.generation);
    if (position.offset > consumed.offset) {
      consumed.offset = position.offset;
      consumed.ids.clear();
      changed.add(position.generation);
    }
    if (position.offset === consumed.offset && typeof record.event_id === 'string') {
      consumed.ids.add(record.event_id);
      changed.add(position.generation);
    }
  }
  for (const item of Array.isArray(record.merged_positions) ? record.merged_positions : []) {
    const merged = parsePosition(item);
    if (!merged || !wanted.has(merged.generation)) continue;
    const consumed = consumedOf(merged.generation);
    if (merged.offset < consumed.offset) continue;
    const origins = consumed.merged.get(merged.offset) ?? new Set();
    consumed.merged.set(merged.offset, origins.add(typeof event.origin === 'string' ? event.origin : ''));
    changed.add(merged.generation);
  }
}

function parsePosition(value: unknown): { generation: string; offset: number } | undefined {
  const match = typeof value === 'string' ? /^([^:]+):(\d{1,15})$/.exec(value) : null;
  return match?.[1] === undefined ? undefined : { generation: match[1], offset: Number(match[2]) };
}

function eventOf(line: Line): Record<string, unknown> | undefined {
  return line.bytes && !line.hole ? parseLine(line.bytes) : undefined;
}

function skipped(segment: number, { start, end }: Line): Skipped {
  return { segment, offset: start, bytes: end - start };
}

export interface ReadOptions {
  directory: string;
  /** Where to begin; without it at the oldest event. In a segment that was evicted: at the oldest one left behind it. */
  from?: Cursor;
  /** Where to end: a writer's `end()`, so that nothing is read that is not yet durable. Without it at the last whole line. */
  to?: Cursor;
  onSkip?: (skipped: Skipped) => void;
}

/** An event's line, and the cursor behind it. */
export interface JournalLine {
  /** JSON, without the newline. */
  line: string;
  segment: number;
  /** Offset behind the line: `{ segment, offset }` continues with the next. */
  offset: number;
}

/**
 * The events from one cursor to another, in order. Doesn't wait for more. A segment that is evicted while it is being read is
 * read to its end; one that is evicted before is left out, which the jump in `segment` shows.
 */
export async function* readJournal({ directory, from, to, onSkip }: ReadOptions): AsyncGenerator<JournalLine> {
  for (const segment of await listSegments(directory)) {
    if ((from && segment < from.segment) || (to && segment > to.segment)) continue;
    const file = segmentPath(directory, segment);
    try {
      const start = segment === from?.segment ? from.offset : 0;
      // A cursor behind the end: the segment was cut back. Its lines are the same up to there.
      if (start > (await stat(file)).size) continue;
      for await (const lines of readLines(file, start, segment === to?.segment ? to.offset : Infinity)) {
        for (const line of lines) {
          if (!line.complete) continue;
          if (line.bytes && eventOf(line)) yield { line: line.bytes.toString(), segment, offset: line.end };
          else onSkip?.(skipped(segment, line));
        }
      }
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') throw error;
    }
  }
}
