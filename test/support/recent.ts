/** The capture's memory for the latest packets, with all that asks it, and no process. */
import { createForwarder, createOrigin, type Origin } from '../../agent/capture/forward.ts';
import { createPacketAsking, type AskedPackets } from '../../agent/capture/packet-queries.ts';
import { zeroCounters, type FlowEnds, type PacketQuery } from '../../agent/capture/protocol.ts';
import { createKeeper } from '../../agent/capture/recent/keep.ts';
import { createRecentMemory, type RecentMemory } from '../../agent/capture/recent/memory.ts';
import { createPacketQueries } from '../../agent/capture/recent/queries.ts';
import type { Keep } from '../../agent/endpoints/endpoint.ts';
import type { Shunt } from '../../agent/capture/shunt/shunt.ts';
import { createFakeOutput, putRecord } from './capture.ts';
import { LINKTYPE, type Frame } from './packets.ts';

const ARENA = 4 << 20;
/** As many as a turn reads. */
const TURN_PACKETS = 128;

export interface Recent {
  readonly memory: RecentMemory;
  /** Time goes on by so much. */
  pass(millis: number): void;
  /** Frames that an endpoint's interface showed, in turns. */
  capture(vlan: number, frames: readonly Frame[], perTurn?: number): void;
  ask(vlan: number, flow: FlowEnds, more?: Partial<PacketQuery>): Promise<AskedPackets>;
}

export interface RecentOptions {
  bytes: number;
  keep?: Keep;
  dlt?: number;
  shunt?: Shunt;
  /** See CaptureSettings. */
  rate?: number;
}

export function createRecent({
  bytes,
  keep = 'full',
  dlt = LINKTYPE.ethernet,
  shunt,
  rate = 0,
}: RecentOptions): Recent {
  const memory = createRecentMemory(bytes);
  if (memory === undefined) throw new Error(`${bytes} bytes are too few`);
  const output = createFakeOutput(ARENA);
  let millis = 0;
  const forwarder = createForwarder(
    output,
    shunt,
    createKeeper(memory, output.arena, rate, () => millis),
  );
  const origins = new Map<number, Origin>();
  const originOf = (vlan: number): Origin => {
    const marks = { vlan, counters: zeroCounters(), directions: undefined, recent: { key: vlan + 4096, keep } };
    const origin = origins.get(vlan) ?? createOrigin(marks, dlt);
    origins.set(vlan, origin);
    return origin;
  };
  const asking = createPacketAsking(bytes, (message) => {
    if (message.type === 'ask-packets') queries.ask(message);
    return true;
  });
  const queries = createPacketQueries(
    memory,
    (vlan) => (origins.has(vlan) ? vlan + 4096 : undefined),
    (message, { link, parts } = { link: 0, parts: [] }) => {
      const blocks = Buffer.concat(parts);
      if (message.type === 'packets') asking.received({ ...message, link, blocks });
      else asking.ended({ ...message, link, blocks });
    },
  );
  return {
    memory,
    pass: (more) => void (millis += more),
    capture(vlan, frames, perTurn = TURN_PACKETS) {
      const origin = originOf(vlan);
      for (let first = 0; first < frames.length; first += perTurn) {
        const from = output.arena.reserve(1);
        let to = from;
        for (const { timeMicros, data, originalLength = data.length } of frames.slice(first, first + perTurn)) {
          const packet = { seconds: Math.floor(timeMicros / 1e6), micros: timeMicros % 1e6 };
          to = putRecord(output.arena.bytes, to, origin.room, { ...packet, frame: data, length: originalLength });
        }
        forwarder.forward(origin, from, to);
        output.read();
      }
    },
    ask: (vlan, flow, more) =>
      asking.ask({ vlan, flow, time: 0, afterMillis: 0, packets: 1000, bytes: 1 << 20, ...more }),
  };
}

export const TCP_FLOW = (clientPort: number): FlowEnds => ({
  source: '10.0.0.1',
  destination: '10.0.0.2',
  sourcePort: clientPort,
  destinationPort: 80,
  protocol: 6,
});
