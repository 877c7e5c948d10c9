/** The packets of an alert's flow, as the page shows them. */
import { headersOf } from '../evidence/headers.ts';
import type { FlowPacket } from '../evidence/packet.ts';
import { parsePackets } from '../evidence/read.ts';
import type { Content } from '../rulesets/contents.ts';
import { alertBytes } from './alert-bytes.ts';
import type { AlertPackets, AlertRow, PacketRow } from './api.ts';

/** That are shown; a file may have more. */
const MAX_PACKETS = 1000;
const MAX_PAYLOAD_BYTES = 512 << 10;

type Alert = Pick<AlertRow, 'source' | 'timestamp'>;

interface Shown {
  row: PacketRow;
  payload: Buffer;
}

/** @param contents What the alert's rule looks for. @throws Error when the file is damaged. */
export function shownPackets(content: Buffer, alert: Alert, contents: readonly Content[]): AlertPackets {
  const all = parsePackets(content);
  let room = MAX_PAYLOAD_BYTES;
  const shown = all.slice(0, MAX_PACKETS).map((packet): Shown => {
    const each = shownPacket(packet, alert, room);
    room -= each.payload.length;
    return each;
  });
  const sent = shown.map(({ row, payload }) => ({
    fromSource: row.fromSource,
    fired: row.fired === true,
    payload,
  }));
  const marks = alertBytes(sent, contents);
  return {
    packets: shown.map(({ row }, index) => {
      const spans = marks[index] ?? [];
      return spans.length === 0 ? row : { ...row, marks: spans };
    }),
    left: all.length - shown.length,
  };
}

function shownPacket(packet: FlowPacket, { source, timestamp }: Alert, room: number): Shown {
  const { frame, length } = packet;
  const headers = headersOf(packet);
  const all = frame.subarray(headers?.payload ?? 0);
  const payload = Buffer.from(all.subarray(0, Math.max(0, room)));
  const time = rfc3339(packet.time);
  const fromSource =
    headers !== undefined &&
    headers.source === source.ip &&
    (headers.sourcePort === undefined || source.port === undefined || headers.sourcePort === source.port);
  return {
    row: {
      time,
      fromSource,
      protocol: headers?.protocol ?? '',
      ...(headers?.flags === undefined ? {} : { flags: headers.flags }),
      length,
      captured: frame.length,
      payloadBytes: all.length,
      payload: payload.toString('base64'),
      ...(time === timestamp ? { fired: true as const } : {}),
    },
    payload,
  };
}

/** @param micros Since the epoch. */
function rfc3339(micros: number): string {
  return new Date(micros / 1000).toISOString().replace(/\d{3}Z$/, `${String(micros % 1e6).padStart(6, '0')}Z`);
}
