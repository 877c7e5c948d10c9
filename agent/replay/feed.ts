/**
 * Gives the packets of capture files to an engine, as capture does: made Ethernet frames in the arena, and from there
 * to its FIFO. They are tagged where the engine has other files beside.
 *
 * Memory is bounded: when the engine reads more slowly than the file is read, reading waits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { etherFrame, etherGrowth, GROWTH, tagFrame } from '../capture/frame.ts';
import { linkTypeFromDlt } from '../capture/frame/link.ts';
import { MAX_RECORD_BYTES, RECORD_HEADER, writeRecordHeader } from '../capture/record.ts';
import { createOutput, type Output } from '../capture/output.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { MAGIC_BYTES } from '../files/magic.ts';
import { loadNative } from '../native.ts';
import { CHUNK_BYTES, readChunks } from './chunks.ts';
import { named, STDIN } from './head.ts';
import { createPcapParser, MAX_CAPTURED_BYTES, type Damage, type OnPacket, type PcapOutcome } from './pcap-file.ts';
import type { Times } from './times.ts';

/** A packet has at least its record's header in a file, 16 bytes. It gets a tag, or a link header of 18 bytes. */
const MOST_GROWTH = 2.25;
/** What the packets of a chunk, and one that began before it, take. */
const ROOM_BYTES = MOST_GROWTH * (CHUNK_BYTES + MAX_CAPTURED_BYTES) + 64;
const ARENA_BYTES = 16 << 20;
const RETRY_MILLIS = 1;
/** Link types that are named. */
const MAX_TYPES = 16;
/** The engine's exit says what happened. */
const IGNORED = { opened() {}, closed() {}, blocked() {}, drained() {} };

export interface FileSummary {
  file: string;
  packets: number;
  bytes: number;
  /** Longer on the wire than in the file. */
  truncated: number;
  /** Not inspected: of link types that the engines do not read, or shorter than a link header. */
  unsupported: number;
  /** The first of these link types, as numbers of libpcap. */
  unsupportedTypes: number[];
  damages: Damage[];
  damageCount: number;
  /** It was read to its end, or to where damage ends it; false when the replay ended before that, or `error` did. */
  whole: boolean;
  /** Why nothing, or not all, was read: not a capture file, or an error of the file system. */
  error?: string;
}

type Packet = Parameters<OnPacket>;

export function emptySummary(file: string): FileSummary {
  return {
    file,
    packets: 0,
    bytes: 0,
    truncated: 0,
    unsupported: 0,
    unsupportedTypes: [],
    damages: [],
    damageCount: 0,
    whole: false,
  };
}

/** How the packets of a file are given: among those of others, or with times that the engine can hold. */
export type Giving = { is: 'tagged'; vlan: number } | { is: 'alone'; times: Times };

export interface FeedEvents {
  /** After each piece of a file. */
  progress: (bytes: number, packets: number) => void;
  /** Ends it early: what was read until then is given to the engine. */
  stop: AbortSignal;
}

export interface Feed {
  /** Whether the engine reads. */
  readonly isOpen: boolean;
  /** Resolves once all packets of the file are given to the engine, or it has gone. */
  add(summary: FileSummary, giving: Giving): Promise<void>;
  /** Resolves once everything is written; the engine sees its input's end then. */
  end(): Promise<void>;
}

/** Resolves when the engine reads, or it is in vain to wait for that. */
export async function openFeed(path: string, hasEnded: () => boolean, { stop, progress }: FeedEvents): Promise<Feed> {
  const output = createOutput(ARENA_BYTES, loadNative().native, IGNORED);
  output.open(path);
  while (!output.isOpen && !hasEnded() && !stop.aborted) await sleep(RETRY_MILLIS);
  let room: Room | undefined;

  async function add(summary: FileSummary, giving: Giving): Promise<void> {
    let head = Buffer.alloc(0);
    const parser = createPcapParser((...packet) => room?.add(summary, giving, ...packet));
    try {
      for await (const chunk of await readChunks(summary.file, stop)) {
        room = await roomIn(output);
        if (room === undefined) return;
        const { packets } = summary;
        if (head.length < MAGIC_BYTES) head = Buffer.concat([head, chunk.subarray(0, MAGIC_BYTES)]);
        summary.bytes += chunk.length;
        const wantsMore = parser.push(chunk);
        room.commit();
        progress(chunk.length, summary.packets - packets);
        if (!wantsMore) break;
      }
      summary.whole = output.isOpen;
    } catch (error) {
      // Stopped on purpose is not damaged.
      if (stop.aborted) return;
      summary.error = readError(error);
    }
    const outcome = parser.end();
    if (outcome.kind === 'read') Object.assign(summary, { damages: outcome.damages, damageCount: outcome.damageCount });
    else summary.error ??= refusal(summary.file, outcome, head);
  }

  return {
    get isOpen() {
      return output.isOpen;
    },
    add,
    end: () => output.close(Infinity),
  };
}

/** zlib's errors name no file and no gzip. */
function readError(error: unknown): string {
  const code = errorCode(error) ?? '';
  if (code === 'Z_BUF_ERROR') return 'the gzip file ends too early: the rest is missing';
  return code.startsWith('Z_') ? `the gzip file is damaged: ${messageOf(error)}` : messageOf(error);
}

function refusal(file: string, outcome: Exclude<PcapOutcome, { kind: 'read' }>, head: Buffer): string {
  if (outcome.kind === 'not-pcap') return `not a capture file: ${named(outcome, head).reason}`;
  return file === STDIN
    ? 'gzip, which standard input may not be: decompress it first (gunzip -c FILE | dpi-agent replay -)'
    : 'gzip within gzip: decompress it once';
}

function leaveOut(summary: FileSummary, dlt: number): void {
  const { unsupportedTypes } = summary;
  summary.unsupported++;
  if (unsupportedTypes.length < MAX_TYPES && !unsupportedTypes.includes(dlt)) unsupportedTypes.push(dlt);
}

/** Waits until the engine has read enough; undefined when it has gone. */
async function roomIn(output: Output): Promise<Room | undefined> {
  const { arena } = output;
  for (;;) {
    if (!output.isOpen) return undefined;
    const from = arena.reserve(ROOM_BYTES);
    if (from >= 0) return createRoom(output, from);
    await sleep(RETRY_MILLIS);
    output.flush();
  }
}

type Room = ReturnType<typeof createRoom>;

/** For the records that one chunk of a file brings. */
function createRoom(output: Output, from: number) {
  const { bytes, view } = output.arena;
  let end = from;
  let records = 0;

  function add(
    summary: FileSummary,
    giving: Giving,
    ...[seconds, micros, captured, length, dlt, buffer, start]: Packet
  ): void {
    summary.packets++;
    if (captured < length) summary.truncated++;
    const link = linkTypeFromDlt(dlt);
    if (link === undefined) return leaveOut(summary, dlt);
    const begin = end + RECORD_HEADER;
    const at = begin + (giving.is === 'tagged' ? GROWTH[link] : etherGrowth(link));
    buffer.copy(bytes, at, start, start + captured);
    const frame =
      giving.is === 'tagged' ? tagFrame(bytes, at, captured, link, giving.vlan) : etherFrame(bytes, at, captured, link);
    if (frame < 0) return void summary.unsupported++;
    // Headers of PPP are of several lengths.
    if (frame !== begin) bytes.copyWithin(begin, frame, at + captured);
    const size = Math.min(at + captured - frame, MAX_RECORD_BYTES);
    const time = giving.is === 'alone' ? giving.times.give(seconds, summary.packets - summary.unsupported) : seconds;
    writeRecordHeader(view, end, time, micros, size, Math.max(size, length + size - captured));
    end = begin + size;
    records++;
  }

  function commit(): void {
    output.add(from, end, records);
    output.flush();
  }

  return { add, commit };
}
