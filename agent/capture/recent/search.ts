/**
 * Finds the packets of a flow among the latest ones, and follows those that come.
 *
 * Each chunk has a filter of the flows in it. A record is looked at for the filter once, while its headers are still in
 * the processor's caches: later that costs several times as much. What is followed is found by the same look, so it
 * loses nothing. The hash of a plain frame is left in the room before it, so that the headers of a chunk's records are
 * not read again for each alert.
 *
 * Not promised: a fragment that comes before the first one of its datagram, of a flow that is followed.
 */
import { int32, uint16 } from '../bytes.ts';
import { linkTypeFromDlt, type LinkType } from '../frame/link.ts';
import { RECORD_HEADER } from '../record.ts';
import { createLayer, firstLayer, readLayer, readOnlyLayer, type Layer } from './layers.ts';
import { batchesOf, FILTER_BYTES, type Chunk, type Kind, type RecentMemory } from './memory.ts';

/** Bits of a filter, a power of two. */
const FILTER_BITS = FILTER_BYTES * 8;
/** A hash that is left before a frame; 0: none is. */
const HASH_BYTES = 4;
/** Layers of IP in a frame that are looked at. */
const MAX_LAYERS = 4;
/** Datagrams in fragments that a flow is known by at a time. */
const MAX_FRAGMENTS = 64;

/** Two ends and what they speak. Packets of both directions are of it. */
export interface Flow {
  /** Of the endpoint. */
  readonly key: number;
  readonly source: Buffer;
  readonly destination: Buffer;
  /** -1: the protocol has no ports. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The number in the header of IP; -1: any. */
  readonly protocol: number;
  /** See hashesOf. */
  readonly hashes: readonly number[];
}

/** A record in the memory. */
export interface Hit {
  readonly batch: Pick<Kind, 'link' | 'room'>;
  readonly record: number;
  /** The layer that is of the flow; it is used again. */
  readonly layer: Readonly<Layer>;
}

export interface Search {
  /** Calls back for each packet of the flow in a chunk, in order, and for later fragments that may be of it. */
  find(flow: Flow, chunk: Chunk, found: (hit: Hit) => void): void;
  /** From now on each packet of the flow is found, when it is settled. @returns what ends that. */
  follow(flow: Flow, found: (hit: Hit) => void): () => void;
}

interface Followed {
  readonly flow: Flow;
  readonly fragments: Fragments;
  readonly found: (hit: Hit) => void;
  /** The record that was found last, and the use of its chunk: a tunnel may carry packets of its own ends. */
  last: number;
  lastSerial: number;
}

interface State {
  readonly memory: RecentMemory;
  readonly layer: Layer;
  /** By hash. */
  readonly followed: Map<number, Followed[]>;
}

export function createSearch(memory: RecentMemory): Search {
  const state: State = { memory, layer: createLayer(), followed: new Map() };
  memory.onSettled = (chunk, kind, from, to) => index(state, chunk, kind, from, to);
  return {
    find: (flow, chunk, found) => find(state, flow, chunk, found),
    follow: (flow, found) => follow(state, flow, found),
  };
}

function follow(state: State, flow: Flow, found: (hit: Hit) => void): () => void {
  const followed: Followed = { flow, fragments: createFragments(), found, last: -1, lastSerial: 0 };
  for (const hash of flow.hashes) state.followed.set(hash, [...(state.followed.get(hash) ?? []), followed]);
  return () => {
    for (const hash of flow.hashes) {
      const others = (state.followed.get(hash) ?? []).filter((other) => other !== followed);
      if (others.length > 0) state.followed.set(hash, others);
      else state.followed.delete(hash);
    }
  };
}

function index(state: State, chunk: Chunk, kind: Kind, from: number, to: number): void {
  const { layer, followed } = state;
  const { bytes, view } = state.memory;
  const link = linkTypeFromDlt(kind.link);
  if (link === undefined) return;
  for (let record = from; record < to;) {
    const start = record + RECORD_HEADER + kind.room;
    const end = start + view.getUint32(record + 8, true);
    // Most are so, and cost a third then.
    if (link === 'ethernet' && readOnlyLayer(layer, bytes, start, end)) {
      const hash = note(bytes, chunk, layer, kind.key);
      if (kind.room >= HASH_BYTES) view.setInt32(record + RECORD_HEADER, hash, true);
      if (followed.size > 0) report(state, followed.get(hash), chunk, kind, record);
    } else {
      if (kind.room >= HASH_BYTES) view.setInt32(record + RECORD_HEADER, 0, true);
      indexLayers(state, chunk, kind, link, record);
    }
    record = end;
  }
}

function indexLayers(state: State, chunk: Chunk, kind: Kind, link: LinkType, record: number): void {
  const { layer, followed } = state;
  const { bytes, view } = state.memory;
  const start = record + RECORD_HEADER + kind.room;
  const end = start + view.getUint32(record + 8, true);
  let at = firstLayer(bytes, start, end, link);
  for (let count = 0; at >= 0 && count < MAX_LAYERS && readLayer(layer, bytes, at, end); count++) {
    const hash = note(bytes, chunk, layer, kind.key);
    if (followed.size > 0) report(state, followed.get(hash), chunk, kind, record);
    at = layer.inner;
  }
}

/** Puts it into the filter. @returns its hash. */
function note(bytes: Buffer, { base }: Chunk, layer: Layer, key: number): number {
  const hash = hashOf(bytes, layer, key);
  const bit = hash & (FILTER_BITS - 1);
  const byte = base + (bit >>> 3);
  bytes[byte] = (bytes[byte] ?? 0) | (1 << (bit & 7));
  return hash;
}

function report(
  { memory, layer }: State,
  entries: readonly Followed[] | undefined,
  { serial }: Chunk,
  batch: Kind,
  record: number,
): void {
  for (const entry of entries ?? []) {
    if (entry.flow.key !== batch.key || !isOf(memory.bytes, layer, entry.flow)) continue;
    if ((entry.last === record && entry.lastSerial === serial) || !entry.fragments.accepts(layer)) continue;
    entry.last = record;
    entry.lastSerial = serial;
    entry.found({ batch, record, layer });
  }
}

function find(state: State, flow: Flow, chunk: Chunk, found: (hit: Hit) => void): void {
  const { memory, layer } = state;
  const { bytes, view } = memory;
  if (!flow.hashes.some((hash) => hasBit(bytes, chunk, hash))) return;
  for (const batch of batchesOf(view, chunk)) {
    const link = linkTypeFromDlt(batch.link);
    if (batch.key !== flow.key || link === undefined) continue;
    for (let record = batch.from; record < batch.to;) {
      const start = record + RECORD_HEADER + batch.room;
      const end = start + view.getUint32(record + 8, true);
      const hash = batch.room >= HASH_BYTES ? view.getInt32(record + RECORD_HEADER, true) : 0;
      const mayBe = hash === 0 || flow.hashes.includes(hash);
      if (mayBe && isIn(layer, bytes, start, end, link, flow)) found({ batch, record, layer });
      record = end;
    }
  }
}

/** Whether a frame is of the flow; `layer` is the one that is. */
function isIn(layer: Layer, bytes: Buffer, start: number, end: number, link: LinkType, flow: Flow): boolean {
  if (link === 'ethernet' && readOnlyLayer(layer, bytes, start, end)) return isOf(bytes, layer, flow);
  let at = firstLayer(bytes, start, end, link);
  for (let count = 0; at >= 0 && count < MAX_LAYERS && readLayer(layer, bytes, at, end); count++) {
    if (isOf(bytes, layer, flow)) return true;
    at = layer.inner;
  }
  return false;
}

function hasBit(bytes: Buffer, { base }: Chunk, hash: number): boolean {
  const bit = hash & (FILTER_BITS - 1);
  return ((bytes[base + (bit >>> 3)] ?? 0) & (1 << (bit & 7))) !== 0;
}

/** A later fragment is told by its datagram's number only, so it may be of another flow of the same ends. */
function isOf(bytes: Buffer, layer: Layer, flow: Flow): boolean {
  const { size, source, destination, protocol, ports } = layer;
  if (size !== flow.source.length || (flow.protocol >= 0 && protocol !== flow.protocol)) return false;
  const sends = isAt(flow.source, bytes, source) && isAt(flow.destination, bytes, destination);
  const receives = isAt(flow.source, bytes, destination) && isAt(flow.destination, bytes, source);
  if (!sends && !receives) return false;
  // Where the protocol is not known either, what has ports is another flow.
  if (flow.sourcePort < 0) return flow.protocol >= 0 || ports < 0;
  if (ports < 0) return layer.fragment >= 0;
  const [from, to] = [uint16(bytes, ports), uint16(bytes, ports + 2)];
  return (
    (sends && from === flow.sourcePort && to === flow.destinationPort) ||
    (receives && to === flow.sourcePort && from === flow.destinationPort)
  );
}

function isAt(address: Buffer, bytes: Buffer, at: number): boolean {
  for (let offset = 0; offset < address.length; offset++) if (address[offset] !== bytes[at + offset]) return false;
  return true;
}

// --- Fragments -------------------------------------------------------------------------------------------------------

interface Fragments {
  /** Whether the packet is of the flow, as far as is known now: a first fragment makes its datagram known. */
  accepts(layer: Readonly<Layer>): boolean;
}

function createFragments(): Fragments {
  const known: number[] = [];
  return {
    accepts({ fragment, transport }) {
      if (fragment < 0) return true;
      if (transport < 0) return known.includes(fragment);
      known.push(fragment);
      if (known.length > MAX_FRAGMENTS) known.shift();
      return true;
    },
  };
}

// --- Hashes ----------------------------------------------------------------------------------------------------------

/** Of a flow, and of its fragments, which have no ports. */
export function hashesOf(flow: Omit<Flow, 'hashes'>): number[] {
  const { key, source, destination, sourcePort, destinationPort } = flow;
  const of = (address: Buffer, port: number): number => hashEnd(address, 0, address.length, Math.max(0, port));
  const whole = mixed(of(source, sourcePort), of(destination, destinationPort), key);
  return [...new Set([whole, mixed(of(source, 0), of(destination, 0), key)])];
}

/** The same for both directions. */
function hashOf(bytes: Buffer, { size, source, destination, ports }: Layer, key: number): number {
  const from = ports < 0 ? 0 : uint16(bytes, ports);
  const to = ports < 0 ? 0 : uint16(bytes, ports + 2);
  return mixed(hashEnd(bytes, source, size, from), hashEnd(bytes, destination, size, to), key);
}

function hashEnd(bytes: Buffer, address: number, size: number, port: number): number {
  let hash = port;
  for (let at = address; at < address + size; at += 4) hash = Math.imul(hash ^ int32(bytes, at), 0x9e37_79b1);
  return hash ^ (hash >>> 15);
}

/** As https://github.com/aappleby/smhasher, fmix32. */
function mixed(one: number, other: number, key: number): number {
  let hash = ((one + other) | 0) ^ Math.imul(key, 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35);
  return hash ^ (hash >>> 16);
}
