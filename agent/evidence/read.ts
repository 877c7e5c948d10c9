/** Reads capture files of evidence, which others may have changed. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../files/errors.ts';
import { createPcapParser } from '../replay/pcap-file.ts';
import type { FlowPacket } from './packet.ts';
import { EVENT_ID, listDays, packetFile } from './place.ts';

/** An event's capture file; undefined: there is none. @throws the system's other errors. */
export async function readPacketFile(directory: string, eventId: string): Promise<Buffer | undefined> {
  if (!EVENT_ID.test(eventId)) return undefined;
  for (const day of (await listDays(directory)).toReversed()) {
    try {
      return await readFile(join(directory, packetFile(day, eventId)));
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') throw error;
    }
  }
  return undefined;
}

/** @throws Error when the file is damaged. */
export function parsePackets(content: Buffer): FlowPacket[] {
  const packets: FlowPacket[] = [];
  const parser = createPcapParser((seconds, micros, captured, length, linkType, buffer, start) => {
    const frame = Buffer.from(buffer.subarray(start, start + captured));
    packets.push({ time: seconds * 1e6 + micros, frame, length, linkType });
  });
  parser.push(content);
  const outcome = parser.end();
  if (outcome.kind !== 'read' || outcome.damageCount > 0) throw new Error('the file of packets is damaged');
  return packets;
}
