/** Tunnels. Of each: @returns whether the walk goes on with what it carries. */
import { byteAt, uint16 } from '../bytes.ts';
import { etherTypeOrNone, Protocol } from './protocols.ts';
import { goOn, type Walk } from './walk.ts';

export function passGre(walk: Walk, frame: Buffer): boolean {
  const { offset, limit } = walk;
  const length = greLength(frame, limit, offset);
  return length > 0 && goOn(walk, etherTypeOrNone(uint16(frame, offset + 2)), length);
}

export function passErspan2(walk: Walk, frame: Buffer): boolean {
  return byteAt(frame, walk.offset) >>> 4 === 1 && goOn(walk, Protocol.bridge, 8);
}

export function passErspan3(walk: Walk, frame: Buffer): boolean {
  return byteAt(frame, walk.offset) >>> 4 === 2 && goOn(walk, Protocol.bridge, 20);
}

export function passVxlan(walk: Walk, frame: Buffer): boolean {
  return (byteAt(frame, walk.offset) & 0x08) !== 0 && goOn(walk, Protocol.ethernet, 8);
}

export function passGeneve(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  const first = byteAt(frame, offset);
  if (first >>> 6 !== 0) return false;
  const type = uint16(frame, offset + 2);
  return goOn(walk, type === Protocol.bridge ? Protocol.ethernet : type, 8 + (first & 0x3f) * 4);
}

export function passGtp(walk: Walk, frame: Buffer): boolean {
  const { offset, limit } = walk;
  const length = gtpLength(frame, limit, offset);
  if (length === 0) return false;
  const version = byteAt(frame, offset + length) >>> 4;
  return goOn(walk, version === 4 ? Protocol.ipv4 : version === 6 ? Protocol.ipv6 : Protocol.none, length);
}

/** RFC 4380: an authentication and an origin indication may be in front of the packet. */
export function passTeredo(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  let packet = offset;
  if (uint16(frame, packet) === 1) packet += 13 + byteAt(frame, packet + 2) + byteAt(frame, packet + 3);
  if (uint16(frame, packet) === 0) packet += 8;
  return goOn(walk, Protocol.ipv6, packet - offset);
}

/** Bytes of a GRE header (RFC 1701, 2784, 2637); 0: not one. */
function greLength(frame: Buffer, limit: number, offset: number): number {
  const flags = byteAt(frame, offset);
  const version = byteAt(frame, offset + 1);
  const sequence = (flags & 0x10) !== 0 ? 4 : 0;
  if ((version & 0x07) === 1) return 8 + sequence + ((version & 0x80) !== 0 ? 4 : 0);
  if (version !== 0 || (flags & 0x07) !== 0) return 0;
  let length = 4 + ((flags & 0xc0) !== 0 ? 4 : 0) + ((flags & 0x20) !== 0 ? 4 : 0) + sequence;
  if ((flags & 0x40) !== 0) {
    // Source route entries: address family, offset, length, and a last one of zeros.
    let entry = offset + length;
    while (entry < limit && (uint16(frame, entry) !== 0 || byteAt(frame, entry + 3) !== 0)) {
      entry += 4 + byteAt(frame, entry + 3);
    }
    length = entry + 4 - offset;
  }
  return length;
}

/** Bytes of a GTP-U header that carries a packet (3GPP TS 29.060 and 29.281); 0: not one. */
function gtpLength(frame: Buffer, limit: number, offset: number): number {
  const flags = byteAt(frame, offset);
  if (byteAt(frame, offset + 1) !== 255 || (flags & 0x10) === 0) return 0;
  if (flags >>> 5 === 0) return 20;
  if (flags >>> 5 !== 1) return 0;
  if ((flags & 0x07) === 0) return 8;
  let length = 12;
  while (offset + length < limit && byteAt(frame, offset + length - 1) !== 0) {
    const extension = byteAt(frame, offset + length);
    if (extension === 0) return 0;
    length += extension * 4;
  }
  return length;
}
