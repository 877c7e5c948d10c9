/**
 * Gives the packets of capture files to an engine: read, tagged, and written to its FIFO, each while the others go on.
 *
 * Memory is bounded: when the engine reads more slowly than the file is read, reading waits.
 */
import { constants, createReadStream } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { addAbortSignal } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import {
  GROWTH,
  linkTypeFromDlt,
  pcapFileHeader,
  RECORD_HEADER,
  tagFrame,
  writeRecordHeader,
} from '../capture/frame.ts';
import { createPcapParser, MAX_CAPTURED_BYTES, type Damage, type OnPacket } from './pcap-file.ts';
import { FIFO_BYTES, loadNative } from '../native.ts';
import { headOf, STDIN } from './head.ts';
import { errorCode, messageOf } from '../files/errors.ts';

const CHUNK_BYTES = 256 * 1024;
/** A packet has at least its record's header in a file, 16 bytes. It gets a tag, or a link header of 18 bytes. */
const MOST_GROWTH = 2.25;
/** What the packets of a chunk, and one that began before it, take. */
const BUFFER_BYTES = MOST_GROWTH * (CHUNK_BYTES + MAX_CAPTURED_BYTES) + 64;
const OPEN_RETRY_MILLIS = 5;

export interface FileSummary {
  file: string;
  packets: number;
  bytes: number;
  /** Longer on the wire than in the file. */
  truncated: number;
  /** Of link types or protocols that the engines do not read. */
  unsupported: number;
  damages: Damage[];
  damageCount: number;
  /** It was read to its end, or to where damage ends it; false when the replay ended before that, or `error` did. */
  whole: boolean;
  /** Why nothing, or not all, was read: not a capture file, or an error of the file system. */
  error?: string;
}

type Packet = Parameters<OnPacket>;

export function emptySummary(file: string): FileSummary {
  return { file, packets: 0, bytes: 0, truncated: 0, unsupported: 0, damages: [], damageCount: 0, whole: false };
}

export interface FeedEvents {
  /** After each piece of a file. */
  progress(bytes: number, packets: number): void;
  /** Ends it early: what was read until then is given to the engine. */
  stop: AbortSignal;
}

export interface Feed {
  /** Whether the engine reads. */
  readonly isOpen: boolean;
  /** Resolves once all packets of the file are given to the engine, or it has gone. */
  add(summary: FileSummary, vlan: number): Promise<void>;
  /** Resolves once everything is written; the engine sees its input's end then. */
  end(): Promise<void>;
}

/** Resolves when the engine reads, or it is in vain to wait for that. */
export async function openFeed(path: string, hasEnded: () => boolean, events: FeedEvents): Promise<Feed> {
  const { stop } = events;
  const fifo = await openFifo(path, () => hasEnded() || stop.aborted);
  const pieces = [createPiece(), createPiece()] as const;
  let turn = 0;
  let isOpen = fifo !== undefined;
  let writing = write(pcapFileHeader());

  async function write(bytes: Buffer): Promise<void> {
    try {
      for (let at = 0; isOpen && fifo !== undefined && at < bytes.length;)
        at += (await fifo.write(bytes, at)).bytesWritten;
    } catch {
      // EPIPE: the engine's exit says why.
      isOpen = false;
    }
  }

  async function add(summary: FileSummary, vlan: number): Promise<void> {
    let piece = pieces[0];
    const parser = createPcapParser((...packet) => piece.add(summary, vlan, ...packet));
    try {
      for await (const chunk of await readChunks(summary.file, stop)) {
        piece = pieces[turn++ % 2 === 0 ? 0 : 1];
        piece.clear();
        const { packets } = summary;
        summary.bytes += chunk.length;
        const wantsMore = parser.push(chunk);
        await writing;
        writing = write(piece.bytes());
        events.progress(chunk.length, summary.packets - packets);
        if (!wantsMore || !isOpen) break;
      }
      if (!isOpen) return;
      summary.whole = true;
    } catch (error) {
      // Stopped on purpose is not damaged.
      if (stop.aborted) return;
      summary.error = messageOf(error);
    }
    const outcome = parser.end();
    if (outcome.kind === 'read') Object.assign(summary, { damages: outcome.damages, damageCount: outcome.damageCount });
    else summary.error ??= outcome.kind === 'gzip' ? 'compressed twice' : `not a capture file: ${outcome.reason}`;
  }

  return {
    get isOpen() {
      return isOpen;
    },
    add,
    async end() {
      await writing;
      await fifo?.close();
    },
  };
}

/** Opens the FIFO for writing once the engine reads it; undefined when that is in vain. */
async function openFifo(path: string, isInVain: () => boolean): Promise<FileHandle | undefined> {
  while (!isInVain()) {
    try {
      const probe = await open(path, constants.O_WRONLY | constants.O_NONBLOCK);
      // With a reader there, this does not wait; and its writes do, which is what holds back the reading.
      const fifo = await open(path, constants.O_WRONLY);
      await probe.close();
      loadNative().native?.widen(fifo.fd, FIFO_BYTES);
      return fifo;
    } catch (error) {
      if (errorCode(error) !== 'ENXIO') throw error;
      await sleep(OPEN_RETRY_MILLIS);
    }
  }
  return undefined;
}

/** The records that one chunk of a file brings. */
function createPiece() {
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  const view = new DataView(buffer.buffer);
  let end = 0;

  function add(
    summary: FileSummary,
    vlan: number,
    ...[seconds, micros, captured, length, dlt, from, start]: Packet
  ): void {
    summary.packets++;
    if (captured < length) summary.truncated++;
    const link = linkTypeFromDlt(dlt);
    if (link === undefined) return void summary.unsupported++;
    const at = end + RECORD_HEADER + GROWTH[link];
    from.copy(buffer, at, start, start + captured);
    const tagged = tagFrame(buffer, at, captured, link, vlan);
    if (tagged < 0) return void summary.unsupported++;
    const size = at + captured - tagged;
    writeRecordHeader(view, end, seconds, micros, size, Math.max(size, length + size - captured));
    end = at + captured;
  }

  return { add, bytes: () => buffer.subarray(0, end), clear: () => void (end = 0) };
}

/** A file's bytes, decompressed when it is gzip. A piece is there until the next one is asked for. Reading on after `stop` is an error. */
async function readChunks(file: string, stop: AbortSignal): Promise<AsyncIterable<Buffer>> {
  if (file === STDIN) return cut(addAbortSignal(stop, process.stdin) as AsyncIterable<Buffer>);
  const isGzip = (await headOf(file)).kind === 'gzip';
  if (!isGzip && (await stat(file)).isFile()) return readAhead(await open(file), stop);
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  if (!isGzip) return addAbortSignal(stop, stream) as AsyncIterable<Buffer>;
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  stream.on('error', (error: Error) => gunzip.destroy(error));
  return addAbortSignal(stop, stream.pipe(gunzip)) as AsyncIterable<Buffer>;
}

/** What others give, in pieces of at most a chunk. */
async function* cut(chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES);
}

/** The next chunk is read while one is in use: two buffers take turns. */
async function* readAhead(handle: FileHandle, stop: AbortSignal): AsyncIterable<Buffer> {
  try {
    let [current, next] = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];
    let reading = handle.read(current, 0, CHUNK_BYTES, null);
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      stop.throwIfAborted();
      reading = handle.read(next, 0, CHUNK_BYTES, null);
      // A failure shows when its turn comes.
      reading.catch(() => undefined);
      yield current.subarray(0, bytesRead);
      [current, next] = [next, current];
    }
  } finally {
    await handle.close();
  }
}
