/** QUIC's Initial packets (RFC 9000, 17.2.2): the handshake of TLS in them. */
import type { TlsFacts } from '../../events/app.ts';
import type { Conversation, Datagram } from './conversation.ts';
import { cursorOf, untilCut, type Cursor } from './cursor.ts';
import { createPieces, type Pieces } from './pieces.ts';
import {
  headerMask,
  initialKeys,
  openPacket,
  quicVersion,
  SAMPLE_BYTES,
  TAG_BYTES,
  type InitialKeys,
} from './quic-keys.ts';
import { clientFacts, serverFacts } from './tls.ts';
import { readHandshakes, type Handshake } from './tls-records.ts';

const LONG_HEADER = 0xc0;
const MAX_CONNECTION_ID = 20;
/** Datagrams of a side that are looked into, and packets of one. */
const MAX_DATAGRAMS = 16;
const MAX_PACKETS = 8;
const MAX_HANDSHAKE = 64 << 10;
const MAX_FRAMES = 512;
const FRAME = { padding: 0, ping: 1, ack: 2, ackEcn: 3, crypto: 6 } as const;

interface Initial {
  version: number;
  connection: Buffer;
  /** From its first byte on; its length ends it. */
  packet: Buffer;
  /** Where the packet's number begins, of which the length is still hidden. */
  numberAt: number;
}

export function isQuic({ transport, client, server }: Conversation): boolean {
  const first = client.datagrams[0] ?? server.datagrams[0];
  return transport === 'udp' && first !== undefined && initialsOf(first).length > 0;
}

export function quicFacts({ client, server }: Conversation): TlsFacts | undefined {
  const sent = client.datagrams.slice(0, MAX_DATAGRAMS).flatMap(initialsOf);
  const [first] = sent;
  const version = first === undefined ? undefined : quicVersion(first.version);
  if (first === undefined || version === undefined) return undefined;
  const asked = readHandshake(sent, (initial) => [
    initialKeys(version, first.connection, 'client'),
    // Behind a Retry, which gives a connection another id.
    initialKeys(version, initial.connection, 'client'),
  ]);
  const retried = [...new Map(sent.map(({ connection }) => [connection.toString('hex'), connection])).values()];
  const answered = readHandshake(server.datagrams.slice(0, MAX_DATAGRAMS).flatMap(initialsOf), () =>
    retried.slice(0, 2).map((connection) => initialKeys(version, connection, 'server')),
  );
  return { ...clientFacts(asked, 'udp'), ...serverFacts(answered) };
}

/** Packets of one datagram may follow each other. */
function initialsOf({ bytes }: Datagram): Initial[] {
  const initials: Initial[] = [];
  const cursor = cursorOf(bytes);
  untilCut(() => {
    for (let packets = 0; packets < MAX_PACKETS && cursor.left > 0; packets++) {
      const start = bytes.length - cursor.left;
      const first = cursor.u8();
      if ((first & LONG_HEADER) !== LONG_HEADER) return;
      const version = cursor.u32();
      const known = quicVersion(version);
      const connection = cursor.vector(1);
      cursor.vector(1);
      if (known === undefined || connection.length > MAX_CONNECTION_ID) return;
      const isInitial = ((first >>> 4) & 0x03) === known.initial;
      if (isInitial) cursor.take(varint(cursor));
      const length = varint(cursor);
      const numberAt = bytes.length - cursor.left - start;
      cursor.take(length);
      const packet = bytes.subarray(start, bytes.length - cursor.left);
      if (isInitial) initials.push({ version, connection, packet, numberAt });
    }
  });
  return initials;
}

/** RFC 9000, 16. */
function varint(cursor: Cursor): number {
  const first = cursor.u8();
  let value = first & 0x3f;
  for (let bytes = (1 << (first >>> 6)) - 1; bytes > 0; bytes--) value = value * 256 + cursor.u8();
  return value;
}

function readHandshake(initials: readonly Initial[], keysOf: (initial: Initial) => InitialKeys[]): Handshake[] {
  const stream = createPieces(MAX_HANDSHAKE);
  for (const initial of initials) {
    for (const keys of keysOf(initial)) {
      const payload = opened(initial, keys);
      if (payload === undefined) continue;
      untilCut(() => readFrames(cursorOf(payload), stream));
      break;
    }
  }
  const [run] = stream.runs();
  return run?.offset === 0 ? readHandshakes(run.bytes) : [];
}

/** RFC 9001, 5.3 and 5.4. */
function opened({ packet, numberAt }: Initial, keys: InitialKeys): Buffer | undefined {
  const sample = packet.subarray(numberAt + 4, numberAt + 4 + SAMPLE_BYTES);
  if (sample.length < SAMPLE_BYTES) return undefined;
  const mask = headerMask(keys, sample);
  const first = packet.readUInt8(0) ^ (mask.readUInt8(0) & 0x0f);
  const length = (first & 0x03) + 1;
  const header = Buffer.from(packet.subarray(0, numberAt + length));
  header.writeUInt8(first, 0);
  for (let index = 0; index < length; index++)
    header.writeUInt8(header.readUInt8(numberAt + index) ^ mask.readUInt8(1 + index), numberAt + index);
  const sealed = packet.subarray(header.length);
  if (sealed.length <= TAG_BYTES) return undefined;
  try {
    return openPacket(keys, header.readUIntBE(numberAt, length), header, sealed);
  } catch {
    // Of another connection's keys.
    return undefined;
  }
}

/** @throws CutShort. */
function readFrames(cursor: Cursor, stream: Pieces): void {
  for (let frames = 0; cursor.left > 0 && frames < MAX_FRAMES;) {
    const type = cursor.u8();
    if (type === FRAME.padding) continue;
    frames++;
    if (type === FRAME.ping) continue;
    if (type === FRAME.crypto) {
      const offset = varint(cursor);
      const data = cursor.take(varint(cursor));
      if (offset < MAX_HANDSHAKE) stream.add(offset, data, 0);
    } else if (type === FRAME.ack || type === FRAME.ackEcn) {
      passAck(cursor, type);
    } else return;
  }
}

function passAck(cursor: Cursor, type: number): void {
  varint(cursor);
  varint(cursor);
  const ranges = varint(cursor);
  for (let field = 0; field < 1 + 2 * ranges + (type === FRAME.ackEcn ? 3 : 0); field++) varint(cursor);
}
