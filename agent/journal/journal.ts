/**
 * The node's event log: append-only segments of NDJSON. It is the log that people read with tail and jq, the spool that
 * sinks read, and the checkpoint of the agent's own input.
 *
 * On disk: `<name>-<number of events before its first, 12 digits>.ndjson`, one JSON object a line, each line ended by
 * `\n`. Every complete line counts as one event, damaged ones too; numbers begin at 0 and are never used twice. Only
 * the segment with the highest number grows. An event's line says which bytes of an engine's output it came from
 * (`record.position`) and its id (`record.event_id`); see consumed.ts. `journal.lock` names the writer.
 *
 * Writing: a batch is one write and one fdatasync; `append` resolves when the batch is durable, and rejects when none
 * of it counts: what a failed write left is cut off before the next. A batch is never split over two segments, and a
 * segment is synced before the next one is created, so that only the last can be damaged by a crash. A segment is
 * closed by its size, or by the age of its first event.
 *
 * Recovery, on opening: the last segment is cut at the first line with a NUL byte (a part that never reached the disk),
 * and otherwise behind its last line that is a complete JSON object. With fsync, nothing that `append` confirmed is
 * behind such a place, unless the disk itself lost it. What was cut off is in `recovered`; its alerts are read again
 * from the engine's output. While running: a segment that somebody deleted, moved or changed is left as it is, and a
 * new one begun by the next append, with the folder and the lock if they are gone too. Numbers go on.
 *
 * Retention: beyond `maxSize`, and when the last write is older than `maxAge`, the oldest segments are deleted and
 * their events counted. The one being written always stays; too old, it is closed first.
 *
 * Not promised: with `fsync: false`, that confirmed events survive a power cut (they survive a kill of the agent).
 * Protection from writers that ignore the lock. Repair of damage in older segments: readers get such lines as damage.
 * That a generation's positions outlive eviction: an alert whose lines were all evicted is read again after a restart
 * if the engine's output still has it, and gets the same id. That numbers outlive the folder: deleted while no agent
 * runs, the journal begins at 0 again. Exact ages: they are by the wall clock, so one that jumps ahead by more than
 * `maxAge` evicts, and a file's first write in an earlier run is its birth.
 */
import type { Stats } from 'node:fs';
import { errorCode } from '../files/errors.ts';
import { nodeFileSystem } from '../files/file-system.ts';
import type { FileSystem, OpenFile } from '../files/file-system.ts';
import { makeDirectory } from '../files/folder.ts';
import { syncDirectory } from '../files/replace.ts';
import { JournalError, journalError } from './error.ts';
import { lockDirectory } from './lock.ts';
import type { Cursor } from './read.ts';
import { EVENT_JOURNAL, listSegments, MAX_LINE_BYTES, parseLine, readLines, segmentPath } from './segment.ts';

export { foldKey, isConsumed, scanConsumed } from './consumed.ts';
export type { Consumed, Skipped } from './consumed.ts';
export { JournalError } from './error.ts';
export { readJournal } from './read.ts';
export type { Cursor, JournalLine, ReadOptions } from './read.ts';

/** How often age is looked at without appends. */
const TICK_MILLIS = 60_000;

export interface JournalOptions {
  directory: string;
  /** What segments are called: `snort-alerts` without it. */
  name?: string;
  /** Bytes; a batch that would make a segment longer goes into the next one. A batch alone may be longer. */
  segmentSize: number;
  /** Bytes of all segments together; exceeded by the last batch at most, or the last segment where that is larger. */
  maxSize: number;
  /** Milliseconds; a segment is closed when its first event is that old. */
  segmentAge: number;
  /** Milliseconds; segments without a write for longer are deleted. 0: never. */
  maxAge: number;
  fsync: boolean;
}

export interface EventLine {
  /** `<generation>:<offset of its first byte>`, as in the JSON's `record.position`. */
  position: string;
  /** One JSON object without line breaks, at most 1 MiB. */
  json: string;
}

export interface SegmentInfo {
  /** Events before it. */
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
  /** Events since the journal began. */
  total: number;
  bytes: number;
  segments: number;
  /** Wall clock, ms since the epoch: first write of the oldest segment. Absent in an empty journal. */
  oldest?: number;
  /** Events appended since opening. */
  appended: number;
  /** Events deleted by retention since opening. */
  evicted: number;
  evictedSegments: number;
  /** Segments that somebody else deleted, moved or changed while they were being written. */
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
  /** @param listener called after each durable batch. @returns the function that ends that. */
  onAppend(listener: () => void): () => void;
  /** What opening cut off. */
  readonly recovered: Recovered | undefined;
  /** Oldest first. */
  segments(): SegmentInfo[];
  /** Behind the last durable event; its `event` is the number of all that were ever journaled. */
  end(): Cursor;
  status(): JournalStatus;
  /** Waits for appends under way, and gives the lock back. */
  close(): Promise<void>;
}

/** What of the file system tests make fail. */
export interface JournalIo {
  /** A new file. */
  create(file: string): Promise<OpenFile>;
  write(handle: OpenFile, buffer: Buffer, offset: number, position: number): Promise<number>;
  sync(handle: OpenFile): Promise<void>;
  truncate(handle: OpenFile, length: number): Promise<void>;
}

const ioOf = (fileSystem: FileSystem): JournalIo => ({
  create: (file) => fileSystem.open(file, 'wx+', 0o640),
  write: async (handle, buffer, offset, position) =>
    (await handle.write(buffer, offset, buffer.length - offset, position)).bytesWritten,
  sync: (handle) => handle.datasync(),
  truncate: (handle, length) => handle.truncate(length),
});

/** What is around a journal. */
export interface JournalSystem {
  fileSystem: FileSystem;
  /** @returns the function that gives it back. */
  lock: (directory: string) => () => void;
  /** @returns the function that ends it. */
  every: (millis: number, action: () => void) => () => void;
}

const nodeSystem: JournalSystem = {
  fileSystem: nodeFileSystem,
  lock: lockDirectory,
  every(millis, action) {
    const timer = setInterval(action, millis).unref();
    return () => clearInterval(timer);
  },
};

interface Segment {
  sequence: number;
  size: number;
  /** Wall clock, ms since the epoch; of no meaning while it is empty. */
  firstWrite: number;
  lastWrite: number;
}

/** The segment that grows. */
interface Active {
  segment: Segment;
  handle: OpenFile;
  /** Complete lines in it. */
  lines: number;
  /** The file, to tell it from another one of the same name. */
  file: Pick<Stats, 'dev' | 'ino'>;
  /** Somebody else deleted, moved or changed it: nothing is written to it any more. */
  replaced: boolean;
}

/**
 * Opens a journal for writing; creates its folder (0750) where needed.
 * @param now the wall clock, ms since the epoch.
 * @throws JournalError
 */
export async function openJournal(
  options: JournalOptions,
  io?: JournalIo,
  now: () => number = Date.now,
  tickMillis = TICK_MILLIS,
  system = nodeSystem,
): Promise<Journal> {
  const { directory } = options;
  const { fileSystem } = system;
  await makeFolder(directory, fileSystem);
  const unlock = system.lock(directory);
  try {
    return await openLocked(options, io ?? ioOf(fileSystem), now, tickMillis, system, unlock);
  } catch (error) {
    unlock();
    throw journalError('open the journal in', directory, error);
  }
}

async function openLocked(
  { directory, name = EVENT_JOURNAL, segmentSize, maxSize, segmentAge, maxAge, fsync }: JournalOptions,
  io: JournalIo,
  now: () => number,
  tickMillis: number,
  { fileSystem, lock, every }: JournalSystem,
  givenLock: () => void,
): Promise<Journal> {
  const pathOf = ({ sequence }: Segment): string => segmentPath(directory, sequence, name);
  /** Oldest first; the last one is the active one, unless somebody deleted that. */
  let segments: Segment[] = [];
  for (const sequence of await listSegments(directory, name, fileSystem)) {
    const { size, mtimeMs, birthtimeMs } = await fileSystem.stat(segmentPath(directory, sequence, name));
    // A file system that doesn't know births says 0.
    segments.push({ sequence, size, firstWrite: Math.min(birthtimeMs || mtimeMs, mtimeMs), lastWrite: mtimeMs });
  }
  const counts = { appended: 0, evicted: 0, evictedSegments: 0, replacedSegments: 0 };
  let retentionError: JournalError | undefined;
  const listeners = new Set<() => void>();
  /** Absent while it could not be taken again. */
  let unlock: (() => void) | undefined = givenLock;
  /** Whether bytes behind the active segment's size may be left from a failed write. */
  let torn = false;
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();

  const last = segments.at(-1);
  const opened = last === undefined ? { active: await create(0), recovered: undefined } : await recover(last);
  const { recovered } = opened;
  let active = opened.active;
  await retain();
  const endTicks = every(tickMillis, () => void enqueue(tick));

  async function recover(segment: Segment): Promise<{ active: Active; recovered: Recovered | undefined }> {
    const path = pathOf(segment);
    const { kept, lines, reason } = await inspect(path, fileSystem);
    const handle = await fileSystem.open(path, 'r+');
    try {
      let cut: Recovered | undefined;
      if (reason !== undefined) {
        cut = { path, kept, cut: segment.size - kept, reason };
        await handle.truncate(kept);
      }
      // What is kept counts from now on, and a process that was killed may not have synced it.
      if (fsync || cut !== undefined) await handle.sync();
      // Nor its name, where it died just when it had made it.
      await syncDirectory(directory, fileSystem);
      segment.size = kept;
      return { active: { segment, handle, lines, file: await fileSystem.stat(path), replaced: false }, recovered: cut };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** @param sequence the next higher one when somebody else's file has it. */
  async function create(sequence: number): Promise<Active> {
    const time = now();
    const segment: Segment = { sequence, size: 0, firstWrite: time, lastWrite: time };
    let handle: OpenFile;
    try {
      handle = await createFile(pathOf(segment));
    } catch (error) {
      if (errorCode(error) === 'EEXIST') return create(sequence + 1);
      throw error;
    }
    try {
      await syncDirectory(directory, fileSystem);
      const file = await fileSystem.stat(pathOf(segment));
      segments.push(segment);
      return { segment, handle, lines: 0, file, replaced: false };
    } catch (error) {
      await handle.close();
      await fileSystem.unlink(pathOf(segment)).catch(() => undefined);
      throw error;
    }
  }

  /**
   * What is empty may have been left by an attempt that failed; a number that nobody had would be an event that never
   * comes.
   */
  async function createFile(path: string): Promise<OpenFile> {
    try {
      return await io.create(path);
    } catch (error) {
      if (errorCode(error) !== 'EEXIST' || (await fileSystem.stat(path)).size > 0) throw error;
      return fileSystem.open(path, 'r+');
    }
  }

  /** @param lines of the active segment. When this fails, the active one stays. */
  async function rotate(lines: number): Promise<void> {
    await io.sync(active.handle);
    const previous = active.handle;
    active = await create(active.segment.sequence + lines);
    await previous.close();
  }

  /** Makes sure that the active segment is the journal's own, of its age, and has room. @param bytes To be written. */
  async function prepare(bytes: number): Promise<void> {
    if (torn) await cutBack();
    const { segment, lines, file } = active;
    const there = await statIfThere(pathOf(segment), fileSystem);
    if (there === undefined || there.ino !== file.ino || there.dev !== file.dev || there.size !== segment.size) {
      if (!active.replaced) counts.replacedSegments += 1;
      active.replaced = true;
    }
    if (active.replaced) {
      if (there === undefined) await makeAgain();
      else segment.size = there.size;
      await rotate(Math.max(lines, there === undefined ? 0 : await countLines(pathOf(segment), fileSystem)));
    } else if (segment.size > 0 && (segment.size + bytes > segmentSize || tooOld())) {
      await rotate(lines);
    }
  }

  /** The folder and the lock may be gone with the segment. */
  async function makeAgain(): Promise<void> {
    await makeFolder(directory, fileSystem);
    unlock?.();
    unlock = undefined;
    unlock = lock(directory);
    const left = new Set(await listSegments(directory, name, fileSystem));
    segments = segments.filter(({ sequence }) => left.has(sequence));
  }

  /** Whether the active segment has to be closed for its age. */
  function tooOld(): boolean {
    const { segment } = active;
    const time = now();
    // A clock that jumped back: the age counts from there.
    segment.firstWrite = Math.min(segment.firstWrite, time);
    return time - segment.firstWrite >= segmentAge || expired(segment, time);
  }

  function expired({ lastWrite }: Segment, time: number): boolean {
    return maxAge > 0 && time - lastWrite > maxAge;
  }

  async function write(batch: Buffer, count: number): Promise<void> {
    await prepare(batch.length);
    const { segment, handle } = active;
    torn = true;
    try {
      for (let written = 0; written < batch.length;) {
        const bytes = await io.write(handle, batch, written, segment.size + written);
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
    const time = now();
    if (segment.size === 0) segment.firstWrite = time;
    segment.lastWrite = time;
    segment.size += batch.length;
    active.lines += count;
    counts.appended += count;
  }

  async function cutBack(): Promise<void> {
    await io.truncate(active.handle, active.segment.size);
    torn = false;
  }

  /** What age asks for. */
  async function tick(): Promise<void> {
    // What fails here fails in the next append too, which says so.
    if (tooOld()) await prepare(0).catch(() => undefined);
    await retain();
  }

  /** Failing to delete must not fail the append that caused it: it is in `status`, and tried again with the next. */
  async function retain(): Promise<void> {
    const time = now();
    for (;;) {
      const [oldest, next] = segments;
      if (oldest === undefined || next === undefined || oldest === active.segment) return;
      if (bytesOf(segments) <= maxSize && !expired(oldest, time)) return;
      try {
        await fileSystem.unlink(pathOf(oldest));
        counts.evicted += next.sequence - oldest.sequence;
        counts.evictedSegments += 1;
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') {
          retentionError = journalError('delete the old segment', pathOf(oldest), error);
          return;
        }
      }
      retentionError = undefined;
      segments.shift();
    }
  }

  function enqueue<T>(task: () => Promise<T>): Promise<T> {
    const result = queue.then(task);
    queue = result.catch(() => undefined);
    return result;
  }

  const total = (): number => active.segment.sequence + active.lines;

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
          throw journalError('append to', pathOf(active.segment), error);
        }
        // Apart from the append, which must not fail any more.
        for (const listener of listeners) queueMicrotask(listener);
        await retain();
      });
    },
    onAppend(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    segments: () =>
      segments.map((segment) => ({ sequence: segment.sequence, path: pathOf(segment), size: segment.size })),
    end: () => ({ segment: active.segment.sequence, offset: active.segment.size, event: total() }),
    status() {
      const [oldest] = segments;
      return {
        ...counts,
        ...(retentionError === undefined ? {} : { retentionError }),
        total: total(),
        bytes: bytesOf(segments),
        segments: segments.length,
        ...(oldest === undefined || oldest.size === 0 ? {} : { oldest: oldest.firstWrite }),
      };
    },
    async close() {
      if (closed) return;
      closed = true;
      endTicks();
      await enqueue(async () => {
        try {
          if (torn) await cutBack();
          await io.sync(active.handle);
        } catch (error) {
          throw journalError('close', pathOf(active.segment), error);
        } finally {
          await active.handle.close();
          unlock?.();
        }
      });
    },
  };
}

/** @throws JournalError */
async function makeFolder(directory: string, fileSystem: FileSystem): Promise<void> {
  try {
    await makeDirectory(directory, 0o750, fileSystem);
  } catch (error) {
    throw journalError('create the folder', directory, error);
  }
}

async function statIfThere(
  file: string,
  fileSystem: FileSystem,
): Promise<Pick<Stats, 'dev' | 'ino' | 'size'> | undefined> {
  try {
    return await fileSystem.stat(file);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function bytesOf(segments: Segment[]): number {
  return segments.reduce((sum, { size }) => sum + size, 0);
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
async function inspect(
  file: string,
  fileSystem: FileSystem,
): Promise<{ kept: number; lines: number; reason?: Recovered['reason'] }> {
  let kept = 0;
  let lines = 0;
  let seen = 0;
  let reason: Recovered['reason'] | undefined;
  for await (const batch of readLines(file, 0, Infinity, fileSystem)) {
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

async function countLines(file: string, fileSystem: FileSystem): Promise<number> {
  let count = 0;
  for await (const lines of readLines(file, 0, Infinity, fileSystem)) {
    count += lines.filter(({ complete }) => complete).length;
  }
  return count;
}
