/**
 * Packets by node-pcap, for machines where our own native part can't be loaded. Its traps are known only here:
 *
 * - `dispatch` calls back for each packet until the kernel's ring is empty, and only then gives the event loop back. So
 *   packets are put aside as they come, up to a bound for each ring, and what is beyond it is dropped and counted at
 *   once, which takes a fraction of what capturing it costs the kernel. A dispatch that does not end all the same is
 *   broken off, and the ring opened anew: what was in it is counted as dropped, and what came between as unseen.
 *   https://github.com/node-pcap/node_pcap/blob/master/pcap_session.cc
 * - close() asks for the end only; the socket and its ring are released by the next packet that arrives, which never
 *   comes on an interface that is idle or gone. `deadRings` counts them: when they are too many, the agent moves to a
 *   new process. The native object is never let go, because its poll handle stays in libuv's list for ever.
 *   https://github.com/node-pcap/node_pcap/issues/18, https://github.com/node-pcap/node_pcap/issues/108
 * - When the interface goes down, libuv stops asking for packets, and nobody is told. They come again with the
 *   interface, and stay in the ring: that is noticed, and the interface opened anew.
 * - It is built for one version of Node's binary interface, can't enter another network namespace, and can't replace a
 *   ring without a gap.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type Pcap from 'pcap';
import type { PcapSession } from 'pcap';
import { messageOf } from '../files/errors.ts';
import { whyNotLoaded } from '../native.ts';
import { interfaceState } from './interfaces.ts';
import { linkTypeNumber } from './frame/link.ts';
import { RECORD_HEADER } from './record.ts';
import { filterOn, type Library, type LibraryOptions, type OpenOptions, type Ring, type Statistics } from './ring.ts';

/** What is put aside of a ring: so much is always held until it is read. */
const ASIDE_BYTES = 1 << 20;
const MAX_DISPATCH_MILLIS = 100;
/** A ring that has packets for so long and is not read. */
const STALLED_MILLIS = 3_000;
/** How many packets go by between two looks at the clock. */
const CLOCK_EVERY = 512;
/** So many records that were read are kept for the sake of fewer copies of the list. */
const MOST_READ = 4096;
/** Its native part, which can end the process that loads it. */
const BINDING = 'build/Release/pcap_binding.node';
const NO_PACKET = Buffer.alloc(64);

/** What the rings of a process share. */
interface System {
  readonly pcap: typeof Pcap;
  readonly options: LibraryOptions;
  readonly now: () => number;
  /** Every handle that was closed and not released. */
  readonly dead: Set<{ size: number }>;
}

interface Opened {
  readonly session: PcapSession;
  /** Of the packet that it gives: seconds, microseconds, captured and original length. */
  readonly header: Uint32Array;
  released: boolean;
  /** When its last dispatch began, and packets that it has given since it was opened. */
  started: number;
  given: number;
}

interface State extends System {
  readonly open: OpenOptions;
  current: Opened;
  /** Records with their headers, as they came. */
  aside: Buffer[];
  asideBytes: number;
  /** Of those that are aside, the first that was not read. */
  next: number;
  readonly total: Statistics;
  /** Dropped here, by the kernel's rings before this one, and by this one up to now. */
  droppedHere: number;
  readonly earlier: { received: number; dropped: number };
  readonly last: { received: number; dropped: number };
  seen: number;
  failed: boolean;
  closed: boolean;
  /** Of those that the kernel has counted for this session: `seen` after which the rest is not wanted. */
  wanted: number;
  ifindex: number;
  openings: number;
  /** What the kernel had counted when the ring was last known to be empty or read, and when that was asked for. */
  readonly asked: { received: number; at: number };
  dispatched: boolean;
}

/** @throws Error when it can't be loaded. */
export async function createNodePcapLibrary(
  options: LibraryOptions,
  load: () => Promise<typeof Pcap> = loadPcap,
  now: () => number = () => performance.now(),
): Promise<Library> {
  const pcap = await load();
  // lookupnet fails on interfaces without an IPv4 address, as the host side of a veth; nothing here depends on it.
  pcap.warningHandler = () => undefined;
  const system: System = { pcap, options, now, dead: new Set() };
  return {
    name: 'node-pcap',
    replaces: false,
    entersNamespaces: false,
    open: (open) => Promise.resolve(open).then((wanted) => createRing(system, wanted)),
    deadRings: () => [...system.dead].reduce((sum, { size }) => sum + size, 0),
  };
}

function createRing(system: System, open: OpenOptions): Ring {
  const opened = openSession(system, open);
  const state: State = {
    ...system,
    open,
    current: opened,
    aside: [],
    asideBytes: 0,
    next: 0,
    total: { received: 0, dropped: 0, delivered: 0 },
    droppedHere: 0,
    earlier: { received: 0, dropped: 0 },
    last: { received: 0, dropped: 0 },
    seen: 0,
    failed: false,
    closed: false,
    wanted: Infinity,
    ifindex: 0,
    openings: 0,
    asked: { received: 0, at: system.now() },
    dispatched: false,
  };
  use(state, opened);
  return ringOf(state);
}

function ringOf(state: State): Ring {
  return {
    link: linkTypeNumber(state.current.session.link_type),
    get ifindex() {
      return state.ifindex;
    },
    size: state.open.size,
    get openings() {
      return state.openings;
    },
    get ready() {
      return state.next < state.aside.length || state.failed;
    },
    get empty() {
      return state.next >= state.aside.length;
    },
    get failed() {
      return state.failed && state.next >= state.aside.length;
    },
    fill: (arena, from, to, packets, room) => fill(state, arena, from, to, packets, room),
    // libuv asks the kernel.
    rearm: () => undefined,
    statistics: () => statistics(state),
    mute() {
      const { received, dropped } = readKernel(state);
      state.wanted = received - dropped;
    },
    close: () => Promise.resolve(close(state)),
  };
}

// --- A session -------------------------------------------------------------------------------------------------------

function openSession({ pcap, options }: System, { interface: name, size, timeoutMillis }: OpenOptions): Opened {
  const session = pcap.createSession(name, {
    filter: filterOn(name, options.filter),
    buffer_size: size,
    snap_length: options.snaplen,
    buffer_timeout: timeoutMillis,
    promiscuous: options.promiscuous,
  });
  const header = new Uint32Array(session.header.buffer, session.header.byteOffset, 4);
  return { session, header, released: false, started: 0, given: 0 };
}

function use(state: State, opened: Opened): void {
  const { session } = opened;
  state.openings++;
  const interfaceNow = interfaceState(state.open.interface);
  state.ifindex = interfaceNow.is === 'absent' ? 0 : interfaceNow.ifindex;
  session.on('packet', () => takePacket(state, opened));
  // In place of the native method, which node-pcap itself calls once more in the next tick, even on a handle that
  // is gone by then.
  const dispatch = session.session.dispatch.bind(session.session);
  session.session.dispatch = (packet, info) => {
    if (opened.released) return -2;
    opened.started = state.now();
    const result = dispatch(packet, info);
    state.dispatched = true;
    opened.released = result === -2;
    return result;
  };
  session.session.read_callback = () => {
    const result = session.session.dispatch(session.buf, session.header);
    if (opened !== state.current) return;
    state.failed ||= result === -1;
    state.options.ready();
  };
  state.current = opened;
}

/** Called within a dispatch. */
function takePacket(state: State, opened: Opened): void {
  const { session, header } = opened;
  if (state.closed || opened !== state.current) return;
  // This dispatch ends, and releases it.
  if (state.seen >= state.wanted) return session.session.close();
  state.seen++;
  putAside(state, session.buf, header);
  if (state.wanted < Infinity) return;
  if (++opened.given % CLOCK_EVERY === 0 && state.now() - opened.started > MAX_DISPATCH_MILLIS) startAgain(state);
}

function putAside(state: State, packet: Buffer, header: Uint32Array): void {
  const captured = Math.min(header[2] ?? 0, packet.length);
  if (state.asideBytes + captured > ASIDE_BYTES) {
    state.droppedHere++;
    return;
  }
  const record = Buffer.allocUnsafe(RECORD_HEADER + captured);
  for (const [index, value] of header.entries()) record.writeUInt32LE(index === 2 ? captured : value, 4 * index);
  packet.copy(record, RECORD_HEADER, 0, captured);
  state.aside.push(record);
  state.asideBytes += record.length;
}

/** Called within a dispatch, which ends with this packet. */
function startAgain(state: State): void {
  const { current: old, earlier, last } = state;
  old.session.removeAllListeners();
  const { received, dropped } = readKernel(state);
  earlier.received += received;
  earlier.dropped += dropped + Math.max(0, received - dropped - state.seen);
  old.session.session.close();
  // It is released when this dispatch ends.
  old.session.buf = NO_PACKET;
  last.received = last.dropped = state.seen = 0;
  try {
    use(state, openSession(state, state.open));
  } catch {
    // The interface has gone.
    state.failed = true;
  }
}

function close(state: State): void {
  const { current, dead } = state;
  readKernel(state);
  state.closed = true;
  current.session.removeAllListeners();
  if (current.released) return;
  const entry = { size: state.open.size };
  dead.add(entry);
  const { session } = current.session;
  session.read_callback = () => {
    if (session.dispatch(NO_PACKET, current.session.header) === -2) dead.delete(entry);
  };
  session.close();
  current.session.buf = NO_PACKET;
}

// --- What is read of it ----------------------------------------------------------------------------------------------

function fill(state: State, arena: Buffer, from: number, to: number, packets: number, room: number): number {
  const { aside, total } = state;
  let at = from;
  for (let count = 0; count < packets; count++) {
    const record = aside[state.next];
    if (record === undefined || at + room + record.length > to) break;
    record.copy(arena, at, 0, RECORD_HEADER);
    record.copy(arena, at + RECORD_HEADER + room, RECORD_HEADER);
    at += room + record.length;
    state.asideBytes -= record.length;
    total.delivered++;
    state.next++;
  }
  if (state.next >= aside.length || state.next >= MOST_READ) {
    state.aside = aside.slice(state.next);
    state.next = 0;
  }
  return at;
}

function statistics(state: State): Statistics {
  const { earlier, total } = state;
  if (state.wanted === Infinity) readIfStalled(state);
  const { received, dropped } = readKernel(state);
  total.received = earlier.received + received;
  total.dropped = earlier.dropped + dropped + state.droppedHere;
  return total;
}

/** The poll handle may ask no more: see above. */
function readIfStalled(state: State): void {
  const { asked, now } = state;
  const { received } = readKernel(state);
  if (state.dispatched || received <= asked.received) {
    Object.assign(asked, { received, at: now() });
  } else if (now() - asked.at > STALLED_MILLIS) {
    state.failed = true;
    state.current.session.session.read_callback();
  }
  state.dispatched = false;
}

/** The kernel's counters are 32 bits wide. */
function readKernel({ wanted, current, last }: State): { received: number; dropped: number } {
  if (wanted < Infinity) return last;
  try {
    const { ps_recv, ps_drop } = current.session.stats();
    last.received += (ps_recv - last.received) >>> 0;
    last.dropped += (ps_drop - last.dropped) >>> 0;
  } catch {
    // It is gone.
  }
  return last;
}

async function loadPcap(): Promise<typeof Pcap> {
  const { resolve } = createRequire(import.meta.url);
  try {
    const why = whyNotLoaded(join(dirname(resolve('pcap')), BINDING));
    if (why !== undefined) throw new Error(why);
    return (await import('pcap')).default;
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n');
    throw new Error(`node-pcap cannot be loaded: ${reason}`, { cause: error });
  }
}
