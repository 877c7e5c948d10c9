/**
 * The flows that are followed, bounded: a table of buckets of up to 16 flows each.
 *
 * A flow is two addresses, two ports (or an SPI), a protocol and a VLAN id; both directions are one flow. Its bucket is
 * given by a multiply-add hash with keys that are random for each process (Dietzfelbinger 1996: two given flows meet in
 * a bucket with the chance of random numbers), so a pod can't choose flows that meet. A look-up compares 16 numbers at
 * most. Nothing is allocated but a flow's object, once for each place.
 *
 * Most packets belong to no flow that is followed. A count of flows by the sum of their ports and VLAN id says so of
 * most, at once.
 *
 * In a full bucket, the endpoint that has most of it loses its least recent flow: a pod with many flows loses its own.
 */
import { randomFillSync } from 'node:crypto';
import { int32, uint16 } from '../bytes.ts';
import { createFlow, type Direction, type Flow } from './flow.ts';
import { ESP, type Packet } from './packet.ts';

const WAYS = 16;
/** Two addresses of 4 words, the ports, and protocol and VLAN id. */
const KEY_WORDS = 10;
/** A hash's upper 16 bits are as good as random. */
const MAX_BUCKETS = 1 << 16;
/** Marks are 16 bits. */
const MARKS = 1 << 16;

/** A place is a number below `size`; those of one bucket follow each other. */
export interface FlowTable {
  /** Whether the packet last looked up was sent by the end with the lower address. */
  low: boolean;
  readonly size: number;
  /** Places in a bucket. */
  readonly ways: number;
  /** What is left of a hash behind it is the bucket. */
  readonly bucketShift: number;
  readonly multipliers: Int32Array;
  /** Of the packet last looked up: its flow's key and hash, and its place; -1: it has none. */
  readonly key: Int32Array;
  hash: number;
  place: number;
  /** Counts look-ups, and wraps around. */
  clock: number;

  // By place.
  readonly flows: (Flow | undefined)[];
  readonly keys: Int32Array;
  readonly hashes: Int32Array;
  /** 0: the place is free. */
  readonly vlans: Uint16Array;
  /** On the clock. */
  readonly used: Uint32Array;
  readonly marks: Uint16Array;

  /** How many flows have a mark. */
  readonly marked: Uint32Array;
}

/** @param most 1 or more; the table has the largest power of two up to it. */
export function createFlowTable(most: number): FlowTable {
  const size = 2 ** Math.floor(Math.log2(Math.max(1, Math.min(most, MAX_BUCKETS * WAYS))));
  const ways = Math.min(WAYS, size);
  return {
    low: true,
    size,
    ways,
    bucketShift: 32 - Math.log2(size / ways),
    multipliers: randomFillSync(new Int32Array(2 * KEY_WORDS + 1)),
    key: new Int32Array(KEY_WORDS),
    hash: 0,
    place: -1,
    clock: 0,
    flows: Array.from({ length: size }, (): Flow | undefined => undefined),
    keys: new Int32Array(size * KEY_WORDS),
    hashes: new Int32Array(size),
    vlans: new Uint16Array(size),
    used: new Uint32Array(size),
    marks: new Uint16Array(size),
    marked: new Uint32Array(MARKS),
  };
}

/** The packet's flow. Undefined: it is not in the table; `insertFlow` puts it there. */
export function findFlow(table: FlowTable, bytes: Buffer, packet: Packet, vlan: number): Flow | undefined {
  table.place = -1;
  if (table.marked[markOf(bytes, packet, vlan)] === 0) return undefined;
  writeKey(table, bytes, packet, vlan);
  table.clock = (table.clock + 1) >>> 0;
  const { ways, hashes, vlans, hash } = table;
  const first = bucket(table);
  for (let place = first; place < first + ways; place++) {
    if (hashes[place] === hash && vlans[place] === vlan && isKeyAt(table, place)) {
      table.place = place;
      table.used[place] = table.clock;
      return table.flows[place];
    }
  }
  return undefined;
}

/** A flow for a packet that was not found. It has the contents of one that was forgotten. */
export function insertFlow(table: FlowTable, bytes: Buffer, packet: Packet, vlan: number): Flow {
  writeKey(table, bytes, packet, vlan);
  const place = placeFor(table, bucket(table));
  clear(table, place);
  const mark = markOf(bytes, packet, vlan);
  table.place = place;
  table.marks[place] = mark;
  table.marked[mark] = (table.marked[mark] ?? 0) + 1;
  table.hashes[place] = table.hash;
  table.vlans[place] = vlan;
  table.used[place] = table.clock;
  table.keys.set(table.key, place * KEY_WORDS);
  return (table.flows[place] ??= createFlow());
}

/** Forgets the flow last found. */
export function removeFlow(table: FlowTable): void {
  if (table.place >= 0) clear(table, table.place);
}

/** Forgets an endpoint's flows. */
export function forgetFlows(table: FlowTable, vlan: number): void {
  for (let place = 0; place < table.size; place++) if (table.vlans[place] === vlan) clear(table, place);
}

/** The direction of the packet last looked up. */
export function ownEnd(table: FlowTable, flow: Flow): Direction {
  return table.low ? flow.low : flow.high;
}

export function otherEnd(table: FlowTable, flow: Flow): Direction {
  return table.low ? flow.high : flow.low;
}

function writeKey(table: FlowTable, bytes: Buffer, packet: Packet, vlan: number): void {
  const { key } = table;
  const { source, destination, transport, version } = packet;
  const words = version === 4 ? 1 : 4;
  let order = 0;
  for (let word = 0; word < words && order === 0; word++) {
    order = int32(bytes, source + 4 * word) - int32(bytes, destination + 4 * word);
  }
  // ESP: the SPI, in place of ports.
  const isEsp = packet.protocol === ESP;
  if (order === 0 && !isEsp) order = uint16(bytes, transport) - uint16(bytes, transport + 2);
  const isLow = order <= 0;
  const low = isLow ? source : destination;
  const high = isLow ? destination : source;
  for (let word = 0; word < 4; word++) {
    key[word] = word < words ? int32(bytes, low + 4 * word) : 0;
    key[4 + word] = word < words ? int32(bytes, high + 4 * word) : 0;
  }
  key[8] = isEsp
    ? int32(bytes, packet.payload - 8)
    : (uint16(bytes, transport + (isLow ? 0 : 2)) << 16) | uint16(bytes, transport + (isLow ? 2 : 0));
  key[9] = (packet.protocol << 16) | (version << 12) | vlan;
  table.low = isLow;
  table.hash = hashOf(key, table.multipliers, version === 4);
}

function hashOf(key: Int32Array, multipliers: Int32Array, short: boolean): number {
  let sum = multipliers[2 * KEY_WORDS] ?? 0;
  for (let word = 0; word < KEY_WORDS; word++) {
    // The addresses of IPv4 have one word each.
    if (short && (word & 3) !== 0 && word < 8) continue;
    const value = key[word] ?? 0;
    sum += Math.imul(multipliers[2 * word] ?? 0, value & 0xffff);
    sum += Math.imul(multipliers[2 * word + 1] ?? 0, value >>> 16);
    sum |= 0;
  }
  return sum;
}

/** The same for both directions. */
function markOf(bytes: Buffer, { protocol, transport, payload }: Packet, vlan: number): number {
  const ports = protocol === ESP ? int32(bytes, payload - 8) : uint16(bytes, transport) + uint16(bytes, transport + 2);
  return (ports + vlan) & (MARKS - 1);
}

function clear({ vlans, marks, marked }: FlowTable, place: number): void {
  if (vlans[place] === 0) return;
  vlans[place] = 0;
  const mark = marks[place] ?? 0;
  marked[mark] = (marked[mark] ?? 0) - 1;
}

/** Where the bucket of the hash begins. */
function bucket({ size, ways, hash, bucketShift }: FlowTable): number {
  return size === ways ? 0 : (hash >>> bucketShift) * ways;
}

function isKeyAt({ keys, key }: FlowTable, place: number): boolean {
  for (let word = 0; word < KEY_WORDS; word++) if (keys[place * KEY_WORDS + word] !== key[word]) return false;
  return true;
}

/** A free place, or the least recent one of the endpoint that has most places. */
function placeFor(table: FlowTable, first: number): number {
  const { vlans, ways } = table;
  let best = first;
  let bestShare = -1;
  for (let place = first; place < first + ways; place++) {
    if (vlans[place] === 0) return place;
    const share = shareOf(table, first, vlans[place]);
    if (share > bestShare || (share === bestShare && ageOf(table, place) > ageOf(table, best))) {
      best = place;
      bestShare = share;
    }
  }
  return best;
}

function shareOf({ vlans, ways }: FlowTable, first: number, vlan: number | undefined): number {
  let share = 0;
  for (let place = first; place < first + ways; place++) if (vlans[place] === vlan) share++;
  return share;
}

function ageOf({ clock, used }: FlowTable, place: number): number {
  return (clock - (used[place] ?? 0)) >>> 0;
}
