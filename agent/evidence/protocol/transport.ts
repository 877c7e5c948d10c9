/**
 * Finds the packets of a flow in frames: behind any link header, tags and tunnels that engines decode, fragments put
 * together.
 *
 * Whatever the bytes are, nothing throws; datagrams that are put together are bounded in number and size.
 */
import { MAX_LAYERS, passLayer } from '../../capture/frame/layers.ts';
import { cookedEtherType, linkTypeFromDlt, restOffset } from '../../capture/frame/link.ts';
import { readPlain, type Plain } from '../../capture/frame/plain.ts';
import { behindTag, Protocol } from '../../capture/frame/protocols.ts';
import { byteAt, END, uint16, type Walk } from '../../capture/frame/walk.ts';
import { addressBytes } from '../../endpoints/address.ts';
import type { Address } from '../../engine/alert.ts';
import type { FlowPacket } from '../packet.ts';
import { createPieces, type Pieces } from './pieces.ts';

/** Whose packets are looked for: both directions between two ends. */
export interface FlowKey {
  /** `TCP`, `UDP`, …; of another protocol all packets between the addresses are taken. */
  protocol: string;
  source: Address;
  destination: Address;
}

/** A packet of the flow. */
export interface Transport {
  /** Microseconds since 1970. */
  time: number;
  /** Whether the flow's `source` sent it. */
  fromSource: boolean;
  /** IP protocol. */
  protocol: number;
  /** From the transport's header on, as far as it was captured. */
  bytes: Buffer;
  /** Bytes of it that were on the wire. */
  length: number;
  /** Of its frames, on the wire: one, or one for each fragment. */
  frames: Frames;
}

interface Frames {
  count: number;
  length: number;
}

interface Ip {
  source: Buffer;
  destination: Buffer;
  /** Where its packet ends by its header; maybe behind what was captured. */
  end: number;
}

const NUMBERS = new Map([
  ['TCP', Protocol.tcp],
  ['UDP', Protocol.udp],
]);

const MAX_DATAGRAMS = 64;
const MAX_DATAGRAM_BYTES = 65_535;

/** @returns undefined for a packet of another flow, and for a fragment that completes no datagram. */
export function createTransportReader(flow: FlowKey): (packet: FlowPacket) => Transport | undefined {
  const isOf = matcher(flow);
  const reassembly = createReassembly();

  function find(
    time: number,
    frames: Frames,
    bytes: Buffer,
    walk: Walk,
    start: number,
    around?: Ip,
  ): Transport | undefined {
    let ip = around;
    for (let layer = 0, at = start; layer < MAX_LAYERS && at !== END && at < walk.limit; layer++) {
      ip = ipAt(walk, bytes, at) ?? ip;
      const fragment = ip === undefined ? undefined : fragmentAt(walk, bytes, at, ip);
      if (ip !== undefined && fragment !== undefined) {
        const whole = reassembly(ip, fragment, time, frames);
        if (whole === undefined) return undefined;
        const { bytes: datagram } = whole;
        const within = newWalk(datagram.length, fragment.protocol);
        return find(time, whole.frames, datagram, within, 0, { ...ip, end: datagram.length });
      }
      const fromSource = ip === undefined ? undefined : isOf(ip, walk, bytes, at);
      if (ip !== undefined && fromSource !== undefined)
        return {
          time,
          fromSource,
          protocol: walk.protocol,
          bytes: bytes.subarray(at, Math.min(walk.limit, ip.end)),
          length: ip.end - at,
          frames,
        };
      at = passLayer(walk, bytes, at);
    }
    return undefined;
  }

  const ofPlain = plainMatcher(flow);
  return (packet) => {
    const link = linkTypeFromDlt(packet.linkType);
    if (link === undefined) return undefined;
    if (link === 'ethernet' && ofPlain !== undefined) {
      const { frame } = packet;
      const view = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
      if (readPlain(plain, view, 0, view.length)) return ofPlain(packet, view);
    }
    // A copy: passing a layer may change it.
    const bytes = Buffer.from(packet.frame);
    const frames = { count: 1, length: packet.length };
    if (link === 'ethernet') return find(packet.time, frames, bytes, newWalk(bytes.length, Protocol.ethernet), 0);
    const type = cookedEtherType(bytes, bytes.length, link);
    if (type === 0) return undefined;
    return find(packet.time, frames, bytes, newWalk(bytes.length, behindTag(type)), restOffset(bytes, 0, link));
  };
}

const plain: Plain = { ip: 0, size: 0, source: 0, destination: 0, protocol: 0, transport: 0 };

/** Of frames that `plain` describes, as most are. undefined: the flow is of a protocol that those do not have. */
function plainMatcher(flow: FlowKey): ((packet: FlowPacket, bytes: Buffer) => Transport | undefined) | undefined {
  const { source, destination } = flow;
  const [from, to] = [addressBytes(source.ip), addressBytes(destination.ip)];
  const wanted = NUMBERS.get(flow.protocol.toUpperCase());
  if (from === undefined || to === undefined || wanted === undefined) return undefined;
  return ({ time, length }, bytes) => {
    const { protocol, transport } = plain;
    if (protocol !== wanted) return undefined;
    const fromSource = isBetween(bytes, from, source.port, to, destination.port);
    if (!fromSource && !isBetween(bytes, to, destination.port, from, source.port)) return undefined;
    const end = endOfPlain(bytes);
    return {
      time,
      fromSource,
      protocol,
      bytes: bytes.subarray(transport, Math.min(bytes.length, end)),
      length: end - transport,
      frames: { count: 1, length },
    };
  };
}

function isBetween(bytes: Buffer, a: Buffer, aPort: number | undefined, b: Buffer, bPort: number | undefined): boolean {
  const { size, source, destination, transport } = plain;
  if (a.length !== size || b.length !== size) return false;
  for (let at = 0; at < size; at++) if (bytes[source + at] !== a[at] || bytes[destination + at] !== b[at]) return false;
  const [first, second] = [bytes.readUInt16BE(transport), bytes.readUInt16BE(transport + 2)];
  return (aPort ?? first) === first && (bPort ?? second) === second;
}

/** By its header; the kernel's packets of more than 64 KB have zero there. */
function endOfPlain(bytes: Buffer): number {
  const { ip, size } = plain;
  const length = bytes.readUInt16BE(ip + (size === 4 ? 2 : 4));
  return length === 0 ? bytes.length : ip + length + (size === 4 ? 0 : 40);
}

function newWalk(limit: number, protocol: number): Walk {
  return { limit, vlan: 0, protocol, ipv6End: 0, within: 0 };
}

/** @returns whether the packet at `at` is from the flow's source; undefined: it is of another flow. */
function matcher({
  protocol,
  source,
  destination,
}: FlowKey): (ip: Ip, walk: Walk, bytes: Buffer, at: number) => boolean | undefined {
  const [from, to] = [addressBytes(source.ip), addressBytes(destination.ip)];
  const wanted = NUMBERS.get(protocol.toUpperCase());
  return (ip, walk, bytes, at) => {
    if (from === undefined || to === undefined) return undefined;
    if (wanted === undefined ? isPassed(walk.protocol) : walk.protocol !== wanted) return undefined;
    const [first, second] = wanted === undefined ? [] : [uint16(walk, bytes, at), uint16(walk, bytes, at + 2)];
    const is = (a: Buffer, aPort: number | undefined, b: Buffer, bPort: number | undefined): boolean =>
      ip.source.equals(a) &&
      ip.destination.equals(b) &&
      (first === undefined || ((aPort ?? first) === first && (bPort ?? second) === second));
    if (is(from, source.port, to, destination.port)) return true;
    return is(to, destination.port, from, source.port) ? false : undefined;
  };
}

/** What stands before the transport. */
function isPassed(protocol: number): boolean {
  return protocol >= Protocol.none || EXTENSIONS.has(protocol);
}

const EXTENSIONS: ReadonlySet<number> = new Set([
  Protocol.hopOptions,
  Protocol.destinationOptions,
  Protocol.routing,
  Protocol.mobility,
  Protocol.authentication,
  Protocol.fragment,
  Protocol.ipInIp,
  Protocol.ipv6InIp,
]);

function ipAt(walk: Walk, bytes: Buffer, at: number): Ip | undefined {
  const { protocol, limit } = walk;
  const version = byteAt(walk, bytes, at) >>> 4;
  if ((protocol === Protocol.ipv4 || protocol === Protocol.ipInIp) && version === 4) {
    if (at + 20 > limit) return undefined;
    // Zero: the kernel's packets of more than 64 KB.
    const total = uint16(walk, bytes, at + 2);
    return {
      source: bytes.subarray(at + 12, at + 16),
      destination: bytes.subarray(at + 16, at + 20),
      end: total === 0 ? limit : at + total,
    };
  }
  if ((protocol === Protocol.ipv6 || protocol === Protocol.ipv6InIp) && version === 6) {
    if (at + 40 > limit) return undefined;
    const payload = uint16(walk, bytes, at + 4);
    return {
      source: bytes.subarray(at + 8, at + 24),
      destination: bytes.subarray(at + 24, at + 40),
      end: payload === 0 ? limit : at + 40 + payload,
    };
  }
  return undefined;
}

interface Fragment {
  id: string;
  offset: number;
  isLast: boolean;
  protocol: number;
  bytes: Buffer;
}

function fragmentAt(walk: Walk, bytes: Buffer, at: number, { end }: Ip): Fragment | undefined {
  const { protocol, limit } = walk;
  const until = Math.min(limit, end);
  if (protocol === Protocol.ipv4 || protocol === Protocol.ipInIp) {
    const field = uint16(walk, bytes, at + 6);
    if ((field & 0x3fff) === 0) return undefined;
    return {
      id: `4:${uint16(walk, bytes, at + 4)}:${byteAt(walk, bytes, at + 9)}`,
      offset: (field & 0x1fff) * 8,
      isLast: (field & 0x2000) === 0,
      protocol: byteAt(walk, bytes, at + 9),
      bytes: bytes.subarray(at + (byteAt(walk, bytes, at) & 0x0f) * 4, until),
    };
  }
  if (protocol !== Protocol.fragment) return undefined;
  const field = uint16(walk, bytes, at + 2);
  if ((field & 0xfff9) === 0) return undefined;
  return {
    id: `6:${uint16(walk, bytes, at + 4)}:${uint16(walk, bytes, at + 6)}`,
    offset: field & 0xfff8,
    isLast: (field & 1) === 0,
    protocol: byteAt(walk, bytes, at),
    bytes: bytes.subarray(at + 8, until),
  };
}

interface Datagram {
  pieces: Pieces;
  frames: Frames;
  end?: number;
}

type Whole = { bytes: Buffer; frames: Frames };

/** The oldest datagram that is not whole makes room for a new one. */
function createReassembly(): (ip: Ip, fragment: Fragment, time: number, frames: Frames) => Whole | undefined {
  const datagrams = new Map<string, Datagram>();

  function datagramOf(key: string): Datagram {
    const known = datagrams.get(key);
    if (known !== undefined) return known;
    const [oldest] = datagrams.keys();
    if (datagrams.size >= MAX_DATAGRAMS && oldest !== undefined) datagrams.delete(oldest);
    const datagram = { pieces: createPieces(MAX_DATAGRAM_BYTES), frames: { count: 0, length: 0 } };
    datagrams.set(key, datagram);
    return datagram;
  }

  return (ip, fragment, time, frames) => {
    const key = `${ip.source.toString('hex')}${ip.destination.toString('hex')}${fragment.id}`;
    const datagram = datagramOf(key);
    datagram.pieces.add(fragment.offset, fragment.bytes, time);
    datagram.frames.count += frames.count;
    datagram.frames.length += frames.length;
    if (fragment.isLast) datagram.end = fragment.offset + fragment.bytes.length;
    if (datagram.end === undefined || datagram.pieces.size < datagram.end) return undefined;
    // With a gap there are bytes behind its end: it is never whole.
    datagrams.delete(key);
    const [run] = datagram.pieces.runs();
    const isWhole = run?.offset === 0 && run.bytes.length >= datagram.end;
    return isWhole ? { bytes: run.bytes.subarray(0, datagram.end), frames: datagram.frames } : undefined;
  };
}
