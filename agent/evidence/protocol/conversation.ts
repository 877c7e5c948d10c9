/**
 * Both directions of a flow: who asked, what each side sent, and how it ended.
 *
 * What is kept of each side is bounded; what is counted is not.
 */
import type { Traffic } from '../../events/app.ts';
import { Protocol } from '../../capture/frame/protocols.ts';
import type { FlowPacket } from '../packet.ts';
import { createPieces, type Pieces, type Run } from './pieces.ts';
import { createTransportReader, type FlowKey, type Transport } from './transport.ts';

/** Of a side's bytes. */
const MAX_STREAM_BYTES = 1 << 20;
const MAX_DATAGRAMS = 1_024;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

export interface Datagram {
  time: number;
  bytes: Buffer;
}

export interface Side {
  /** What it sent over TCP. */
  runs: readonly Run[];
  /** What it sent over UDP. */
  datagrams: readonly Datagram[];
  /** Bytes of payload on the wire, retransmissions included. */
  sent: number;
  /** Microseconds since 1970, of its first payload. */
  firstPayload?: number;
  opened: boolean;
  ended: boolean;
  reset: boolean;
}

export interface Conversation {
  transport: 'tcp' | 'udp' | 'other';
  client: Side;
  server: Side;
  /** Whether the flow's `source` is the client. */
  sourceIsClient: boolean;
  serverPort: number | undefined;
  /** Its first packets are there. */
  hasBeginning: boolean;
  traffic: Traffic;
}

/** While it is read. */
interface Sender {
  pieces: Pieces;
  datagrams: Datagram[];
  /** Sequence number of the first byte of the stream, and of the packet met last; TCP. */
  base?: number;
  last: number;
  lastOffset: number;
  sent: number;
  firstPayload?: number;
  syn: boolean;
  synAck: boolean;
  fin: boolean;
  rst: boolean;
  packets: number;
  bytes: number;
}

/** @param allocate Memory for the bytes of a side. */
export function readConversation(
  packets: readonly FlowPacket[],
  flow: FlowKey,
  allocate: (bytes: number) => Buffer,
): Conversation {
  const read = createTransportReader(flow);
  const source = newSender();
  const destination = newSender();
  let first: Transport | undefined;
  let last = 0;
  for (const packet of packets) {
    const found = read(packet);
    if (found === undefined) continue;
    first ??= found;
    last = Math.max(last, found.time);
    take(found.fromSource ? source : destination, found);
  }
  const sourceIsClient = isSourceClient(flow, source, destination, first);
  const [client, server] = sourceIsClient ? [source, destination] : [destination, source];
  return {
    transport: transportOf(flow),
    client: sideOf(client, allocate),
    server: sideOf(server, allocate),
    sourceIsClient,
    serverPort: (sourceIsClient ? flow.destination : flow.source).port,
    hasBeginning: transportOf(flow) === 'tcp' ? client.syn || server.synAck : first !== undefined,
    traffic: {
      ...(sourceIsClient ? {} : { from_server: true }),
      packets_to_server: client.packets,
      packets_to_client: server.packets,
      bytes_to_server: client.bytes,
      bytes_to_client: server.bytes,
      duration_us: first === undefined ? 0 : Math.max(0, last - first.time),
      ...answerTime(client, server),
    },
  };
}

function transportOf({ protocol }: FlowKey): Conversation['transport'] {
  const name = protocol.toLowerCase();
  return name === 'tcp' || name === 'udp' ? name : 'other';
}

function answerTime({ firstPayload: asked }: Sender, { firstPayload: answered }: Sender): { answer_us?: number } {
  return asked === undefined || answered === undefined || answered < asked ? {} : { answer_us: answered - asked };
}

function newSender(): Sender {
  return {
    pieces: createPieces(MAX_STREAM_BYTES),
    datagrams: [],
    last: 0,
    lastOffset: 0,
    sent: 0,
    syn: false,
    synAck: false,
    fin: false,
    rst: false,
    packets: 0,
    bytes: 0,
  };
}

function sideOf(sender: Sender, allocate: (bytes: number) => Buffer): Side {
  return {
    runs: sender.pieces.runs(allocate),
    datagrams: sender.datagrams,
    sent: sender.sent,
    ...(sender.firstPayload === undefined ? {} : { firstPayload: sender.firstPayload }),
    opened: sender.syn || sender.synAck,
    ended: sender.fin,
    reset: sender.rst,
  };
}

function take(sender: Sender, found: Transport): void {
  sender.packets += found.frames.count;
  sender.bytes += found.frames.length;
  if (found.protocol === Protocol.tcp) takeSegment(sender, found);
  else if (found.protocol === Protocol.udp) takeDatagram(sender, found);
}

function takeSegment(sender: Sender, { bytes, length, time }: Transport): void {
  if (bytes.length < TCP_HEADER) return;
  const sequence = bytes.readInt32BE(4);
  const header = (bytes.readUInt8(12) >>> 4) * 4;
  const flags = bytes.readUInt8(13);
  if ((flags & FIN) !== 0) sender.fin = true;
  if ((flags & RST) !== 0) sender.rst = true;
  if ((flags & SYN) !== 0) {
    if ((flags & ACK) === 0) sender.syn = true;
    else sender.synAck = true;
    beginAt(sender, (sequence + 1) | 0);
    return;
  }
  if (header < TCP_HEADER || length <= header) return;
  countPayload(sender, length - header, time);
  if (sender.base === undefined) beginAt(sender, sequence);
  // Differences of sequence numbers (RFC 9293, 3.4): streams may be longer than they count.
  const offset = sender.lastOffset + ((sequence - sender.last) | 0);
  sender.last = sequence;
  sender.lastOffset = offset;
  if (bytes.length > header && (flags & RST) === 0) sender.pieces.add(offset, bytes.subarray(header), time);
}

function beginAt(sender: Sender, sequence: number): void {
  if (sender.base !== undefined) return;
  sender.base = sender.last = sequence;
  sender.lastOffset = 0;
}

function takeDatagram(sender: Sender, { bytes, length, time }: Transport): void {
  if (bytes.length < UDP_HEADER) return;
  countPayload(sender, length - UDP_HEADER, time);
  const stated = bytes.readUInt16BE(4);
  const end = stated < UDP_HEADER ? bytes.length : Math.min(stated, bytes.length);
  if (sender.datagrams.length < MAX_DATAGRAMS) sender.datagrams.push({ time, bytes: bytes.subarray(UDP_HEADER, end) });
}

function countPayload(sender: Sender, length: number, time: number): void {
  sender.sent += length;
  if (length > 0) sender.firstPayload ??= time;
}

/** Who opened the connection; else who has the higher port, as clients have; else who sent first. */
function isSourceClient(flow: FlowKey, source: Sender, destination: Sender, first: Transport | undefined): boolean {
  if (source.syn !== destination.syn) return source.syn;
  if (source.synAck !== destination.synAck) return destination.synAck;
  const [from = 0, to = 0] = [flow.source.port, flow.destination.port];
  if (from < 1_024 !== to < 1_024) return to < 1_024;
  return first?.fromSource ?? true;
}
