/** A shunt over frames, and the streams that an engine makes of what comes out of it. */
import { expect } from '@jest/globals';
import { createShunt, SHUNT_PROTOCOLS, type Shunt, type ShuntSettings } from '../../../agent/capture/shunt/shunt.ts';
import type { Verdict } from '../../../agent/capture/shunt/state.ts';
import { DEFAULT_START_MICROS, ethernet, tcpPacket, type Frame, type TcpOptions } from '../../support/packets.ts';

export const VLAN = 7;
const GUARD = 64;
const GUARDED = Buffer.alloc(GUARD, 0xee);
const SECONDS = Math.floor(DEFAULT_START_MICROS / 1e6);

export interface Looked {
  verdict: Verdict;
  protocol: string;
  /** Bytes taken away. */
  bytes: number;
  /** The frame as it is forwarded; undefined: it is not. */
  frame: Frame | undefined;
}

export interface Harness {
  shunt: Shunt;
  look: (frame: Frame, vlan?: number) => Looked;
  /** What is forwarded of frames. */
  pass: (frames: Frame[], vlan?: number) => Frame[];
}

/** Each look is at a copy between guards, which must stay as they are. */
export function createHarness(settings: Partial<ShuntSettings> = {}): Harness {
  const shunt = createShunt({ firstBytes: 65_536, flows: 1024, ...settings });
  const look = (frame: Frame, vlan = VLAN): Looked => {
    const { data, timeMicros, originalLength = data.length } = frame;
    const arena = Buffer.alloc(data.length + 2 * GUARD, 0xee);
    data.copy(arena, GUARD);
    const ip = 14 + 4 * tags(data);
    const verdict = shunt.look(arena, GUARD, ip, data.length, originalLength, vlan, Math.floor(timeMicros / 1e6));
    const isWithin = shunt.start >= GUARD && shunt.start + shunt.captured <= GUARD + data.length;
    const isGuarded = GUARDED.equals(arena.subarray(0, GUARD)) && GUARDED.equals(arena.subarray(GUARD + data.length));
    const isUncut = shunt.captured === data.length && shunt.length === originalLength;
    const away = { forward: 0, trimmed: originalLength - shunt.length, shunted: originalLength }[verdict];
    if (!isWithin || !isGuarded || isUncut !== (verdict !== 'trimmed') || shunt.bytes !== away) {
      throw new Error(`${verdict}: ${JSON.stringify({ isWithin, isGuarded, isUncut, away, shunt })}`);
    }
    const kept = { ...frame, data: Buffer.from(arena.subarray(shunt.start, shunt.start + shunt.captured)) };
    return {
      verdict,
      protocol: SHUNT_PROTOCOLS[shunt.protocol] ?? '',
      bytes: shunt.bytes,
      frame: verdict === 'shunted' ? undefined : kept,
    };
  };
  return {
    shunt,
    look,
    pass: (frames, vlan) => frames.flatMap((frame) => look(frame, vlan).frame ?? []),
  };
}

function tags(data: Buffer): number {
  let count = 0;
  while (data.length > 16 + 4 * count && data.readUInt16BE(12 + 4 * count) === 0x8100) count++;
  return count;
}

// --- TCP ------------------------------------------------------------------------------------------------------------

export type Side = 'client' | 'server';

export interface Segment {
  side: Side;
  sequence: number;
  acknowledgement: number;
  flags: number;
  payload: Buffer;
}

/** A frame's TCP segment, by the lengths that its IP header tells. The client has the higher port. */
export function segmentOf({ data }: Frame): Segment {
  const ip = 14 + 4 * tags(data);
  const isV6 = data.readUInt8(ip) >> 4 === 6;
  const transport = isV6 ? ip + 40 : ip + (data.readUInt8(ip) & 15) * 4;
  const end = isV6 ? ip + 40 + data.readUInt16BE(ip + 4) : ip + data.readUInt16BE(ip + 2);
  if (end > data.length) throw new RangeError(`a frame of ${data.length} bytes claims ${end}`);
  return {
    side: data.readUInt16BE(transport) > data.readUInt16BE(transport + 2) ? 'client' : 'server',
    sequence: data.readUInt32BE(transport + 4),
    acknowledgement: data.readUInt32BE(transport + 8),
    flags: data.readUInt8(transport + 13),
    payload: data.subarray(transport + (data.readUInt8(transport + 12) >> 4) * 4, end),
  };
}

export interface Streams {
  client: Buffer;
  server: Buffer;
}

/**
 * The streams of one connection from its SYNs on. Fails where they have a gap, where two segments disagree about a
 * byte, and where an acknowledgement is beyond what was sent, when `acknowledged`.
 */
export function streamsOf(frames: Frame[], acknowledged = true): Streams {
  const segments = frames.map(segmentOf);
  const synOf = (side: Side): Segment | undefined =>
    segments.find((each) => each.side === side && (each.flags & 2) !== 0);
  const stream = (side: Side): Buffer => {
    const own = segments.filter((segment) => segment.side === side);
    const first = synOf(side);
    if (first === undefined) return Buffer.alloc(0);
    const behind = own.map(({ sequence, payload }) => ((sequence - first.sequence - 1) | 0) + payload.length);
    const bytes = Buffer.alloc(Math.max(0, ...behind));
    const filled = new Uint8Array(bytes.length);
    for (const { sequence, payload, flags } of own) {
      if ((flags & 2) !== 0) continue;
      const from = (sequence - first.sequence - 1) | 0;
      for (let index = 0; index < payload.length; index++) {
        if (filled[from + index] === 1 && bytes[from + index] !== payload[index]) {
          throw new Error(`two segments of the ${side} disagree about byte ${from + index}`);
        }
      }
      payload.copy(bytes, from);
      filled.fill(1, from, from + payload.length);
    }
    if (filled.includes(0)) throw new Error(`the stream of the ${side} has a gap at ${filled.indexOf(0)}`);
    return bytes;
  };
  const streams = { client: stream('client'), server: stream('server') };
  if (acknowledged) {
    for (const { side, acknowledgement, flags } of segments) {
      const peer = side === 'client' ? 'server' : 'client';
      const syn = synOf(peer);
      // SYN and FIN count as a byte each.
      const beyond = syn === undefined ? 0 : (acknowledgement - syn.sequence - 2 - streams[peer].length) | 0;
      if ((flags & 0x10) !== 0 && beyond > 0) throw new Error(`the ${side} acknowledges ${beyond} bytes too many`);
    }
  }
  return streams;
}

export const CLIENT = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 40_000, destinationPort: 443 };
export const SERVER = { source: '10.0.0.2', destination: '10.0.0.1', sourcePort: 443, destinationPort: 40_000 };

export type SegmentOptions = Partial<Omit<TcpOptions, 'source' | 'destination'>> & { seconds?: number };

/** A frame of a connection between CLIENT and SERVER; a segment with payload pushes, one without acknowledges. */
export function segmentFrame(side: Side, options: SegmentOptions): Frame {
  const ends = side === 'client' ? CLIENT : SERVER;
  const { payload = '', seconds = 0 } = options;
  const packet = tcpPacket({ flags: payload.length > 0 ? 'PA' : 'A', ...ends, ...options });
  return { timeMicros: (SECONDS + seconds) * 1e6, data: ethernet(packet) };
}

const CLIENT_PORT_AT = 34;
const SERVER_PORT_AT = 36;

/** Frames that `segmentFrame` made, between other ports: changed where they are. */
export function betweenPorts(frames: Frame[], clientPort: number, serverPort: number): Frame[] {
  for (const { data } of frames) {
    const isClient = data.readUInt16BE(SERVER_PORT_AT) === CLIENT.destinationPort;
    data.writeUInt16BE(clientPort, isClient ? CLIENT_PORT_AT : SERVER_PORT_AT);
    data.writeUInt16BE(serverPort, isClient ? SERVER_PORT_AT : CLIENT_PORT_AT);
  }
  return frames;
}

// --- TLS ------------------------------------------------------------------------------------------------------------

export interface Record {
  type: number;
  /** Header and body. */
  bytes: Buffer;
}

export function record(type: number, body: Buffer, version = 0x0303): Buffer {
  const header = Buffer.from([type, version >> 8, version & 0xff, 0, 0]);
  header.writeUInt16BE(body.length, 3);
  return Buffer.concat([header, body]);
}

/** Whole records; what is left behind them is one of type -1. */
export function recordsOf(stream: Buffer): Record[] {
  const records: Record[] = [];
  let at = 0;
  while (at + 5 <= stream.length && at + 5 + stream.readUInt16BE(at + 3) <= stream.length) {
    const end = at + 5 + stream.readUInt16BE(at + 3);
    records.push({ type: stream.readUInt8(at), bytes: stream.subarray(at, end) });
    at = end;
  }
  if (at < stream.length) records.push({ type: -1, bytes: stream.subarray(at) });
  return records;
}

/**
 * Fails unless `kept` has the records of `original` but for whole ones of type 23.
 * @returns Bytes of those that are missing.
 */
export function expectOnlyDataMissing(original: Buffer, kept: Buffer): number {
  const rest = recordsOf(kept);
  let missing = 0;
  for (const { type, bytes } of recordsOf(original)) {
    if (rest[0]?.bytes.equals(bytes)) rest.shift();
    else if (type === 23) missing += bytes.length;
    else throw new Error(`a record of type ${type} is missing or changed; next is one of type ${rest[0]?.type}`);
  }
  expect(rest).toEqual([]);
  return missing;
}

/** Bytes like ciphertext, the same for the same seed; the first one is no ASCII. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2_654_435_761;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bytes[index] = state >>> 24;
  }
  for (let index = 0; index < length; index += 16) bytes[index] = (bytes[index] ?? 0) | 0x80;
  return bytes;
}

export const CLIENT_HELLO = record(22, Buffer.concat([Buffer.from([1, 0, 0, 60, 3, 3]), noise(58)]), 0x0301);

export function serverHello(options: { version13?: boolean; suite?: number } = {}): Buffer {
  const { version13 = true, suite = version13 ? 0x1301 : 0xc02f } = options;
  const extensions = version13 ? [0, 6, 0, 43, 0, 2, 3, 4] : [0, 0];
  const rest = [32, ...noise(32, 3), suite >> 8, suite & 0xff, 0, ...extensions];
  return record(22, Buffer.from([2, 0, 0, 34 + rest.length, 3, 3, ...noise(32, 2), ...rest]));
}

export const CHANGE_CIPHER_SPEC = record(20, Buffer.from([1]));
export const dataRecord = (length: number, seed = length): Buffer => record(23, noise(length, seed));
export const alertRecord = (): Buffer => record(21, noise(26, 9));
export const heartbeatRecord = (): Buffer => record(24, noise(40, 8));

// --- Connections ----------------------------------------------------------------------------------------------------

export interface Conversation {
  frames: Frame[];
  /** Sends bytes in segments of the sizes given, the last one again and again; the peer acknowledges each. */
  send(side: Side, bytes: Buffer, sizes?: number[]): void;
  /**
   * Delivers parts [from, to) of bytes in any order, also again; all must be among them. The peer acknowledges what it
   * has without a gap.
   */
  deliver(side: Side, bytes: Buffer, parts: [from: number, to: number][]): void;
  /** A frame as `segmentFrame` makes it, with the numbers as they are now. */
  frame(side: Side, options?: SegmentOptions): Frame;
  next: { client: number; server: number };
}

/** With both SYNs and the ACK. */
export function converse(clientSequence = 1000, serverSequence = 5000): Conversation {
  const next = { client: clientSequence, server: serverSequence };
  const frames: Frame[] = [];
  const frame = (side: Side, options: SegmentOptions = {}): Frame =>
    segmentFrame(side, {
      sequence: next[side],
      acknowledgement: next[side === 'client' ? 'server' : 'client'],
      ...options,
    });
  frames.push(frame('client', { flags: 'S', acknowledgement: 0 }));
  next.client = (next.client + 1) >>> 0;
  frames.push(frame('server', { flags: 'SA' }));
  next.server = (next.server + 1) >>> 0;
  frames.push(frame('client'));
  const conversation: Conversation = {
    frames,
    next,
    frame,
    send(side, bytes, sizes = [60_000]) {
      const parts: [number, number][] = [];
      for (let at = 0; at < bytes.length;) {
        const to = Math.min(bytes.length, at + (sizes[Math.min(parts.length, sizes.length - 1)] ?? bytes.length));
        parts.push([at, to]);
        at = to;
      }
      conversation.deliver(side, bytes, parts);
    },
    deliver(side, bytes, parts) {
      const first = next[side];
      const peer = side === 'client' ? 'server' : 'client';
      const have = new Uint8Array(bytes.length);
      let contiguous = 0;
      for (const [from, to] of parts) {
        frames.push(frame(side, { sequence: (first + from) >>> 0, payload: bytes.subarray(from, to) }));
        have.fill(1, from, to);
        while (have[contiguous] === 1) contiguous++;
        next[side] = (first + contiguous) >>> 0;
        frames.push(frame(peer));
      }
      expect(contiguous).toBe(bytes.length);
    },
  };
  return conversation;
}

/** Through a handshake of TLS 1.3 or 1.2, with `early` bytes of data of each side behind it. */
export function shaken({ version13 = true, sequence = 1000 } = {}): Conversation {
  const conversation = converse(sequence);
  conversation.send('client', CLIENT_HELLO);
  conversation.send('server', serverHello({ version13 }));
  if (!version13) {
    conversation.send('client', Buffer.concat([CHANGE_CIPHER_SPEC, record(22, noise(40))]));
    conversation.send('server', Buffer.concat([CHANGE_CIPHER_SPEC, record(22, noise(40))]));
  }
  return conversation;
}
