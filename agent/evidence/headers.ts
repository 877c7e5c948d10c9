/** What a packet's headers say, for people. Of a tunnel, those of what it carries. */
import { SocketAddress } from 'node:net';
import { linkTypeFromDlt } from '../capture/frame/link.ts';
import { createLayer, firstLayer, readLayer, TCP, type Layer } from '../capture/recent/layers.ts';
import type { FlowPacket } from './packet.ts';

export interface Headers {
  source: string;
  destination: string;
  sourcePort?: number;
  destinationPort?: number;
  /** `TCP`, or the number in the header of IP. */
  protocol: string;
  /** Of TCP: `SYN,ACK`. */
  flags?: string;
  /** A fragment that is not its datagram's first one. */
  fragment?: true;
  /** Where its payload begins in the frame. */
  payload: number;
}

const NAMES = new Map([
  [1, 'ICMP'],
  [6, 'TCP'],
  [17, 'UDP'],
  [47, 'GRE'],
  [50, 'ESP'],
  [58, 'ICMPv6'],
  [132, 'SCTP'],
]);
const FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'];

/** undefined: it is not of IP, or cut before that. */
export function headersOf({ frame, linkType }: Pick<FlowPacket, 'frame' | 'linkType'>): Headers | undefined {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const link = linkTypeFromDlt(linkType);
  const layer = createLayer();
  let at = link === undefined ? -1 : firstLayer(bytes, 0, bytes.length, link);
  let headers: Headers | undefined;
  while (at >= 0 && readLayer(layer, bytes, at, bytes.length)) {
    headers = ofLayer(bytes, layer);
    at = layer.inner;
  }
  return headers;
}

function ofLayer(bytes: Buffer, layer: Layer): Headers {
  const { size, source, destination, protocol, ports, transport, payload } = layer;
  const address = (at: number): string => addressOf(bytes.subarray(at, at + size));
  return {
    source: address(source),
    destination: address(destination),
    ...(ports < 0 ? {} : { sourcePort: bytes.readUInt16BE(ports), destinationPort: bytes.readUInt16BE(ports + 2) }),
    protocol: NAMES.get(protocol) ?? String(protocol),
    ...(protocol === TCP && ports >= 0 ? { flags: flagsOf(bytes[ports + 13] ?? 0) } : {}),
    ...(transport < 0 ? { fragment: true as const } : {}),
    payload,
  };
}

function flagsOf(bits: number): string {
  return FLAGS.filter((_, bit) => (bits & (1 << bit)) !== 0).join(',');
}

function addressOf(bytes: Buffer): string {
  if (bytes.length === 4) return [...bytes].join('.');
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16));
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}
