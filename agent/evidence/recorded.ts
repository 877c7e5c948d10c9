/**
 * The packets of flows in a capture file: what the capture's memory is to live packets. Flows are asked for, then the
 * file is read once for all of them.
 *
 * Bounded: of each flow its beginning, what led to its alert and what followed, together at most what was asked for.
 */
import { addressBytes } from '../endpoints/address.ts';
import type { AskedPacket, AskedPackets } from '../capture/packet-queries.ts';
import { linkTypeFromDlt } from '../capture/frame/link.ts';
import type { FlowEnds, PacketQuery } from '../capture/protocol.ts';
import { openingOf } from './connection.ts';
import { createLayer, firstLayer, readLayer, type Layer } from '../capture/recent/layers.ts';
import { readChunks } from '../replay/chunks.ts';
import { createPcapParser } from '../replay/pcap-file.ts';

/** Of a flow, at a time. */
const MAX_DATAGRAMS = 64;

export interface RecordedPackets {
  /** Resolves once the file was read. */
  packetsOf: (query: Omit<PacketQuery, 'query'>) => Promise<AskedPackets>;
  /** Reads the file for those that were asked for. @throws the system's error, and the signal's reason. */
  read(file: string, signal: AbortSignal): Promise<void>;
}

/** A flow that is looked for. */
interface Wanted {
  readonly query: Omit<PacketQuery, 'query'>;
  /** The bytes of its source's address. */
  readonly source: string;
  /** Parts of what is kept: up to a half is the beginning, the others a quarter each. */
  readonly beginning: Part;
  readonly before: Part;
  readonly after: Part;
  /** Of datagrams whose first fragment is of the flow. */
  readonly datagrams: number[];
  /** The sequence number that its connection began with, as far as it was seen. */
  opening: number | undefined;
  /** Another connection of these ends has begun after the alert. */
  hasEnded: boolean;
  /** Some were left out. */
  skipped: boolean;
  readonly resolve: (asked: AskedPackets) => void;
}

interface Part {
  packets: AskedPacket[];
  bytes: number;
  readonly maxPackets: number;
  readonly maxBytes: number;
}

/** By ends: those with ports, without, and of any protocol. */
type Wants = Map<string, Wanted[]>;

export function createRecordedPackets(): RecordedPackets {
  let wants: Wants = new Map();
  return {
    packetsOf: (query) =>
      new Promise((resolve) => {
        const key = keyOfEnds(query.flow);
        const wanted: Wanted = {
          query,
          source: addressBytes(query.flow.source)?.toString('latin1') ?? '',
          beginning: part(query, 2),
          before: part(query, 4),
          after: part(query, 4),
          datagrams: [],
          opening: undefined,
          hasEnded: false,
          skipped: false,
          resolve,
        };
        if (key === undefined) end(wanted);
        else wants.set(key, [...(wants.get(key) ?? []), wanted]);
      }),
    async read(file, signal) {
      const reading = wants;
      wants = new Map();
      try {
        if (reading.size > 0) await readFile(file, signal, reading);
      } finally {
        for (const wanted of [...reading.values()].flat()) end(wanted);
      }
    },
  };
}

function part({ packets, bytes }: Omit<PacketQuery, 'query'>, share: number): Part {
  return { packets: [], bytes: 0, maxPackets: Math.ceil(packets / share), maxBytes: Math.ceil(bytes / share) };
}

function end({ beginning, before, after, skipped, resolve }: Wanted): void {
  const packets = [...beginning.packets, ...before.packets, ...after.packets];
  resolve({ packets, by: skipped ? 'limit' : 'flow', skipped, lost: false, release: () => undefined });
}

async function readFile(file: string, signal: AbortSignal, wants: Wants): Promise<void> {
  const layer = createLayer();
  const parser = createPcapParser((seconds, micros, captured, length, linkType, buffer, start) => {
    const link = linkTypeFromDlt(linkType);
    if (link === undefined) return;
    const until = start + captured;
    let at = firstLayer(buffer, start, until, link);
    while (at >= 0 && readLayer(layer, buffer, at, until)) {
      for (const wanted of wantedBy(wants, buffer, layer)) {
        if (!isOf(wanted, layer)) continue;
        const frame = Buffer.from(buffer.subarray(start, until));
        keep(wanted, { time: seconds * 1e6 + micros, frame, length, linkType });
      }
      at = layer.inner;
    }
  });
  for await (const chunk of await readChunks(file, signal)) if (!parser.push(chunk)) break;
}

/** A packet is kept once, though it be a tunnel of its own ends. */
function keep(wanted: Wanted, packet: AskedPacket): void {
  const { beginning, before, after, query } = wanted;
  noteOpening(wanted, packet);
  if (wanted.hasEnded) return;
  const last = after.packets.at(-1) ?? before.packets.at(-1) ?? beginning.packets.at(-1);
  if (last?.time === packet.time && last.frame.equals(packet.frame)) return;
  if (before.packets.length + after.packets.length === 0 && !wanted.skipped && put(beginning, packet)) return;
  if (packet.time > query.time) {
    if (!put(after, packet)) wanted.skipped = true;
    return;
  }
  while (!put(before, packet) && before.packets.length > 0) {
    before.bytes -= before.packets.shift()?.frame.length ?? 0;
    wanted.skipped = true;
  }
}

/** Ports are used again: only the connection that alerted is kept. What is sent again has the same number. */
function noteOpening(wanted: Wanted, packet: AskedPacket): void {
  const opening = openingOf(packet);
  if (opening === undefined || opening === wanted.opening) return;
  if (packet.time > wanted.query.time) {
    wanted.hasEnded = true;
    return;
  }
  wanted.opening = opening;
  for (const each of [wanted.beginning, wanted.before]) {
    each.packets = [];
    each.bytes = 0;
  }
  wanted.skipped = false;
}

/** @returns whether there was room. */
function put(to: Part, packet: AskedPacket): boolean {
  if (to.packets.length >= to.maxPackets || to.bytes + packet.frame.length > to.maxBytes) return false;
  to.packets.push(packet);
  to.bytes += packet.frame.length;
  return true;
}

// --- Ends ------------------------------------------------------------------------------------------------------------

const NONE: readonly Wanted[] = [];

function wantedBy(wants: Wants, bytes: Buffer, layer: Layer): readonly Wanted[] {
  const { size, source, destination, protocol, ports, fragment } = layer;
  const one = bytes.toString('latin1', source, source + size);
  const other = bytes.toString('latin1', destination, destination + size);
  const ends = one < other ? one + other : other + one;
  const ofPair = wants.get(ends) ?? NONE;
  return ofPair.filter(({ query: { flow }, source: from }) => {
    if (flow.protocol >= 0 && flow.protocol !== protocol) return false;
    // Where the protocol is not known either, what has ports is another flow.
    if (flow.sourcePort < 0) return flow.protocol >= 0 || ports < 0;
    if (ports < 0) return fragment >= 0;
    const [sender, receiver] = [bytes.readUInt16BE(ports), bytes.readUInt16BE(ports + 2)];
    const sends = one === from && sender === flow.sourcePort && receiver === flow.destinationPort;
    return sends || (other === from && receiver === flow.sourcePort && sender === flow.destinationPort);
  });
}

/** A later fragment is told by its datagram's number, once the first one was seen. */
function isOf({ datagrams }: Wanted, { fragment, transport }: Layer): boolean {
  if (fragment < 0) return true;
  if (transport < 0) return datagrams.includes(fragment);
  datagrams.push(fragment);
  if (datagrams.length > MAX_DATAGRAMS) datagrams.shift();
  return true;
}

/** Both addresses, the lesser one first; undefined: they are none. */
function keyOfEnds({ source, destination }: FlowEnds): string | undefined {
  const [one, other] = [source, destination].map((address) => addressBytes(address)?.toString('latin1'));
  if (one === undefined || other === undefined) return undefined;
  return one < other ? one + other : other + one;
}
