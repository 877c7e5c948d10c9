/**
 * Link headers: how long they are, and what EtherType and sender they name.
 *
 * Whatever the bytes are, nothing throws.
 */
import { byteAt, uint16 } from '../bytes.ts';
import { MIN_ETHERTYPE, Protocol } from './protocols.ts';

export type LinkType = 'ethernet' | 'raw' | 'linux-sll' | 'linux-sll2' | 'null' | 'loop' | 'ppp' | 'c-hdlc' | 'pppoe';

/** Bytes of a link header that `tagFrame` does not keep; of PPP, the least. */
const REST_OFFSET: Readonly<Record<LinkType, number>> = {
  // The addresses.
  ethernet: 12,
  raw: 0,
  'linux-sll': 16,
  'linux-sll2': 20,
  null: 4,
  loop: 4,
  ppp: 1,
  'c-hdlc': 4,
  pppoe: 0,
};

// As in https://www.tcpdump.org/linktypes.html; 12 and 14 are the DLT_RAW of the BSDs. 778 is what Suricata reads as IP.
const LINK_TYPES = new Map<number, LinkType>([
  [0, 'null'],
  [1, 'ethernet'],
  [9, 'ppp'],
  [12, 'raw'],
  [14, 'raw'],
  [50, 'ppp'],
  [51, 'pppoe'],
  [101, 'raw'],
  [104, 'c-hdlc'],
  [108, 'loop'],
  [113, 'linux-sll'],
  [228, 'raw'],
  [229, 'raw'],
  [276, 'linux-sll2'],
  [778, 'raw'],
]);

const LINK_NAMES = new Map<string, number>([
  ['LINKTYPE_NULL', 0],
  ['LINKTYPE_ETHERNET', 1],
  ['LINKTYPE_RAW', 101],
  ['LINKTYPE_LOOP', 108],
  ['LINKTYPE_LINUX_SLL', 113],
  ['LINKTYPE_LINUX_SLL2', 276],
]);

/** The link type of a capture file's number. `undefined`: not supported. */
export function linkTypeFromDlt(dlt: number): LinkType | undefined {
  return LINK_TYPES.get(dlt);
}

/** The number of what node-pcap calls a link type: "LINKTYPE_ETHERNET", "Unknown linktype 276". -1: not known. */
export function linkTypeNumber(name: string): number {
  const unknown = /^Unknown linktype (\d+)$/.exec(name);
  return unknown ? Number(unknown[1]) : (LINK_NAMES.get(name) ?? -1);
}

/** The sender's address, if it is a MAC address: its length is at 4 (16 bits), and in version 2 at 11 (8 bits). */
export function senderOf(frame: Buffer, link: LinkType): Buffer | undefined {
  if (link === 'linux-sll' && uint16(frame, 4) === 6) return Buffer.from(frame.subarray(6, 12));
  if (link === 'linux-sll2' && byteAt(frame, 11) === 6) return Buffer.from(frame.subarray(12, 18));
  return undefined;
}

/** Bytes of the link header of the frame that begins at `start`, as far as `tagFrame` does not keep them. */
export function restOffset(bytes: Buffer, start: number, link: LinkType): number {
  if (link !== 'ppp') return REST_OFFSET[link];
  if (isCiscoFraming(bytes, start)) return 4;
  const protocol = pppProtocolOffset(bytes, start);
  // Of 8 or 16 bits.
  return protocol + ((byteAt(bytes, start + protocol) & 1) === 1 ? 1 : 2);
}

/** RFC 1662: the address and the control field before it may be left out. */
function pppProtocolOffset(bytes: Buffer, start: number): number {
  return byteAt(bytes, start) === 0xff ? 2 : 0;
}

/** PPP in HDLC has Cisco's own frames too. */
function isCiscoFraming(bytes: Buffer, start: number): boolean {
  const address = byteAt(bytes, start);
  return (address === 0x0f || address === 0x8f) && byteAt(bytes, start + 1) === 0;
}

function pppEtherType(frame: Buffer): number {
  if (isCiscoFraming(frame, 0)) return orZero(uint16(frame, 2));
  const at = pppProtocolOffset(frame, 0);
  const first = byteAt(frame, at);
  switch ((first & 1) === 1 ? first : uint16(frame, at)) {
    case 0x21:
      return Protocol.ipv4;
    case 0x2f:
      // Van Jacobson's uncompressed packets are IP, but for the protocol's number.
      return byteAt(frame, restOffset(frame, 0, 'ppp')) >>> 4 === 4 ? Protocol.ipv4 : 0;
    case 0x57:
      return Protocol.ipv6;
    case 0x281:
      return Protocol.mpls;
    case 0x283:
      return Protocol.mplsMulticast;
    default:
      return 0;
  }
}

function orZero(protocol: number): number {
  return protocol < MIN_ETHERTYPE ? 0 : protocol;
}

/** The EtherType of a frame without Ethernet header; 0: it has none. */
export function cookedEtherType(frame: Buffer, caplen: number, link: LinkType): number {
  if (caplen < restOffset(frame, 0, link)) return 0;
  switch (link) {
    case 'ppp':
      return pppEtherType(frame);
    case 'pppoe':
      return Protocol.pppoe;
    case 'raw': {
      const version = caplen > 0 ? byteAt(frame, 0) >>> 4 : 0;
      return version === 4 ? Protocol.ipv4 : version === 6 ? Protocol.ipv6 : 0;
    }
    case 'null':
    case 'loop': {
      // The family is in the byte order of the host that captured, or big-endian; it always fits 16 bits.
      const big = uint16(frame, 0) === 0;
      const family = big ? uint16(frame, 2) : byteAt(frame, 0) + (byteAt(frame, 1) << 8);
      if (!big && uint16(frame, 2) !== 0) return 0;
      if (family === 2) return Protocol.ipv4;
      return AF_INET6.has(family) ? Protocol.ipv6 : 0;
    }
    default:
      return orZero(uint16(frame, link === 'linux-sll2' ? 0 : REST_OFFSET[link] - 2));
  }
}

/** Of Linux, Windows, NetBSD and OpenBSD, Solaris, FreeBSD, macOS. */
const AF_INET6: ReadonlySet<number> = new Set([10, 23, 24, 26, 28, 30]);
