/**
 * The headers of IP in a frame, layer by layer: those of a tunnel, then those of what it carries. An alert names the
 * ends of either.
 *
 * Invariants: whatever the bytes are, nothing throws, nothing is allocated, and nothing outside the frame is read as
 * meaningful.
 *
 * Not read: what a fragment carries beyond its own ports; tunnels on other ports than their usual ones.
 */
import { byteAt, int32, uint16 } from '../bytes.ts';
import { restOffset, type LinkType } from '../frame/link.ts';
import { readPlain, type Plain } from '../frame/plain.ts';

export interface Layer extends Plain {
  /** Where the ports are; -1: there are none, or they are in another fragment. */
  ports: number;
  /** Of a fragment, what tells its datagram from others of these ends; -1: it is none. */
  fragment: number;
  /** Where the transport's payload begins, or the captured bytes end. */
  payload: number;
  /** Where the next layer of IP begins; -1: there is none. */
  inner: number;
}

export const TCP = 6;
const [UDP, SCTP, DCCP, UDP_LITE] = [17, 132, 33, 136];
const [IN_IPV4, IN_IPV6, GRE] = [4, 41, 47];
const [HOP_OPTIONS, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS] = [0, 43, 44, 51, 60];
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const MPLS = 0x8847;
const PPPOE = 0x8864;
const BRIDGED = 0x6558;
const TAGS = new Set([0x8100, 0x88a8, 0x9100, 0x9200]);
const MAX_TAGS = 16;
/** Of IPv6 extension headers. */
const MAX_HEADERS = 16;
/** UDP ports of tunnels, and the bytes between UDP's header and an Ethernet frame. */
const VXLAN_PORTS = new Set([4789, 8472]);
const GENEVE_PORT = 6081;
const GTP_PORT = 2152;

export function createLayer(): Layer {
  return {
    ip: 0,
    size: 0,
    source: 0,
    destination: 0,
    protocol: 0,
    ports: -1,
    fragment: -1,
    transport: 0,
    payload: 0,
    inner: -1,
  };
}

/** Where the first header of IP is in a frame that ends at `end`; -1: nowhere. */
export function firstLayer(bytes: Buffer, start: number, end: number, link: LinkType): number {
  if (link === 'ethernet') return behindEthernet(bytes, start, end);
  if (link === 'pppoe') return ifIp(bytes, start + 8, end);
  return ifIp(bytes, start + restOffset(bytes, start, link), end);
}

function behindEthernet(bytes: Buffer, start: number, end: number): number {
  return behindType(bytes, start + 12, end);
}

/** @param at Of an EtherType. */
function behindType(bytes: Buffer, at: number, end: number): number {
  let type = uint16(bytes, at);
  let next = at + 2;
  for (let count = 0; TAGS.has(type) && count < MAX_TAGS; count++) {
    type = uint16(bytes, next + 2);
    next += 4;
  }
  if (type === MPLS) {
    while (next + 4 <= end && (byteAt(bytes, next + 2) & 1) === 0) next += 4;
    next += 4;
  } else if (type === PPPOE) {
    next += 8;
  } else if (type !== IPV4 && type !== IPV6) {
    return -1;
  }
  return ifIp(bytes, next, end);
}

function ifIp(bytes: Buffer, at: number, end: number): number {
  if (at + 20 > end) return -1;
  const version = byteAt(bytes, at) >>> 4;
  return version === 4 || (version === 6 && at + 40 <= end) ? at : -1;
}

/** The only layer of most frames of Ethernet: as `firstLayer` and `readLayer` give it, sooner. @returns whether it is. */
export function readOnlyLayer(layer: Layer, bytes: Buffer, start: number, end: number): boolean {
  if (!readPlain(layer, bytes, start, end)) return false;
  const { transport, protocol } = layer;
  if (protocol === UDP && (isVxlan(bytes, transport) || isVxlan(bytes, transport + 2))) return false;
  layer.ports = transport;
  layer.fragment = layer.inner = -1;
  layer.payload = Math.min(end, transport + headerLength(bytes, transport, protocol));
  return true;
}

function isVxlan(bytes: Buffer, port: number): boolean {
  return VXLAN_PORTS.has(uint16(bytes, port));
}

/** @param at As firstLayer gave it, or `inner`. @returns whether there is a layer of IP. */
export function readLayer(layer: Layer, bytes: Buffer, at: number, end: number): boolean {
  layer.ip = at;
  layer.ports = layer.fragment = layer.inner = -1;
  const isRead = byteAt(bytes, at) >>> 4 === 4 ? readIpv4(layer, bytes, at, end) : readIpv6(layer, bytes, at, end);
  if (isRead) readTransport(layer, bytes, end);
  return isRead;
}

function readIpv4(layer: Layer, bytes: Buffer, at: number, end: number): boolean {
  const header = (byteAt(bytes, at) & 0x0f) * 4;
  if (header < 20 || at + header > end) return false;
  layer.size = 4;
  layer.source = at + 12;
  layer.destination = at + 16;
  layer.protocol = byteAt(bytes, at + 9);
  layer.transport = layer.payload = at + header;
  const flags = uint16(bytes, at + 6);
  if ((flags & 0x3fff) !== 0) layer.fragment = uint16(bytes, at + 4);
  if ((flags & 0x1fff) !== 0) layer.transport = -1;
  return true;
}

function readIpv6(layer: Layer, bytes: Buffer, at: number, end: number): boolean {
  layer.size = 16;
  layer.source = at + 8;
  layer.destination = at + 24;
  let protocol = byteAt(bytes, at + 6);
  let next = at + 40;
  let isLater = false;
  for (let count = 0; count < MAX_HEADERS && next + 8 <= end && !isLater; count++) {
    const isFragment = protocol === FRAGMENT;
    if (!isFragment && !isExtension(protocol)) break;
    if (isFragment) {
      layer.fragment = int32(bytes, next + 4) & 0x7fff_ffff;
      isLater = (uint16(bytes, next + 2) & 0xfff8) !== 0;
    }
    const length = isFragment ? 8 : 8 + byteAt(bytes, next + 1) * (protocol === AUTHENTICATION ? 4 : 8);
    protocol = byteAt(bytes, next);
    next += length;
  }
  layer.protocol = protocol;
  layer.payload = Math.min(next, end);
  layer.transport = isLater ? -1 : next;
  return true;
}

function isExtension(protocol: number): boolean {
  return (
    protocol === HOP_OPTIONS || protocol === ROUTING || protocol === AUTHENTICATION || protocol === DESTINATION_OPTIONS
  );
}

function readTransport(layer: Layer, bytes: Buffer, end: number): void {
  const { transport, protocol } = layer;
  if (transport < 0) return;
  if (hasPorts(protocol) && transport + 4 <= end) layer.ports = transport;
  layer.payload = Math.min(end, transport + headerLength(bytes, transport, protocol));
  if (protocol === UDP) layer.inner = layer.fragment < 0 ? inUdp(bytes, transport, end) : -1;
  else if (protocol === IN_IPV4 || protocol === IN_IPV6) layer.inner = ifIp(bytes, transport, end);
  else if (protocol === GRE) layer.inner = inGre(bytes, transport, end);
}

function hasPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === SCTP || protocol === DCCP || protocol === UDP_LITE;
}

function headerLength(bytes: Buffer, transport: number, protocol: number): number {
  if (protocol === TCP) return Math.max(20, (byteAt(bytes, transport + 12) >>> 4) * 4);
  return protocol === SCTP ? 12 : 8;
}

function inUdp(bytes: Buffer, transport: number, end: number): number {
  const payload = transport + 8;
  for (let port = transport; port <= transport + 2; port += 2) {
    const number = uint16(bytes, port);
    if (VXLAN_PORTS.has(number)) return ifFits(behindEthernet(bytes, payload + 8, end), end);
    if (number === GENEVE_PORT) return inGeneve(bytes, payload, end);
    if (number === GTP_PORT) return ifIp(bytes, payload + ((byteAt(bytes, payload) & 7) === 0 ? 8 : 12), end);
  }
  return -1;
}

function inGeneve(bytes: Buffer, at: number, end: number): number {
  const next = at + 8 + (byteAt(bytes, at) & 0x3f) * 4;
  return uint16(bytes, at + 2) === BRIDGED ? ifFits(behindEthernet(bytes, next, end), end) : ifIp(bytes, next, end);
}

/** RFC 2784, 2890: a checksum, a key and a sequence number may be there. */
function inGre(bytes: Buffer, at: number, end: number): number {
  const flags = byteAt(bytes, at);
  let next = at + 4;
  for (const bit of [0x80, 0x20, 0x10]) if ((flags & bit) !== 0) next += 4;
  const type = uint16(bytes, at + 2);
  return type === BRIDGED ? ifFits(behindEthernet(bytes, next, end), end) : behindGreType(bytes, type, next, end);
}

function behindGreType(bytes: Buffer, type: number, next: number, end: number): number {
  return type === IPV4 || type === IPV6 ? ifIp(bytes, next, end) : -1;
}

function ifFits(at: number, end: number): number {
  return at < end ? at : -1;
}
