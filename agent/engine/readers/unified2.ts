/**
 * Reads unified2: Snort 3's records (snort3, src/log/unified2.h and src/loggers/unified2.cc; checked against 3.12.2)
 * and Snort 2's.
 *
 * A record is a type and a length (32 bits each, big-endian, as all numbers) and that many bytes. An event is followed
 * by records with its event id: extra data, then its packet, or the buffer it was found in. The event is given out with
 * the packet's or buffer's transport payload as soon as that record is there, else when the next event begins, at
 * damage, at `flush()` or at `end()`. Records of an event that was given out already (a second packet), and records of
 * no event, are passed over.
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
import { Damaged, MAX_PAYLOAD, MAX_UINT32, MAX_VLAN, ends, integer, micros, orReason } from './values.ts';

/** Longest record body that is believed, in bytes. */
export const MAX_RECORD = 1024 * 1024;

/** Chunks are joined when so many wait. */
const MAX_PIECES = 1024;

const HEADER = 8;
const PACKET_FIELDS = 28;
const EXTRA_FIELDS = 32;
/** How much of a record `inspect` looks at. */
const LOOK = HEADER + EXTRA_FIELDS;

const PACKET = 2;
const BUFFER = 3;
const EXTRA_DATA = 110;

export interface Unified2Decoder extends Decoder {
  flush(): Decoded[];
}

/** Where the fields of an event type stand, in bytes from the body's start, and how long its body may be. */
interface EventLayout {
  lengths: readonly number[];
  /** The event's addresses: 4 or 16 bytes each, or 16 bytes with the versions given in a byte of their own. */
  addresses: 4 | 16 | 'either';
  gid: number;
  sid: number;
  rev: number;
  priority: number;
  source: number;
  ports: number;
  protocol: number;
  vlan?: number;
}

const CLASSIC = { gid: 20, sid: 16, rev: 24, priority: 32, source: 36 } as const;
const CLASSIC_IPV4 = { ...CLASSIC, addresses: 4, ports: 44, protocol: 48 } as const;
const CLASSIC_IPV6 = { ...CLASSIC, addresses: 16, ports: 68, protocol: 72 } as const;

const EVENTS: ReadonlyMap<number, EventLayout> = new Map<number, EventLayout>([
  [7, { ...CLASSIC_IPV4, lengths: [52] }],
  [72, { ...CLASSIC_IPV6, lengths: [76] }],
  // With an MPLS label: first without, later with VLAN id and policy.
  [99, { ...CLASSIC_IPV4, lengths: [56, 60] }],
  [100, { ...CLASSIC_IPV6, lengths: [80, 84] }],
  // Snort 2 without and with an application name of 16 bytes; Snort 3 with one of 64.
  [104, { ...CLASSIC_IPV4, lengths: [60, 76, 124], vlan: 56 }],
  [105, { ...CLASSIC_IPV6, lengths: [84, 100, 148], vlan: 80 }],
  [
    114,
    {
      lengths: [1032],
      addresses: 'either',
      gid: 16,
      sid: 20,
      rev: 24,
      priority: 32,
      source: 48,
      ports: 84,
      protocol: 93,
      vlan: 88,
    },
  ],
]);
const EVENT3_VERSIONS = 92;
const MAX_TYPE = 114;

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

export function createUnified2Decoder(): Unified2Decoder {
  /** Bytes not yet done with, in the order pushed; the first stands at stream offset `base`. */
  let buffer: Buffer = Buffer.alloc(0);
  let base = 0;
  /** Pushed, but too few to go on with. */
  let queue: Buffer[] = [];
  let queued = 0;
  /** Stream offset up to which everything is read. */
  let position = 0;
  /** As many bytes must stand behind `position` before reading can go on. */
  let need = HEADER;
  let waiting: Waiting | undefined;
  let unproven: Unproven | undefined;
  let damage: { start: number; reason: string } | undefined;
  /** End of the last item given out. */
  let floor = 0;

  const size = (): number => base + buffer.length;

  function emit(item: Decoded, items: Decoded[]): void {
    items.push(item);
    floor = item.end;
  }

  function giveOut(items: Decoded[]): void {
    if (!waiting) return;
    const { alert, start, end } = waiting;
    waiting = undefined;
    emit({ kind: 'alert', alert, start: Math.max(start, floor), end }, items);
  }

  function openDamage(start: number, reason: string, items: Decoded[]): void {
    if (damage) return;
    giveOut(items);
    damage = { start: Math.max(start, floor), reason };
  }

  function closeDamage(end: number, items: Decoded[]): void {
    if (!damage) return;
    const { start, reason } = damage;
    damage = undefined;
    emit({ kind: 'damage', reason, start, end: Math.max(start, end) }, items);
  }

  /** What stands at stream offset `at`: a record by its header, none, or too little to tell. */
  function inspect(at: number): { type: number; length: number } | 'none' | 'unclear' {
    return inspectRecord(buffer, at - base);
  }

  /**
   * Where in the record [start, end), which no record follows, another one begins. `wait`: more bytes are needed to
   * tell. Damage from `start` on is opened, and reading set back, when there is one.
   */
  function searchWithin(start: number, end: number, over: boolean, items: Decoded[]): 'found' | 'none' | 'wait' {
    for (let at = start + 1; at < end; at++) {
      const look = inspect(at);
      if (look === 'none') continue;
      if (look === 'unclear') {
        if (over) continue;
        need = at + LOOK - position;
        return 'wait';
      }
      if (unproven?.start === start) {
        if (unproven.role === 'event') waiting = undefined;
        if (waiting && unproven.role === 'attached') waiting.end = start;
      }
      // A record that was found damaged by its values is counted already.
      if (unproven?.start !== start || unproven.role !== 'damaged') openDamage(start, 'a record is broken off', items);
      position = at;
      return 'found';
    }
    return 'none';
  }

  /** `alert` is what is wrong with the event, if something is. */
  function readEvent(alert: Alert | string, start: number, bytes: Buffer, items: Decoded[]): Unproven['role'] {
    const end = start + bytes.length;
    giveOut(items);
    if (typeof alert === 'string') {
      emit({ kind: 'damage', reason: alert, start: Math.max(start, floor), end }, items);
      return 'damaged';
    }
    waiting = { alert, id: bytes.readUInt32BE(HEADER + 4), start, end };
    return 'event';
  }

  function readAttached(type: number, start: number, bytes: Buffer, items: Decoded[]): Unproven['role'] {
    const end = start + bytes.length;
    const body = bytes.subarray(HEADER);
    const id = body.readUInt32BE(type === EXTRA_DATA ? 12 : 4);
    if (!waiting || waiting.id !== id) return 'passed over';
    waiting.end = end;
    if (type === EXTRA_DATA) return 'attached';
    const data = body.subarray(PACKET_FIELDS);
    const payload = (type === BUFFER ? data : transportPayload(body.readUInt32BE(20), data)).subarray(0, MAX_PAYLOAD);
    if (payload.length > 0) waiting.alert.payload = Buffer.from(payload);
    giveOut(items);
    return 'given out';
  }

  /** Reads what can be read. With `over`, no more bytes come. */
  function advance(over: boolean, items: Decoded[]): void {
    for (;;) {
      const available = size() - position;
      need = HEADER;
      if (available === 0) return;
      const header = inspect(position);
      if (header === 'unclear' && !over) {
        need = available < HEADER ? HEADER : LOOK;
        return;
      }
      const end = typeof header === 'object' ? position + HEADER + header.length : Infinity;
      if (typeof header === 'object' && end > size() && !over) {
        need = end - position;
        return;
      }
      if (typeof header !== 'object' || end > size()) {
        if (!damage && unproven && typeof header !== 'object') {
          const outcome = searchWithin(unproven.start, unproven.end, over, items);
          if (outcome === 'wait') return;
          unproven = undefined;
          if (outcome === 'found') continue;
        }
        const reason = over && header !== 'none' ? 'a record is broken off' : 'not a record';
        openDamage(position, reason, items);
        do position++;
        while (position + HEADER <= size() && inspect(position) === 'none');
        continue;
      }
      // Behind a complete record stands nothing yet, or the next header.
      const next = inspect(end);
      if (end < size() && next === 'unclear' && !over && size() - end < HEADER) {
        need = end - position + HEADER;
        return;
      }
      const layout = EVENTS.get(header.type);
      const alert = layout && orReason(() => toAlert(layout, buffer.subarray(position - base + HEADER, end - base)));
      if ((end < size() && next === 'none') || typeof alert === 'string') {
        const outcome = searchWithin(position, end, over, items);
        if (outcome === 'wait') return;
        if (outcome === 'found') {
          unproven = undefined;
          continue;
        }
      }
      closeDamage(position, items);
      const bytes = buffer.subarray(position - base, end - base);
      const role =
        alert === undefined
          ? readAttached(header.type, position, bytes, items)
          : readEvent(alert, position, bytes, items);
      unproven = { start: position, end, role };
      position = end;
    }
  }

  function compact(): void {
    const from = Math.min(position, unproven?.start ?? position);
    buffer = buffer.subarray(from - base);
    base = from;
  }

  function absorb(): void {
    buffer = Buffer.concat([buffer, ...queue]);
    queue = [];
    queued = 0;
  }

  return {
    push(chunk) {
      const items: Decoded[] = [];
      // Copied, for the caller may use its buffer again.
      queue.push(Buffer.from(chunk));
      queued += chunk.length;
      if (queue.length >= MAX_PIECES) queue = [Buffer.concat(queue)];
      if (size() - position + queued < need) return items;
      absorb();
      advance(false, items);
      compact();
      return items;
    },
    flush() {
      const items: Decoded[] = [];
      giveOut(items);
      return items;
    },
    end() {
      const items: Decoded[] = [];
      absorb();
      advance(true, items);
      giveOut(items);
      closeDamage(size(), items);
      unproven = undefined;
      compact();
      need = HEADER;
      return items;
    },
  };
}

function inspectRecord(buffer: Buffer, at: number): { type: number; length: number } | 'none' | 'unclear' {
  const available = buffer.length - at;
  if (available < HEADER) return 'unclear';
  const type = buffer.readUInt32BE(at);
  if (type === 0 || type > MAX_TYPE) return 'none';
  const length = buffer.readUInt32BE(at + 4);
  const layout = EVENTS.get(type);
  if (layout) return layout.lengths.includes(length) ? { type, length } : 'none';
  const fields = type === PACKET || type === BUFFER ? PACKET_FIELDS : type === EXTRA_DATA ? EXTRA_FIELDS : undefined;
  if (fields === undefined || length < fields || length > MAX_RECORD) return 'none';
  if (available < HEADER + fields) return 'unclear';
  const body = at + HEADER;
  const agrees =
    type === EXTRA_DATA
      ? // The body's own length, and that of the blob, which counts two of its header's fields.
        buffer.readUInt32BE(body + 4) === length && buffer.readUInt32BE(body + 28) === length - EXTRA_FIELDS + 8
      : buffer.readUInt32BE(body + 24) === length - PACKET_FIELDS;
  return agrees ? { type, length } : 'none';
}

const PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [1, 'ICMP'],
  [6, 'TCP'],
  [17, 'UDP'],
  [58, 'ICMP'],
  [132, 'SCTP'],
]);

function toAlert(layout: EventLayout, body: Buffer): Alert {
  const number = (at: number): number => body.readUInt32BE(at);
  const microseconds = integer('the microsecond', number(12), 999_999);
  const addressed = addresses(layout, body);
  const protocol = addressed ? (PROTOCOLS.get(body[layout.protocol] ?? 0) ?? 'IP') : '';
  // In an ICMP event, type and code stand in the ports' place.
  const ported = protocol === 'TCP' || protocol === 'UDP';
  return {
    timeMicros: micros(integer('the second', number(8), MAX_UINT32), microseconds),
    vlan: layout.vlan === undefined ? 0 : integer('the VLAN id', body.readUInt16BE(layout.vlan), MAX_VLAN),
    gid: integer('the generator id', number(layout.gid), MAX_UINT32, 1),
    sid: integer('the signature id', number(layout.sid), MAX_UINT32, 1),
    rev: number(layout.rev),
    message: '',
    classification: '',
    priority: number(layout.priority),
    protocol,
    ...ends({
      protocol,
      sourceIp: addressed?.source,
      sourcePort: ported ? body.readUInt16BE(layout.ports) : undefined,
      destinationIp: addressed?.destination,
      destinationPort: ported ? body.readUInt16BE(layout.ports + 2) : undefined,
    }),
  };
}

/** Undefined for an event about a frame without IP. */
function addresses(layout: EventLayout, body: Buffer): { source: string; destination: string } | undefined {
  const bytes = (at: number, length: number): Buffer => body.subarray(at, at + length);
  if (layout.addresses !== 'either') {
    const length = layout.addresses;
    const both = bytes(layout.source, 2 * length);
    if (both.every((byte) => byte === 0)) return undefined;
    return { source: ipText(both.subarray(0, length)), destination: ipText(both.subarray(length)) };
  }
  // One byte has the source's version in its high half, the destination's in its low half; an IPv4 address is the last
  // 4 of 16 bytes.
  const versions = body[EVENT3_VERSIONS] ?? 0;
  const addressAt = (at: number, version: number): string => {
    if (version === 4) return ipText(bytes(at + 12, 4));
    if (version === 6) return ipText(bytes(at, 16));
    throw new Damaged('the IP version is neither 4 nor 6');
  };
  if (versions === 0) return undefined;
  return {
    source: addressAt(layout.source, versions >> 4),
    destination: addressAt(layout.source + 16, versions & 0x0f),
  };
}

function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(bytes.readUInt16BE(at).toString(16));
  return groups.join(':');
}
