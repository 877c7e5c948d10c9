/**
 * Searching and following a journal, while an agent writes it or not, without its lock.
 *
 * A segment is read in chunks of 1 MiB, from its end for the newest first. A filter that wants certain texts looks for
 * them in the chunk, and only lines that have one are parsed. This relies on the writer's form: JSON.stringify, no
 * blanks around a colon. Memory: a few chunks, whatever the journal's size.
 *
 * Order is that of writing. Events are almost in the order of their time: alerts wait to be merged and folded (up to 10
 * minutes), and longer while the journal can't be written. So no time ends a search; only the limit of its reader does.
 * What is relied on is that an event is written after its time: a segment whose last change is before `since` is not
 * opened. A clock that was set back breaks that.
 *
 * An event covers the time from `record.timestamp` to `record.last_timestamp`, where it has one, else a moment.
 *
 * Lines that are no events are passed over and counted, where they are looked at: those longer than 1 MiB, and those
 * that have a wanted text and are not the JSON of an event. A last line without its end is not there yet. A segment
 * that is evicted while it is read is read to its end.
 *
 * Following promises each event once and in order, across rotation. Not promised: events of segments that come and are
 * evicted within one look (250 ms), nor that a batch is durable when its events come; what a writer cuts off after a
 * failed write and writes again with the same bytes comes once.
 */
import { watch } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { errorCode } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { listSegments, MAX_LINE_BYTES, parseLine, segmentPath } from './segment.ts';

const CHUNK_BYTES = 1 << 20;
const NEWLINE = 0x0a;
const POLL_MILLIS = 250;

/** All that are given have to hold; of several values of one, any. */
export interface JournalFilter {
  /** Milliseconds since the Unix epoch, inclusive. */
  since?: number;
  /** Exclusive. */
  until?: number;
  /** Without generator: of any. */
  signatures?: readonly { generator?: string; id: string; revision?: string }[];
  /** At either end, or where it was seen. */
  pods?: readonly Named[];
  resources?: readonly Named[];
  /** At either end; canonical, as events have them. */
  ips?: readonly string[];
  minSeverity?: number;
  /** What no wanted text can say; asked last. */
  where?: (event: SearchedEvent) => boolean;
}

export interface Named {
  namespace: string;
  name: string;
}

/** What searching needs of an event, and printing it. All of it has been checked. */
export interface SearchedEvent {
  origin: string;
  severity: number;
  source_ip: string;
  source_port?: number;
  source_name: string;
  source_namespace: string;
  dest_ip: string;
  dest_port?: number;
  dest_name: string;
  dest_namespace: string;
  record: {
    snort_signature_id: string;
    snort_signature_revision: string;
    generator_id: string;
    timestamp: string;
    last_timestamp?: string;
    count?: number;
    message: string;
    seen_at: { namespace?: unknown; name?: unknown }[];
  };
}

/** Where a line starts. */
export interface Place {
  segment: number;
  /** Bytes. */
  offset: number;
}

export interface FoundEvent {
  /** The journal's line, without the newline. */
  line: string;
  event: SearchedEvent;
  at: Place;
}

export interface SearchOptions {
  directory: string;
  filter: JournalFilter;
  /** Called for each line that is no event. */
  onSkip?: () => void;
  signal?: AbortSignal;
}

/**
 * The events that a filter selects. Doesn't wait for more. Ends early when the signal is aborted.
 * @throws the system's error when the folder or a segment can't be read.
 */
export async function* searchJournal({
  order,
  ...options
}: SearchOptions & { order: 'newest' | 'oldest' }): AsyncGenerator<FoundEvent> {
  const { directory, filter, signal } = options;
  const search = createSearch(options);
  const segments = await listSegments(directory);
  for (const segment of order === 'newest' ? segments.toReversed() : segments) {
    if (aborted(signal)) return;
    const file = segmentPath(directory, segment);
    const handle = await present(async () => {
      if (filter.since !== undefined && (await stat(file)).mtimeMs < filter.since) return undefined;
      return open(file, 'r');
    });
    if (handle === undefined) continue;
    try {
      for await (const block of order === 'newest'
        ? backwards(handle, search.skip)
        : forwards(handle, 0, search.skip)) {
        if (aborted(signal)) return;
        yield* search.block(segment, block, order);
      }
    } finally {
      await handle.close();
    }
  }
}

/**
 * The events that a filter selects, oldest first, and then those that are appended, until the signal is aborted.
 * @param from a place that a search or `journalEnd` gave; without it, the oldest event
 * @throws the system's error when the folder can't be read at the beginning, or a segment at any time.
 */
export async function* followJournal({
  from,
  ...options
}: SearchOptions & { from?: Place }): AsyncGenerator<FoundEvent> {
  const { directory, signal } = options;
  const search = createSearch(options);
  const changes = watchFolder(directory, signal);
  /** Segments that are read, or are not to be. */
  let known = new Set<number>();
  let current: { segment: number; handle: FileHandle; offset: number } | undefined;
  try {
    for (let first = true; !aborted(signal); first = false) {
      const listed = first ? await listSegments(directory) : ((await present(() => listSegments(directory))) ?? []);
      if (first) known = new Set(listed.filter((segment) => segment < (from?.segment ?? 0)));
      // A folder that was emptied may begin again with the same names.
      else known = new Set(listed.filter((segment) => known.has(segment)));
      const next = listed.find((segment) => !known.has(segment));
      // Read after the listing: when there is a next one, this one has all its lines.
      let read = 0;
      if (current !== undefined) {
        for await (const block of forwards(current.handle, current.offset, search.skip)) {
          yield* search.block(current.segment, block, 'oldest');
          current.offset = block.start + block.bytes.length;
          read += 1;
          if (aborted(signal)) return;
        }
      }
      if (next !== undefined) {
        await current?.handle.close();
        current = undefined;
        known.add(next);
        const handle = await present(() => open(segmentPath(directory, next), 'r'));
        if (handle !== undefined) {
          current = { segment: next, handle, offset: next === from?.segment ? from.offset : 0 };
        }
      } else if (read === 0) {
        await changes.next();
      }
    }
  } finally {
    changes.close();
    await current?.handle.close();
  }
}

/** Behind the last whole line; undefined when the journal has no segment. */
export async function journalEnd(directory: string): Promise<Place | undefined> {
  for (const segment of (await listSegments(directory)).toReversed()) {
    const handle = await present(() => open(segmentPath(directory, segment), 'r'));
    if (handle === undefined) continue;
    try {
      for await (const { start, bytes } of backwards(handle, () => undefined)) {
        return { segment, offset: start + bytes.length };
      }
      return { segment, offset: 0 };
    } finally {
      await handle.close();
    }
  }
  return undefined;
}

/** Asked anew each time: it changes while others are awaited. */
function aborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

/** Undefined when what it is about is not there (any more). */
async function present<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

interface Changes {
  /** Waits until something changed since the last call, but 250 ms at most. */
  next(): Promise<void>;
  close(): void;
}

/** Where the system can't watch (a network's file system, too many watches), the 250 ms do. */
function watchFolder(directory: string, signal: AbortSignal | undefined): Changes {
  let changed = false;
  let wake = (): void => undefined;
  const change = (): void => {
    changed = true;
    wake();
  };
  let watcher: ReturnType<typeof watch> | undefined;
  try {
    watcher = watch(directory, change);
    watcher.on('error', () => watcher?.close());
  } catch {
    watcher = undefined;
  }
  signal?.addEventListener('abort', change);
  return {
    async next() {
      if (!changed) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, POLL_MILLIS);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      changed = aborted(signal);
    },
    close() {
      watcher?.close();
      signal?.removeEventListener('abort', change);
    },
  };
}

/** Whole lines, each with its newline. The bytes are valid until the next block is asked for. */
interface Block {
  /** Offset in the file. */
  start: number;
  bytes: Buffer;
}

/** The whole lines from `from`, which is the start of one. @param skip for each line that is too long */
async function* forwards(handle: FileHandle, from: number, skip: () => void): AsyncGenerator<Block> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES + MAX_LINE_BYTES + 1);
  // buffer[0..filled) is the start of a line, `position` is behind it in the file.
  let filled = 0;
  let position = from;
  let tooLong = false;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, filled, CHUNK_BYTES, position);
    if (bytesRead === 0) return;
    position += bytesRead;
    const read = buffer.subarray(0, filled + bytesRead);
    let begin = 0;
    if (tooLong) {
      const newline = read.indexOf(NEWLINE);
      if (newline === -1) continue;
      begin = newline + 1;
      tooLong = false;
      skip();
    }
    const end = Math.max(read.lastIndexOf(NEWLINE) + 1, begin);
    // An empty block tells where the line that was too long ends.
    if (end > 0) yield { start: position - read.length + begin, bytes: read.subarray(begin, end) };
    buffer.copyWithin(0, end, read.length);
    filled = read.length - end;
    if (filled > MAX_LINE_BYTES) {
      tooLong = true;
      filled = 0;
    }
  }
}

/** The whole lines that are there at the beginning, the last block first. */
async function* backwards(handle: FileHandle, skip: () => void): AsyncGenerator<Block> {
  const length = CHUNK_BYTES + MAX_LINE_BYTES + 1;
  const buffer = Buffer.allocUnsafe(length);
  // The last `kept` bytes of the buffer are the end of a line whose start is before `position`.
  let kept = 0;
  let { size: position } = await handle.stat();
  /** What is before `position`, back to a newline, is of no use: not ended, or too long. */
  let useless = true;
  while (position > 0) {
    const wanted = Math.min(CHUNK_BYTES, position);
    const begin = length - kept - wanted;
    position -= wanted;
    for (let filled = 0; filled < wanted;) {
      const { bytesRead } = await handle.read(buffer, begin + filled, wanted - filled, position + filled);
      if (bytesRead > 0) filled += bytesRead;
      else {
        // The file was cut back meanwhile: what is missing counts as damage in its line.
        buffer.fill(0, begin + filled, begin + wanted);
        filled = wanted;
      }
    }
    const read = buffer.subarray(begin);
    const end = useless ? read.lastIndexOf(NEWLINE) + 1 : read.length;
    if (useless && end === 0) continue;
    useless = false;
    const start = position === 0 ? 0 : read.subarray(0, end).indexOf(NEWLINE) + 1;
    if (end > start) yield { start: position + start, bytes: read.subarray(start, end) };
    kept = start;
    buffer.copyWithin(length - kept, begin, begin + kept);
    if (kept > MAX_LINE_BYTES) {
      useless = true;
      kept = 0;
      skip();
    }
  }
}

interface Search {
  skip: () => void;
  block(segment: number, block: Block, order: 'newest' | 'oldest'): Generator<FoundEvent>;
}

function createSearch({ filter, onSkip }: SearchOptions): Search {
  const skip = onSkip ?? ((): void => undefined);
  const needles = needlesOf(filter);
  const accept = createMatcher(filter);
  return {
    skip,
    *block(segment, { start, bytes }, order) {
      const starts = lineStarts(bytes, needles);
      for (const offset of order === 'newest' ? starts.toReversed() : starts) {
        const line = bytes.subarray(offset, bytes.indexOf(NEWLINE, offset));
        const event = line.length > MAX_LINE_BYTES ? undefined : parseLine(line);
        if (event === undefined || !isEvent(event)) skip();
        else if (accept(event)) yield { line: line.toString(), event, at: { segment, offset: start + offset } };
      }
    },
  };
}

/** Ascending offsets of the lines that have one of the texts. */
function lineStarts(bytes: Buffer, needles: readonly Buffer[] | undefined): number[] {
  const starts: number[] = [];
  if (needles === undefined) {
    for (let start = 0; start < bytes.length; start = bytes.indexOf(NEWLINE, start) + 1) starts.push(start);
    return starts;
  }
  for (const needle of needles) {
    let at = bytes.indexOf(needle);
    while (at !== -1) {
      starts.push(bytes.lastIndexOf(NEWLINE, at) + 1);
      at = bytes.indexOf(needle, bytes.indexOf(NEWLINE, at));
    }
  }
  return needles.length === 1 ? starts : [...new Set(starts)].toSorted((a, b) => a - b);
}

/** Texts of which each event that the filter selects has one, of the kind that fewest events have. */
function needlesOf({ signatures, pods, resources, ips }: JournalFilter): Buffer[] | undefined {
  const texts =
    signatures?.map(({ id }) => `"snort_signature_id":${JSON.stringify(id)}`) ??
    ips?.map((ip) => `_ip":${JSON.stringify(ip)}`) ??
    pods?.map(({ name }) => `name":${JSON.stringify(name)}`) ??
    resources?.map((resource) => `"origin":${JSON.stringify(originOf(resource))}`);
  return texts?.map((text) => Buffer.from(text));
}

const originOf = ({ namespace, name }: Named): string => `dpi.${namespace}/${name}`;

function createMatcher(filter: JournalFilter): (event: SearchedEvent) => boolean {
  const { since = -Infinity, until = Infinity, signatures, pods, resources, ips, minSeverity = 0, where } = filter;
  const timed = since !== -Infinity || until !== Infinity;
  return (event) => {
    const { record } = event;
    if (event.severity < minSeverity) return false;
    if (timed) {
      const time = Date.parse(record.timestamp);
      const last = record.last_timestamp === undefined ? time : Date.parse(record.last_timestamp);
      // A time that is none is in no span.
      if (!(time < until && last >= since)) return false;
    }
    if (
      signatures?.some(
        ({ generator, id, revision }) =>
          id === record.snort_signature_id &&
          (generator ?? record.generator_id) === record.generator_id &&
          (revision ?? record.snort_signature_revision) === record.snort_signature_revision,
      ) === false
    ) {
      return false;
    }
    if (ips?.some((ip) => ip === event.source_ip || ip === event.dest_ip) === false) return false;
    if (resources?.some((resource) => originOf(resource) === event.origin) === false) return false;
    const isAtPod = ({ namespace, name }: Named): boolean =>
      (name === event.source_name && namespace === event.source_namespace) ||
      (name === event.dest_name && namespace === event.dest_namespace) ||
      record.seen_at.some((seen) => name === seen.name && namespace === seen.namespace);
    return pods?.some(isAtPod) !== false && where?.(event) !== false;
  };
}

const TEXTS = ['origin', 'source_ip', 'source_name', 'source_namespace', 'dest_ip', 'dest_name', 'dest_namespace'];
const RECORD_TEXTS = ['snort_signature_id', 'snort_signature_revision', 'generator_id', 'timestamp', 'message'];

/** Whether an object has what searching and printing need of an event. Anyone who may write the file wrote the line. */
function isEvent(value: Record<string, unknown>): value is Record<string, unknown> & SearchedEvent {
  const { record } = value;
  return (
    isRecord(record) &&
    typeof value['severity'] === 'number' &&
    TEXTS.every((key) => typeof value[key] === 'string') &&
    RECORD_TEXTS.every((key) => typeof record[key] === 'string') &&
    ['source_port', 'dest_port'].every((key) => value[key] === undefined || typeof value[key] === 'number') &&
    (record['last_timestamp'] === undefined || typeof record['last_timestamp'] === 'string') &&
    (record['count'] === undefined || typeof record['count'] === 'number') &&
    Array.isArray(record['seen_at']) &&
    record['seen_at'].every(isRecord)
  );
}
