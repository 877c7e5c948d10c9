/** Which of the packets between two ends are of one connection of TCP: ports are used again. */
import { linkTypeFromDlt } from '../capture/frame/link.ts';
import { createLayer, firstLayer, readLayer, readOnlyLayer, TCP } from '../capture/recent/layers.ts';
import type { FlowPacket } from './packet.ts';

const [SYN, ACK] = [0x02, 0x10];

export interface OneConnection<Packet> {
  packets: Packet[];
  /** Whether they begin with its first packet, as far as that can be told. */
  isOne: boolean;
}

/** Of the connection at this time, in microseconds since the epoch. Packets of other protocols are all one. */
export function oneConnection<Packet extends FlowPacket>(
  packets: readonly Packet[],
  time: number,
): OneConnection<Packet> {
  const openings = packets.map(openingOf);
  let from = 0;
  let opened: number | undefined;
  let end = packets.length;
  for (const [index, opening] of openings.entries()) {
    if (opening === undefined || opening === opened) continue;
    // What is sent again has the same number.
    if ((packets[index]?.time ?? 0) > time) {
      if (opened !== undefined || index > 0) end = Math.min(end, index);
      continue;
    }
    opened = opening;
    from = index;
  }
  return { packets: packets.slice(from, end), isOne: opened !== undefined };
}

const layer = createLayer();

/** The sequence number of a SYN that is no answer; undefined: it is none. */
export function openingOf({ frame, linkType }: FlowPacket): number | undefined {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.length);
  const link = linkTypeFromDlt(linkType);
  if (link === 'ethernet' && readOnlyLayer(layer, bytes, 0, bytes.length)) return openingAt(bytes);
  let at = link === undefined ? -1 : firstLayer(bytes, 0, bytes.length, link);
  let opening: number | undefined;
  while (at >= 0 && readLayer(layer, bytes, at, bytes.length)) {
    opening = openingAt(bytes) ?? opening;
    at = layer.inner;
  }
  return opening;
}

function openingAt(bytes: Buffer): number | undefined {
  const { protocol, ports } = layer;
  const isSyn = protocol === TCP && ports >= 0 && ((bytes[ports + 13] ?? 0) & (SYN | ACK)) === SYN;
  return isSyn && ports + 8 <= bytes.length ? bytes.readUInt32BE(ports + 4) : undefined;
}
