/**
 * Reads unified2, of Snort 3 and of Snort 2; unified2-records.ts has the formats.
 *
 * A record is a type and a length (32 bits each) and that many bytes. An event is followed by records with its event
 * id: extra data, then its packet, or the buffer it was found in. The event is given out with the packet's or buffer's
 * transport payload as soon as that record is there, else when the next event begins, at damage, at `flush()` or at
 * `end()`. Records of an event that was given out already (a second packet), and records of no event, are passed over.
 *
 * unified2 has neither the rule's text nor its class's: `message` and `classification` are empty. Nor has it the
 * packet's number. The application name of AppID is no protocol; `service` is absent.
 *
 * After damage, reading goes on at the next byte where a record of a known type stands with the length that type has,
 * and where the record repeats its length inside, that agrees too. When the bytes behind a record are no record, or its
 * values can't be, it is looked through for one: a torn record takes in the start of those that follow it. Where it had
 * been given out already, items behind it begin where it ended, and the damage is one of length 0.
 *
 * Not promised: bytes of a packet that look like records are taken for such when the record around them is damaged. A
 * torn record is not noticed when exactly as many bytes are missing as the whole records behind it have, and its values
 * can be.
 *
 * At most one record (`MAX_RECORD`) and the one before it are held. After `end()` more may follow; offsets go on.
 */
import type { Alert, Decoded, Decoder } from '../alert.ts';
import { transportPayload } from './frame.ts';
import { BUFFER, EVENTS, EXTRA_DATA, HEADER, inspectRecord, LOOK, PACKET_FIELDS, toAlert } from './unified2-records.ts';
import { MAX_PAYLOAD, orReason } from './values.ts';

/** Chunks are joined when so many wait. */
const MAX_PIECES = 1024;

export interface Unified2Decoder extends Decoder {
  flush(): Decoded[];
}

/** The event that waits for its packet. */
interface Waiting {
  alert: Alert;
  id: number;
  start: number;
  /** Offset behind its last record. */
  end: number;
}

/** The last record read, until the bytes behind it prove to be a record too. */
interface Unproven {
  start: number;
  end: number;
  role: 'event' | 'attached' | 'given out' | 'passed over' | 'damaged';
}

interface State {
  /** Bytes not yet done with, in the order pushed; the first stands at stream offset `base`. */
  buffer: Buffer;
  base: number;
  /** Pushed, but too few to go on with. */
  queue: Buffer[];
  queued: number;
  /** Stream offset up to which everything is read. */
  position: number;
  /** As many bytes must stand behind `position` before reading can go on. */
  need: number;
  waiting: Waiting | undefined;
  unproven: Unproven | undefined;
  damage: { start: number; reason: string } | undefined;
  /** End of the last item given out. */
  floor: number;
}

export function createUnified2Decoder(): Unified2Decoder {
  const state: State = {
    buffer: Buffer.alloc(0),
    base: 0,
    queue: [],
    queued: 0,
    position: 0,
    need: HEADER,
    waiting: undefined,
    unproven: undefined,
    damage: undefined,
    floor: 0,
  };
  return {
    push: (chunk) => push(state, chunk),
    flush() {
      const items: Decoded[] = [];
      giveOut(state, items);
      return items;
    },
    end: () => end(state),
  };
}

function push(state: State, chunk: Buffer): Decoded[] {
  const items: Decoded[] = [];
  // Copied, for the caller may use its buffer again.
  state.queue.push(Buffer.from(chunk));
  state.queued += chunk.length;
  if (state.queue.length >= MAX_PIECES) state.queue = [Buffer.concat(state.queue)];
  if (endOf(state) - state.position + state.queued < state.need) return items;
  absorb(state);
  advance(state, false, items);
  compact(state);
  return items;
}

function end(state: State): Decoded[] {
  const items: Decoded[] = [];
  absorb(state);
  advance(state, true, items);
  giveOut(state, items);
  closeDamage(state, endOf(state), items);
  state.unproven = undefined;
  compact(state);
  state.need = HEADER;
  return items;
}

function absorb(state: State): void {
  state.buffer = Buffer.concat([state.buffer, ...state.queue]);
  state.queue = [];
  state.queued = 0;
}

function compact(state: State): void {
  const { position, unproven, buffer, base } = state;
  const from = Math.min(position, unproven?.start ?? position);
  state.buffer = buffer.subarray(from - base);
  state.base = from;
}

/** Stream offset behind the last byte that is there. */
function endOf({ base, buffer }: State): number {
  return base + buffer.length;
}

/** Reads what can be read. With `over`, no more bytes come. */
function advance(state: State, over: boolean, items: Decoded[]): void {
  while (step(state, over, items));
}

/** @returns whether there may be more to read at once; else `need` says how many bytes that takes. */
function step(state: State, over: boolean, items: Decoded[]): boolean {
  const { position } = state;
  const available = endOf(state) - position;
  if (available === 0) return waitFor(state, HEADER);
  const header = inspect(state, position);
  if (header === 'unclear' && !over) return waitFor(state, available < HEADER ? HEADER : LOOK);
  if (typeof header !== 'object')
    return passNoRecord(state, header === 'none' ? 'not a record' : 'a record is broken off', over, items);
  const length = HEADER + header.length;
  if (length <= available) return readRecord(state, header.type, position + length, over, items);
  return over ? passBytes(state, 'a record is broken off', items) : waitFor(state, length);
}

function waitFor(state: State, bytes: number): false {
  state.need = bytes;
  return false;
}

/** What stands at stream offset `at`. */
function inspect({ buffer, base }: State, at: number): ReturnType<typeof inspectRecord> {
  return inspectRecord(buffer, at - base);
}

/** At `position` stands no record: the one before it may have been torn. */
function passNoRecord(state: State, reason: string, over: boolean, items: Decoded[]): boolean {
  const { damage, unproven } = state;
  if (!damage && unproven) {
    const outcome = searchWithin(state, unproven.start, unproven.end, over, items);
    if (outcome === 'wait') return false;
    state.unproven = undefined;
    if (outcome === 'found') return true;
  }
  return passBytes(state, reason, items);
}

function passBytes(state: State, reason: string, items: Decoded[]): true {
  openDamage(state, state.position, reason, items);
  do state.position++;
  while (state.position + HEADER <= endOf(state) && inspect(state, state.position) === 'none');
  return true;
}

/** @param until Stream offset behind the record at `position`, which is there as a whole. */
function readRecord(state: State, type: number, until: number, over: boolean, items: Decoded[]): boolean {
  const { buffer, base, position } = state;
  // Behind a complete record stands nothing yet, or the next header.
  const behind = endOf(state) - until;
  const next = inspect(state, until);
  if (behind > 0 && next === 'unclear' && !over && behind < HEADER) return waitFor(state, until - position + HEADER);
  const bytes = buffer.subarray(position - base, until - base);
  const layout = EVENTS.get(type);
  const alert = layout && orReason(() => toAlert(layout, bytes.subarray(HEADER)));
  if ((behind > 0 && next === 'none') || typeof alert === 'string') {
    const outcome = searchWithin(state, position, until, over, items);
    if (outcome === 'wait') return false;
    if (outcome === 'found') {
      state.unproven = undefined;
      return true;
    }
  }
  closeDamage(state, position, items);
  const role = alert === undefined ? readAttached(state, type, bytes, items) : readEvent(state, alert, bytes, items);
  state.unproven = { start: position, end: until, role };
  state.position = until;
  return true;
}

/**
 * Where in the record [start, until), which no record follows, another one begins. `wait`: more bytes are needed to
 * tell. Damage from `start` on is opened, and reading set back, when there is one.
 */
function searchWithin(
  state: State,
  start: number,
  until: number,
  over: boolean,
  items: Decoded[],
): 'found' | 'none' | 'wait' {
  for (let at = start + 1; at < until; at++) {
    const look = inspect(state, at);
    if (look === 'none' || (look === 'unclear' && over)) continue;
    if (look === 'unclear') {
      state.need = at + LOOK - state.position;
      return 'wait';
    }
    setBack(state, start, at, items);
    return 'found';
  }
  return 'none';
}

/** The record at `start` was torn: the next one begins at `at`. */
function setBack(state: State, start: number, at: number, items: Decoded[]): void {
  const role = state.unproven?.start === start ? state.unproven.role : undefined;
  if (role === 'event') state.waiting = undefined;
  if (state.waiting && role === 'attached') state.waiting.end = start;
  // A record that was found damaged by its values is counted already.
  if (role !== 'damaged') openDamage(state, start, 'a record is broken off', items);
  state.position = at;
}

/** `alert` is what is wrong with the event, if something is. */
function readEvent(state: State, alert: Alert | string, bytes: Buffer, items: Decoded[]): Unproven['role'] {
  const start = state.position;
  const until = start + bytes.length;
  giveOut(state, items);
  if (typeof alert === 'string') {
    emit(state, { kind: 'damage', reason: alert, start: Math.max(start, state.floor), end: until }, items);
    return 'damaged';
  }
  state.waiting = { alert, id: bytes.readUInt32BE(HEADER + 4), start, end: until };
  return 'event';
}

function readAttached(state: State, type: number, bytes: Buffer, items: Decoded[]): Unproven['role'] {
  const { waiting, position } = state;
  const body = bytes.subarray(HEADER);
  const id = body.readUInt32BE(type === EXTRA_DATA ? 12 : 4);
  if (!waiting || waiting.id !== id) return 'passed over';
  waiting.end = position + bytes.length;
  if (type === EXTRA_DATA) return 'attached';
  const data = body.subarray(PACKET_FIELDS);
  const payload = (type === BUFFER ? data : transportPayload(body.readUInt32BE(20), data)).subarray(0, MAX_PAYLOAD);
  if (payload.length > 0) waiting.alert.payload = Buffer.from(payload);
  giveOut(state, items);
  return 'given out';
}

function giveOut(state: State, items: Decoded[]): void {
  if (!state.waiting) return;
  const { alert, start, end: until } = state.waiting;
  state.waiting = undefined;
  emit(state, { kind: 'alert', alert, start: Math.max(start, state.floor), end: until }, items);
}

function openDamage(state: State, start: number, reason: string, items: Decoded[]): void {
  if (state.damage) return;
  giveOut(state, items);
  state.damage = { start: Math.max(start, state.floor), reason };
}

function closeDamage(state: State, until: number, items: Decoded[]): void {
  if (!state.damage) return;
  const { start, reason } = state.damage;
  state.damage = undefined;
  emit(state, { kind: 'damage', reason, start, end: Math.max(start, until) }, items);
}

function emit(state: State, item: Decoded, items: Decoded[]): void {
  items.push(item);
  state.floor = item.end;
}
