/** What a sink holds of one line of the journal, or of a gap, until the cursor moves over it. */
import { isRecord } from '../files/record.ts';
import type { Cursor, JournalLine } from '../journal/journal.ts';
import type { SinkClock } from './clock.ts';
import type { DeadLetter } from './dead-letter.ts';
import type { Item } from './destination.ts';

/** What a damaged line, of which nothing but its length is kept, counts in memory. */
const DAMAGED_BYTES = 256;

/** A dead letter, and whether it is on the disk. */
export interface Refused {
  is: 'refused';
  letter: DeadLetter;
  stored: boolean;
}

/** Of an event of which more may become known (late.ts). */
export interface Late {
  /** Monotonic, in milliseconds. */
  until: number;
  /** Whether it was pending when it was read. */
  waited: boolean;
}

/** Of an event that is held back for others that are alike (quiet.ts). */
export interface Hold {
  /** Monotonic, in milliseconds. */
  until: number;
  /** Alerts that the events folded into it stand for. */
  folded: number;
  /** Of the last of them; RFC 3339. */
  lastTimestamp?: string;
}

export interface Entry {
  /** Behind it. */
  end: Cursor;
  /** Events deleted just before it. */
  gap: number;
  state:
    | { is: 'unsettled'; item: Item; event: Record<string, unknown> }
    | { is: 'delivered'; duplicate: boolean }
    | Refused
    | { is: 'gap' }
    /** Events in a row that are not for the sink, or that one of alike events stands for. */
    | { is: 'passed over'; filtered: number; digested: number };
  /** Bytes held in memory. */
  bytes: number;
  /** Capture time, in ms since the Unix epoch. */
  time: number;
  /** Monotonic. */
  gatheredAt: number;
  attempts: number;
  strikes: number;
  /** How many others had been delivered when it was last asked to wait. */
  seen: number;
  /** It waits for others that are alike. */
  hold?: Hold;
  /** It waits for what may become known of it. */
  late?: Late;
}

export type Unsettled = Entry & { state: { is: 'unsettled' } };

export const isUnsettled = (entry: Entry): entry is Unsettled => entry.state.is === 'unsettled';

/** To be sent when its batch is. */
export const isWaiting = (entry: Entry): entry is Unsettled =>
  isUnsettled(entry) && entry.hold === undefined && entry.late === undefined;

export function passOver(entry: Entry, why: 'filtered' | 'digested'): void {
  entry.state = { is: 'passed over', filtered: 0, digested: 0, [why]: 1 };
  entry.bytes = 0;
}

/** Adds an entry; events that are passed over take no room, however many follow each other. */
export function append(entries: Entry[], entry: Entry): void {
  const last = entries.at(-1);
  if (last?.state.is !== 'passed over' || entry.state.is !== 'passed over') return void entries.push(entry);
  last.end = entry.end;
  last.gap += entry.gap;
  last.state.filtered += entry.state.filtered;
  last.state.digested += entry.state.digested;
}

/** @param gap Events deleted just before it. @param seen How many were delivered so far. */
export function toEntry(line: JournalLine, gap: number, seen: number, clock: SinkClock): Entry {
  const common = { end: line.end, gap, gatheredAt: clock.now(), attempts: 0, strikes: 0, seen };
  if (line.kind === 'damage') return { ...common, ...damaged(line.number, line.bytes, clock.date()) };
  const { event, json, number } = line;
  const record = isRecord(event.record) ? event.record : {};
  const id = typeof record.event_id === 'string' ? record.event_id : '';
  const time = typeof record.timestamp === 'string' ? Date.parse(record.timestamp) : Number(event.time) * 1000;
  return {
    ...common,
    state: { is: 'unsettled', item: { number, id, json }, event },
    bytes: Buffer.byteLength(json) + 1,
    time: Number.isFinite(time) ? time : clock.date().getTime(),
  };
}

function damaged(number: number, raw: number, date: Date): Pick<Entry, 'state' | 'bytes' | 'time'> {
  const letter = { time: date.toISOString(), number, reason: 'damaged line', attempts: 0, raw };
  return { state: { is: 'refused', letter, stored: false }, bytes: DAMAGED_BYTES, time: date.getTime() };
}

/** @param end Behind the events that are gone. */
export function toGap(end: Cursor, gap: number): Entry {
  return { end, gap, state: { is: 'gap' }, bytes: 0, time: 0, gatheredAt: 0, attempts: 0, strikes: 0, seen: 0 };
}
