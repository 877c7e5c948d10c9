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

export interface Follower {
  /** @returns Where the payload ends now: at `packet.end` if nothing was taken out. */
  reduce(flow: Flow, direction: Direction, bytes: Buffer, packet: Packet, sequence: number, flags: number): number;
}

/** The place in a segment's payload: the next byte to judge, its number, and where the next byte that stays belongs. */
interface Cursor {
  at: number;
  end: number;
  sequence: number;
  write: number;
}

export function createFollower(firstBytes: number): Follower {
  const cursor: Cursor = { at: 0, end: 0, sequence: 0, write: 0 };
  const scratch = Buffer.alloc(Math.max(RECORD_HEADER, PACKET_HEADER));

  function reduce(
    flow: Flow,
    direction: Direction,
    bytes: Buffer,
    packet: Packet,
    sequence: number,
    flags: number,
  ): number {
    if (direction.stage === WAITING) return packet.end;
    if (!packet.whole) return passCut(direction, packet, sequence);
    cursor.at = cursor.write = packet.payload;
    cursor.end = packet.end;
    cursor.sequence = sequence;
    const ahead = (sequence - direction.next) | 0;
    if (ahead < 0) repeat(direction, bytes, Math.min(cursor.end - cursor.at, -ahead));
    // A FIN has a number too, also without payload: it is the one behind all that comes.
    if (cursor.at < cursor.end || (flags & FIN) !== 0) {
      if ((flags & URG) !== 0) abandon(direction, bytes, LOST);
      else if (ahead > 0 && direction.stage === FOLLOWING && !isSkipped(flow, direction, ahead)) {
        abandon(direction, bytes, flow.protocol === TLS ? ADRIFT : LOST);
      }
      if (direction.stage === ADRIFT) findAgain(direction, bytes);
    }
    while (cursor.at < cursor.end && direction.stage === FOLLOWING) walk(flow, direction, bytes);
    if (cursor.at < cursor.end) keepBytes(bytes, cursor.end - cursor.at);
    if (((cursor.sequence - direction.next) | 0) > 0) direction.next = cursor.sequence;
    return cursor.write;
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
  function abandon(direction: Direction, bytes: Buffer, stage: number): void {
    finishUnit(direction);
    direction.stage = stage;
    const overlap = (direction.next - cursor.sequence) | 0;
    if (overlap > 0) repeat(direction, bytes, Math.min(cursor.end - cursor.at, overlap));
  }

  function findAgain(direction: Direction, bytes: Buffer): void {
    const at = findRecords(bytes, cursor.at, cursor.end);
    if (at < 0) return;
    keepBytes(bytes, at - cursor.at);
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
  function repeat(direction: Direction, bytes: Buffer, count: number): void {
    const until = cursor.at + count;
    while (cursor.at < until) {
      const taken = Math.min(until - cursor.at, takenFrom(direction, cursor.sequence));
      if (taken > 0) advance(taken);
      else keepBytes(bytes, keptFrom(direction, cursor.sequence, until - cursor.at));
    }
  }

  /** Whether the bytes between what was followed and this segment belong to one unit, which goes on behind them. */
  function isSkipped(flow: Flow, direction: Direction, count: number): boolean {
    if (direction.headerBytes > 0) return false;
    if (count > (direction.endless ? MAX_GAP : direction.left)) return false;
    const taken = direction.endless ? isBulk(flow, direction, firstBytes) : direction.isTakenOut;
    if (taken) takeOut(direction, direction.next, (direction.next + count) | 0);
    else if (direction.secret) countCiphertext(direction, count);
    if (!direction.endless) pass(direction, count);
    return true;
  }

  function walk(flow: Flow, direction: Direction, bytes: Buffer): void {
    const here = cursor.end - cursor.at;
    if (direction.endless) {
      if (isBulk(flow, direction, firstBytes)) drop(direction, bytes, here, true);
      else keepSecret(direction, bytes, here);
    } else if (direction.left > 0) {
      body(direction, bytes, Math.min(direction.left, here), true);
    } else {
      begin(flow, direction, bytes);
    }
  }

  function begin(flow: Flow, direction: Direction, bytes: Buffer): void {
    const length = flow.protocol === TLS ? RECORD_HEADER : PACKET_HEADER;
    if (direction.headerBytes > 0 || cursor.end - cursor.at < length)
      return keepHeaderByte(flow, direction, bytes, length);
    if (!isBegun(flow, direction, bytes, cursor.at, cursor.end, true)) {
      direction.stage = LOST;
      return;
    }
    if (direction.isTakenOut) drop(direction, bytes, length, false);
    else keepBytes(bytes, length);
    const here = Math.min(direction.left, cursor.end - cursor.at);
    if (here > 0) body(direction, bytes, here, false);
  }

  /** One byte of a header that two segments have. */
  function keepHeaderByte(flow: Flow, direction: Direction, bytes: Buffer, length: number): void {
    direction.header[direction.headerBytes++] = byteAt(bytes, cursor.at);
    keepBytes(bytes, 1);
    if (direction.headerBytes < length) return;
    for (let index = 0; index < length; index++) scratch[index] = direction.header[index] ?? 0;
    direction.headerBytes = 0;
    if (!isBegun(flow, direction, scratch, 0, length, false)) direction.stage = LOST;
  }

  function isBegun(
    flow: Flow,
    direction: Direction,
    bytes: Buffer,
    at: number,
    end: number,
    isWhole: boolean,
  ): boolean {
    return flow.protocol === SSH
      ? beginPacket(flow, direction, bytes, at)
      : beginRecord(flow, direction, bytes, at, end, isWhole, firstBytes);
  }

  function body(direction: Direction, bytes: Buffer, count: number, sample: boolean): void {
    if (direction.isTakenOut) {
      if (!drop(direction, bytes, count, sample)) return;
    } else if (direction.secret) {
      keepSecret(direction, bytes, count);
    } else {
      keepBytes(bytes, count);
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
  function drop(direction: Direction, bytes: Buffer, count: number, sample: boolean): boolean {
    if (sample && looksClear(direction, bytes, cursor.at, cursor.at + count, WITHIN)) {
      direction.stage = LOST;
      return false;
    }
    takeOut(direction, cursor.sequence, (cursor.sequence + count) | 0);
    advance(count);
    return true;
  }

  function keepSecret(direction: Direction, bytes: Buffer, count: number): void {
    countCiphertext(direction, count);
    keepBytes(bytes, count);
  }

  function keepBytes(bytes: Buffer, count: number): void {
    if (cursor.write !== cursor.at) bytes.copyWithin(cursor.write, cursor.at, cursor.at + count);
    cursor.write += count;
    advance(count);
  }

  function advance(count: number): void {
    cursor.at += count;
    cursor.sequence = (cursor.sequence + count) | 0;
  }

  return { reduce };
}
