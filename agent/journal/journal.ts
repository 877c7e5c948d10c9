/**
 * The node's event log: append-only segments of NDJSON. It is the log that people read with tail and jq, the spool that sinks
 * read, and the checkpoint of the agent's own input.
 *
 * On disk: `snort-alerts-<sequence, 8 digits>.ndjson`, one JSON object a line, each line ended by `\n`. Only the segment with the highest
 * number grows. An event's line says which bytes of an engine's output it came from (`record.position`) and its id
 * (`record.event_id`). `journal.lock` names the writer.
 *
 * Writing: a batch is one write and one fdatasync; `append` resolves when the batch is durable, and rejects when none of it counts:
 * what a failed write left is cut off before the next. A batch is never split over two segments, and a segment is synced before the next
 * one is created, so that only the last can be damaged by a crash.
 *
 * Recovery, on opening: the last segment is cut at the first line with a NUL byte (a part that never reached the disk), and
 * otherwise behind its last line that is a complete JSON object. With fsync, nothing that `append` confirmed is behind such a
 * place, unless the disk itself lost it. What was cut off is in `recovered`; its alerts are read again from the engine's output.
 *
 * Retention: beyond `maxSize`, the oldest segments are deleted and their events counted. The one being written always stays.
 *
 * Not promised: with `fsync: false`, that confirmed events survive a power cut (they survive a kill of the agent). Protection from
 * writers that ignore the lock: a segment that somebody deleted or changed is left as it is, and a new one begun. Repair of
 * damage in older segments: readers skip such lines and count them. That a generation's positions outlive eviction: an alert whose
 * lines were all evicted is read again after a restart if the engine's output still has it, and gets the same id.
 */
import { mkdir, open, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { errorCode, JournalError, journalError } from './error.ts';
import { lockDirectory } from './lock.ts';
import type { Cursor } from './read.ts';
import { listSegments, MAX_LINE_BYTES, parseLine, readLines, segmentPath } from './segment.ts';

export { JournalError } from './error.ts';
export { readJournal, scanConsumed } from './read.ts';
export type { Consumed, Cursor, JournalLine, Skipped } from './read.ts';

export interface JournalOptions {
  directory: string;
  /** Bytes; a batch that would make a segment longer goes into the next one. A batch alone may be longer. */
  segmentSize: number;
  /** Bytes of all segments together; exceeded by at most the last batch, or by the last segment if that alone is larger. */
  maxSize: number;
  fsync: boolean;
}

export interface EventLine {
  /** `<generation>:<offset of its first byte>`, as in the JSON's `record.position`. */
  position: string;
  /** One JSON object without line breaks, at most 1 MiB. */
  json: string;
}

export interface SegmentInfo {
  sequence: number;
  path: string;
  /** Bytes. */
  size: number;
}

/** What recovery cut off. */
export interface Recovered {
  path: string;
  /** Bytes that stayed. */
  kept: number;
  /** Bytes that went. */
  cut: number;
  reason: 'unterminated line' | 'NUL bytes' | 'not a JSON object';
}

export interface JournalStatus {
  /** Events appended since opening. */
  appended: number;
  /** Events deleted by retention since opening. */
  evicted: number;
  evictedSegments: number;
  /** Segments that somebody else deleted or changed while they were being written. */
  replacedSegments: number;
  /** Why retention could not delete a segment the last time it tried. */
  retentionError?: JournalError;
}

export interface Journal {
  /**
   * Appends a batch; resolves when it is durable. Batches are written in the order of the calls.
   * Rejects with a JournalError when none of the batch is in the journal (the same lines can be given again), with a
   * RangeError when a line is too long or has a line break.
   */
  append(lines: readonly EventLine[]): Promise<void>;
  /** What opening cut off. */
  readonly recovered: Recovered | undefined;
  /** Oldest first. */
  segments(): SegmentInfo[];
  /** Behind the last durable event. */
  end(): Cursor;
  status(): JournalStatus;
  /** Waits for appends under way, and gives the lock back. */
  close(): Promise<void>;
}

/** What of the file system tests make fail. */
export interface JournalIo {
  write(handle: FileHandle, buffer: Buffer, offset: number, position: number): Promise<number>;
  sync(handle: FileHandle): Promise<void>;
  truncate(handle: FileHandle, length: number): Promise<void>;
}

const systemIo: JournalIo = {
  write: async (handle, buffer, offset, position) =>
    (await handle.write(buffer, offset, buffer.length - offset, position)).bytesWritten,
  sync: (handle) => handle.datasync(),
  truncate: (handle, length) => handle.truncate(length),
};

interface Segment {
  sequence: number;
  size: number;
  /** Unknown for segments of an earlier run until they are evicted. */
  lines?: number;
}

/** Opens a journal for writing; creates its folder (0750) where needed. @throws JournalError */
export async function openJournal(options: JournalOptions, io: JournalIo = systemIo): Promise<Journal> {
  const { directory } = options;
  try {
    await mkdir(directory, { recursive: true, mode: 0o750 });
  } catch (error) {
    throw journalError('create the folder', directory, error);
  }
  const unlock = lockDirectory(directory);
  try {
    return await openLocked(options, io, unlock);
  } catch (error) {
    unlock();
    throw journalError('open the journal in', directory, error);
  }
}

async function openLocked(
  { directory, segmentSize, maxSize, fsync }: JournalOptions,
  io: JournalIo,
  unlock: () => void,
): Promise<Journal> {
  const pathOf = (segment: Segment): string => segmentPath(directory, segment.sequence);
  const segments: Segment[] = [];
  for (const sequence of await listSegments(directory)) {
    segments.push({ sequence, size: (await stat(segmentPath(directory, sequence))).size });
  }
  const status: JournalStatus = { appended: 0, evicted: 0, evictedSegments: 0, replacedSegments: 0 };
  let recovered: Recovered | undefined;
  let active: Segment;
  let handle: FileHandle;
  /** Whether bytes behind `active.size` may be left from a failed write. */
  let torn = false;
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();

  const last = segments.at(-1);
  if (last === undefined) {
    ({ active, handle } = await create(1));
  } else {
    active = last;
    const { kept, lines, reason } = await inspect(pathOf(active));
    handle = await open(pathOf(active), 'r+');
    if (reason !== undefined) {
      recovered = { path: pathOf(active), kept, cut: active.size - kept, reason };
      try {
        await handle.truncate(kept);
        await handle.sync();
      } catch (error) {
        await handle.close();
        throw error;
      }
    }
    active.size = kept;
    active.lines = lines;
  }
  await retain();

  async function create(sequence: number): Promise<{ active: Segment; handle: FileHandle }> {
    const segment: Segment = { sequence, size: 0, lines: 0 };
    const created = await open(pathOf(segment), 'wx+', 0o640);
    try {
      await syncDirectory(directory);
    } catch (error) {
      await created.close();
      await unlink(pathOf(segment));
      throw error;
    }
    segments.push(segment);
    return { active: segment, handle: created };
  }

  async function rotate(): Promise<void> {
    await io.sync(handle);
    const previous = handle;
    ({ active, handle } = await create(active.sequence + 1));
    await previous.close();
  }

  async function write(batch: Buffer, count: number): Promise<void> {
    if (torn) await cutBack();
    const { size, nlink } = await handle.stat();
    const foreign = nlink === 0 || size !== active.size;
    if (foreign) {
      active.size = size;
      if (nlink === 0) segments.splice(segments.indexOf(active), 1);
      status.replacedSegments += 1;
    }
    if (foreign || (active.size > 0 && active.size + batch.length > segmentSize)) await rotate();
    torn = true;
    try {
      for (let written = 0; written < batch.length;) {
        const bytes = await io.write(handle, batch, written, active.size + written);
        if (bytes === 0) throw new Error('the file system took no bytes');
        written += bytes;
      }
      if (fsync) await io.sync(handle);
    } catch (error) {
      // If this fails too, it is tried again before the next write, and by recovery.
      await cutBack().catch(() => undefined);
      throw error;
    }
    torn = false;
    active.size += batch.length;
    active.lines = (active.lines ?? 0) + count;
    status.appended += count;
  }

  async function cutBack(): Promise<void> {
    await io.truncate(handle, active.size);
    torn = false;
  }

  /** Failing to delete must not fail the append that caused it: it is in `status`, and tried again with the next. */
  async function retain(): Promise<void> {
    for (;;) {
      const total = segments.reduce((sum, { size }) => sum + size, 0);
      const [oldest] = segments;
      if (total <= maxSize || oldest === undefined || oldest === active) return;
      try {
        const lines = oldest.lines ?? (await countLines(pathOf(oldest)));
        await unlink(pathOf(oldest));
        status.evicted += lines;
        status.evictedSegments += 1;
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') {
          status.retentionError = journalError('delete the old segment', pathOf(oldest), error);
          return;
        }
      }
      delete status.retentionError;
      segments.shift();
    }
  }

  function enqueue<T>(task: () => Promise<T>): Promise<T> {
    const result = queue.then(task);
    queue = result.catch(() => undefined);
    return result;
  }

  return {
    recovered,
    async append(lines) {
      if (closed) throw new JournalError('ECLOSED', directory, `the journal in ${directory} is closed`);
      if (lines.length === 0) return;
      const batch = encode(lines);
      await enqueue(async () => {
        try {
          await write(batch, lines.length);
        } catch (error) {
          throw journalError('append to', pathOf(active), error);
        }
        await retain();
      });
    },
    segments: () =>
      segments.map((segment) => ({ sequence: segment.sequence, path: pathOf(segment), size: segment.size })),
    end: () => ({ segment: active.sequence, offset: active.size }),
    status: () => ({ ...status }),
    async close() {
      if (closed) return;
      closed = true;
      await enqueue(async () => {
        try {
          if (torn) await cutBack();
          await io.sync(handle);
        } catch (error) {
          throw journalError('close', pathOf(active), error);
        } finally {
          await handle.close();
          unlock();
        }
      });
    },
  };
}

function encode(lines: readonly EventLine[]): Buffer {
  for (const { position, json } of lines) {
    if (json.includes('\n')) throw new RangeError(`the event at ${position} has a line break`);
    if (Buffer.byteLength(json) > MAX_LINE_BYTES) {
      throw new RangeError(`the event at ${position} is longer than ${MAX_LINE_BYTES} bytes`);
    }
  }
  return Buffer.from(lines.map(({ json }) => `${json}\n`).join(''));
}

/** How much of the last segment is sound. */
async function inspect(file: string): Promise<{ kept: number; lines: number; reason?: Recovered['reason'] }> {
  let kept = 0;
  let lines = 0;
  let seen = 0;
  let reason: Recovered['reason'] | undefined;
  for await (const batch of readLines(file)) {
    for (const line of batch) {
      if (line.hole) return { kept: line.start, lines: seen, reason: 'NUL bytes' };
      if (line.complete && line.bytes && parseLine(line.bytes)) {
        seen += 1;
        kept = line.end;
        lines = seen;
        reason = undefined;
      } else {
        // In the middle, it is damage for the readers to skip; only at the end it is cut off.
        if (line.complete) seen += 1;
        reason = line.complete ? 'not a JSON object' : 'unterminated line';
      }
    }
  }
  return reason === undefined ? { kept, lines } : { kept, lines, reason };
}

async function countLines(file: string): Promise<number> {
  let count = 0;
  for await (const lines of readLines(file)) count += lines.filter(({ complete }) => complete).length;
  return count;
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
