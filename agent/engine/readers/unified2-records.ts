/**
 * The records of unified2: which there are, how long each may be, and what an event says. All numbers are big-endian.
 *
 * Formats: Snort 3's src/log/unified2.h and src/loggers/unified2.cc (checked against 3.12.2), and Snort 2's.
 */
import type { Alert } from '../alert.ts';
import { Damaged, ends, integer, MAX_UINT32, MAX_VLAN, micros } from './values.ts';

/** Longest record body that is believed, in bytes. */
export const MAX_RECORD = 1024 * 1024;

/** Type and length of the body. */
export const HEADER = 8;
/** Of the body of a packet or a buffer, before its bytes. */
export const PACKET_FIELDS = 28;
const EXTRA_FIELDS = 32;
/** How much of a record `inspectRecord` looks at. */
export const LOOK = HEADER + EXTRA_FIELDS;

const PACKET = 2;
export const BUFFER = 3;
export const EXTRA_DATA = 110;

/** Where the fields of an event type stand, in bytes from the body's start, and how long its body may be. */
export interface EventLayout {
  lengths: readonly number[];
  /** The event's addresses: 4 or 16 bytes each, or 16 bytes with the versions given in a byte of their own. */
  addresses: 4 | 16 | 'either';
  gid: number;
  sid: number;
  rev: number;
  priority: number;
  source: number;
  ports: number;
  protocol: number;
  vlan?: number;
}

const CLASSIC = { gid: 20, sid: 16, rev: 24, priority: 32, source: 36 } as const;
const CLASSIC_IPV4 = { ...CLASSIC, addresses: 4, ports: 44, protocol: 48 } as const;
const CLASSIC_IPV6 = { ...CLASSIC, addresses: 16, ports: 68, protocol: 72 } as const;

export const EVENTS: ReadonlyMap<number, EventLayout> = new Map<number, EventLayout>([
  [7, { ...CLASSIC_IPV4, lengths: [52] }],
  [72, { ...CLASSIC_IPV6, lengths: [76] }],
  // With an MPLS label: first without, later with VLAN id and policy.
  [99, { ...CLASSIC_IPV4, lengths: [56, 60] }],
  [100, { ...CLASSIC_IPV6, lengths: [80, 84] }],
  // Snort 2 without and with an application name of 16 bytes; Snort 3 with one of 64.
  [104, { ...CLASSIC_IPV4, lengths: [60, 76, 124], vlan: 56 }],
  [105, { ...CLASSIC_IPV6, lengths: [84, 100, 148], vlan: 80 }],
  [
    114,
    {
      lengths: [1032],
      addresses: 'either',
      gid: 16,
      sid: 20,
      rev: 24,
      priority: 32,
      source: 48,
      ports: 84,
      protocol: 93,
      vlan: 88,
    },
  ],
]);
const EVENT3_VERSIONS = 92;
const MAX_TYPE = 114;

/** What stands at `at`: a record by its header, none, or too little to tell. */
export function inspectRecord(buffer: Buffer, at: number): { type: number; length: number } | 'none' | 'unclear' {
  const available = buffer.length - at;
  if (available < HEADER) return 'unclear';
  const type = buffer.readUInt32BE(at);
  if (type === 0 || type > MAX_TYPE) return 'none';
  const length = buffer.readUInt32BE(at + 4);
  const layout = EVENTS.get(type);
  if (layout) return layout.lengths.includes(length) ? { type, length } : 'none';
  const fields = type === PACKET || type === BUFFER ? PACKET_FIELDS : type === EXTRA_DATA ? EXTRA_FIELDS : undefined;
  if (fields === undefined || length < fields || length > MAX_RECORD) return 'none';
  if (available < HEADER + fields) return 'unclear';
  const body = at + HEADER;
  const agrees =
    type === EXTRA_DATA
      ? // The body's own length, and that of the blob, which counts two of its header's fields.
        buffer.readUInt32BE(body + 4) === length && buffer.readUInt32BE(body + 28) === length - EXTRA_FIELDS + 8
      : buffer.readUInt32BE(body + 24) === length - PACKET_FIELDS;
  return agrees ? { type, length } : 'none';
}

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, 'ICMP'],
  [6, 'TCP'],
  [17, 'UDP'],
  [58, 'ICMP'],
  [132, 'SCTP'],
]);

/** @throws Damaged */
export function toAlert(layout: EventLayout, body: Buffer): Alert {
  const number = (at: number): number => body.readUInt32BE(at);
  const microseconds = integer('the microsecond', number(12), 999_999);
  const addressed = addresses(layout, body);
  const protocol = addressed ? (PROTOCOLS.get(body[layout.protocol] ?? 0) ?? 'IP') : '';
  // In an ICMP event, type and code stand in the ports' place.
  const ported = protocol === 'TCP' || protocol === 'UDP';
  return {
    timeMicros: micros(integer('the second', number(8), MAX_UINT32), microseconds),
    vlan: layout.vlan === undefined ? 0 : integer('the VLAN id', body.readUInt16BE(layout.vlan), MAX_VLAN),
    gid: integer('the generator id', number(layout.gid), MAX_UINT32, 1),
    sid: integer('the signature id', number(layout.sid), MAX_UINT32, 1),
    rev: number(layout.rev),
    message: '',
    classification: '',
    priority: number(layout.priority),
    protocol,
    ...ends({
      protocol,
      sourceIp: addressed?.source,
      sourcePort: ported ? body.readUInt16BE(layout.ports) : undefined,
      destinationIp: addressed?.destination,
      destinationPort: ported ? body.readUInt16BE(layout.ports + 2) : undefined,
    }),
  };
}

/** Undefined for an event about a frame without IP. */
function addresses(layout: EventLayout, body: Buffer): { source: string; destination: string } | undefined {
  const bytes = (at: number, length: number): Buffer => body.subarray(at, at + length);
  if (layout.addresses !== 'either') {
    const length = layout.addresses;
    const both = bytes(layout.source, 2 * length);
    if (both.every((byte) => byte === 0)) return undefined;
    return { source: ipText(both.subarray(0, length)), destination: ipText(both.subarray(length)) };
  }
  // One byte has the source's version in its high half, the destination's in its low half; an IPv4 address is the last
  // 4 of 16 bytes.
  const versions = body[EVENT3_VERSIONS] ?? 0;
  const addressAt = (at: number, version: number): string => {
    if (version === 4) return ipText(bytes(at + 12, 4));
    if (version === 6) return ipText(bytes(at, 16));
    throw new Damaged('the IP version is neither 4 nor 6');
  };
  if (versions === 0) return undefined;
  return {
    source: addressAt(layout.source, versions >> 4),
    destination: addressAt(layout.source + 16, versions & 0x0f),
  };
}

function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(bytes.readUInt16BE(at).toString(16));
  return groups.join(':');
}
