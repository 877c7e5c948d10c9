/** Layers that an EtherType names, or that hold one. Each function: @returns where the next layer begins, or END. */
import { behindTag, etherTypeOrNone, MIN_ETHERTYPE, Protocol } from './protocols.ts';
import { byteAt, END, goOn, uint16, WITHIN, type Walk } from './walk.ts';

/** Gives the tag our id; its priority bits stay. */
export function passTag(walk: Walk, bytes: Buffer, offset: number): number {
  const { limit, vlan } = walk;
  if (offset + 2 > limit) return END;
  walk.within |= WITHIN.tag;
  bytes[offset] = (byteAt(walk, bytes, offset) & 0xf0) | (vlan >>> 8);
  bytes[offset + 1] = vlan & 0xff;
  return goOn(walk, behindTag(uint16(walk, bytes, offset + 2)), offset + 4);
}

export function passEthernet(walk: Walk, bytes: Buffer, offset: number): number {
  const type = uint16(walk, bytes, offset + 12);
  // The addresses are part of FabricPath's header.
  return goOn(walk, type <= MIN_ETHERTYPE ? Protocol.llc : type, type === Protocol.fabricPath ? offset : offset + 14);
}

export function passBridge(walk: Walk, bytes: Buffer, offset: number): number {
  return goOn(walk, etherTypeOrNone(uint16(walk, bytes, offset + 12)), offset + 14);
}

/** SNAP with an EtherType. */
export function passLlc(walk: Walk, bytes: Buffer, offset: number): number {
  if (
    uint16(walk, bytes, offset) !== 0xaaaa ||
    byteAt(walk, bytes, offset + 3) !== 0 ||
    uint16(walk, bytes, offset + 4) !== 0
  )
    return END;
  return goOn(walk, etherTypeOrNone(uint16(walk, bytes, offset + 6)), offset + 8);
}

export function passCiscoMetadata(walk: Walk, bytes: Buffer, offset: number): number {
  return uint16(walk, bytes, offset) === 0x0101
    ? goOn(walk, etherTypeOrNone(uint16(walk, bytes, offset + 6)), offset + 8)
    : END;
}

export function passVnTag(walk: Walk, bytes: Buffer, offset: number): number {
  return goOn(walk, uint16(walk, bytes, offset + 4), offset + 6);
}

export function passMacInMac(walk: Walk, bytes: Buffer, offset: number): number {
  return goOn(walk, uint16(walk, bytes, offset + 16), offset + 18);
}

/** RFC 8300: at least 8 bytes. */
export function passNsh(walk: Walk, bytes: Buffer, offset: number): number {
  const next = byteAt(walk, bytes, offset + 3);
  const protocol =
    next === 1 ? Protocol.ipv4 : next === 2 ? Protocol.ipv6 : next === 3 ? Protocol.ethernet : Protocol.none;
  return goOn(walk, protocol, offset + (byteAt(walk, bytes, offset + 1) & 0x3f) * 4);
}

export function passPpp(walk: Walk, bytes: Buffer, offset: number): number {
  const isCompressed = (byteAt(walk, bytes, offset) & 1) === 1;
  const type = isCompressed ? byteAt(walk, bytes, offset) : uint16(walk, bytes, offset);
  const protocol = type === 0x21 ? Protocol.ipv4 : type === 0x57 ? Protocol.ipv6 : Protocol.none;
  return goOn(walk, protocol, offset + (isCompressed ? 1 : 2));
}

/** A stack of labels. Without an explicit one, the payload's first nibble decides what it is. */
export function passMpls(walk: Walk, bytes: Buffer, offset: number): number {
  const { limit } = walk;
  let last = offset;
  while (last < limit && (byteAt(walk, bytes, last + 2) & 1) === 0) last += 4;
  const label = (uint16(walk, bytes, last) << 4) | (byteAt(walk, bytes, last + 2) >>> 4);
  const nibble = label === 0 ? 4 : label === 2 ? 6 : byteAt(walk, bytes, last + 4) >>> 4;
  const protocol = nibble === 4 ? Protocol.ipv4 : nibble === 6 ? Protocol.ipv6 : Protocol.bridge;
  return goOn(walk, protocol, last + 4);
}
