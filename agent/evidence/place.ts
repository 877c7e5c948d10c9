/**
 * Where the evidence of an event is: `evidence/<day of its packet, UTC>/<event id>.pcapng` in the journal's folder. The
 * file itself says what is in it. So the event, which is journaled before its flow is over, need not name it.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PacketsOfFlow } from '../events/app.ts';
import type { DescribedRecord } from '../events/describe.ts';
import { errorCode } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { readFacts } from './pcapng.ts';

/** What became known of an event's flow after the event was journaled. */
export interface FlowFacts extends Partial<DescribedRecord> {
  packets: PacketSummary;
  /** What the flow said when the alerts of some events fired, by their ids; of the others it is said before. */
  events?: Readonly<Record<string, DescribedRecord>>;
}

/** Likewise, with the file that tells it, in the folder of evidence. */
export interface EvidenceRecord extends Omit<FlowFacts, 'events'> {
  packets: PacketsOfFlow;
}

/** Without the file, which does not name itself. */
export type PacketSummary = Omit<PacketsOfFlow, 'file'>;

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
    const found = await findRecord(directory, day, eventId);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The head of a file has what is known of it: see pcapng.ts. */
const HEAD_BYTES = 64 << 10;

/** Events of a day that have a file. @throws the system's error. */
export async function eventsOf(directory: string, day: string): Promise<string[]> {
  const names = await readdir(join(directory, day));
  return names.flatMap((name) => /^([0-9a-f]{40})\.pcapng$/.exec(name)?.[1] ?? []);
}

/** What is known of an event's flow, by the day of its packet. */
export async function findRecord(directory: string, day: string, eventId: string): Promise<EvidenceRecord | undefined> {
  const file = packetFile(day, eventId);
  return recordOf(await readHead(join(directory, file)), file, eventId);
}

/** Of the event, where several share the file. */
function recordOf(head: Buffer | undefined, file: string, eventId: string): EvidenceRecord | undefined {
  const facts = head === undefined ? undefined : readFacts(head);
  if (!isRecord(facts) || !isRecord(facts['packets'])) return undefined;
  const { events, ...all } = facts;
  const own = isRecord(events) && Object.hasOwn(events, eventId) ? events[eventId] : undefined;
  return {
    ...all,
    ...(isRecord(own) ? own : {}),
    packets: { ...(facts['packets'] as unknown as PacketSummary), file },
  };
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

export interface Recorded {
  record: { event_id: string; timestamp: string };
}

/** The event with what became known of its flow after it was journaled; the same object where that is nothing. */
export async function withEvidence<Event extends Recorded>(
  directory: string,
  event: Event,
): Promise<Event | (Event & { record: EvidenceRecord })> {
  return withRecord(event, await knownOf(directory, event));
}

/** What became known of an event's flow after it was journaled; undefined: nothing. @throws the system's other errors. */
export async function knownOf(directory: string, event: Recorded): Promise<EvidenceRecord | undefined> {
  const [day, eventId] = placeOf(event) ?? [];
  return day === undefined || eventId === undefined ? undefined : findRecord(directory, day, eventId);
}

/** Likewise, for what can't wait. */
export function withEvidenceSync<Event extends Recorded>(
  directory: string,
  event: Event,
): Event | (Event & { record: EvidenceRecord }) {
  const [day, eventId] = placeOf(event) ?? [];
  if (day === undefined || eventId === undefined) return event;
  const file = packetFile(day, eventId);
  return withRecord(event, recordOf(readHeadSync(join(directory, file)), file, eventId));
}

/** As `readHead`. */
function readHeadSync(path: string): Buffer | undefined {
  try {
    const descriptor = openSync(path, 'r');
    try {
      const buffer = Buffer.alloc(HEAD_BYTES);
      return buffer.subarray(0, readSync(descriptor, buffer, 0, HEAD_BYTES, 0));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function placeOf({ record }: Recorded): [day: string, eventId: string] | undefined {
  const { event_id: eventId, timestamp } = record;
  const day = timestamp.slice(0, 10);
  return EVENT_ID.test(eventId) && DAY.test(day) ? [day, eventId] : undefined;
}

function withRecord<Event extends Recorded>(
  event: Event,
  evidence: EvidenceRecord | undefined,
): Event | (Event & { record: EvidenceRecord }) {
  return evidence === undefined ? event : { ...event, record: { ...event.record, ...evidence } };
}
