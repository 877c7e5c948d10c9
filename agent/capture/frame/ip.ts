/**
 * The layers of IP. A fragment shows too little of a tunnel, so the walk ends at one, and a tunnel in it is made
 * opaque.
 *
 * Of each layer: @returns where the next one begins, or END.
 */
import { carriesPackets, isExtension, Protocol, udpTunnel } from './protocols.ts';
import { byteAt, END, goOn, uint16, WITHIN, type Walk } from './walk.ts';

const DISCARD_PORT = 9;

export function passIpv4(walk: Walk, bytes: Buffer, offset: number): number {
  const first = byteAt(walk, bytes, offset);
  if (first >>> 4 !== 4 || first < 0x45) return END;
  if ((uint16(walk, bytes, offset + 6) & 0x3fff) !== 0) {
    if (hideTunnelInIpv4Fragment(walk, bytes, offset)) walk.within |= WITHIN.hidden;
    return END;
  }
  return goOn(walk, byteAt(walk, bytes, offset + 9), offset + (first & 0x0f) * 4);
}

export function passIpv6(walk: Walk, bytes: Buffer, offset: number): number {
  if (byteAt(walk, bytes, offset) >>> 4 !== 6) return END;
  walk.ipv6End = offset + 40 + uint16(walk, bytes, offset + 4);
  return goOn(walk, byteAt(walk, bytes, offset + 6), offset + 40);
}

export function passExtension(walk: Walk, bytes: Buffer, offset: number): number {
  return goOn(walk, byteAt(walk, bytes, offset), offset + extensionLength(walk, bytes, offset, walk.protocol));
}

export function passFragment(walk: Walk, bytes: Buffer, offset: number): number {
  if ((uint16(walk, bytes, offset + 2) & 0xfff9) !== 0) {
    if (hideTunnelInIpv6Fragment(walk, bytes, offset)) walk.within |= WITHIN.hidden;
    return END;
  }
  return goOn(walk, byteAt(walk, bytes, offset), offset + 8);
}

export function passUdp(walk: Walk, bytes: Buffer, offset: number): number {
  return goOn(walk, udpTunnel(uint16(walk, bytes, offset), uint16(walk, bytes, offset + 2)), offset + 8);
}

function extensionLength(walk: Walk, bytes: Buffer, offset: number, protocol: number): number {
  return 8 + byteAt(walk, bytes, offset + 1) * (protocol === Protocol.authentication ? 4 : 8);
}

/** @returns whether there was one; likewise below. */
function hideTunnelInIpv4Fragment(walk: Walk, bytes: Buffer, header: number): boolean {
  const protocol = byteAt(walk, bytes, header + 9);
  if (carriesPackets(protocol) || isExtension(protocol)) {
    if (header + 9 < walk.limit) bytes[header + 9] = Protocol.experiment;
    return true;
  }
  if (protocol !== Protocol.udp || (uint16(walk, bytes, header + 6) & 0x1fff) !== 0) return false;
  return hideUdpTunnel(walk, bytes, walk.limit, header + (byteAt(walk, bytes, header) & 0x0f) * 4);
}

/**
 * `offset`: of the fragment header. Extension headers behind it stay as they are, or a packet could hide behind one.
 * What the last of them names is hidden if it is a tunnel, or may be one and is not in this fragment.
 */
function hideTunnelInIpv6Fragment(walk: Walk, bytes: Buffer, offset: number): boolean {
  const end = Math.min(walk.limit, walk.ipv6End);
  const isFirst = (uint16(walk, bytes, offset + 2) & 0xfff8) === 0;
  let nameAt = offset;
  let protocol = byteAt(walk, bytes, nameAt);
  if (isFirst) {
    let header = offset + 8;
    // Snort cuts a fragment to a multiple of 8.
    const dataEnd = header + ((end - header) & ~7);
    while (isExtension(protocol) && header + 8 <= dataEnd) {
      nameAt = header;
      header += extensionLength(walk, bytes, header, protocol);
      protocol = byteAt(walk, bytes, nameAt);
    }
    const isCut = header + 8 > dataEnd;
    if (protocol === Protocol.udp && !isCut) return hideUdpTunnel(walk, bytes, end, header);
    if (isCut && (isExtension(protocol) || protocol === Protocol.udp)) protocol = Protocol.fragment;
  }
  if (!carriesPackets(protocol)) return false;
  if (nameAt < walk.limit) bytes[nameAt] = Protocol.experiment;
  return true;
}

function hideUdpTunnel(walk: Walk, bytes: Buffer, limit: number, header: number): boolean {
  let isHidden = false;
  for (let port = header; port <= header + 2 && port + 2 <= limit; port += 2) {
    if (udpTunnel(uint16(walk, bytes, port), 0) === Protocol.none) continue;
    bytes[port] = 0;
    bytes[port + 1] = DISCARD_PORT;
    isHidden = true;
  }
  return isHidden;
}
