/** Segment files: their names, and reading them line by line in bounded memory. */
import path from 'node:path';
import { nodeFileSystem } from '../files/file-system.ts';
import type { FileSystem } from '../files/file-system.ts';
import { isRecord } from '../files/record.ts';

/** A longer line is not read; events are far smaller. */
export const MAX_LINE_BYTES = 1 << 20;
const CHUNK_BYTES = 1 << 18;
const NEWLINE = 0x0a;

/** Name of the journal of events; other journals have another. */
export const EVENT_JOURNAL = 'snort-alerts';

/**
 * `snort-alerts-000000000042.ndjson`, as Kafka numbers its segments: the number of events before the segment's first
 * one since the journal began. Numbers are never used twice, and sort like the names below 10^12.
 */
function segmentName(sequence: number, name: string): string {
  return `${name}-${String(sequence).padStart(12, '0')}.ndjson`;
}

/** Sequence numbers of the segments in a folder, oldest first; other files are ignored. */
export async function listSegments(
  directory: string,
  name = EVENT_JOURNAL,
  fileSystem: Pick<FileSystem, 'readdir'> = nodeFileSystem,
): Promise<number[]> {
  const entries = await fileSystem.readdir(directory, { withFileTypes: true });
  return entries
    .flatMap((entry) => {
      if (!entry.isFile() || !entry.name.startsWith(`${name}-`)) return [];
      const sequence = Number(/^(\d{12,15})\.ndjson$/.exec(entry.name.slice(name.length + 1))?.[1]);
      return segmentName(sequence, name) === entry.name ? [sequence] : [];
    })
    .toSorted((a, b) => a - b);
}

export function segmentPath(directory: string, sequence: number, name = EVENT_JOURNAL): string {
  return path.join(directory, segmentName(sequence, name));
}

export interface Line {
  /** Offset of the first byte in the segment. */
  start: number;
  /** Offset behind the newline; behind the last byte of an unterminated line. */
  end: number;
  /** Without the newline; absent when it is longer than MAX_LINE_BYTES. Valid until the next batch is asked for. */
  bytes?: Buffer;
  /** NUL bytes: a part that never reached the disk. */
  hole: boolean;
  /** Whether the newline is there. */
  complete: boolean;
}

/** Reads bytes `from`..`to` of a file in batches of lines. @param from start of a line */
export async function* readLines(
  file: string,
  from = 0,
  to = Infinity,
  fileSystem: Pick<FileSystem, 'open'> = nodeFileSystem,
): AsyncGenerator<Line[]> {
  const handle = await fileSystem.open(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(MAX_LINE_BYTES + CHUNK_BYTES);
    // buffer[0..filled) is the start of a line, from `start` in the file; `dropped` bytes of it are gone.
    let filled = 0;
    let start = from;
    let dropped = 0;
    let droppedHole = false;
    for (;;) {
      const position = start + dropped + filled;
      const wanted = Math.min(CHUNK_BYTES, to - position);
      const { bytesRead } = wanted > 0 ? await handle.read(buffer, filled, wanted, position) : { bytesRead: 0 };
      if (bytesRead === 0) break;
      const read = buffer.subarray(0, filled + bytesRead);
      const lines: Line[] = [];
      let lineStart = 0;
      let newline = read.indexOf(NEWLINE, filled);
      while (newline !== -1) {
        const bytes = read.subarray(lineStart, newline);
        const end = start + dropped + bytes.length + 1;
        const line: Line = { start, end, hole: droppedHole || bytes.includes(0), complete: true };
        if (dropped + bytes.length <= MAX_LINE_BYTES) line.bytes = bytes;
        lines.push(line);
        start = end;
        dropped = 0;
        droppedHole = false;
        lineStart = newline + 1;
        newline = read.indexOf(NEWLINE, lineStart);
      }
      if (lines.length > 0) yield lines;
      buffer.copyWithin(0, lineStart, read.length);
      filled = read.length - lineStart;
      if (filled > MAX_LINE_BYTES) {
        droppedHole ||= buffer.subarray(0, filled).includes(0);
        dropped += filled;
        filled = 0;
      }
    }
    if (dropped + filled > 0) {
      const bytes = buffer.subarray(0, filled);
      const line: Line = {
        start,
        end: start + dropped + filled,
        hole: droppedHole || bytes.includes(0),
        complete: false,
      };
      if (dropped === 0) line.bytes = bytes;
      yield [line];
    }
  } finally {
    await handle.close();
  }
}

/** A line's JSON object; undefined when it is none. */
export function parseLine(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
