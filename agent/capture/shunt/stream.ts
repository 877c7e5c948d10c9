/**
 * Follows one direction of a TCP stream from unit to unit (TLS records, SSH packets) and takes out of a segment's
 * payload what the engine need not see. What stays is moved together, so that the payload stays contiguous.
 *
 * Invariants: a unit is taken out whole or not at all, and only bytes behind all that was followed before are newly
 * taken out. What was seen before is treated as it was then, whatever its content is now: a retransmission is cut like
 * the original.
 *
 * A gap inside one unit is no loss: where the unit ends is known, and what arrives late is treated as the unit was.
 * What follows a gap with a unit's header in it is not known; from then on the direction is forwarded, until a segment
 * shows where records begin.
 */
import { byteAt } from '../bytes.ts';
import { ADRIFT, countCiphertext, FOLLOWING, LOST, SSH, TLS, WAITING, type Direction, type Flow } from './flow.ts';
import { FIN, URG, type Packet } from './packet.ts';
import { keptFrom, takenFrom, takeOut } from './ranges.ts';
import { beginPacket, isBulk, PACKET_HEADER } from './ssh.ts';
import { looksClear, WITHIN } from './text.ts';
import { beginRecord, findRecords, RECORD_HEADER } from './tls.ts';

/** Where no unit's end is known, a longer gap is no gap. */
const MAX_GAP = 1 << 24;

/** The place in a segment's payload: the next byte to judge, its number, and where the next byte that stays belongs. */
export interface Follower {
  at: number;
  end: number;
  sequence: number;
  write: number;
  /** Of ciphertext, as in ShuntSettings. */
  readonly firstBytes: number;
  /** A header that two segments have. */
  readonly scratch: Buffer;
}

/** One is used for all streams, a segment after the other. */
export function createFollower(firstBytes: number): Follower {
  const scratch = Buffer.alloc(Math.max(RECORD_HEADER, PACKET_HEADER));
  return { at: 0, end: 0, sequence: 0, write: 0, firstBytes, scratch };
}

/** @returns Where the payload ends now: at `packet.end` if nothing was taken out. */
export function reduce(
  follower: Follower,
  flow: Flow,
  direction: Direction,
  bytes: Buffer,
  packet: Packet,
  sequence: number,
  flags: number,
): number {
  if (direction.stage === WAITING) return packet.end;
  if (!packet.whole) return passCut(direction, packet, sequence);
  follower.at = follower.write = packet.payload;
  follower.end = packet.end;
  follower.sequence = sequence;
  const ahead = (sequence - direction.next) | 0;
  if (ahead < 0) repeat(follower, direction, bytes, Math.min(follower.end - follower.at, -ahead));
  // A FIN has a number too, also without payload: it is the one behind all that comes.
  if (follower.at < follower.end || (flags & FIN) !== 0) {
    if ((flags & URG) !== 0) abandon(follower, direction, bytes, LOST);
    else if (ahead > 0 && direction.stage === FOLLOWING && !isSkipped(follower, flow, direction, ahead)) {
      abandon(follower, direction, bytes, flow.protocol === TLS ? ADRIFT : LOST);
    }
    if (direction.stage === ADRIFT) findAgain(follower, direction, bytes);
  }
  while (follower.at < follower.end && direction.stage === FOLLOWING) walk(follower, flow, direction, bytes);
  if (follower.at < follower.end) keepBytes(follower, bytes, follower.end - follower.at);
  if (((follower.sequence - direction.next) | 0) > 0) direction.next = follower.sequence;
  return follower.write;
}

/** A truncated segment, or the first fragment of one: what it had is not known. */
function passCut(direction: Direction, packet: Packet, sequence: number): number {
  const behind = (sequence + packet.payloadLength) | 0;
  if (((behind - direction.next) | 0) > 0) {
    finishUnit(direction);
    if (((behind - direction.next) | 0) > 0) direction.next = behind;
    direction.stage = LOST;
  }
  return packet.end;
}

/** Where the next unit begins is not known. */
function abandon(follower: Follower, direction: Direction, bytes: Buffer, stage: number): void {
  finishUnit(direction);
  direction.stage = stage;
  const overlap = (direction.next - follower.sequence) | 0;
  if (overlap > 0) repeat(follower, direction, bytes, Math.min(follower.end - follower.at, overlap));
}

function findAgain(follower: Follower, direction: Direction, bytes: Buffer): void {
  const at = findRecords(bytes, follower.at, follower.end);
  if (at < 0) return;
  keepBytes(follower, bytes, at - follower.at);
  direction.stage = FOLLOWING;
  direction.left = direction.headerBytes = 0;
  direction.isTakenOut = false;
}

/** A unit of which a part was taken out is taken out to its end, which is known; the rest may come later. */
function finishUnit(direction: Direction): void {
  if (direction.stage !== FOLLOWING || !direction.isTakenOut || direction.left === 0) return;
  const behind = (direction.next + direction.left) | 0;
  takeOut(direction, direction.next, behind);
  direction.next = behind;
  direction.left = 0;
}

/** The next `count` bytes were seen before. */
function repeat(follower: Follower, direction: Direction, bytes: Buffer, count: number): void {
  const until = follower.at + count;
  while (follower.at < until) {
    const taken = Math.min(until - follower.at, takenFrom(direction, follower.sequence));
    if (taken > 0) advance(follower, taken);
    else keepBytes(follower, bytes, keptFrom(direction, follower.sequence, until - follower.at));
  }
}

/** Whether the bytes between what was followed and this segment belong to one unit, which goes on behind them. */
function isSkipped(follower: Follower, flow: Flow, direction: Direction, count: number): boolean {
  if (direction.headerBytes > 0) return false;
  if (count > (direction.endless ? MAX_GAP : direction.left)) return false;
  const taken = direction.endless ? isBulk(flow, direction, follower.firstBytes) : direction.isTakenOut;
  if (taken) takeOut(direction, direction.next, (direction.next + count) | 0);
  else if (direction.secret) countCiphertext(direction, count);
  if (!direction.endless) pass(direction, count);
  return true;
}

function walk(follower: Follower, flow: Flow, direction: Direction, bytes: Buffer): void {
  const here = follower.end - follower.at;
  if (direction.endless) {
    if (isBulk(flow, direction, follower.firstBytes)) drop(follower, direction, bytes, here, true);
    else keepSecret(follower, direction, bytes, here);
  } else if (direction.left > 0) {
    body(follower, direction, bytes, Math.min(direction.left, here), true);
  } else {
    begin(follower, flow, direction, bytes);
  }
}

function begin(follower: Follower, flow: Flow, direction: Direction, bytes: Buffer): void {
  const length = flow.protocol === TLS ? RECORD_HEADER : PACKET_HEADER;
  if (direction.headerBytes > 0 || follower.end - follower.at < length)
    return keepHeaderByte(follower, flow, direction, bytes, length);
  if (!isBegun(follower, flow, direction, bytes, follower.at, follower.end, true)) {
    direction.stage = LOST;
    return;
  }
  if (direction.isTakenOut) drop(follower, direction, bytes, length, false);
  else keepBytes(follower, bytes, length);
  const here = Math.min(direction.left, follower.end - follower.at);
  if (here > 0) body(follower, direction, bytes, here, false);
}

/** One byte of a header that two segments have. */
function keepHeaderByte(follower: Follower, flow: Flow, direction: Direction, bytes: Buffer, length: number): void {
  direction.header[direction.headerBytes++] = byteAt(bytes, follower.at);
  keepBytes(follower, bytes, 1);
  if (direction.headerBytes < length) return;
  for (let index = 0; index < length; index++) follower.scratch[index] = direction.header[index] ?? 0;
  direction.headerBytes = 0;
  if (!isBegun(follower, flow, direction, follower.scratch, 0, length, false)) direction.stage = LOST;
}

function isBegun(
  follower: Follower,
  flow: Flow,
  direction: Direction,
  bytes: Buffer,
  at: number,
  end: number,
  isWhole: boolean,
): boolean {
  return flow.protocol === SSH
    ? beginPacket(flow, direction, bytes, at)
    : beginRecord(flow, direction, bytes, at, end, isWhole, follower.firstBytes);
}

function body(follower: Follower, direction: Direction, bytes: Buffer, count: number, sample: boolean): void {
  if (direction.isTakenOut) {
    if (!drop(follower, direction, bytes, count, sample)) return;
  } else if (direction.secret) {
    keepSecret(follower, direction, bytes, count);
  } else {
    keepBytes(follower, bytes, count);
  }
  pass(direction, count);
}

function pass(direction: Direction, count: number): void {
  direction.left -= count;
  if (direction.left > 0 || !direction.lastClear) return;
  direction.lastClear = false;
  direction.keyed = direction.endless = direction.secret = true;
}

/** @returns false: it could be text, and the direction is lost. */
function drop(follower: Follower, direction: Direction, bytes: Buffer, count: number, sample: boolean): boolean {
  if (sample && looksClear(direction, bytes, follower.at, follower.at + count, WITHIN)) {
    direction.stage = LOST;
    return false;
  }
  takeOut(direction, follower.sequence, (follower.sequence + count) | 0);
  advance(follower, count);
  return true;
}

function keepSecret(follower: Follower, direction: Direction, bytes: Buffer, count: number): void {
  countCiphertext(direction, count);
  keepBytes(follower, bytes, count);
}

function keepBytes(follower: Follower, bytes: Buffer, count: number): void {
  if (follower.write !== follower.at) bytes.copyWithin(follower.write, follower.at, follower.at + count);
  follower.write += count;
  advance(follower, count);
}

function advance(follower: Follower, count: number): void {
  follower.at += count;
  follower.sequence = (follower.sequence + count) | 0;
}
