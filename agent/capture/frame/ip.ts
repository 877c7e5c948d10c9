/**
 * The layers of IP. A fragment shows too little of a tunnel, so the walk ends at one, and a tunnel in it is made opaque.
 *
 * Of each layer: @returns whether the walk goes on behind it.
 */
import { byteAt, uint16 } from '../bytes.ts';
import { carriesPackets, isExtension, Protocol, udpTunnel } from './protocols.ts';
import { goOn, WITHIN, type Walk } from './walk.ts';

const DISCARD_PORT = 9;

export function passIpv4(walk: Walk, frame: Buffer): boolean {
  const { offset, limit } = walk;
  const first = byteAt(frame, offset);
  if (first >>> 4 !== 4 || first < 0x45) return false;
  if ((uint16(frame, offset + 6) & 0x3fff) !== 0) {
    if (hideTunnelInIpv4Fragment(frame, limit, offset)) walk.within |= WITHIN.hidden;
    return false;
  }
  return goOn(walk, byteAt(frame, offset + 9), (first & 0x0f) * 4);
}

export function passIpv6(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  if (byteAt(frame, offset) >>> 4 !== 6) return false;
  walk.ipv6End = offset + 40 + uint16(frame, offset + 4);
  return goOn(walk, byteAt(frame, offset + 6), 40);
}

export function passExtension(walk: Walk, frame: Buffer): boolean {
  const { offset, protocol } = walk;
  return goOn(walk, byteAt(frame, offset), extensionLength(frame, offset, protocol));
}

export function passFragment(walk: Walk, frame: Buffer): boolean {
  const { offset, limit, ipv6End } = walk;
  if ((uint16(frame, offset + 2) & 0xfff9) !== 0) {
    if (hideTunnelInIpv6Fragment(frame, Math.min(limit, ipv6End), offset)) walk.within |= WITHIN.hidden;
    return false;
  }
  return goOn(walk, byteAt(frame, offset), 8);
}

export function passUdp(walk: Walk, frame: Buffer): boolean {
  const { offset } = walk;
  return goOn(walk, udpTunnel(uint16(frame, offset), uint16(frame, offset + 2)), 8);
}

function extensionLength(frame: Buffer, offset: number, protocol: number): number {
  return 8 + byteAt(frame, offset + 1) * (protocol === Protocol.authentication ? 4 : 8);
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
