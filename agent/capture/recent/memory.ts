/**
 * The latest packets of a lane, as they were captured, for what an alert is to show.
 *
 * One piece of memory of a fixed size, in chunks. A chunk is a filter of the flows that are in it, and batches: a
 * header, then pcap records of one origin, with the room before each frame that the source left. So what a turn read is
 * copied once, and as a whole; which flows are in it is noted once, when it won't change any more (search.ts).
 *
 * Endpoints that send little share chunks; one that fills a quarter of such a chunk gets chunks of its own. A chunk
 * that is needed comes from who has the most, so a flood takes its own oldest packets first; nobody has more than three
 * quarters.
 *
 * Invariants: nothing outside `bytes` grows with what is kept, but for a few numbers of each chunk. Only in the chunk
 * that was added to last there are records that are not settled, and all of those are of its last batch.
 */
import { RECORD_HEADER } from '../record.ts';

/** Room for the largest record, and what is around it. */
export const CHUNK_BYTES = 272 * 1024;
export const FILTER_BYTES = 4096;
const BATCH_HEADER = 16;
const VLAN_BITS = 0xfff;
/** What an endpoint fills of a shared chunk before it gets its own. */
const OWN_FROM = CHUNK_BYTES / 4;

/** What is the same of packets that are kept together. */
export interface Kind {
  /** Tells one endpoint from others: its VLAN id in the lowest 12 bits, above them a number that rises with its owners. */
  readonly key: number;
  /** A number of https://www.tcpdump.org/linktypes.html or a DLT. */
  readonly link: number;
  /** Bytes before each frame. */
  readonly room: number;
}

export interface Chunk {
  /** Where it begins. */
  readonly base: number;
  /** Rises with each use: tells what is in it from what was. */
  serial: number;
  /** Bytes of it, its filter included. */
  used: number;
  /** How many of them are settled. */
  settled: number;
  /** Where the batch is that grows, 0: there is none; and what it is of. */
  batch: number;
  kind: Kind | undefined;
}

/** Chunks of one endpoint, or the shared ones. */
interface Log {
  readonly key: number;
  readonly chunks: Chunk[];
}

export interface RecentMemory {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Copies whole records, of up to 64 KiB together. @returns where they are. */
  addAll(kind: Kind, source: Buffer, from: number, to: number): number;
  /** Of those that were added last: what is behind this record goes, and of its frame all but the first `kept` bytes. */
  shorten(record: number, kept: number): void;
  /**
   * Copies a record's header and the first `kept` bytes of its frame. `addRest` adds to it.
   * @param captured Bytes of the frame that there may be in the end.
   */
  addHead(kind: Kind, source: Buffer, at: number, captured: number, kept: number): void;
  /** Copies what of the frame, that begins at `start`, was not kept. */
  addRest(source: Buffer, start: number, captured: number): void;
  /** Those in which there may be packets of this endpoint, the oldest first. */
  chunksOf(key: number): Chunk[];
  /** Whether something of it may have been overwritten. */
  hasLost(key: number): boolean;
  /** What was added last won't change any more. */
  settle(): void;
  /** Called once for all records, in their order: those of a batch that are in [from, to) won't change any more. */
  onSettled: OnSettled;
}

type OnSettled = (chunk: Chunk, kind: Kind, from: number, to: number) => void;

interface State {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly free: Chunk[];
  readonly shared: Log;
  readonly own: Map<number, Log>;
  readonly mostChunks: number;
  /** Of the shared chunk that is filled: bytes by endpoint. */
  readonly shares: Map<number, number>;
  /** By VLAN id, the latest endpoint of which something was overwritten. */
  readonly lost: Map<number, number>;
  serials: number;
  /** The record that was added last, and the chunk it is in. */
  record: number;
  chunk: Chunk | undefined;
  onSettled: OnSettled;
}

/** @param size Bytes in all; of fewer than two chunks nothing is kept. */
export function createRecentMemory(size: number): RecentMemory | undefined {
  const count = Math.floor(size / CHUNK_BYTES);
  if (count < 2) return undefined;
  const bytes = Buffer.allocUnsafeSlow(count * CHUNK_BYTES);
  const state: State = {
    bytes,
    view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
    free: Array.from({ length: count }, (_, index) => newChunk((count - 1 - index) * CHUNK_BYTES)),
    shared: { key: 0, chunks: [] },
    own: new Map(),
    mostChunks: Math.max(1, Math.floor((count * 3) / 4)),
    shares: new Map(),
    lost: new Map(),
    serials: 0,
    record: 0,
    chunk: undefined,
    onSettled: () => undefined,
  };
  return memoryOf(state);
}

function newChunk(base: number): Chunk {
  return { base, serial: 0, used: 0, settled: 0, batch: 0, kind: undefined };
}

function memoryOf(state: State): RecentMemory {
  return {
    bytes: state.bytes,
    view: state.view,
    addAll(kind, source, from, to) {
      const at = place(state, kind, to - from);
      source.copy(state.bytes, at, from, to);
      return at;
    },
    shorten: (record, kept) => shorten(state, record, kept),
    addHead: (kind, source, at, captured, kept) => addHead(state, kind, source, at, captured, kept),
    addRest: (source, start, captured) => addRest(state, source, start, captured),
    chunksOf(key) {
      const own = state.own.get(key)?.chunks ?? [];
      return [...state.shared.chunks, ...own].sort((one, other) => one.serial - other.serial);
    },
    hasLost: (key) => state.lost.get(key & VLAN_BITS) === key,
    settle: () => settle(state),
    get onSettled() {
      return state.onSettled;
    },
    set onSettled(call) {
      state.onSettled = call;
    },
  };
}

function addHead(state: State, kind: Kind, source: Buffer, at: number, captured: number, kept: number): void {
  const head = RECORD_HEADER + kind.room;
  const size = head + Math.min(kept, captured);
  const record = place(state, kind, size, head + captured);
  source.copy(state.bytes, record, at, at + size);
  state.view.setUint32(record + 8, size - head, true);
  state.record = record;
}

function shorten(state: State, record: number, kept: number): void {
  const { view, chunk } = state;
  if (chunk?.kind === undefined) return;
  const captured = Math.min(view.getUint32(record + 8, true), kept);
  view.setUint32(record + 8, captured, true);
  const end = record + RECORD_HEADER + chunk.kind.room + captured;
  grow(state, chunk, end - chunk.base - chunk.used);
}

function addRest(state: State, source: Buffer, start: number, captured: number): void {
  const { view, record, chunk } = state;
  if (chunk?.kind === undefined) return;
  const kept = view.getUint32(record + 8, true);
  const more = captured - kept;
  if (more <= 0) return;
  source.copy(state.bytes, chunk.base + chunk.used, start + kept, start + captured);
  view.setUint32(record + 8, captured, true);
  grow(state, chunk, more);
}

/** @param room Bytes that there has to be room for. @returns where `size` bytes are to be written. */
function place(state: State, kind: Kind, size: number, room: number = size): number {
  let log = state.own.get(kind.key) ?? state.shared;
  let chunk = log.chunks.at(-1);
  if (chunk !== state.chunk || chunk?.kind !== kind) settle(state);
  if (chunk === undefined || chunk.used + BATCH_HEADER + room > CHUNK_BYTES) {
    settle(state);
    log = logFor(state, kind.key, log);
    chunk = take(state, log);
  }
  if (chunk.kind !== kind) beginBatch(state, chunk, kind);
  if (log === state.shared) state.shares.set(kind.key, (state.shares.get(kind.key) ?? 0) + room);
  const at = chunk.base + chunk.used;
  grow(state, chunk, size);
  state.chunk = chunk;
  return at;
}

function beginBatch({ view }: State, chunk: Chunk, kind: Kind): void {
  const at = chunk.base + chunk.used;
  view.setUint32(at, 0, true);
  view.setUint32(at + 4, kind.key, true);
  view.setUint32(at + 8, kind.link, true);
  view.setUint32(at + 12, kind.room, true);
  chunk.batch = at;
  chunk.kind = kind;
  chunk.used += BATCH_HEADER;
  chunk.settled = chunk.used;
}

function settle(state: State): void {
  const { chunk } = state;
  if (chunk?.kind === undefined || chunk.settled === chunk.used) return;
  state.onSettled(chunk, chunk.kind, chunk.base + chunk.settled, chunk.base + chunk.used);
  chunk.settled = chunk.used;
}

function grow({ view }: State, chunk: Chunk, size: number): void {
  view.setUint32(chunk.batch, view.getUint32(chunk.batch, true) + size, true);
  chunk.used += size;
}

/** Whose chunk the endpoint writes to next. */
function logFor(state: State, key: number, log: Log): Log {
  if (log !== state.shared) return log;
  const isLarge = (state.shares.get(key) ?? 0) > OWN_FROM;
  state.shares.clear();
  if (!isLarge) return state.shared;
  const own: Log = { key, chunks: [] };
  state.own.set(key, own);
  return own;
}

function take(state: State, log: Log): Chunk {
  const isFull = log !== state.shared && log.chunks.length >= state.mostChunks;
  const chunk = (isFull ? undefined : state.free.pop()) ?? reuse(state, isFull ? log : richest(state));
  state.bytes.fill(0, chunk.base, chunk.base + FILTER_BYTES);
  chunk.serial = ++state.serials;
  chunk.used = chunk.settled = FILTER_BYTES;
  chunk.batch = 0;
  chunk.kind = undefined;
  log.chunks.push(chunk);
  return chunk;
}

/** Who has the most chunks. There is one: none is free. */
function richest({ shared, own }: State): Log {
  let most = shared;
  for (const log of own.values()) if (log.chunks.length > most.chunks.length) most = log;
  return most;
}

function reuse(state: State, log: Log): Chunk {
  const chunk = log.chunks.shift();
  if (chunk === undefined) throw new Error('there is no chunk');
  if (log !== state.shared && log.chunks.length === 0) state.own.delete(log.key);
  for (const { key } of batchesOf(state.view, chunk))
    state.lost.set(key & VLAN_BITS, Math.max(key, state.lost.get(key & VLAN_BITS) ?? 0));
  return chunk;
}

export interface Batch extends Kind {
  /** Where its records are in memory. */
  readonly from: number;
  readonly to: number;
}

export function* batchesOf(view: DataView, { base, used }: Chunk): Generator<Batch> {
  for (let offset = FILTER_BYTES; offset < used;) {
    const at = base + offset;
    const from = at + BATCH_HEADER;
    const to = from + view.getUint32(at, true);
    const key = view.getUint32(at + 4, true);
    const link = view.getUint32(at + 8, true);
    const room = view.getUint32(at + 12, true);
    yield { key, link, room, from, to };
    offset = to - base;
  }
}
