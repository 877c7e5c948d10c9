/** Reading a journal's events from a cursor on, while it is written or not. */
import { errorCode } from '../files/errors.ts';
import { nodeFileSystem } from '../files/file-system.ts';
import type { FileSystem } from '../files/file-system.ts';
import { EVENT_JOURNAL, listSegments, parseLine, readLines, segmentPath } from './segment.ts';

/** A place between two lines. */
export interface Cursor {
  /** Sequence number of the segment. */
  segment: number;
  /** Bytes from its start. */
  offset: number;
  /** Events before it since the journal began. */
  event: number;
}

export interface ReadOptions {
  directory: string;
  /** What segments are called: `snort-alerts` without it. */
  name?: string;
  /** Where to begin; without it at the oldest event. In a segment that was evicted: at the oldest one left. */
  from?: Cursor;
  /** Where to end: a writer's `end()`, so that all that is read is durable. Without it at the last whole line. */
  to?: Cursor;
  /** Node's own without it. */
  fileSystem?: FileSystem | undefined;
}

/**
 * A complete line. Damage is one that is no event: longer than 1 MiB, with NUL bytes, or not a JSON object.
 * `number`: events before it since the journal began; a jump tells how many were evicted. `end` is behind it.
 */
export type JournalLine = { number: number; end: Cursor } & (
  | {
      kind: 'event';
      /** The line, without the newline. */
      json: string;
      event: Record<string, unknown>;
    }
  | { kind: 'damage'; bytes: number }
);

/**
 * The lines from one cursor to another, in order. Doesn't wait for more. A segment that is evicted while it is being
 * read is read to its end; one that is evicted before is left out.
 */
export async function* readJournal({
  directory,
  name = EVENT_JOURNAL,
  from,
  to,
  fileSystem = nodeFileSystem,
}: ReadOptions): AsyncGenerator<JournalLine> {
  if (from && to && from.segment === to.segment && from.offset >= to.offset) return;
  for (const segment of await listSegments(directory, name, fileSystem)) {
    if ((from && segment < from.segment) || (to && segment > to.segment)) continue;
    const file = segmentPath(directory, segment, name);
    const begin = segment === from?.segment ? from : { offset: 0, event: segment };
    let number = begin.event;
    try {
      // At the end, or behind it: the segment was cut back. Its lines are the same up to there.
      if (begin.offset >= (await fileSystem.stat(file)).size) continue;
      const until = segment === to?.segment ? to.offset : Infinity;
      for await (const lines of readLines(file, begin.offset, until, fileSystem)) {
        for (const { bytes, start, end: offset, hole, complete } of lines) {
          if (!complete) continue;
          const end = { segment, offset, event: number + 1 };
          const event = bytes && !hole ? parseLine(bytes) : undefined;
          if (bytes && event) yield { kind: 'event', number, end, json: bytes.toString(), event };
          else yield { kind: 'damage', number, end, bytes: offset - start };
          number += 1;
        }
      }
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') throw error;
    }
  }
}
