/**
 * One endpoint's capture: a node-pcap session on its interface, opened again whenever the interface is another one.
 *
 * Two things of node-pcap shape this:
 * - dispatch reads until the kernel's ring is empty and only then gives the event loop back. A session that has read for
 *   MAX_DISPATCH_MILLIS without end gets a successor: a new ring on the same interface. The old one is read up to the packets
 *   that the new one has too, and closed there. A ring that was too small is replaced in the same way. Neither loses a packet,
 *   nor reads one twice: see handover.ts.
 * - close() only asks for the end; the socket and its ring are released by the next packet that arrives, which never comes on an
 *   interface that is idle or gone. Such handles stay, deaf, and `deadRings` counts them: when they are too many the agent
 *   moves to a new capture process. The native object is never let go, because its poll handle stays in libuv's list for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pcap, { type PcapSession } from 'pcap';
import { linkTypeFromName, MAX_PREFIX, REST_OFFSET, writeTaggedPrefix, type LinkType } from './frame.ts';
import { watchDirections } from './directions.ts';
import { createOverlap, createTail, type Cut, type Overlap, type Tail } from './handover.ts';
import { interfaceIdentity, interfaceState } from './interfaces.ts';
import type { Output } from './output.ts';
import { zeroCounters, type AttachSpec, type CaptureSettings, type Counters, type FromCapture } from './protocol.ts';

const MAX_DISPATCH_MILLIS = 250;
/** For so long before a ring gets a successor, it is kept in mind what was read from it. */
const TAIL_MILLIS = 20;
/** How long a ring is read on for its successor to go on behind it; it ends sooner unless the clock was set back. */
const MAX_RETIRING_MILLIS = 5_000;
/** The kernel's timer is not exact. */
const BLOCK_SLACK_MILLIS = 5;
/** How many packets go by between two looks at the clock. */
const CLOCK_EVERY = 512;
/** A ring that dropped packets grows by this factor. */
const RING_GROWTH = 4;

const NO_PACKET = Buffer.alloc(64);

/** Every handle of this process that was closed. */
const closed: Opened[] = [];

/** Bytes of the rings of handles that were closed and that libpcap has not released. */
export function deadRings(): number {
  return closed.reduce((sum, session) => sum + (session.released ? 0 : session.ringSize), 0);
}

/** Bytes that the sessions of this process hold for their `resume`. */
let heldBytes = 0;

// lookupnet fails on interfaces without an IPv4 address, as the host side of a veth; nothing here depends on it.
pcap.warningHandler = () => undefined;

export interface Session {
  readonly spec: AttachSpec;
  readonly counters: Counters;
  /** Compares with the kernel and opens, closes or reopens. Cheap enough for four times a second. */
  check(): void;
  /** Each second: takes the kernel's counters in, and grows a ring that overflowed. */
  refresh(): void;
  /** Another process is to go on behind this one: notes from now on what is read. */
  expectEnd(): void;
  /** Reads to the end of what the kernel has handed over, and ends there. To be called `handOverMillis` after `expectEnd`. */
  end(): Cut;
  /** In a process that is to go on behind another one: holds what is read from now on, up to `queueSize` bytes in all sessions. */
  hold(): void;
  /** Goes on with what was held, behind what the other process read, if anything. */
  resume(cut: Cut | undefined): void;
  /** Ends the capture, once the packets that were captured until now are read. */
  close(): Promise<void>;
}

/** After so many milliseconds the kernel has handed over what it has now: it does so with a block that is full, or at a timeout. */
export function handOverMillis(settings: CaptureSettings): number {
  return settings.timeoutMillis + BLOCK_SLACK_MILLIS;
}

interface Opened {
  handle: PcapSession;
  ifindex: number;
  /** Of the interface, see interfaceIdentity. */
  identity: number;
  /** undefined: frames that neither engine reads. */
  linkType: LinkType | undefined;
  restOffset: number;
  ringSize: number;
  /** Packets given to us by this handle. */
  delivered: number;
  lastReceived: number;
  lastDropped: number;
  lastInterfaceDropped: number;
  /** While it may give packets that were already read from the ring before it. */
  overlap?: Overlap;
  /** Set when it is to end: at the first packet captured after this time, in microseconds. */
  stopAt?: number;
  /** And when its ring is empty. */
  endsEmpty: boolean;
  /** On the clock of performance.now(): the latest end of either. */
  deadline: number;
  failed: boolean;
  /** The native handle is gone and must not be touched. */
  released: boolean;
}

interface HeldPacket {
  session: Opened;
  frame: Buffer;
  time: number;
  length: number;
}

/** @param behind Another process reads this endpoint: nothing is made of its packets until `resume`. */
export function createSession(
  spec: AttachSpec,
  settings: CaptureSettings,
  output: Output,
  tell: (message: FromCapture) => void,
  behind = false,
): Session {
  const counters = zeroCounters();
  const directions = watchDirections(spec.addresses ?? [], settings.filter === '', counters);
  const prefix = Buffer.alloc(MAX_PREFIX);
  let opened: Opened | undefined;
  let ringSize = spec.ringSize ?? settings.ringSize;
  let waitingFor = '';
  /** Of the packet read last, in microseconds. */
  let lastTime = 0;
  let dispatchStarted = 0;
  /** Until `resume`. */
  let isBehind = behind;
  let held: HeldPacket[] | undefined;
  /** While the end of a ring may be near. */
  let tail: Tail | undefined;
  /** Why the tail is kept when the ring is empty. */
  let ending = false;
  let growing = false;

  function check(): void {
    if (opened !== undefined) {
      if (!opened.failed && interfaceIdentity(spec.interface) === opened.identity) return;
      void release();
    }
    const state = interfaceState(spec.interface);
    if (state.is === 'absent') return wait(`there is no interface ${spec.interface}`);
    if (state.is === 'down') return wait(`${spec.interface} is down`);
    openAgain(state.ifindex);
  }

  function openAgain(ifindex: number): void {
    try {
      opened = openHandle(ifindex, ringSize);
    } catch (error) {
      return wait(`${spec.interface} cannot be captured: ${error instanceof Error ? error.message : String(error)}`);
    }
    // The name may have changed hands while it was opened.
    const now = interfaceState(spec.interface);
    if (now.is === 'absent' || now.ifindex !== ifindex) {
      void release();
      return wait(`${spec.interface} was replaced while it was opened`);
    }
    waitingFor = '';
    tell({ type: 'attached', id: spec.id, linkType: opened.handle.link_type, ifindex });
  }

  function wait(reason: string): void {
    if (reason !== waitingFor) tell({ type: 'waiting', id: spec.id, reason });
    waitingFor = reason;
  }

  function openHandle(ifindex: number, size: number): Opened {
    const handle = pcap.createSession(spec.interface, {
      filter: settings.filter,
      buffer_size: size,
      snap_length: settings.snaplen,
      buffer_timeout: settings.timeoutMillis,
      promiscuous: settings.promiscuous,
    });
    const linkType = linkTypeFromName(handle.link_type);
    const session: Opened = {
      handle,
      ifindex,
      identity: interfaceIdentity(spec.interface),
      linkType,
      restOffset: linkType === undefined ? 0 : REST_OFFSET[linkType],
      ringSize: size,
      delivered: 0,
      lastReceived: 0,
      lastDropped: 0,
      lastInterfaceDropped: 0,
      deadline: 0,
      endsEmpty: false,
      failed: false,
      released: false,
    };
    const header = new Uint32Array(handle.header.buffer, handle.header.byteOffset, 4);
    handle.on('packet', () => onPacket(session, header));
    // In place of the native method, which node-pcap itself calls once more in the next tick, even on a handle that is gone by then.
    const dispatch = handle.session.dispatch.bind(handle.session);
    handle.session.dispatch = (packet, info) => {
      if (session.released) return -2;
      dispatchStarted = performance.now();
      const result = dispatch(packet, info);
      session.released = result === -2;
      if (result === 0 && session.endsEmpty) retire(session);
      if (!ending && !growing) tail = undefined;
      output.flush();
      return result;
    };
    handle.session.read_callback = () => {
      if (read(session) !== -1) return;
      session.failed = true;
      if (session === opened) check();
    };
    return session;
  }

  /** Reads what is in the ring. @returns 0, -1 when the interface failed, -2 when the session was closed. */
  function read(session: Opened): number {
    return session.handle.session.dispatch(session.handle.buf, session.handle.header);
  }

  function onPacket(session: Opened, header: Uint32Array): void {
    const { handle } = session;
    const seconds = header[0] ?? 0;
    const micros = header[1] ?? 0;
    const length = header[3] ?? 0;
    const captured = Math.min(header[2] ?? 0, handle.buf.length);
    const time = seconds * 1e6 + micros;
    if (session.stopAt !== undefined && (time > session.stopAt || isLate(session))) {
      retire(session);
      return;
    }
    session.delivered++;
    if (held !== undefined) holdPacket(held, { session, frame: handle.buf.subarray(0, captured), time, length });
    else if (isBehind) counters.received--;
    else take(session, handle.buf, captured, length, time);
    if (session.delivered % CLOCK_EVERY === 0 && session === opened && session.stopAt === undefined && !isBehind) {
      const millis = performance.now() - dispatchStarted;
      if (millis > MAX_DISPATCH_MILLIS && tail !== undefined) succeed(session, ringSize);
      else if (millis > MAX_DISPATCH_MILLIS - TAIL_MILLIS) tail ??= createTail(lastTime);
    }
  }

  function take(session: Opened, frame: Buffer, captured: number, length: number, time: number): void {
    if (session.overlap !== undefined) {
      if (time > session.overlap.end || isLate(session)) {
        delete session.overlap;
      } else if (session.overlap.has(time, frame, captured)) {
        counters.received--;
        return;
      }
    }
    lastTime = time;
    tail?.add(time, frame, captured);
    counters.receivedBytes += length;
    if (captured < length) counters.truncated++;
    const { linkType } = session;
    if (directions?.curious === true && linkType !== undefined) directions.look(frame, captured, linkType);
    const seconds = Math.floor(time / 1e6);
    const prefixLength =
      linkType === undefined
        ? 0
        : writeTaggedPrefix(prefix, 0, frame, captured, length, seconds, time - seconds * 1e6, linkType, spec.vlan);
    if (prefixLength > 0) {
      const accepted = output.write(prefix, prefixLength, frame, session.restOffset, captured);
      if (accepted === 'accepted') {
        counters.forwarded++;
        counters.forwardedBytes += length;
      } else if (accepted === 'closed') {
        counters.droppedEngineDown++;
      } else {
        counters.droppedQueue++;
      }
    } else {
      counters.unsupported++;
    }
  }

  function holdPacket(packets: HeldPacket[], packet: HeldPacket): void {
    if (heldBytes + packet.frame.length > settings.queueSize) {
      counters.droppedQueue++;
      return;
    }
    heldBytes += packet.frame.length;
    packets.push({ ...packet, frame: Buffer.from(packet.frame) });
  }

  /** Looks at the clock for the sake of a few packets only: it is asked while a ring is ending or beginning. */
  function isLate(session: Opened): boolean {
    return performance.now() > session.deadline;
  }

  /** Opens a new ring in place of one that then ends behind what the new one has too. @returns whether there was room for it. */
  function succeed(old: Opened, size: number): boolean {
    try {
      opened = openHandle(old.ifindex, size);
    } catch (error) {
      tell({ type: 'warning', message: `${spec.id}: a new ring cannot be opened: ${String(error)}` });
      dispatchStarted = performance.now();
      return false;
    }
    endSoon(old);
    old.endsEmpty = true;
    return true;
  }

  function endSoon(session: Opened): void {
    // A millisecond more than the clock says: it shows whole ones.
    session.stopAt = (Date.now() + 1) * 1000;
    session.deadline = performance.now() + MAX_RETIRING_MILLIS;
  }

  /** The end of a ring that was read as far as it is wanted. What it has beyond that is its successor's, if there is one. */
  function retire(session: Opened): void {
    const successor = opened === session ? undefined : opened;
    refreshCounters(session);
    if (successor !== undefined) refreshCounters(successor);
    const left = inRing(session);
    const lost = isLate(session) ? Math.max(0, left - (successor === undefined ? 0 : inRing(successor))) : 0;
    counters.received -= left - lost;
    counters.droppedQueue += lost;
    if (successor !== undefined) goOn(successor, cut());
    close(session);
  }

  function goOn(session: Opened, from: Cut): void {
    session.overlap = createOverlap(from);
    session.deadline = performance.now() + MAX_RETIRING_MILLIS;
  }

  function cut(): Cut {
    return (tail ?? createTail(lastTime)).cut();
  }

  function refresh(): void {
    directions?.tick();
    if (opened === undefined || opened.failed) return;
    const dropped = refreshCounters(opened);
    if (dropped > 0 && opened.ringSize < settings.maxRingSize && !isBehind) void grow(opened);
  }

  async function grow(old: Opened): Promise<void> {
    if (growing) return;
    growing = true;
    tail ??= createTail(lastTime);
    await sleep(TAIL_MILLIS);
    growing = false;
    const size = Math.min(old.ringSize * RING_GROWTH, settings.maxRingSize);
    if (old !== opened || old.failed || old.stopAt !== undefined || !succeed(old, size)) return;
    ringSize = size;
    read(old);
    tell({ type: 'ring', id: spec.id, bytes: ringSize });
  }

  /** @returns packets that the kernel dropped since the last call. */
  function refreshCounters(session: Opened): number {
    let stats;
    try {
      stats = session.handle.stats();
    } catch {
      return 0;
    }
    // The kernel's counters are 32 bits wide.
    const received = (stats.ps_recv - session.lastReceived) >>> 0;
    const dropped = (stats.ps_drop - session.lastDropped) >>> 0;
    const interfaceDropped = Math.max(0, stats.ps_ifdrop - session.lastInterfaceDropped);
    session.lastReceived = stats.ps_recv;
    session.lastDropped = stats.ps_drop;
    session.lastInterfaceDropped = stats.ps_ifdrop;
    counters.received += received;
    counters.droppedKernel += dropped;
    counters.droppedInterface += interfaceDropped;
    return dropped;
  }

  function inRing(session: Opened): number {
    return Math.max(0, ((session.lastReceived - session.lastDropped) >>> 0) - session.delivered);
  }

  async function release(): Promise<void> {
    if (opened === undefined) return;
    const session = opened;
    opened = undefined;
    if (session.failed) {
      // The interface is gone, and nothing can be read from its socket any more.
      refreshCounters(session);
      counters.droppedDetached += inRing(session);
      close(session);
      return;
    }
    endSoon(session);
    await sleep(handOverMillis(settings));
    session.endsEmpty = true;
    read(session);
  }

  function close(session: Opened): void {
    session.handle.removeAllListeners();
    session.handle.session.read_callback = () => void read(session);
    session.handle.session.close();
    delete session.stopAt;
    session.endsEmpty = false;
    // No packet is put into it any more.
    session.handle.buf = NO_PACKET;
    closed.push(session);
  }

  function expectEnd(): void {
    ending = true;
    tail ??= createTail(lastTime);
  }

  function end(): Cut {
    if (opened !== undefined && !opened.failed) {
      endSoon(opened);
      opened.endsEmpty = true;
      read(opened);
    }
    return cut();
  }

  function hold(): void {
    held = [];
    // What was before is in the other process's counters.
    if (opened !== undefined) refreshCounters(opened);
    Object.assign(counters, zeroCounters(), { received: opened === undefined ? 0 : inRing(opened) });
  }

  function resume(from: Cut | undefined): void {
    const packets = held ?? [];
    held = undefined;
    isBehind = false;
    if (opened !== undefined && from !== undefined) goOn(opened, from);
    for (const { session, frame, time, length } of packets) {
      heldBytes -= frame.length;
      take(session, frame, frame.length, length, time);
    }
    output.flush();
  }

  return { spec, counters, check, refresh, expectEnd, end, hold, resume, close: release };
}
