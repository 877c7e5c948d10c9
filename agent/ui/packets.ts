/** The packets of an alert's flow, as the page shows them. */
import { headersOf } from '../evidence/headers.ts';
import type { FlowPacket } from '../evidence/packet.ts';
import { parsePackets } from '../evidence/read.ts';
import type { AlertPackets, AlertRow, PacketRow } from './api.ts';

/** That are shown; a file may have more. */
const MAX_PACKETS = 1000;
const MAX_PAYLOAD_BYTES = 512 << 10;

/** @throws Error when the file is damaged. */
export function shownPackets(content: Buffer, alert: Pick<AlertRow, 'source'>): AlertPackets {
  const all = parsePackets(content);
  let room = MAX_PAYLOAD_BYTES;
  const packets = all.slice(0, MAX_PACKETS).map((packet) => {
    const row = shownPacket(packet, alert, room);
    room -= row.payloadBytes;
    return row.row;
  });
  return { packets, left: all.length - packets.length };
}

function shownPacket(
  packet: FlowPacket,
  { source }: Pick<AlertRow, 'source'>,
  room: number,
): { row: PacketRow; payloadBytes: number } {
  const { time, frame, length } = packet;
  const headers = headersOf(packet);
  const all = frame.subarray(headers?.payload ?? 0);
  const payload = Buffer.from(all.subarray(0, Math.max(0, room)));
  const fromSource =
    headers !== undefined &&
    headers.source === source.ip &&
    (headers.sourcePort === undefined || source.port === undefined || headers.sourcePort === source.port);
  return {
    row: {
      time: new Date(time / 1000).toISOString().replace(/\d{3}Z$/, `${String(time % 1e6).padStart(6, '0')}Z`),
      fromSource,
      protocol: headers?.protocol ?? '',
      ...(headers?.flags === undefined ? {} : { flags: headers.flags }),
      length,
      captured: frame.length,
      payloadBytes: all.length,
      payload: payload.toString('base64'),
    },
    payloadBytes: payload.length,
  };
}
