/**
 * Answers which packets a flow had lately, and which come: for an alert, from the agent, which holds and writes them.
 *
 * Bounded: so many flows at a time, and of each so many packets and bytes. Of a flow with more, the first quarter is its
 * beginning, the second what led to the alert, and the rest what followed.
 */
import { createBufferPool, type BufferPool } from '../../files/buffer-pool.ts';
import { addressBytes } from '../../endpoints/address.ts';
import { byteAt, uint16 } from '../bytes.ts';
import { BLOCK_HEAD, blockSize, writeBlock } from '../packet-block.ts';
import type { LastPackets, PacketQuery, PacketsEnd, SomePackets } from '../protocol.ts';
import { RECORD_HEADER } from '../record.ts';
import { TCP } from './layers.ts';
import type { Chunk, RecentMemory } from './memory.ts';
import { createSearch, hashesOf, type Flow, type Hit, type Search } from './search.ts';

/** Flows that are asked for at a time. */
const MAX_OPEN = 256;
/** Bytes of memory for packets that are held in all, so that a flow's go together: each message costs as much as 100 KB of them. */
const MAX_HELD = 4 << 20;
/** After so long the event loop goes on. */
const SLICE_MILLIS = 2;
/** How long what follows a connection's end is waited for: the last acknowledgement. */
const LINGER_MILLIS = 100;
/** Of what is to be sent of a flow, that is written together at least. */
const LEAST_WRITTEN = 4 << 10;
/** In the header of TCP. */
const FLAGS_AT = 13;
const [FIN, SYN, RST, ACK] = [0x01, 0x02, 0x04, 0x10];

/** Memory of the pool for blocks, as bytes and as words, and how many bytes are written. */
interface Writable {
  readonly bytes: Buffer;
  readonly words: Uint32Array;
  to: number;
}

/** Blocks of packets of one link type, that go with a message. They are written over once it is sent. */
export interface Pending {
  link: number;
  parts: readonly Buffer[];
}

export type SendPackets = (message: SomePackets | LastPackets, pending?: Pending) => void;

export interface PacketQueries {
  ask(query: PacketQuery): void;
  /** Ends all, with what is there. */
  stop(): void;
}

/** A packet that was found: where it is. */
interface Found {
  record: number;
  link: number;
  room: number;
  time: number;
  /** Captured bytes. */
  size: number;
  fragment: number;
  isLater: boolean;
  /** Of TCP: who sends, and its flags; else 0. */
  port: number;
  flags: number;
}

interface Open {
  readonly query: PacketQuery;
  readonly flow: Flow;
  /** On the clock of performance.now(). */
  deadline: number;
  packets: number;
  bytes: number;
  /** Blocks of packets that were not sent yet, of one link type; the last one is written to. */
  pending: Writable[];
  link: number;
  /** Ports that said FIN. */
  readonly finished: Set<number>;
  skipped: boolean;
  unfollow: () => void;
}

interface State {
  readonly memory: RecentMemory;
  readonly search: Search;
  readonly keyOf: (vlan: number) => number | undefined;
  readonly send: SendPackets;
  readonly pool: BufferPool;
  /** Whose packets are still to be looked for. */
  waiting: Open[];
  readonly open: Set<Open>;
  /** Bytes of what is pending, written or not. */
  held: number;
  looking: boolean;
  /** For the earliest deadline. */
  timer: NodeJS.Timeout | undefined;
  timerAt: number;
}

/** @param keyOf What the endpoint's packets are kept by that has this VLAN id, or had it last. */
export function createPacketQueries(
  memory: RecentMemory,
  keyOf: (vlan: number) => number | undefined,
  send: SendPackets,
): PacketQueries {
  const search = createSearch(memory);
  const state: State = {
    memory,
    search,
    keyOf,
    send,
    pool: createBufferPool(MAX_HELD),
    waiting: [],
    open: new Set(),
    held: 0,
    looking: false,
    timer: undefined,
    timerAt: Infinity,
  };
  return {
    ask: (query) => ask(state, query),
    stop() {
      for (const open of [...state.waiting, ...state.open]) finish(state, open, 'stopped');
    },
  };
}

function ask(state: State, query: PacketQuery): void {
  const flow = flowOf(query, state.keyOf(query.vlan));
  const reason = flow === undefined ? 'none' : 'busy';
  if (flow === undefined || state.waiting.length + state.open.size >= MAX_OPEN)
    return state.send({ type: 'packets-end', query: query.query, by: reason, skipped: false, lost: false });
  state.waiting.push({
    query,
    flow,
    deadline: performance.now() + query.afterMillis,
    packets: query.packets,
    bytes: query.bytes,
    pending: [],
    link: 0,
    finished: new Set(),
    skipped: false,
    unfollow: () => undefined,
  });
  if (!state.looking) lookFor(state);
}

function flowOf({ flow }: PacketQuery, key: number | undefined): Flow | undefined {
  const source = addressBytes(flow.source);
  const destination = addressBytes(flow.destination);
  if (key === undefined || source === undefined || source.length !== destination?.length) return undefined;
  const ends = { ...flow, key, source, destination };
  return { ...ends, hashes: hashesOf(ends) };
}

/** By and by, so that packets are read meanwhile. */
function lookFor(state: State): void {
  const late = performance.now() + SLICE_MILLIS;
  state.looking = true;
  for (let next = state.waiting.shift(); next !== undefined; next = state.waiting.shift()) {
    begin(state, next);
    if (state.waiting.length > 0 && performance.now() > late) return void setImmediate(lookFor, state);
  }
  state.looking = false;
}

function begin(state: State, open: Open): void {
  state.open.add(open);
  const found = latest(state, open);
  const bytes = sum(found, ({ size }) => blockSize(size));
  if (bytes > 0) beginPart(state, open, Math.min(bytes, MAX_HELD));
  for (const each of found) add(state, open, each);
  if (!state.open.has(open)) return;
  open.unfollow = state.search.follow(open.flow, (hit) => add(state, open, foundOf(state, hit)));
  lookAt(state, open.deadline);
}

/** On the clock of performance.now(), at the latest. */
function lookAt(state: State, time: number): void {
  if (time >= state.timerAt) return;
  clearTimeout(state.timer);
  state.timerAt = time;
  state.timer = setTimeout(look, Math.max(1, Math.ceil(time - performance.now())), state);
}

function look(state: State): void {
  const now = performance.now();
  state.timerAt = Infinity;
  for (const open of state.open) {
    if (now >= open.deadline) finish(state, open, open.finished.size > 1 ? 'flow' : 'time');
    else lookAt(state, open.deadline);
  }
}

function finish(state: State, open: Open, by: PacketsEnd): void {
  const { query, flow, skipped } = open;
  state.waiting = state.waiting.filter((other) => other !== open);
  state.open.delete(open);
  open.unfollow();
  const lost = state.memory.hasLost(flow.key);
  give(state, open, { type: 'packets-end', query: query.query, by, skipped, lost });
  if (state.open.size > 0) return;
  clearTimeout(state.timer);
  state.timerAt = Infinity;
}

// --- What was there --------------------------------------------------------------------------------------------------

/** The flow's beginning, what led to the alert, and what followed. */
function latest(state: State, open: Open): Found[] {
  const { query, flow } = open;
  const chunks = state.memory.chunksOf(flow.key);
  const [quarter, most] = [Math.ceil(query.packets / 4), query.packets];
  const back = { packets: 0, bytes: 0 };
  let found: Found[] = [];
  let from = chunks.length;
  // From the newest on, until there is enough before the alert.
  while (from > 0 && back.packets < 2 * quarter && back.bytes < query.bytes / 2) {
    const more = foundIn(state, open, chunks[--from]);
    if (more.length === 0) continue;
    for (const { time, size } of more) {
      if (time > query.time) continue;
      back.packets++;
      back.bytes += size;
    }
    found = [...more, ...found];
    // What is so far behind the alert is too much, whatever comes before it.
    if (back.packets === 0 && found.length > most) open.skipped = found.splice(most).length > 0 || open.skipped;
  }
  const begins = beginning(state, open, chunks.slice(0, from), quarter);
  return withoutStrangers(select(open, begins, found));
}

/** Of the chunks that were not looked at. */
function beginning(state: State, open: Open, chunks: readonly Chunk[], quarter: number): Found[] {
  let begins: Found[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    if (begins.length >= quarter || bytes >= open.query.bytes / 4) {
      // Whether the rest has any more is not looked at.
      open.skipped = true;
      break;
    }
    const more = foundIn(state, open, chunk);
    if (more.length === 0) continue;
    begins = [...begins, ...more];
    bytes = sum(begins, ({ size }) => size);
  }
  return begins;
}

function foundIn(state: State, { flow }: Open, chunk: Chunk | undefined): Found[] {
  const found: Found[] = [];
  if (chunk !== undefined) state.search.find(flow, chunk, (hit) => void found.push(foundOf(state, hit)));
  return found;
}

function foundOf({ memory: { bytes, view } }: State, { batch: { link, room }, record, layer }: Hit): Found {
  const time = view.getUint32(record, true) * 1e6 + view.getUint32(record + 4, true);
  const size = view.getUint32(record + 8, true);
  const hasFlags = layer.ports + FLAGS_AT < record + RECORD_HEADER + room + size;
  const isTcp = layer.protocol === TCP && layer.ports >= 0 && hasFlags;
  return {
    record,
    link,
    room,
    time,
    size,
    fragment: layer.fragment,
    isLater: layer.transport < 0,
    port: isTcp ? uint16(bytes, layer.ports) : 0,
    flags: isTcp ? byteAt(bytes, layer.ports + FLAGS_AT) : 0,
  };
}

/** Within what was asked for. */
function select(open: Open, begins: readonly Found[], found: readonly Found[]): Found[] {
  const { query } = open;
  const all = [...begins, ...found];
  if (all.length <= query.packets && sum(all, ({ size }) => size) <= query.bytes) return all;
  open.skipped = true;
  const alert = all.findLastIndex(({ time }) => time <= query.time) + 1;
  const quarter = { packets: query.packets / 4, bytes: query.bytes / 4 };
  const head = taking(all.slice(0, alert), quarter);
  const led = taking(all.slice(head.length, alert).toReversed(), quarter).toReversed();
  return [...head, ...led, ...all.slice(alert)];
}

/** At least one. */
function taking(packets: readonly Found[], most: { packets: number; bytes: number }): Found[] {
  let bytes = 0;
  const end = packets.findIndex(({ size }, index) => {
    bytes += size;
    return index > 0 && (index >= most.packets || bytes > most.bytes);
  });
  return packets.slice(0, end < 0 ? packets.length : end);
}

/** Without later fragments of datagrams that are not of the flow, as their first fragments tell. */
function withoutStrangers(packets: readonly Found[]): Found[] {
  const own = new Set(packets.flatMap(({ fragment, isLater }) => (fragment >= 0 && !isLater ? [fragment] : [])));
  return packets.filter(({ fragment, isLater }) => !isLater || own.has(fragment));
}

// --- What is sent ----------------------------------------------------------------------------------------------------

function add(state: State, open: Open, found: Found): void {
  if (!state.open.has(open)) return;
  const { link, size } = found;
  if (open.packets < 1 || open.bytes < size) {
    open.skipped = true;
    return finish(state, open, 'limit');
  }
  open.packets--;
  open.bytes -= size;
  if (state.held > MAX_HELD) for (const each of state.open) flush(state, each);
  else if (link !== open.link) flush(state, open);
  open.link = link;
  write(state, open, found);
  noteEnd(state, open, found);
}

function write(state: State, open: Open, { record, room, size, time }: Found): void {
  const { bytes, view } = state.memory;
  const length = blockSize(size);
  let part = open.pending.at(-1);
  if (part === undefined || part.to + length > part.bytes.length)
    part = beginPart(state, open, Math.max(length, LEAST_WRITTEN));
  const frame = record + RECORD_HEADER + room;
  writeBlock(part.words, part.to / 4, time, size, view.getUint32(record + 12, true));
  bytes.copy(part.bytes, part.to + BLOCK_HEAD, frame, frame + size);
  part.to += length;
}

function beginPart(state: State, { pending }: Open, size: number): Writable {
  const bytes = state.pool.take(size);
  const part = { bytes, words: new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), to: 0 };
  pending.push(part);
  state.held += bytes.length;
  return part;
}

function flush(state: State, open: Open): void {
  if (open.pending.some(({ to }) => to > 0)) give(state, open, { type: 'packets', query: open.query.query });
}

/** With all that is pending. */
function give(state: State, open: Open, message: SomePackets | LastPackets): void {
  const { pending, link } = open;
  const parts = pending.flatMap(({ bytes, to }) => (to > 0 ? [bytes.subarray(0, to)] : []));
  if (parts.length > 0) state.send(message, { link, parts });
  else state.send(message);
  for (const { bytes } of pending) {
    state.held -= bytes.length;
    state.pool.give(bytes);
  }
  open.pending = [];
}

/** A connection of TCP ends when both ends say so, or one breaks it off; its ports may be used again. */
function noteEnd(state: State, open: Open, { port, flags }: Found): void {
  if ((flags & (SYN | ACK)) === SYN) open.finished.clear();
  if ((flags & FIN) !== 0) open.finished.add(port);
  if ((flags & RST) !== 0) open.finished.add(-1).add(-2);
  if (open.finished.size < 2) return;
  open.deadline = Math.min(open.deadline, performance.now() + LINGER_MILLIS);
  lookAt(state, open.deadline);
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
