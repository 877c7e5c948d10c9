/**
 * Makes of the packets that a source has put into the arena what the engine gets: tagged records, in place. What it
 * does not get is left out, and what is behind it moves up when it is small, so that the FIFO is given few and large
 * pieces.
 */
import type { Keep } from '../endpoints/endpoint.ts';
import { createOverlap, createTail, joinCuts, type Cut, type Overlap, type Tail } from './cut.ts';
import type { Directions } from './directions.ts';
import { GROWTH, tagFrame } from './frame.ts';
import { linkTypeFromDlt, type LinkType } from './frame/link.ts';
import { RECORD_HEADER, writeRecordHeader } from './record.ts';
import type { Output } from './output.ts';
import type { Counters } from './protocol.ts';
import type { Keeper } from './recent/keep.ts';
import type { Kind } from './recent/memory.ts';
import { SHUNT_PROTOCOLS, type Shunt } from './shunt/shunt.ts';

/** A record of so many bytes is moved rather than given to the FIFO as a piece of its own. */
const MOVED_BYTES = 16 * 1024;

/** Names of counters, in the order of SHUNT_PROTOCOLS: making them for each packet would cost more than the packet. */
const SHUNT_COUNTERS = SHUNT_PROTOCOLS.map(
  (protocol) => ({ packets: `${protocol}Packets`, bytes: `${protocol}Bytes` }) as const,
);

/** Of an endpoint, what its packets are counted and marked by. */
export interface Marks {
  vlan: number;
  counters: Counters;
  directions: Directions | undefined;
  /** How much of its packets is kept for alerts; absent: nothing. */
  recent?: { readonly key: number; keep: Keep };
}

/** Where packets come from: one interface of an endpoint. */
export interface Origin {
  readonly marks: Marks;
  /** undefined: frames that neither engine reads. */
  link: LinkType | undefined;
  /** Free bytes before each frame. */
  room: number;
  /** While another origin of the endpoint may have given the same packets. */
  overlap: Overlap | undefined;
  /** While what is read is to be known by another origin. */
  tail: Tail | undefined;
  /** As what its packets are kept. */
  kind: Kind | undefined;
}

export interface Forwarder {
  /** Takes the records that are in the arena in [from, to). */
  forward(origin: Origin, from: number, to: number): void;
}

export function createOrigin(marks: Marks, dlt: number): Origin {
  const link = linkTypeFromDlt(dlt);
  const room = link === undefined ? 0 : Math.max(0, GROWTH[link]);
  const kind = marks.recent === undefined ? undefined : { key: marks.recent.key, link: dlt, room };
  return { marks, link, room, overlap: undefined, tail: undefined, kind };
}

/** It goes on behind what other origins of the endpoint have read. */
export function goOnBehind(origin: Origin, cuts: readonly Cut[]): void {
  origin.overlap = createOverlap(joinCuts(cuts));
}

export function keepTail(origin: Origin, lastTime: number): Tail {
  origin.tail ??= createTail(lastTime);
  return origin.tail;
}

/** Records that follow each other, and are given to the output together. */
interface Piece {
  begin: number;
  end: number;
  records: number;
}

/**
 * @param shunt undefined: all that an engine reads is forwarded.
 * @param keeper Of what is kept for alerts; undefined: nothing is.
 */
export function createForwarder(output: Output, shunt: Shunt | undefined, keeper?: Keeper): Forwarder {
  const { bytes, view } = output.arena;
  const piece: Piece = { begin: 0, end: 0, records: 0 };

  function forward(origin: Origin, from: number, to: number): void {
    const { marks, room } = origin;
    const { counters } = marks;
    piece.begin = piece.end = from;
    piece.records = 0;
    const how = marks.recent?.keep ?? 'off';
    const kept = how === 'off' ? undefined : origin.kind;
    keeper?.begin();
    for (let at = from; at < to;) {
      const captured = view.getUint32(at + 8, true);
      const length = view.getUint32(at + 12, true);
      const start = at + RECORD_HEADER + room;
      if (isNew(origin, bytes, view, at, start, captured)) {
        counters.receivedBytes += length;
        if (captured < length) counters.truncated++;
        if (kept !== undefined) keeper?.keep(kept, how, at, to, isShared(origin));
        forwardFrame(origin, at, start, captured, length);
      } else {
        counters.received--;
      }
      at = start + captured;
    }
    keeper?.end();
    finish(output, piece);
  }

  function forwardFrame({ marks, link }: Origin, at: number, start: number, captured: number, length: number): void {
    const { counters, vlan, directions } = marks;
    if (link === undefined) return void counters.unsupported++;
    if (directions?.curious === true) directions.look(bytes, start, captured, link);
    if (!output.isOpen) {
      keeper?.passed(vlan, start, captured);
      return void counters.droppedEngineDown++;
    }
    const seconds = view.getUint32(at, true);
    const micros = view.getUint32(at + 4, true);
    const ip = shunt === undefined ? -1 : ipOffset(view, link, start, captured);
    const verdict =
      shunt !== undefined && ip >= 0 ? shunt.look(bytes, start, ip, captured, length, vlan, seconds) : 'forward';
    if (shunt !== undefined && verdict !== 'forward') {
      countShunted(counters, shunt);
      keeper?.shunted(at);
      if (verdict === 'shunted') return void counters.shunted++;
      ({ start, captured, length } = shunt);
    } else {
      keeper?.passed(vlan, start, captured);
    }
    const tagged = tagFrame(bytes, start, captured, link, vlan);
    if (tagged < 0) return void counters.unsupported++;
    counters.forwarded++;
    counters.forwardedBytes += length;
    const added = start - tagged;
    const record = place(output, piece, tagged - RECORD_HEADER, RECORD_HEADER + captured + added);
    writeRecordHeader(view, record, seconds, micros, captured + added, Math.max(captured, length) + added);
  }

  return { forward };
}

/** Whether another origin of the endpoint may have the same packets. */
function isShared({ overlap, tail }: Origin): boolean {
  return overlap !== undefined || tail !== undefined;
}

function isNew(origin: Origin, bytes: Buffer, view: DataView, at: number, start: number, captured: number): boolean {
  if (!isShared(origin)) return true;
  const time = view.getUint32(at, true) * 1e6 + view.getUint32(at + 4, true);
  const frame = bytes.subarray(start, start + captured);
  if (origin.overlap !== undefined) {
    if (time > origin.overlap.end) origin.overlap = undefined;
    else if (origin.overlap.has(time, frame, captured)) return false;
  }
  origin.tail?.add(time, frame, captured);
  return true;
}

function ipOffset(view: DataView, link: LinkType, start: number, captured: number): number {
  if (link === 'raw') return 0;
  if (link !== 'ethernet' || captured < 34) return -1;
  const type = view.getUint16(start + 12);
  return type === 0x0800 || type === 0x86dd ? 14 : -1;
}

function countShunted(counters: Counters, { protocol, bytes }: Shunt): void {
  const names = SHUNT_COUNTERS[protocol];
  if (names === undefined) return;
  counters[names.packets]++;
  counters[names.bytes] += bytes;
}

/** Makes a record of `size` bytes, header included, part of the piece. @returns where it is now. */
function place(output: Output, piece: Piece, at: number, size: number): number {
  const { end } = piece;
  if (at !== end && piece.records > 0 && size > MOVED_BYTES) finish(output, piece);
  const isMoved = at !== end && piece.records > 0;
  if (isMoved) output.arena.bytes.copyWithin(end + RECORD_HEADER, at + RECORD_HEADER, at + size);
  if (piece.records === 0) piece.begin = at;
  const record = isMoved ? end : at;
  piece.end = record + size;
  piece.records++;
  return record;
}

function finish(output: Output, piece: Piece): void {
  if (piece.records > 0) output.add(piece.begin, piece.end, piece.records);
  piece.records = 0;
}
