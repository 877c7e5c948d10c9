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
import { createFlow, type Flow } from './flow.ts';
import { ESP, type Packet } from './packet.ts';

const WAYS = 16;
/** Two addresses of 4 words, the ports, and protocol and VLAN id. */
const KEY_WORDS = 10;
/** A hash's upper 16 bits are as good as random. */
const MAX_BUCKETS = 1 << 16;
/** Marks are 16 bits. */
const MARKS = 1 << 16;

export interface FlowTable {
  /** Whether the packet last looked up was sent by the end with the lower address. */
  low: boolean;
  /** The packet's flow. Undefined: it is not in the table; `insert` puts it there. */
  find(bytes: Buffer, packet: Packet, vlan: number): Flow | undefined;
  /** A flow for a packet that was not found. It has the contents of one that was forgotten. */
  insert(bytes: Buffer, packet: Packet, vlan: number): Flow;
  /** Forgets the flow last found. */
  remove(): void;
  /** Forgets an endpoint's flows. */
  forget(vlan: number): void;
}

/** @param most 1 or more; the table has the largest power of two up to it. */
export function createFlowTable(most: number): FlowTable {
  const size = 2 ** Math.floor(Math.log2(Math.max(1, Math.min(most, MAX_BUCKETS * WAYS))));
  const ways = Math.min(WAYS, size);
  const bucketShift = 32 - Math.log2(size / ways);
  const multipliers = randomFillSync(new Int32Array(2 * KEY_WORDS + 1));
  const key = new Int32Array(KEY_WORDS);
  const keys = new Int32Array(size * KEY_WORDS);
  const hashes = new Int32Array(size);
  /** 0: the place is free. */
  const vlans = new Uint16Array(size);
  const used = new Uint32Array(size);
  const flows = Array.from({ length: size }, (): Flow | undefined => undefined);
  const marks = new Uint16Array(size);
  const marked = new Uint32Array(MARKS);
  let clock = 0;
  let hash = 0;
  let place = -1;

  const table: FlowTable = {
    low: true,
    find(bytes, packet, vlan) {
      place = -1;
      if (marked[markOf(bytes, packet, vlan)] === 0) return undefined;
      writeKey(bytes, packet, vlan);
      clock = (clock + 1) >>> 0;
      const first = bucket();
      for (place = first; place < first + ways; place++) {
        if (hashes[place] === hash && vlans[place] === vlan && isKeyAt(place)) {
          used[place] = clock;
          return flows[place];
        }
      }
      place = -1;
      return undefined;
    },
    insert(bytes, packet, vlan) {
      writeKey(bytes, packet, vlan);
      place = placeFor(bucket());
      clear(place);
      const mark = markOf(bytes, packet, vlan);
      marks[place] = mark;
      marked[mark] = (marked[mark] ?? 0) + 1;
      hashes[place] = hash;
      vlans[place] = vlan;
      used[place] = clock;
      keys.set(key, place * KEY_WORDS);
      return (flows[place] ??= createFlow());
    },
    remove() {
      if (place >= 0) clear(place);
    },
    forget(vlan) {
      for (let at = 0; at < size; at++) if (vlans[at] === vlan) clear(at);
    },
  };

  function writeKey(bytes: Buffer, packet: Packet, vlan: number): void {
    const { source, destination, transport, version } = packet;
    const words = version === 4 ? 1 : 4;
    let order = 0;
    for (let word = 0; word < words && order === 0; word++) {
      order = int32(bytes, source + 4 * word) - int32(bytes, destination + 4 * word);
    }
    // ESP: the SPI, in place of ports.
    const isEsp = packet.protocol === ESP;
    if (order === 0 && !isEsp) order = uint16(bytes, transport) - uint16(bytes, transport + 2);
    table.low = order <= 0;
    const low = table.low ? source : destination;
    const high = table.low ? destination : source;
    for (let word = 0; word < 4; word++) {
      key[word] = word < words ? int32(bytes, low + 4 * word) : 0;
      key[4 + word] = word < words ? int32(bytes, high + 4 * word) : 0;
    }
    key[8] = isEsp
      ? int32(bytes, packet.payload - 8)
      : (uint16(bytes, transport + (table.low ? 0 : 2)) << 16) | uint16(bytes, transport + (table.low ? 2 : 0));
    key[9] = (packet.protocol << 16) | (version << 12) | vlan;
    hash = hashOf(version === 4);
  }

  function hashOf(short: boolean): number {
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
    const ports =
      protocol === ESP ? int32(bytes, payload - 8) : uint16(bytes, transport) + uint16(bytes, transport + 2);
    return (ports + vlan) & (MARKS - 1);
  }

  function clear(at: number): void {
    if (vlans[at] === 0) return;
    vlans[at] = 0;
    const mark = marks[at] ?? 0;
    marked[mark] = (marked[mark] ?? 0) - 1;
  }

  /** Where the bucket of the hash begins. */
  function bucket(): number {
    return size === ways ? 0 : (hash >>> bucketShift) * ways;
  }

  function isKeyAt(at: number): boolean {
    for (let word = 0; word < KEY_WORDS; word++) if (keys[at * KEY_WORDS + word] !== key[word]) return false;
    return true;
  }

  /** A free place, or the least recent one of the endpoint that has most places. */
  function placeFor(first: number): number {
    let best = first;
    let bestShare = -1;
    for (let at = first; at < first + ways; at++) {
      if (vlans[at] === 0) return at;
      const share = shareOf(first, vlans[at]);
      if (share > bestShare || (share === bestShare && age(at) > age(best))) {
        best = at;
        bestShare = share;
      }
    }
    return best;
  }

  function shareOf(first: number, vlan: number | undefined): number {
    let share = 0;
    for (let at = first; at < first + ways; at++) if (vlans[at] === vlan) share++;
    return share;
  }

  function age(at: number): number {
    return (clock - (used[at] ?? 0)) >>> 0;
  }

  return table;
}
