/**
 * Where the evidence of an event is: `evidence/<day of its packet, UTC>/<event id>.pcapng` in the journal's folder. The
 * file itself says what is in it. So the event, which is journaled before its flow is over, need not name it.
 */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { readFacts } from './pcapng.ts';

/** What is kept of an event's flow. */
export interface PacketSummary {
  count: number;
  /** On the wire, of all of them. */
  bytes: number;
  /** Times of the first and the last one, RFC 3339. */
  first: string;
  last: string;
  /** Whether all of the flow's packets are there, from its beginning until it ended, or was waited for no longer. */
  complete: boolean;
}

/** What became known of an event's flow after the event was journaled. */
export interface FlowFacts {
  packets: PacketSummary;
}

/** Likewise, with the file that tells it, in the folder of evidence. */
export interface EvidenceRecord extends FlowFacts {
  packets: PacketSummary & { file: string };
}

export const EVENT_ID = /^[0-9a-f]{40}$/;
const DAY = /^\d{4}-\d\d-\d\d$/;

export function evidenceDirectory(journalDirectory: string): string {
  return join(journalDirectory, 'evidence');
}

export function dayOf(timeMicros: number): string {
  return new Date(timeMicros / 1000).toISOString().slice(0, 10);
}

export function packetFile(day: string, eventId: string): string {
  return `${day}/${eventId}.pcapng`;
}

/** Folders of days, oldest first. Empty where there is no evidence. @throws the system's other errors. */
export async function listDays(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() && DAY.test(entry.name) ? [entry.name] : [])).sort();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** What is known of an event's flow; undefined: nothing, or it is no longer there. @throws the system's other errors. */
export async function findEvidence(directory: string, eventId: string): Promise<EvidenceRecord | undefined> {
  if (!EVENT_ID.test(eventId)) return undefined;
  for (const day of (await listDays(directory)).toReversed()) {
    const found = await readRecord(directory, day, eventId);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The head of a file has what is known of it: see pcapng.ts. */
const HEAD_BYTES = 64 << 10;

async function readRecord(directory: string, day: string, eventId: string): Promise<EvidenceRecord | undefined> {
  const file = packetFile(day, eventId);
  const head = await readHead(join(directory, file));
  const facts = head === undefined ? undefined : readFacts(head);
  if (!isRecord(facts) || !isRecord(facts['packets'])) return undefined;
  return { ...facts, packets: { ...(facts['packets'] as unknown as PacketSummary), file } };
}

/** undefined: there is no such file. */
async function readHead(path: string): Promise<Buffer | undefined> {
  try {
    const handle = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

interface Recorded {
  record: { event_id: string; timestamp: string };
}

/** The event with what became known of its flow after it was journaled; the same object where that is nothing. */
export async function withEvidence<Event extends Recorded>(
  directory: string,
  event: Event,
): Promise<Event | (Event & { record: EvidenceRecord })> {
  const { event_id: eventId, timestamp } = event.record;
  const day = timestamp.slice(0, 10);
  if (!EVENT_ID.test(eventId) || !DAY.test(day)) return event;
  const evidence = await readRecord(directory, day, eventId);
  return evidence === undefined ? event : { ...event, record: { ...event.record, ...evidence } };
}
