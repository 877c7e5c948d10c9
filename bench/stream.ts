/**
 * A TCP conversation between two pods of one node as their kernels hand it over: large sends leave in one frame (GSO),
 * the receiver acknowledges one or two large frames at a time, and what is small is acknowledged by the next segment.
 * Both ends have timestamps and scaled windows.
 *
 * Not here: losses, reordering, retransmissions, delayed acknowledgements.
 */
import { ethernet, tcpPacket, CLIENT_MAC, SERVER_MAC, type Frame, type Turn } from '../test/support/packets.ts';

export interface StreamOptions {
  client: string;
  server: string;
  clientPort: number;
  serverPort: number;
  exchange: Turn[];
  /** The most data bytes of the next frame, up to 45 MSS. */
  segment: () => number;
  /** Below the number: decides when the receiver acknowledges. */
  random: (below: number) => number;
  clientSequence: number;
  serverSequence: number;
}

/** What a segment carries on Ethernet; frames that carry more were not cut yet. */
export const MSS = 1_448;
/** As Linux offers them: 1 MiB by the scale of 128, and what the first packets say without one. */
const WINDOW = 8_192;
const FIRST_WINDOW = 64_240;
/** An MSS of 1,460, of which timestamps take 12; selective acknowledgements. */
const FIRST_OPTIONS = Buffer.from([2, 4, 0x05, 0xb4, 4, 2]);
const SCALE_OPTION = Buffer.from([1, 3, 3, 7]);
const PADDING = Buffer.from([1, 1]);

/** Its frames in order; times are whoever sends them to give. It begins with SYN and ends with both sides' FIN. */
export function* tcpStream(options: StreamOptions): Generator<Frame> {
  const { client, server, clientPort, serverPort, exchange, segment, random } = options;
  const sides = {
    client: { ip: client, port: clientPort, mac: CLIENT_MAC, next: options.clientSequence, clock: 0x1000_0000 },
    server: { ip: server, port: serverPort, mac: SERVER_MAC, next: options.serverSequence, clock: 0x2000_0000 },
  };
  let id = 0;

  function frame(from: Turn['from'], flags: string, payload: Buffer): Frame {
    const own = sides[from];
    const other = sides[peer(from)];
    own.clock++;
    const isFirst = flags.includes('S');
    const packet = tcpPacket({
      source: own.ip,
      destination: other.ip,
      sourcePort: own.port,
      destinationPort: other.port,
      id: (id = (id + 1) & 0xffff),
      flags,
      sequence: own.next,
      acknowledgement: flags.includes('A') ? other.next : 0,
      window: isFirst ? FIRST_WINDOW : WINDOW,
      options: isFirst
        ? Buffer.concat([FIRST_OPTIONS, timestamps(own.clock, flags === 'S' ? 0 : other.clock), SCALE_OPTION])
        : Buffer.concat([PADDING, timestamps(own.clock, other.clock)]),
      payload,
    });
    own.next += payload.length + (/[SF]/.test(flags) ? 1 : 0);
    return { timeMicros: 0, data: ethernet(packet, { source: own.mac, destination: other.mac }) };
  }
  const bare = (from: Turn['from'], flags: string): Frame => frame(from, flags, Buffer.alloc(0));

  yield bare('client', 'S');
  yield bare('server', 'SA');
  yield bare('client', 'A');
  for (const { from, data } of exchange) {
    const stream = typeof data === 'string' ? Buffer.from(data) : data;
    let unacknowledged = 0;
    for (let at = 0; at < stream.length;) {
      const part = stream.subarray(at, at + segment());
      at += part.length;
      yield frame(from, at < stream.length ? 'A' : 'PA', part);
      if (part.length > MSS) unacknowledged++;
      if (unacknowledged === 0 || (at < stream.length && unacknowledged <= random(2))) continue;
      yield bare(peer(from), 'A');
      unacknowledged = 0;
    }
  }
  yield bare('client', 'FA');
  yield bare('server', 'FA');
  yield bare('client', 'A');
}

function peer(side: Turn['from']): Turn['from'] {
  return side === 'client' ? 'server' : 'client';
}

function timestamps(own: number, other: number): Buffer {
  const option = Buffer.from([8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
  option.writeUInt32BE(own, 2);
  option.writeUInt32BE(other, 6);
  return option;
}
