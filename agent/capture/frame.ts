/**
 * Turns captured frames into pcap records of Ethernet frames whose outer VLAN tag names the endpoint.
 *
 * Invariants: nothing is allocated for a plain frame; whatever the bytes are, nothing throws and no byte behind
 * `captured` is written.
 *
 * A hostile pod can put VLAN tags of its own into its frames. Snort reports the innermost id that it decodes; Suricata
 * reports those of the innermost packet: a tunnel's content has none of the tags around the tunnel. So every further
 * tag gets our id, in place (priority bits kept), wherever Snort 3 or Suricata 7 would decode one: directly stacked
 * tags, and tags in LLC/SNAP, MPLS, PPPoE and PPP, Cisco metadata, FabricPath, ERSPAN II and III, GRE, VXLAN, Geneve,
 * GTP-U, Teredo and IP in IP, and for Suricata VN-Tag, 802.1ah and NSH; in any nesting of up to `MAX_LAYERS` layers.
 * Suricata 7 decodes stacks of three tags. A frame that begins with so many is given no other one: its own names the
 * endpoint then.
 * `rewriteTags` follows the order and the conditions of Snort's codecs, and is laxer where it costs nothing.
 *
 * A fragment shows too little of a tunnel, and Snort decodes the datagram put together. So a fragmented tunnel is
 * made opaque: its payload is inspected as data, what it carries is not decoded. An IP protocol that carries packets
 * becomes 253 (for experiments, RFC 3692) in each fragment, a UDP port of a tunnel becomes 9 (discard) in the first
 * one. Checksums are left as they are.
 *
 * Not covered: tunnels that only a changed Snort configuration decodes (`esp.decode_esp`, `udp.deep_teredo_inspection`,
 * other ports in `udp.vxlan_ports` and the like, `mpls.payload_type`, other `vlan.extra_tpid_ether_types`; Suricata's
 * ERSPAN I), overlapping IPv6 fragments that disagree about what follows an extension header, and FabricPath behind a
 * tag or in GRE for Suricata, which begins its payload elsewhere than Snort.
 */
import { endianness } from 'node:os';

export type LinkType = 'ethernet' | 'raw' | 'linux-sll' | 'linux-sll2' | 'null' | 'loop' | 'ppp' | 'c-hdlc' | 'pppoe';

/** Bytes of a pcap record's header: seconds, microseconds, captured and original length. */
export const RECORD_HEADER = 16;
const ETHERNET_ADDRESSES = 12;
const TAG = 4;
/** What `tagFrame` makes where there was no Ethernet header: addresses, tag, EtherType. */
const MADE_HEADER = ETHERNET_ADDRESSES + TAG + 2;

/** libpcap's limit of a record's captured length, and the snaplen in our file header. */
export const MAX_RECORD_BYTES = 262_144;
/** A frame with more captured bytes doesn't fit a record once it is tagged. */
export const MAX_FRAME_BYTES = MAX_RECORD_BYTES - MADE_HEADER;

/** Bytes of a link header that `tagFrame` does not keep; of PPP, the least. */
const REST_OFFSET: Readonly<Record<LinkType, number>> = {
  ethernet: ETHERNET_ADDRESSES,
  raw: 0,
  'linux-sll': 16,
  'linux-sll2': 20,
  null: 4,
  loop: 4,
  ppp: 1,
  'c-hdlc': 4,
  pppoe: 0,
};

/** Bytes by which `tagFrame` makes a frame longer at most, at its beginning. */
export const GROWTH: Readonly<Record<LinkType, number>> = {
  ethernet: TAG,
  raw: MADE_HEADER,
  'linux-sll': MADE_HEADER - 16,
  'linux-sll2': MADE_HEADER - 20,
  null: MADE_HEADER - 4,
  loop: MADE_HEADER - 4,
  ppp: MADE_HEADER - 1,
  'c-hdlc': MADE_HEADER - 4,
  pppoe: MADE_HEADER,
};

/** Likewise `etherFrame`: it writes no tag. */
export function etherGrowth(link: LinkType): number {
  return GROWTH[link] - TAG;
}

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

/**
 * The 24 bytes before the first record: classic pcap, microseconds, version 2.4, Ethernet, little-endian.
 * Format: draft-ietf-opsawg-pcap.
 */
export function pcapFileHeader(): Buffer {
  if (endianness() !== 'LE') throw new Error('only little-endian machines are supported');
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2_c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(MAX_RECORD_BYTES, 16);
  header.writeUInt32LE(1, 20);
  return header;
}

/** Writes the header of a pcap record, of little-endian numbers. */
export function writeRecordHeader(
  view: DataView,
  at: number,
  seconds: number,
  micros: number,
  captured: number,
  length: number,
): void {
  view.setUint32(at, seconds, true);
  view.setUint32(at + 4, micros, true);
  view.setUint32(at + 8, captured, true);
  view.setUint32(at + 12, length, true);
}

/**
 * Makes an Ethernet frame with our tag of the frame in `bytes`, in place, and overwrites VLAN ids further inside. It
 * ends where the frame did.
 *
 * @param start Where the frame begins. `GROWTH[link]` bytes before it are free.
 * @param captured Its bytes.
 * @param vlan 1..4094; RangeError otherwise.
 * @param found Set to what there is in the frame.
 * @returns where it begins now. -1, and it is as it was: it is too short for its link header, longer than
 *   `MAX_FRAME_BYTES`, or of a protocol that has no EtherType.
 */
export function tagFrame(
  bytes: Buffer,
  start: number,
  captured: number,
  link: LinkType,
  vlan: number,
  found?: Found,
): number {
  if (found !== undefined) found.within = 0;
  if (!(vlan >= 1 && vlan <= 4094)) throw new RangeError(`VLAN id ${vlan} is not within 1..4094`);
  if (captured > MAX_FRAME_BYTES) return -1;
  if (link !== 'ethernet') return tagCooked(bytes, start, captured, link, vlan, found);
  if (captured < ETHERNET_ADDRESSES + 2) return -1;
  const behind = start + ETHERNET_ADDRESSES + 2;
  if (isFullStack(uint16(bytes, behind - 2), bytes, behind, start + captured)) {
    rewriteEthernet(bytes, start, captured, vlan, found);
    return start;
  }
  const first = start - TAG;
  // For so few bytes a call costs more than the copy.
  for (let at = first; at < first + ETHERNET_ADDRESSES; at++) bytes[at] = byteAt(bytes, at + TAG);
  writeTag(bytes, first + ETHERNET_ADDRESSES, vlan);
  if (!isPlain(bytes, start, captured)) rewriteEthernet(bytes, start, captured, vlan, found);
  return first;
}

function rewriteEthernet(bytes: Buffer, start: number, captured: number, vlan: number, found: Found | undefined): void {
  const frame = bytes.subarray(start, start + captured);
  const type = behindTag(uint16(frame, ETHERNET_ADDRESSES));
  const within = rewriteTags(frame, captured, type, ETHERNET_ADDRESSES + 2, vlan);
  if (found !== undefined) found.within = within;
}

/** Whether a frame begins with three tags, of which both engines decode each. `behind`: its EtherType. */
function isFullStack(etherType: number, bytes: Buffer, behind: number, end: number): boolean {
  if (!isTag(etherType) || end < behind + 2 * TAG + 2) return false;
  return isTag(uint16(bytes, behind + 2)) && isTag(uint16(bytes, behind + TAG + 2));
}

function isTag(etherType: number): boolean {
  return etherType === Protocol.vlan || etherType === Protocol.providerVlan || etherType === Protocol.oldVlan1;
}

function tagCooked(
  bytes: Buffer,
  start: number,
  captured: number,
  link: LinkType,
  vlan: number,
  found: Found | undefined,
): number {
  const frame = bytes.subarray(start, start + captured);
  const etherType = cookedEtherType(frame, captured, link);
  if (etherType === 0) return -1;
  const sender = senderOf(frame, link);
  const rest = restOffset(frame, 0, link);
  const within = rewriteTags(frame, captured, behindTag(etherType), rest, vlan);
  if (found !== undefined) found.within = within;
  const isTagged = isFullStack(etherType, frame, rest, captured);
  const first = start + rest - MADE_HEADER + (isTagged ? TAG : 0);
  writeAddresses(bytes, first, sender);
  if (isTagged) writeUint16(bytes, first + ETHERNET_ADDRESSES, etherType);
  else writeUint16(bytes, writeTag(bytes, first + ETHERNET_ADDRESSES, vlan), etherType);
  return first;
}

/** IEEE's EtherType for experiments: engines count such a frame, and decode nothing of it. */
const OPAQUE_ETHERTYPE = 0x88b5;

/**
 * Makes an Ethernet frame of the frame in `bytes`, in place, and changes nothing else: as an engine reads it that has
 * one source of packets. It ends where the frame did. What its link type has no EtherType for becomes opaque.
 *
 * @param start Where the frame begins. `etherGrowth(link)` bytes before it are free.
 * @returns where it begins now. -1, and it is as it was: it is too short for its link header.
 */
export function etherFrame(bytes: Buffer, start: number, captured: number, link: LinkType): number {
  if (link === 'ethernet') return start;
  const frame = bytes.subarray(start, start + captured);
  const rest = restOffset(frame, 0, link);
  if (captured < rest) return -1;
  const etherType = cookedEtherType(frame, captured, link) || OPAQUE_ETHERTYPE;
  const sender = senderOf(frame, link);
  const first = start + rest + TAG - MADE_HEADER;
  writeAddresses(bytes, first, sender);
  writeUint16(bytes, first + ETHERNET_ADDRESSES, etherType);
  return first;
}

/** The sender's address, if it is a MAC address: its length is at 4 (16 bits), and in version 2 at 11 (8 bits). */
function senderOf(frame: Buffer, link: LinkType): Buffer | undefined {
  if (link === 'linux-sll' && uint16(frame, 4) === 6) return Buffer.from(frame.subarray(6, 12));
  if (link === 'linux-sll2' && byteAt(frame, 11) === 6) return Buffer.from(frame.subarray(12, 18));
  return undefined;
}

function writeAddresses(bytes: Buffer, at: number, sender: Buffer | undefined): void {
  bytes.fill(0, at, at + ETHERNET_ADDRESSES);
  if (sender !== undefined) bytes.set(sender, at + 6);
}

/** Whether an Ethernet frame holds TCP in IP, or UDP that is no tunnel, as most do: nothing is to be rewritten. */
function isPlain(bytes: Buffer, start: number, captured: number): boolean {
  const type = uint16(bytes, start + ETHERNET_ADDRESSES);
  const ip = start + ETHERNET_ADDRESSES + 2;
  if (type === Protocol.ipv4 && captured >= 42) {
    if (byteAt(bytes, ip) !== 0x45 || (uint16(bytes, ip + 6) & 0x3fff) !== 0) return false;
    return isPlainTransport(bytes, byteAt(bytes, ip + 9), ip + 20);
  }
  if (type !== Protocol.ipv6 || captured < 62) return false;
  return isPlainTransport(bytes, byteAt(bytes, ip + 6), ip + 40);
}

function isPlainTransport(bytes: Buffer, protocol: number, at: number): boolean {
  if (protocol === Protocol.tcp) return true;
  return protocol === Protocol.udp && udpTunnel(uint16(bytes, at), uint16(bytes, at + 2)) === Protocol.none;
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
function cookedEtherType(frame: Buffer, caplen: number, link: LinkType): number {
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

/** The most layers that Snort's `network.layers` can be set to. */
const MAX_LAYERS = 255;
const MIN_ETHERTYPE = 0x0600;

/** IP protocols below 0x100, EtherTypes from 0x600 on, and between them numbers of ours for what has none. */
const Protocol = {
  hopOptions: 0,
  ipInIp: 4,
  tcp: 6,
  udp: 17,
  ipv6InIp: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  authentication: 51,
  destinationOptions: 60,
  mobility: 135,
  mplsInIp: 137,
  experiment: 253,
  none: 0x0100,
  teredo: 0x0101,
  gtp: 0x0102,
  ethernet: 0x0105,
  llc: 0x0107,
  vxlan: 0x0108,
  geneve: 0x0109,
  ipv4: 0x0800,
  erspan3: 0x22eb,
  bridge: 0x6558,
  vlan: 0x8100,
  ipv6: 0x86dd,
  ppp: 0x880b,
  mpls: 0x8847,
  mplsMulticast: 0x8848,
  pppoe: 0x8864,
  providerVlan: 0x88a8,
  erspan2: 0x88be,
  macInMac: 0x88e7,
  fabricPath: 0x8903,
  ciscoMetadata: 0x8909,
  vnTag: 0x8926,
  nsh: 0x894f,
  oldVlan1: 0x9100,
  oldVlan2: 0x9200,
  oldVlan3: 0x9300,
} as const;

const DISCARD_PORT = 9;

/** What a frame may have within: bits of `Found`. */
export const WITHIN = { tag: 1, tunnel: 2, hidden: 4 } as const;

export interface Found {
  /** A VLAN tag of its own, a tunnel that engines look into, one that was made opaque: bits of `WITHIN`. */
  within: number;
}

/**
 * Walks the layers from `protocol` at `offset` on, as Snort does, and gives every VLAN tag our id.
 * `limit`: captured bytes.
 * @returns what it has met: bits of `WITHIN`.
 */
function rewriteTags(frame: Buffer, limit: number, protocol: number, offset: number, vlan: number): number {
  let ipv6End = 0;
  let within = 0;
  for (let layer = 0; layer < MAX_LAYERS && offset < limit; layer++) {
    if (isTunnel(protocol)) within |= WITHIN.tunnel;
    switch (protocol) {
      case Protocol.ipv4:
      case Protocol.ipInIp: {
        const first = byteAt(frame, offset);
        if (first >>> 4 !== 4 || first < 0x45) return within;
        if ((uint16(frame, offset + 6) & 0x3fff) !== 0) {
          return within | (hideTunnelInIpv4Fragment(frame, limit, offset) ? WITHIN.hidden : 0);
        }
        protocol = byteAt(frame, offset + 9);
        offset += (first & 0x0f) * 4;
        break;
      }
      case Protocol.tcp:
        return within;
      case Protocol.ipv6:
      case Protocol.ipv6InIp:
        if (byteAt(frame, offset) >>> 4 !== 6) return within;
        ipv6End = offset + 40 + uint16(frame, offset + 4);
        protocol = byteAt(frame, offset + 6);
        offset += 40;
        break;
      case Protocol.udp:
        protocol = udpTunnel(uint16(frame, offset), uint16(frame, offset + 2));
        offset += 8;
        break;

      case Protocol.vlan:
      case Protocol.providerVlan:
      case Protocol.oldVlan1:
      case Protocol.oldVlan2:
      case Protocol.oldVlan3:
        if (offset + 2 > limit) return within;
        within |= WITHIN.tag;
        frame[offset] = (byteAt(frame, offset) & 0xf0) | (vlan >>> 8);
        frame[offset + 1] = vlan & 0xff;
        protocol = behindTag(uint16(frame, offset + 2));
        offset += 4;
        break;

      case Protocol.hopOptions:
      case Protocol.destinationOptions:
      case Protocol.routing:
      case Protocol.mobility:
      case Protocol.authentication: {
        const length = extensionLength(frame, offset, protocol);
        protocol = byteAt(frame, offset);
        offset += length;
        break;
      }
      case Protocol.fragment:
        if ((uint16(frame, offset + 2) & 0xfff9) !== 0) {
          return within | (hideTunnelInIpv6Fragment(frame, Math.min(limit, ipv6End), offset) ? WITHIN.hidden : 0);
        }
        protocol = byteAt(frame, offset);
        offset += 8;
        break;

      case Protocol.gre: {
        const length = greLength(frame, limit, offset);
        if (length === 0) return within;
        protocol = etherTypeOrNone(uint16(frame, offset + 2));
        offset += length;
        break;
      }
      case Protocol.vxlan:
        if ((byteAt(frame, offset) & 0x08) === 0) return within;
        protocol = Protocol.ethernet;
        offset += 8;
        break;
      case Protocol.geneve: {
        const first = byteAt(frame, offset);
        if (first >>> 6 !== 0) return within;
        protocol = uint16(frame, offset + 2);
        if (protocol === Protocol.bridge) protocol = Protocol.ethernet;
        offset += 8 + (first & 0x3f) * 4;
        break;
      }
      case Protocol.gtp: {
        const length = gtpLength(frame, limit, offset);
        if (length === 0) return within;
        offset += length;
        const version = byteAt(frame, offset) >>> 4;
        protocol = version === 4 ? Protocol.ipv4 : version === 6 ? Protocol.ipv6 : Protocol.none;
        break;
      }
      case Protocol.teredo:
        if (uint16(frame, offset) === 1) offset += 13 + byteAt(frame, offset + 2) + byteAt(frame, offset + 3);
        if (uint16(frame, offset) === 0) offset += 8;
        protocol = Protocol.ipv6;
        break;

      case Protocol.ethernet: {
        const type = uint16(frame, offset + 12);
        protocol = type <= MIN_ETHERTYPE ? Protocol.llc : type;
        if (type !== Protocol.fabricPath) offset += 14;
        break;
      }
      case Protocol.bridge:
        protocol = etherTypeOrNone(uint16(frame, offset + 12));
        offset += 14;
        break;
      case Protocol.fabricPath:
        protocol = Protocol.ethernet;
        offset += 16;
        break;
      case Protocol.llc:
        // SNAP with an EtherType.
        if (uint16(frame, offset) !== 0xaaaa || byteAt(frame, offset + 3) !== 0 || uint16(frame, offset + 4) !== 0)
          return within;
        protocol = etherTypeOrNone(uint16(frame, offset + 6));
        offset += 8;
        break;
      case Protocol.erspan2:
        if (byteAt(frame, offset) >>> 4 !== 1) return within;
        protocol = Protocol.bridge;
        offset += 8;
        break;
      case Protocol.erspan3:
        if (byteAt(frame, offset) >>> 4 !== 2) return within;
        protocol = Protocol.bridge;
        offset += 20;
        break;
      case Protocol.ciscoMetadata:
        if (uint16(frame, offset) !== 0x0101) return within;
        protocol = etherTypeOrNone(uint16(frame, offset + 6));
        offset += 8;
        break;
      case Protocol.vnTag:
        protocol = uint16(frame, offset + 4);
        offset += 6;
        break;
      case Protocol.macInMac:
        protocol = uint16(frame, offset + 16);
        offset += 18;
        break;
      case Protocol.nsh: {
        const next = byteAt(frame, offset + 3);
        protocol =
          next === 1 ? Protocol.ipv4 : next === 2 ? Protocol.ipv6 : next === 3 ? Protocol.ethernet : Protocol.none;
        // RFC 8300: at least 8 bytes.
        offset += (byteAt(frame, offset + 1) & 0x3f) * 4;
        break;
      }
      case Protocol.pppoe:
        protocol = Protocol.ppp;
        offset += 6;
        break;
      case Protocol.ppp: {
        const isCompressed = (byteAt(frame, offset) & 1) === 1;
        const pppProtocol = isCompressed ? byteAt(frame, offset) : uint16(frame, offset);
        protocol = pppProtocol === 0x21 ? Protocol.ipv4 : pppProtocol === 0x57 ? Protocol.ipv6 : Protocol.none;
        offset += isCompressed ? 1 : 2;
        break;
      }
      case Protocol.mpls:
      case Protocol.mplsMulticast:
      case Protocol.mplsInIp: {
        while (offset < limit && (byteAt(frame, offset + 2) & 1) === 0) offset += 4;
        const label = (uint16(frame, offset) << 4) | (byteAt(frame, offset + 2) >>> 4);
        offset += 4;
        // Without an explicit label, the payload's first nibble decides.
        const nibble = label === 0 ? 4 : label === 2 ? 6 : byteAt(frame, offset) >>> 4;
        protocol = nibble === 4 ? Protocol.ipv4 : nibble === 6 ? Protocol.ipv6 : Protocol.bridge;
        break;
      }
      default:
        return within;
    }
  }
  return within;
}

/** What follows a VLAN tag: up to 1518 the field is a length. */
function behindTag(type: number): number {
  return type <= 1518 ? Protocol.llc : type;
}

/** What has a packet of its own within, which Suricata takes apart from the packet around it. */
function isTunnel(protocol: number): boolean {
  switch (protocol) {
    case Protocol.ipInIp:
    case Protocol.ipv6InIp:
    case Protocol.gre:
    case Protocol.mplsInIp:
    case Protocol.vxlan:
    case Protocol.geneve:
    case Protocol.gtp:
    case Protocol.teredo:
      return true;
    default:
      return false;
  }
}

function etherTypeOrNone(type: number): number {
  return type < MIN_ETHERTYPE ? Protocol.none : type;
}

/** Which tunnel Snort looks for in a datagram: by either port, in this order. */
function udpTunnel(source: number, destination: number): number {
  if (isGtpPort(source) || isGtpPort(destination)) return Protocol.gtp;
  if (source === 3544 || destination === 3544) return Protocol.teredo;
  if (source === 4789 || destination === 4789) return Protocol.vxlan;
  if (source === 6081 || destination === 6081) return Protocol.geneve;
  return Protocol.none;
}

function isGtpPort(port: number): boolean {
  return port === 2152 || port === 3386;
}

function isExtension(protocol: number): boolean {
  return (
    protocol === Protocol.hopOptions ||
    protocol === Protocol.destinationOptions ||
    protocol === Protocol.routing ||
    protocol === Protocol.mobility ||
    protocol === Protocol.authentication
  );
}

function extensionLength(frame: Buffer, offset: number, protocol: number): number {
  return 8 + byteAt(frame, offset + 1) * (protocol === Protocol.authentication ? 4 : 8);
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

/** @returns whether there was one; likewise below. */
function hideTunnelInIpv4Fragment(frame: Buffer, limit: number, header: number): boolean {
  const protocol = byteAt(frame, header + 9);
  if (carriesPackets(protocol) || isExtension(protocol)) {
    if (header + 9 < limit) frame[header + 9] = Protocol.experiment;
    return true;
  }
  if (protocol !== Protocol.udp || (uint16(frame, header + 6) & 0x1fff) !== 0) return false;
  return hideUdpTunnel(frame, limit, header + (byteAt(frame, header) & 0x0f) * 4);
}

/**
 * `end`: of the IPv6 packet; `offset`: of the fragment header. Extension headers behind it stay as they are, or a
 * packet could hide behind one. What the last of them names is hidden if it is a tunnel, or may be one and is not in
 * this fragment.
 */
function hideTunnelInIpv6Fragment(frame: Buffer, end: number, offset: number): boolean {
  const isFirst = (uint16(frame, offset + 2) & 0xfff8) === 0;
  let nameAt = offset;
  let protocol = byteAt(frame, nameAt);
  if (isFirst) {
    let header = offset + 8;
    // Snort cuts a fragment to a multiple of 8.
    const dataEnd = header + ((end - header) & ~7);
    while (isExtension(protocol) && header + 8 <= dataEnd) {
      nameAt = header;
      header += extensionLength(frame, header, protocol);
      protocol = byteAt(frame, nameAt);
    }
    const isCut = header + 8 > dataEnd;
    if (protocol === Protocol.udp && !isCut) return hideUdpTunnel(frame, end, header);
    if (isCut && (isExtension(protocol) || protocol === Protocol.udp)) protocol = Protocol.fragment;
  }
  if (!carriesPackets(protocol)) return false;
  frame[nameAt] = Protocol.experiment;
  return true;
}

function carriesPackets(protocol: number): boolean {
  return (
    protocol === Protocol.ipInIp ||
    protocol === Protocol.ipv6InIp ||
    protocol === Protocol.gre ||
    protocol === Protocol.mplsInIp ||
    protocol === Protocol.fragment
  );
}

function hideUdpTunnel(frame: Buffer, limit: number, header: number): boolean {
  let isHidden = false;
  for (let port = header; port <= header + 2 && port + 2 <= limit; port += 2) {
    if (udpTunnel(uint16(frame, port), 0) === Protocol.none) continue;
    frame[port] = 0;
    frame[port + 1] = DISCARD_PORT;
    isHidden = true;
  }
  return isHidden;
}

/** Zero behind the end: short frames are refused where it matters, by `limit`. */
function byteAt(buffer: Buffer, offset: number): number {
  return buffer[offset] ?? 0;
}

function uint16(buffer: Buffer, offset: number): number {
  return (byteAt(buffer, offset) << 8) | byteAt(buffer, offset + 1);
}

function writeTag(target: Buffer, at: number, vlan: number): number {
  target[at] = 0x81;
  target[at + 1] = 0;
  writeUint16(target, at + 2, vlan);
  return at + TAG;
}

function writeUint16(target: Buffer, at: number, value: number): void {
  target[at] = value >>> 8;
  target[at + 1] = value & 0xff;
}
