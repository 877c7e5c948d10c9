/** Tunnels. Of each: @returns where what it carries begins, or END. */
import { etherTypeOrNone, Protocol } from './protocols.ts';
import { byteAt, END, goOn, uint16, type Walk } from './walk.ts';

export function passGre(walk: Walk, bytes: Buffer, offset: number): number {
  const length = greLength(walk, bytes, offset);
  return length === 0 ? END : goOn(walk, etherTypeOrNone(uint16(walk, bytes, offset + 2)), offset + length);
}

export function passErspan2(walk: Walk, bytes: Buffer, offset: number): number {
  return byteAt(walk, bytes, offset) >>> 4 === 1 ? goOn(walk, Protocol.bridge, offset + 8) : END;
}

export function passErspan3(walk: Walk, bytes: Buffer, offset: number): number {
  return byteAt(walk, bytes, offset) >>> 4 === 2 ? goOn(walk, Protocol.bridge, offset + 20) : END;
}

export function passVxlan(walk: Walk, bytes: Buffer, offset: number): number {
  return (byteAt(walk, bytes, offset) & 0x08) === 0 ? END : goOn(walk, Protocol.ethernet, offset + 8);
}

export function passGeneve(walk: Walk, bytes: Buffer, offset: number): number {
  const first = byteAt(walk, bytes, offset);
  if (first >>> 6 !== 0) return END;
  const type = uint16(walk, bytes, offset + 2);
  return goOn(walk, type === Protocol.bridge ? Protocol.ethernet : type, offset + 8 + (first & 0x3f) * 4);
}

export function passGtp(walk: Walk, bytes: Buffer, offset: number): number {
  const length = gtpLength(walk, bytes, offset);
  if (length === 0) return END;
  const packet = offset + length;
  const version = byteAt(walk, bytes, packet) >>> 4;
  return goOn(walk, version === 4 ? Protocol.ipv4 : version === 6 ? Protocol.ipv6 : Protocol.none, packet);
}

/** RFC 4380: an authentication and an origin indication may be in front of the packet. */
export function passTeredo(walk: Walk, bytes: Buffer, offset: number): number {
  let packet = offset;
  if (uint16(walk, bytes, packet) === 1)
    packet += 13 + byteAt(walk, bytes, packet + 2) + byteAt(walk, bytes, packet + 3);
  if (uint16(walk, bytes, packet) === 0) packet += 8;
  return goOn(walk, Protocol.ipv6, packet);
}

/** Bytes of a GRE header (RFC 1701, 2784, 2637); 0: not one. */
function greLength(walk: Walk, bytes: Buffer, offset: number): number {
  const flags = byteAt(walk, bytes, offset);
  const version = byteAt(walk, bytes, offset + 1);
  const sequence = (flags & 0x10) !== 0 ? 4 : 0;
  if ((version & 0x07) === 1) return 8 + sequence + ((version & 0x80) !== 0 ? 4 : 0);
  if (version !== 0 || (flags & 0x07) !== 0) return 0;
  let length = 4 + ((flags & 0xc0) !== 0 ? 4 : 0) + ((flags & 0x20) !== 0 ? 4 : 0) + sequence;
  if ((flags & 0x40) !== 0) {
    // Source route entries: address family, offset, length, and a last one of zeros.
    let entry = offset + length;
    while (entry < walk.limit && (uint16(walk, bytes, entry) !== 0 || byteAt(walk, bytes, entry + 3) !== 0)) {
      entry += 4 + byteAt(walk, bytes, entry + 3);
    }
    length = entry + 4 - offset;
  }
  return length;
}

/** Bytes of a GTP-U header that carries a packet (3GPP TS 29.060 and 29.281); 0: not one. */
function gtpLength(walk: Walk, bytes: Buffer, offset: number): number {
  const flags = byteAt(walk, bytes, offset);
  if (byteAt(walk, bytes, offset + 1) !== 255 || (flags & 0x10) === 0) return 0;
  if (flags >>> 5 === 0) return 20;
  if (flags >>> 5 !== 1) return 0;
  if ((flags & 0x07) === 0) return 8;
  let length = 12;
  while (offset + length < walk.limit && byteAt(walk, bytes, offset + length - 1) !== 0) {
    const extension = byteAt(walk, bytes, offset + length);
    if (extension === 0) return 0;
    length += extension * 4;
  }
  return length;
}
