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

/** @throws Error when it can't be loaded. */
export async function createNodePcapLibrary(
  options: LibraryOptions,
  load: () => Promise<typeof Pcap> = loadPcap,
  now: () => number = () => performance.now(),
): Promise<Library> {
  const pcap = await load();
  // lookupnet fails on interfaces without an IPv4 address, as the host side of a veth; nothing here depends on it.
  pcap.warningHandler = () => undefined;
  /** Every handle that was closed and not released. */
  const dead = new Set<{ size: number }>();

  function openSession({ interface: name, size, timeoutMillis }: OpenOptions): PcapSession {
    return pcap.createSession(name, {
      filter: filterOn(name, options.filter),
      buffer_size: size,
      snap_length: options.snaplen,
      buffer_timeout: timeoutMillis,
      promiscuous: options.promiscuous,
    });
  }

  function createRing(open: OpenOptions): Ring {
    /** Records with their headers, as they came. */
    let aside: Buffer[] = [];
    let asideBytes = 0;
    let next = 0;
    const total: Statistics = { received: 0, dropped: 0, delivered: 0 };
    /** Dropped here, by the kernel's rings before this one, and by this one up to now. */
    let droppedHere = 0;
    const earlier = { received: 0, dropped: 0 };
    let seen = 0;
    const last = { received: 0, dropped: 0 };
    let failed = false;
    let closed = false;
    /** Of those that the kernel has counted for this session: `seen` after which the rest is not wanted. */
    let wanted = Infinity;
    let ifindex = 0;
    let openings = 0;
    /** What the kernel had counted when the ring was last known to be empty or read, and when that was asked for. */
    const asked = { received: 0, at: now() };
    let dispatched = false;
    let current = start();

    function start(): { session: PcapSession; released: boolean } {
      const session = openSession(open);
      openings++;
      const state = interfaceState(open.interface);
      ifindex = state.is === 'absent' ? 0 : state.ifindex;
      const opened = { session, released: false };
      const header = new Uint32Array(session.header.buffer, session.header.byteOffset, 4);
      let started = 0;
      let given = 0;
      session.on('packet', () => {
        if (closed || opened !== current) return;
        // This dispatch ends, and releases it.
        if (seen >= wanted) return session.session.close();
        seen++;
        putAside(session.buf, header);
        if (wanted < Infinity) return;
        if (++given % CLOCK_EVERY === 0 && now() - started > MAX_DISPATCH_MILLIS) startAgain(opened);
      });
      // In place of the native method, which node-pcap itself calls once more in the next tick, even on a handle that
      // is gone by then.
      const dispatch = session.session.dispatch.bind(session.session);
      session.session.dispatch = (packet, info) => {
        if (opened.released) return -2;
        started = now();
        const result = dispatch(packet, info);
        dispatched = true;
        opened.released = result === -2;
        return result;
      };
      session.session.read_callback = () => {
        const result = session.session.dispatch(session.buf, session.header);
        if (opened !== current) return;
        failed ||= result === -1;
        options.ready();
      };
      return opened;
    }

    function putAside(packet: Buffer, header: Uint32Array): void {
      const captured = Math.min(header[2] ?? 0, packet.length);
      if (asideBytes + captured > ASIDE_BYTES) {
        droppedHere++;
        return;
      }
      const record = Buffer.allocUnsafe(RECORD_HEADER + captured);
      for (const [index, value] of header.entries()) record.writeUInt32LE(index === 2 ? captured : value, 4 * index);
      packet.copy(record, RECORD_HEADER, 0, captured);
      aside.push(record);
      asideBytes += record.length;
    }

    /** Called within a dispatch, which ends with this packet. */
    function startAgain(old: typeof current): void {
      endSession(old.session);
      const { received, dropped } = readKernel();
      earlier.received += received;
      earlier.dropped += dropped + Math.max(0, received - dropped - seen);
      old.session.session.close();
      // It is released when this dispatch ends.
      old.session.buf = NO_PACKET;
      last.received = last.dropped = seen = 0;
      try {
        current = start();
      } catch {
        // The interface has gone.
        failed = true;
      }
    }

    /** The poll handle may ask no more: see above. */
    function readIfStalled(): void {
      const { received } = readKernel();
      if (dispatched || received <= asked.received) Object.assign(asked, { received, at: now() });
      else if (now() - asked.at > STALLED_MILLIS) readLast();
      dispatched = false;
    }

    function readLast(): void {
      failed = true;
      current.session.session.read_callback();
    }

    /** The kernel's counters are 32 bits wide. */
    function readKernel(): { received: number; dropped: number } {
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

    return {
      link: linkTypeNumber(current.session.link_type),
      get ifindex() {
        return ifindex;
      },
      size: open.size,
      get openings() {
        return openings;
      },
      get ready() {
        return next < aside.length || failed;
      },
      get empty() {
        return next >= aside.length;
      },
      get failed() {
        return failed && next >= aside.length;
      },
      fill(arena, from, to, packets, room) {
        let at = from;
        for (let count = 0; count < packets; count++) {
          const record = aside[next];
          if (record === undefined || at + room + record.length > to) break;
          record.copy(arena, at, 0, RECORD_HEADER);
          record.copy(arena, at + RECORD_HEADER + room, RECORD_HEADER);
          at += room + record.length;
          asideBytes -= record.length;
          total.delivered++;
          next++;
        }
        if (next >= aside.length || next >= MOST_READ) {
          aside = aside.slice(next);
          next = 0;
        }
        return at;
      },
      // libuv asks the kernel.
      rearm: () => undefined,
      statistics() {
        if (wanted === Infinity) readIfStalled();
        const { received, dropped } = readKernel();
        total.received = earlier.received + received;
        total.dropped = earlier.dropped + dropped + droppedHere;
        return total;
      },
      mute() {
        const { received, dropped } = readKernel();
        wanted = received - dropped;
      },
      close() {
        readKernel();
        closed = true;
        endSession(current.session);
        if (current.released) return Promise.resolve();
        const entry = { size: open.size };
        dead.add(entry);
        const { session } = current.session;
        session.read_callback = () => {
          if (session.dispatch(NO_PACKET, current.session.header) === -2) dead.delete(entry);
        };
        session.close();
        current.session.buf = NO_PACKET;
        return Promise.resolve();
      },
    };
  }

  return {
    name: 'node-pcap',
    replaces: false,
    entersNamespaces: false,
    open: (open) => Promise.resolve(open).then(createRing),
    deadRings: () => [...dead].reduce((sum, { size }) => sum + size, 0),
  };
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

function endSession(session: PcapSession): void {
  session.removeAllListeners();
}
