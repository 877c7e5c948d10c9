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
 * Recovery, on opening: the last segment is cut behind what is sound of it, see recover.ts. With fsync, nothing that
 * `append` confirmed is behind such a place, unless the disk itself lost it. What was cut off is in `recovered`; its
 * alerts are read again from the engine's output. While running: a segment that somebody deleted, moved or changed is
 * left as it is, and a new one begun by the next append, with the folder and the lock if they are gone too. Numbers go
 * on.
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
import { nodeFileSystem } from '../files/file-system.ts';
import type { FileSystem } from '../files/file-system.ts';
import { JournalError, journalError } from './error.ts';
import {
  bytesOf,
  createSegment,
  findSegments,
  makeFolder,
  pathOf,
  type Folder,
  type JournalIo,
  type JournalSystem,
} from './folder.ts';
import { lockDirectory } from './lock.ts';
import type { Cursor } from './read.ts';
import { recover, type Recovered } from './recover.ts';
import { retain, type Retention } from './retention.ts';
import { EVENT_JOURNAL, MAX_LINE_BYTES } from './segment.ts';
import { closeOld, endWriting, write, type Writer } from './write.ts';

export { foldKey, isConsumed, scanConsumed } from './consumed.ts';
export type { Consumed, Skipped } from './consumed.ts';
export { JournalError } from './error.ts';
export type { JournalIo, JournalSystem } from './folder.ts';
export { readJournal } from './read.ts';
export type { Cursor, JournalLine, ReadOptions } from './read.ts';
export type { Recovered } from './recover.ts';

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

const ioOf = (fileSystem: FileSystem): JournalIo => ({
  create: (file) => fileSystem.open(file, 'wx+', 0o640),
  write: async (handle, buffer, offset, position) =>
    (await handle.write(buffer, offset, buffer.length - offset, position)).bytesWritten,
  sync: (handle) => handle.datasync(),
  truncate: (handle, length) => handle.truncate(length),
});

const nodeSystem: JournalSystem = {
  fileSystem: nodeFileSystem,
  lock: lockDirectory,
  every(millis, action) {
    const timer = setInterval(action, millis).unref();
    return () => clearInterval(timer);
  },
};

interface State {
  readonly writer: Writer;
  readonly retention: Retention;
  readonly listeners: Set<() => void>;
  closed: boolean;
  /** What is done one after the other. */
  queue: Promise<unknown>;
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
  const { directory, name = EVENT_JOURNAL } = options;
  const { fileSystem, lock } = system;
  await makeFolder(directory, fileSystem);
  const unlock = lock(directory);
  const folder: Folder = {
    directory,
    name,
    fileSystem,
    io: io ?? ioOf(fileSystem),
    lock,
    now,
    segments: [],
    unlock,
  };
  try {
    const { state, recovered } = await openFolder(folder, options);
    const endTicks = system.every(tickMillis, () => void enqueue(state, () => tick(state)));
    return journalOf(state, recovered, endTicks);
  } catch (error) {
    unlock();
    throw journalError('open the journal in', directory, error);
  }
}

async function openFolder(
  folder: Folder,
  { segmentSize, maxSize, segmentAge, maxAge, fsync }: JournalOptions,
): Promise<{ state: State; recovered: Recovered | undefined }> {
  folder.segments = await findSegments(folder);
  const last = folder.segments.at(-1);
  const { active, recovered } =
    last === undefined
      ? { active: await createSegment(folder, 0), recovered: undefined }
      : await recover(folder, last, fsync);
  const limits = { segmentSize, segmentAge, maxAge };
  const state: State = {
    writer: { folder, limits, fsync, active, torn: false, appended: 0, replacedSegments: 0 },
    retention: { maxSize, maxAge, evicted: 0, evictedSegments: 0, error: undefined },
    listeners: new Set(),
    closed: false,
    queue: Promise.resolve(),
  };
  await retainOf(state);
  return { state, recovered };
}

function journalOf(state: State, recovered: Recovered | undefined, endTicks: () => void): Journal {
  const { writer, listeners } = state;
  const { folder } = writer;
  return {
    recovered,
    append: (lines) => append(state, lines),
    onAppend(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    segments: () =>
      folder.segments.map((segment) => ({
        sequence: segment.sequence,
        path: pathOf(folder, segment),
        size: segment.size,
      })),
    end() {
      const { sequence, size } = writer.active.segment;
      return { segment: sequence, offset: size, event: totalOf(writer) };
    },
    status: () => statusOf(state),
    close: () => close(state, endTicks),
  };
}

function totalOf({ active }: Writer): number {
  return active.segment.sequence + active.lines;
}

function statusOf({ writer, retention }: State): JournalStatus {
  const { folder, appended, replacedSegments } = writer;
  const { evicted, evictedSegments, error } = retention;
  const [oldest] = folder.segments;
  return {
    appended,
    evicted,
    evictedSegments,
    replacedSegments,
    ...(error === undefined ? {} : { retentionError: error }),
    total: totalOf(writer),
    bytes: bytesOf(folder.segments),
    segments: folder.segments.length,
    ...(oldest === undefined || oldest.size === 0 ? {} : { oldest: oldest.firstWrite }),
  };
}

async function append(state: State, lines: readonly EventLine[]): Promise<void> {
  const { writer, listeners } = state;
  const { folder } = writer;
  if (state.closed) throw new JournalError('ECLOSED', folder.directory, `the journal in ${folder.directory} is closed`);
  if (lines.length === 0) return;
  const batch = encode(lines);
  await enqueue(state, async () => {
    try {
      await write(writer, batch, lines.length);
    } catch (error) {
      throw journalError('append to', pathOf(folder, writer.active.segment), error);
    }
    // Apart from the append, which must not fail any more.
    for (const listener of listeners) queueMicrotask(listener);
    await retainOf(state);
  });
}

/** What age asks for. */
async function tick(state: State): Promise<void> {
  await closeOld(state.writer);
  await retainOf(state);
}

function retainOf({ writer, retention }: State): Promise<void> {
  return retain(retention, writer.folder, writer.active.segment);
}

async function close(state: State, endTicks: () => void): Promise<void> {
  if (state.closed) return;
  state.closed = true;
  endTicks();
  const { writer } = state;
  const { folder } = writer;
  await enqueue(state, async () => {
    try {
      await endWriting(writer);
    } catch (error) {
      throw journalError('close', pathOf(folder, writer.active.segment), error);
    } finally {
      await writer.active.handle.close();
      folder.unlock?.();
    }
  });
}

function enqueue(state: State, task: () => Promise<void>): Promise<void> {
  const result = state.queue.then(task);
  state.queue = result.catch(() => undefined);
  return result;
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
