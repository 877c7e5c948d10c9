/**
 * Packets and capture files for tests: IP packets with right checksums, whole conversations, pcap and pcapng writers.
 *
 * From the inside out: `tcpPacket`, `udpPacket`, `icmpPacket` and `ipPacket` make an IP packet (version 4 or 6, as the
 * addresses are), `ethernet` puts it in a frame, `tcpConversation`, `udpExchange` and `httpConversation` make frames
 * with times, `writePcap` and `writePcapng` make a file of them. Everything is deterministic: the same arguments give
 * the same bytes.
 *
 *     writePcap(httpConversation({ request: { method: 'POST', path: '/login', body: 'a=b' }, response: { status: 200,
 *     body: 'ok' } }))
 *
 * Values that don't fit their field throw; nothing is clipped.
 */
import { isIPv4, isIPv6 } from 'node:net';

/** One captured frame. */
export interface Frame {
  /** Microseconds since the Unix epoch, an integer. */
  timeMicros: number;
  /** The frame from its link header on, as captured. */
  data: Buffer;
  /** Bytes that were on the wire; `data.length` when absent. */
  originalLength?: number;
  /** Index into the `interfaces` of `writePcapng`; 0 when absent. */
  interface?: number;
}

export type Bytes = Buffer | string;

/** 2023-11-14 22:13:20 UTC: when conversations start unless told otherwise. */
export const DEFAULT_START_MICROS = 1_700_000_000_000_000;
export const CLIENT_MAC = '02:00:00:00:00:01';
export const SERVER_MAC = '02:00:00:00:00:02';

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, ipv6: 41, gre: 47, icmpv6: 58 } as const;
export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;
export const LINKTYPE = { null: 0, ethernet: 1, raw: 101, loop: 108, linuxSll: 113, linuxSll2: 276 } as const;

// --- IP packets -----------------------------------------------------------------------------------------------------

export interface IpOptions {
  source: string;
  destination: string;
  /** Time to live, or hop limit; 64. */
  ttl?: number;
  /** IPv4 identification, IPv6 flow label; 1 and 0. */
  id?: number;
  /** Type of service, or traffic class; 0. */
  tos?: number;
}

/** An IP packet of the addresses' version around a payload. `protocol` is the IP protocol (IPv6: next header). */
export function ipPacket(options: IpOptions & { protocol: number }, payload: Bytes): Buffer {
  const body = bytes(payload);
  const { ttl = 64, tos = 0 } = options;
  if (isIPv6(options.source)) {
    const header = Buffer.alloc(40);
    header.writeUInt32BE(0x6000_0000 + tos * 0x10_0000 + (options.id ?? 0), 0);
    header.writeUInt16BE(body.length, 4);
    header.writeUInt8(options.protocol, 6);
    header.writeUInt8(ttl, 7);
    ipBytes(options.source, 6).copy(header, 8);
    ipBytes(options.destination, 6).copy(header, 24);
    return Buffer.concat([header, body]);
  }
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt8(tos, 1);
  header.writeUInt16BE(20 + body.length, 2);
  header.writeUInt16BE(options.id ?? 1, 4);
  header.writeUInt8(ttl, 8);
  header.writeUInt8(options.protocol, 9);
  ipBytes(options.source, 4).copy(header, 12);
  ipBytes(options.destination, 4).copy(header, 16);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, body]);
}

/**
 * Splits an IP packet without options or extension headers into fragments.
 * `size`: payload bytes of each but the last, a multiple of 8.
 */
export function ipFragments(packet: Buffer, size: number): Buffer[] {
  if (size <= 0 || size % 8 !== 0) throw new RangeError(`fragment size ${size} is not a positive multiple of 8`);
  const isV6 = packet.readUInt8(0) >> 4 === 6;
  const headerLength = isV6 ? 40 : 20;
  const payload = packet.subarray(headerLength);
  const fragments: Buffer[] = [];
  for (let offset = 0; offset < payload.length; offset += size) {
    const part = payload.subarray(offset, offset + size);
    const more = offset + size < payload.length ? 1 : 0;
    const header = Buffer.from(packet.subarray(0, headerLength));
    if (isV6) {
      const extension = Buffer.alloc(8);
      extension.writeUInt8(header.readUInt8(6), 0);
      extension.writeUInt16BE(offset + more, 2);
      extension.writeUInt32BE(1, 4);
      header.writeUInt8(44, 6);
      header.writeUInt16BE(8 + part.length, 4);
      fragments.push(Buffer.concat([header, extension, part]));
    } else {
      header.writeUInt16BE(20 + part.length, 2);
      header.writeUInt16BE(more * 0x2000 + offset / 8, 6);
      header.writeUInt16BE(0, 10);
      header.writeUInt16BE(checksum(header), 10);
      fragments.push(Buffer.concat([header, part]));
    }
  }
  return fragments;
}

export interface TcpOptions extends IpOptions {
  sourcePort: number;
  destinationPort: number;
  /** Letters of F, S, R, P, A, U: "SA" is SYN/ACK. */
  flags: string;
  sequence?: number;
  acknowledgement?: number;
  window?: number;
  /** TCP options, a multiple of 4 bytes. */
  options?: Buffer;
  payload?: Bytes;
}

export function tcpPacket(options: TcpOptions): Buffer {
  const { sequence = 0, acknowledgement = 0, window = 65_535, options: extra = Buffer.alloc(0) } = options;
  const header = Buffer.alloc(20);
  header.writeUInt16BE(options.sourcePort, 0);
  header.writeUInt16BE(options.destinationPort, 2);
  header.writeUInt32BE(sequence >>> 0, 4);
  header.writeUInt32BE(acknowledgement >>> 0, 8);
  header.writeUInt8(((20 + extra.length) / 4) << 4, 12);
  header.writeUInt8(tcpFlags(options.flags), 13);
  header.writeUInt16BE(window, 14);
  const segment = Buffer.concat([header, extra, bytes(options.payload ?? '')]);
  segment.writeUInt16BE(transportChecksum(options, PROTOCOL.tcp, segment), 16);
  return ipPacket({ ...options, protocol: PROTOCOL.tcp }, segment);
}

export interface UdpOptions extends IpOptions {
  sourcePort: number;
  destinationPort: number;
  payload?: Bytes;
}

export function udpPacket(options: UdpOptions): Buffer {
  const payload = bytes(options.payload ?? '');
  const header = Buffer.alloc(8);
  header.writeUInt16BE(options.sourcePort, 0);
  header.writeUInt16BE(options.destinationPort, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  const datagram = Buffer.concat([header, payload]);
  datagram.writeUInt16BE(transportChecksum(options, PROTOCOL.udp, datagram) || 0xffff, 6);
  return ipPacket({ ...options, protocol: PROTOCOL.udp }, datagram);
}

export interface IcmpOptions extends IpOptions {
  /** Echo request when absent: 8, and 128 for ICMPv6. */
  type?: number;
  code?: number;
  /** The four bytes behind the checksum: identifier and sequence number of an echo; 0x00010001. */
  rest?: number;
  payload?: Bytes;
}

/** ICMP for IPv4 addresses, ICMPv6 for IPv6 addresses. */
export function icmpPacket(options: IcmpOptions): Buffer {
  const isV6 = isIPv6(options.source);
  const header = Buffer.alloc(8);
  header.writeUInt8(options.type ?? (isV6 ? 128 : 8), 0);
  header.writeUInt8(options.code ?? 0, 1);
  header.writeUInt32BE(options.rest ?? 0x0001_0001, 4);
  const message = Buffer.concat([header, bytes(options.payload ?? '')]);
  const sum = isV6 ? transportChecksum(options, PROTOCOL.icmpv6, message) : checksum(message);
  message.writeUInt16BE(sum, 2);
  return ipPacket({ ...options, protocol: isV6 ? PROTOCOL.icmpv6 : PROTOCOL.icmp }, message);
}

// --- Frames ---------------------------------------------------------------------------------------------------------

export interface EthernetOptions {
  source?: string;
  destination?: string;
  /** The payload's EtherType; found from the IP version when absent. */
  type?: number;
  /** VLAN tags, the outermost first: an id (TPID 0x8100), or a whole tag. */
  vlans?: (number | VlanTag)[];
}

export interface VlanTag {
  /** 0..4095 */
  id: number;
  /** Tag protocol id; 0x8100. */
  tpid?: number;
  /** Priority (PCP) and drop eligibility (DEI): the upper four bits; 0. */
  priority?: number;
}

/** An Ethernet frame without FCS and without padding. */
export function ethernet(payload: Bytes, options: EthernetOptions = {}): Buffer {
  const body = bytes(payload);
  const type = options.type ?? (body.readUInt8(0) >> 4 === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4);
  const parts = [macBytes(options.destination ?? SERVER_MAC), macBytes(options.source ?? CLIENT_MAC)];
  for (const vlan of options.vlans ?? []) {
    const { id, tpid = ETHERTYPE.vlan, priority = 0 } = typeof vlan === 'number' ? { id: vlan } : vlan;
    parts.push(uint16(tpid), uint16(priority * 0x1000 + id));
  }
  return Buffer.concat([...parts, uint16(type), body]);
}

// --- Conversations --------------------------------------------------------------------------------------------------

export interface Turn {
  from: 'client' | 'server';
  data: Bytes;
}

export interface ConversationOptions {
  /** Addresses of one IP version; 10.0.0.1 and 10.0.0.2. */
  client?: string;
  server?: string;
  clientPort?: number;
  serverPort?: number;
  /** Time of the first frame in µs since the Unix epoch; `DEFAULT_START_MICROS`. */
  start?: number;
  /** µs from one frame to the next; 1,000. */
  interval?: number;
  clientMac?: string;
  serverMac?: string;
  /** VLAN tags on every frame, the outermost first. */
  vlans?: (number | VlanTag)[];
}

export interface TcpConversationOptions extends ConversationOptions {
  exchange: Turn[];
  /** Data bytes in a segment, at most 65,475 (a GSO frame); 1,460. */
  mss?: number;
  /** How it ends: both sides' FIN, an RST of the client, or not at all; `fin`. */
  end?: 'fin' | 'reset' | 'none';
  /** Initial sequence numbers; 1,000 and 5,000. */
  clientSequence?: number;
  serverSequence?: number;
}

/** SYN, SYN/ACK, ACK; each data segment with the peer's ACK; FIN, FIN/ACK, ACK. Ports 40000 to 80 unless given. */
export function tcpConversation(options: TcpConversationOptions): Frame[] {
  const { exchange, mss = 1460, end = 'fin', clientSequence = 1000, serverSequence = 5000 } = options;
  const link = conversationLink(options, 80);
  const next = { client: clientSequence, server: serverSequence };
  const frames: Frame[] = [];
  const send = (from: Turn['from'], flags: string, payload: Buffer = Buffer.alloc(0)): void => {
    const { addresses, frame } = link;
    frames.push(
      frame(from, (id) =>
        tcpPacket({
          ...addresses(from),
          id,
          flags,
          sequence: next[from],
          acknowledgement: flags.includes('A') ? next[peer(from)] : 0,
          ...(flags.includes('S') ? { options: mssOption(Math.min(mss, 65_535)) } : {}),
          payload,
        }),
      ),
    );
    next[from] += payload.length + (/[SF]/.test(flags) ? 1 : 0);
  };

  send('client', 'S');
  send('server', 'SA');
  send('client', 'A');
  for (const { from, data } of exchange) {
    const stream = bytes(data);
    for (let offset = 0; offset < stream.length; offset += mss) {
      send(from, 'PA', stream.subarray(offset, offset + mss));
      send(peer(from), 'A');
    }
  }
  if (end === 'fin') {
    send('client', 'FA');
    send('server', 'FA');
    send('client', 'A');
  } else if (end === 'reset') {
    send('client', 'RA');
  }
  return frames;
}

/** One datagram a turn. Ports 40000 to 53 unless given. */
export function udpExchange(options: ConversationOptions & { exchange: Turn[] }): Frame[] {
  const { addresses, frame } = conversationLink(options, 53);
  return options.exchange.map(({ from, data }) =>
    frame(from, (id) => udpPacket({ ...addresses(from), id, payload: data })),
  );
}

/** Frames of several conversations in the order of their times; equal times keep the arguments' order. */
export function mergeFrames(...conversations: Frame[][]): Frame[] {
  return conversations.flat().toSorted((one, other) => one.timeMicros - other.timeMicros);
}

export interface HttpRequest {
  method?: string;
  path?: string;
  host?: string;
  /** Beyond Host and Content-Length, which are written unless named here. */
  headers?: Record<string, string>;
  body?: Bytes;
}

export interface HttpResponse {
  status?: number;
  reason?: string;
  headers?: Record<string, string>;
  body?: Bytes;
}

/** An HTTP/1.1 request's bytes: `GET / ` to host `example.test` unless told otherwise. */
export function httpRequest({ method = 'GET', path = '/', host = 'example.test', headers, body }: HttpRequest): Buffer {
  const defaults = body === undefined ? { Host: host } : { Host: host, 'Content-Length': `${bytes(body).length}` };
  return httpMessage(`${method} ${path} HTTP/1.1`, defaults, headers, body);
}

/** An HTTP/1.1 response's bytes: `200 OK` without a body unless told otherwise. */
export function httpResponse({ status = 200, reason = 'OK', headers, body = '' }: HttpResponse): Buffer {
  return httpMessage(`HTTP/1.1 ${status} ${reason}`, { 'Content-Length': `${bytes(body).length}` }, headers, body);
}

/** A TCP conversation of one request and its response. */
export function httpConversation(
  options: Omit<TcpConversationOptions, 'exchange'> & { request?: HttpRequest; response?: HttpResponse },
): Frame[] {
  const exchange: Turn[] = [
    { from: 'client', data: httpRequest(options.request ?? {}) },
    { from: 'server', data: httpResponse(options.response ?? {}) },
  ];
  return tcpConversation({ ...options, exchange });
}

/** A DNS query's bytes, without a length prefix. `type`: 1 is A, 16 is TXT, 28 is AAAA. */
export function dnsQuery(name: string, { type = 1, id = 0x1234 }: { type?: number; id?: number } = {}): Buffer {
  return Buffer.concat([...[id, 0x0100, 1, 0, 0, 0].map(uint16), dnsQuestion(name, type)]);
}

/** The response to `dnsQuery`, an answer per element of `data` (an A record's is 4 bytes); none is NXDOMAIN. */
export function dnsResponse(
  name: string,
  data: Buffer[],
  { type = 1, id = 0x1234 }: { type?: number; id?: number } = {},
): Buffer {
  const flags = data.length > 0 ? 0x8180 : 0x8183;
  // They hold for 300 s: at most 60 s, without an authority, is what rule 1:254 takes for a forged answer.
  const answers = data.flatMap((rdata) => [...[0xc00c, type, 1, 0, 300, rdata.length].map(uint16), rdata]);
  return Buffer.concat([...[id, flags, 1, data.length, 0, 0].map(uint16), dnsQuestion(name, type), ...answers]);
}

// --- Capture files --------------------------------------------------------------------------------------------------

export interface PcapOptions {
  nanoseconds?: boolean;
  bigEndian?: boolean;
  /** Kuznetzov's format (magic 0xa1b2cd34): 24 bytes before each packet. Microseconds only. */
  modified?: boolean;
  linkType?: number;
  /** Longer frames are cut to it; 262,144. */
  snaplen?: number;
}

/** A classic pcap file. Format: draft-ietf-opsawg-pcap. */
export function writePcap(frames: Frame[], options: PcapOptions = {}): Buffer {
  const { nanoseconds = false, modified = false, linkType = LINKTYPE.ethernet, snaplen = 262_144 } = options;
  const { u16, u32 } = integers(options.bigEndian ?? false);
  const magic = modified ? 0xa1b2_cd34 : nanoseconds ? 0xa1b2_3c4d : 0xa1b2_c3d4;
  const parts = [u32(magic), u16(2), u16(4), u32(0), u32(0), u32(snaplen), u32(linkType)];
  for (const { timeMicros, data, originalLength = data.length } of frames) {
    const fraction = (timeMicros % 1e6) * (nanoseconds ? 1000 : 1);
    const captured = data.subarray(0, snaplen);
    parts.push(u32(Math.floor(timeMicros / 1e6)), u32(fraction), u32(captured.length), u32(originalLength));
    if (modified) parts.push(u32(2), u16(ETHERTYPE.ipv4), Buffer.from([0, 0]));
    parts.push(captured);
  }
  return Buffer.concat(parts);
}

export interface PcapngInterface {
  linkType?: number;
  /** The option's byte: n for 10^-n s, 0x80 + n for 2^-n s; microseconds, and no option, when absent. */
  tsresol?: number;
  /** Seconds to add to each of the interface's times; no option when absent. */
  tsoffset?: number;
  /** 0, as in the format: no limit. Frames are not cut to it. */
  snaplen?: number;
}

export interface PcapngOptions {
  bigEndian?: boolean;
  interfaces?: PcapngInterface[];
  /** Which block holds a packet: EPB, SPB (no times, interface 0 only) or the obsolete Packet Block; `enhanced`. */
  block?: 'enhanced' | 'simple' | 'obsolete';
  /** Write an unknown block and a name resolution block before each packet. */
  otherBlocks?: boolean;
}

/** One section of a pcapng file; concatenate several. Format: draft-ietf-opsawg-pcapng. */
export function writePcapng(frames: Frame[], options: PcapngOptions = {}): Buffer {
  const { interfaces = [{}], block = 'enhanced' } = options;
  const { u16, u32, u64 } = integers(options.bigEndian ?? false);
  const wrap = (type: number, ...parts: Buffer[]): Buffer => {
    const body = padded(Buffer.concat(parts));
    return Buffer.concat([u32(type), u32(12 + body.length), body, u32(12 + body.length)]);
  };
  const option = (code: number, value: Buffer): Buffer => Buffer.concat([u16(code), u16(value.length), padded(value)]);
  const blocks = [wrap(0x0a0d_0d0a, u32(0x1a2b_3c4d), u16(1), u16(0), u64(0xffff_ffff_ffff_ffffn))];
  for (const { linkType = LINKTYPE.ethernet, tsresol, tsoffset, snaplen = 0 } of interfaces) {
    const list = [option(2, Buffer.from('eth0'))];
    if (tsresol !== undefined) list.push(option(9, Buffer.from([tsresol])));
    if (tsoffset !== undefined) list.push(option(14, u64(BigInt.asUintN(64, BigInt(tsoffset)))));
    blocks.push(wrap(1, u16(linkType), u16(0), u32(snaplen), ...list, option(0, Buffer.alloc(0))));
  }
  for (const { timeMicros, data, originalLength = data.length, interface: index = 0 } of frames) {
    if (options.otherBlocks) {
      blocks.push(wrap(0x0bad_0bad, Buffer.from('unknown')), wrap(4, u16(0), u16(0)));
    }
    const { tsresol = 6, tsoffset = 0, snaplen = 0 } = interfaces[index] ?? {};
    const micros = BigInt(timeMicros) - BigInt(tsoffset) * 1_000_000n;
    const perSecond = tsresol < 0x80 ? 10n ** BigInt(tsresol) : 2n ** BigInt(tsresol - 0x80);
    const ticks = (micros * perSecond) / 1_000_000n;
    const time = [u32(Number(ticks >> 32n)), u32(Number(ticks & 0xffff_ffffn))];
    const lengths = [u32(data.length), u32(originalLength)];
    if (block === 'enhanced') blocks.push(wrap(6, u32(index), ...time, ...lengths, data));
    else if (block === 'obsolete') blocks.push(wrap(2, u16(index), u16(0), ...time, ...lengths, data));
    else blocks.push(wrap(3, u32(originalLength), snaplen > 0 ? data.subarray(0, snaplen) : data));
  }
  return Buffer.concat(blocks);
}

// --- Parts ----------------------------------------------------------------------------------------------------------

/** The Internet checksum of RFC 1071, of bytes whose own checksum field is zero. */
export function checksum(data: Buffer): number {
  let sum = 0;
  for (let offset = 0; offset + 1 < data.length; offset += 2) sum += data.readUInt16BE(offset);
  if (data.length % 2 === 1) sum += data.readUInt8(data.length - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An address's 4 or 16 bytes; `version` refuses the other kind. */
export function ipBytes(address: string, version: 4 | 6): Buffer {
  if (version === 4 && isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  if (version === 4 || !isIPv6(address) || /[.%]/.test(address)) {
    throw new TypeError(`${address} is not an IPv${version} address in hexadecimal or dotted form`);
  }
  const [head = '', tail] = address.split('::');
  const front = hexGroups(head);
  const back = hexGroups(tail ?? '');
  const zeros = Array<number>(8 - front.length - back.length).fill(0);
  return Buffer.concat([...front, ...zeros, ...back].map(uint16));
}

function hexGroups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => parseInt(group, 16));
}

export function macBytes(mac: string): Buffer {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) throw new TypeError(`${mac} is not a MAC address`);
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function transportChecksum(ip: IpOptions, protocol: number, segment: Buffer): number {
  const version = isIPv6(ip.source) ? 6 : 4;
  const pseudo = [ipBytes(ip.source, version), ipBytes(ip.destination, version), uint16(protocol)];
  // Both pseudo headers have the same sum: the wider fields of IPv6 only add zeros.
  return checksum(Buffer.concat([...pseudo, uint16(segment.length), segment]));
}

function conversationLink(options: ConversationOptions, defaultPort: number) {
  const { client = '10.0.0.1', server = '10.0.0.2', clientPort = 40_000, serverPort = defaultPort } = options;
  const { clientMac = CLIENT_MAC, serverMac = SERVER_MAC, vlans = [], interval = 1000 } = options;
  let timeMicros = options.start ?? DEFAULT_START_MICROS;
  let id = 0;
  const ends = {
    client: { ip: client, port: clientPort, mac: clientMac },
    server: { ip: server, port: serverPort, mac: serverMac },
  };
  return {
    addresses: (from: Turn['from']) => ({
      source: ends[from].ip,
      destination: ends[peer(from)].ip,
      sourcePort: ends[from].port,
      destinationPort: ends[peer(from)].port,
    }),
    frame: (from: Turn['from'], packet: (id: number) => Buffer): Frame => {
      id = (id + 1) & 0xffff;
      const data = ethernet(packet(id), { source: ends[from].mac, destination: ends[peer(from)].mac, vlans });
      const frame = { timeMicros, data };
      timeMicros += interval;
      return frame;
    },
  };
}

function peer(side: Turn['from']): Turn['from'] {
  return side === 'client' ? 'server' : 'client';
}

function tcpFlags(letters: string): number {
  let flags = 0;
  for (const letter of letters) {
    const bit = 'FSRPAU'.indexOf(letter);
    if (bit < 0) throw new TypeError(`${letter} is not a TCP flag`);
    flags |= 1 << bit;
  }
  return flags;
}

function mssOption(mss: number): Buffer {
  return Buffer.concat([Buffer.from([2, 4]), uint16(mss)]);
}

function httpMessage(
  startLine: string,
  defaults: Record<string, string>,
  headers: Record<string, string> = {},
  body: Bytes = '',
): Buffer {
  const named = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  const kept = Object.entries(defaults).filter(([name]) => !named.has(name.toLowerCase()));
  const lines = [...kept, ...Object.entries(headers)].map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([bytes(`${startLine}\r\n${lines.join('')}\r\n`), bytes(body)]);
}

function dnsQuestion(name: string, type: number): Buffer {
  const labels = name.split('.').filter((label) => label !== '');
  const encoded = labels.flatMap((label) => [Buffer.from([Buffer.byteLength(label)]), bytes(label)]);
  return Buffer.concat([...encoded, Buffer.from([0]), uint16(type), uint16(1)]);
}

/** A string's UTF-8 bytes; escapes such as `\x90` above 0x7f need a Buffer. */
function bytes(data: Bytes): Buffer {
  return typeof data === 'string' ? Buffer.from(data, 'utf8') : data;
}

function uint16(value: number): Buffer {
  const buffer = Buffer.alloc(2);
  buffer.writeUInt16BE(value);
  return buffer;
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

function uint64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(value);
  return buffer;
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc(-data.length & 3)]);
}

function integers(bigEndian: boolean) {
  return {
    u16: (value: number): Buffer => (bigEndian ? uint16(value) : uint16(value).swap16()),
    u32: (value: number): Buffer => (bigEndian ? uint32(value) : uint32(value).swap32()),
    u64: (value: bigint): Buffer => (bigEndian ? uint64(value) : uint64(value).swap64()),
  };
}
