/** Made and captured packets as evidence has them. */
import type { FlowPacket } from '../../agent/evidence/packet.ts';
import type { FlowKey } from '../../agent/evidence/protocol/transport.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { LINKTYPE, type Frame } from './packets.ts';

export function flowPackets(frames: readonly Frame[], linkType: number = LINKTYPE.ethernet): FlowPacket[] {
  return frames.map(({ timeMicros, data, originalLength }) => ({
    time: timeMicros,
    frame: data,
    length: originalLength ?? data.length,
    linkType,
  }));
}

/** The packets of a capture file. */
export function packetsOf(file: Buffer): FlowPacket[] {
  const packets: FlowPacket[] = [];
  const parser = createPcapParser((seconds, micros, captured, length, linkType, buffer, start) =>
    packets.push({
      time: seconds * 1e6 + micros,
      frame: Buffer.from(buffer.subarray(start, start + captured)),
      length,
      linkType,
    }),
  );
  parser.push(file);
  const outcome = parser.end();
  if (outcome.kind !== 'read' || outcome.damageCount > 0) throw new Error(`no whole capture: ${outcome.kind}`);
  return packets;
}

/** The flow of `tcpConversation` and the like, as they are unless told otherwise. */
export function flowKey(changes: Partial<FlowKey> = {}): FlowKey {
  return {
    protocol: 'TCP',
    source: { ip: '10.0.0.1', port: 40_000 },
    destination: { ip: '10.0.0.2', port: 80 },
    ...changes,
  };
}
