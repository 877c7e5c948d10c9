/** Layers that an EtherType names, or that hold one. Of each: @returns whether the walk goes on behind it. */
import { byteAt, uint16 } from '../bytes.ts';
import { behindTag, etherTypeOrNone, MIN_ETHERTYPE, Protocol } from './protocols.ts';
import { goOn, WITHIN, type Walk } from './walk.ts';

/** Gives the tag our id; its priority bits stay. */
export function passTag(walk: Walk, frame: Buffer): boolean {
  const { offset, limit, vlan } = walk;
  if (offset + 2 > limit) return false;
  walk.within |= WITHIN.tag;
  frame[offset] = (byteAt(frame, offset) & 0xf0) | (vlan >>> 8);
  frame[offset + 1] = vlan & 0xff;
  return goOn(walk, behindTag(uint16(frame, offset + 2)), 4);
}

export function passEthernet(walk: Walk, frame: Buffer): boolean {
  const type = uint16(frame, walk.offset + 12);
  // The addresses are part of FabricPath's header.
  return goOn(walk, type <= MIN_ETHERTYPE ? Protocol.llc : type, type === Protocol.fabricPath ? 0 : 14);
}

export function passBridge(walk: Walk, frame: Buffer): boolean {
  return goOn(walk, etherTypeOrNone(uint16(frame, walk.offset + 12)), 14);
}

/** SNAP with an EtherType. */
export function passLlc(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  if (uint16(frame, offset) !== 0xaaaa || byteAt(frame, offset + 3) !== 0 || uint16(frame, offset + 4) !== 0)
    return false;
  return goOn(walk, etherTypeOrNone(uint16(frame, offset + 6)), 8);
}

export function passCiscoMetadata(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  return uint16(frame, offset) === 0x0101 && goOn(walk, etherTypeOrNone(uint16(frame, offset + 6)), 8);
}

export function passVnTag(walk: Walk, frame: Buffer): boolean {
  return goOn(walk, uint16(frame, walk.offset + 4), 6);
}

export function passMacInMac(walk: Walk, frame: Buffer): boolean {
  return goOn(walk, uint16(frame, walk.offset + 16), 18);
}

/** RFC 8300: at least 8 bytes. */
export function passNsh(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  const next = byteAt(frame, offset + 3);
  const protocol =
    next === 1 ? Protocol.ipv4 : next === 2 ? Protocol.ipv6 : next === 3 ? Protocol.ethernet : Protocol.none;
  return goOn(walk, protocol, (byteAt(frame, offset + 1) & 0x3f) * 4);
}

export function passPpp(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  const isCompressed = (byteAt(frame, offset) & 1) === 1;
  const type = isCompressed ? byteAt(frame, offset) : uint16(frame, offset);
  const protocol = type === 0x21 ? Protocol.ipv4 : type === 0x57 ? Protocol.ipv6 : Protocol.none;
  return goOn(walk, protocol, isCompressed ? 1 : 2);
}

/** A stack of labels. Without an explicit one, the payload's first nibble decides what it is. */
export function passMpls(walk: Walk, frame: Buffer): boolean {
  const { offset, limit } = walk;
  let last = offset;
  while (last < limit && (byteAt(frame, last + 2) & 1) === 0) last += 4;
  const label = (uint16(frame, last) << 4) | (byteAt(frame, last + 2) >>> 4);
  const nibble = label === 0 ? 4 : label === 2 ? 6 : byteAt(frame, last + 4) >>> 4;
  const protocol = nibble === 4 ? Protocol.ipv4 : nibble === 6 ? Protocol.ipv6 : Protocol.bridge;
  return goOn(walk, protocol, last + 4 - offset);
}
