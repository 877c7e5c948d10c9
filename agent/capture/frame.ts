/**
 * Turns captured frames into Ethernet frames whose outer VLAN tag names the endpoint.
 *
 * Invariants: nothing is allocated for a frame of Ethernet; whatever the bytes are, nothing throws and no byte behind
 * `captured` is written.
 *
 * A hostile pod can put VLAN tags of its own into its frames. Snort reports the innermost id that it decodes; Suricata
 * reports those of the innermost packet: a tunnel's content has none of the tags around the tunnel. So every further
 * tag gets our id, in place (priority bits kept), wherever Snort 3 or Suricata 7 would decode one: directly stacked
 * tags, and tags in LLC/SNAP, MPLS, PPPoE and PPP, Cisco metadata, FabricPath, ERSPAN II and III, GRE, VXLAN, Geneve,
 * GTP-U, Teredo and IP in IP, and for Suricata VN-Tag, 802.1ah and NSH; in any nesting of up to 255 layers.
 * Suricata 7 decodes stacks of three tags. A frame that begins with so many is given no other one: its own names the
 * endpoint then.
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
import { byteAt, putUint16, uint16 } from './bytes.ts';
import { rewriteTags } from './frame/layers.ts';
import { cookedEtherType, restOffset, senderOf, type LinkType } from './frame/link.ts';
import { behindTag, isStackedTag, Protocol, udpTunnel } from './frame/protocols.ts';
import { MAX_RECORD_BYTES } from './record.ts';

// This module's own: imported numbers are looked up again for each frame.
const { ipv4, ipv6, tcp, udp, none } = Protocol;

const ETHERNET_ADDRESSES = 12;
const TAG = 4;
/** What `tagFrame` makes where there was no Ethernet header: addresses, tag, EtherType. */
const MADE_HEADER = ETHERNET_ADDRESSES + TAG + 2;

/** A frame with more captured bytes doesn't fit a record once it is tagged. */
export const MAX_FRAME_BYTES = MAX_RECORD_BYTES - MADE_HEADER;

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

export interface Found {
  /** Bits of `WITHIN`. */
  within: number;
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
  const type = uint16(bytes, behind - 2);
  if (isFullStack(type, bytes, behind, start + captured)) {
    rewriteEthernet(bytes, start, captured, vlan, found);
    return start;
  }
  const first = start - TAG;
  // For so few bytes a call costs more than the copy.
  for (let at = first; at < first + ETHERNET_ADDRESSES; at++) bytes[at] = bytes[at + TAG] ?? 0;
  writeTag(bytes, first + ETHERNET_ADDRESSES, vlan);
  if (!isPlain(type, bytes, behind, captured)) rewriteEthernet(bytes, start, captured, vlan, found);
  return first;
}

function rewriteEthernet(bytes: Buffer, start: number, captured: number, vlan: number, found: Found | undefined): void {
  const type = start + ETHERNET_ADDRESSES;
  const within = rewriteTags(bytes, start + captured, behindTag(uint16(bytes, type)), type + 2, vlan);
  if (found !== undefined) found.within = within;
}

/** Whether a frame begins with three tags, of which both engines decode each. `behind`: its EtherType. */
function isFullStack(etherType: number, bytes: Buffer, behind: number, end: number): boolean {
  if (!isStackedTag(etherType) || end < behind + 2 * TAG + 2) return false;
  return isStackedTag(uint16(bytes, behind + 2)) && isStackedTag(uint16(bytes, behind + TAG + 2));
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
  const within = rewriteTags(bytes, start + captured, behindTag(etherType), start + rest, vlan);
  if (found !== undefined) found.within = within;
  const isTagged = isFullStack(etherType, frame, rest, captured);
  const first = start + rest - MADE_HEADER + (isTagged ? TAG : 0);
  writeAddresses(bytes, first, sender);
  if (isTagged) putUint16(bytes, first + ETHERNET_ADDRESSES, etherType);
  else putUint16(bytes, writeTag(bytes, first + ETHERNET_ADDRESSES, vlan), etherType);
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
  putUint16(bytes, first + ETHERNET_ADDRESSES, etherType);
  return first;
}

function writeAddresses(bytes: Buffer, at: number, sender: Buffer | undefined): void {
  bytes.fill(0, at, at + ETHERNET_ADDRESSES);
  if (sender !== undefined) bytes.set(sender, at + 6);
}

/**
 * Whether an Ethernet frame holds TCP in IP, or UDP that is no tunnel, as most do: nothing is to be rewritten.
 * `behind`: its EtherType.
 */
function isPlain(etherType: number, bytes: Buffer, behind: number, captured: number): boolean {
  if (etherType === ipv4 && captured >= 42) {
    if (byteAt(bytes, behind) !== 0x45 || (uint16(bytes, behind + 6) & 0x3fff) !== 0) return false;
    return isPlainTransport(bytes, byteAt(bytes, behind + 9), behind + 20);
  }
  if (etherType !== ipv6 || captured < 62) return false;
  return isPlainTransport(bytes, byteAt(bytes, behind + 6), behind + 40);
}

function isPlainTransport(bytes: Buffer, protocol: number, at: number): boolean {
  if (protocol === tcp) return true;
  return protocol === udp && udpTunnel(uint16(bytes, at), uint16(bytes, at + 2)) === none;
}

function writeTag(target: Buffer, at: number, vlan: number): number {
  target[at] = 0x81;
  target[at + 1] = 0;
  putUint16(target, at + 2, vlan);
  return at + TAG;
}
