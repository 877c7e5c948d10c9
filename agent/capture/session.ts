/**
 * One endpoint's capture: a node-pcap session on its interface, opened again whenever the interface is another one.
 *
 * Two things of node-pcap shape this:
 * - dispatch reads until the kernel's ring is empty and only then gives the event loop back. A session that has read for
 *   MAX_DISPATCH_MILLIS without end is closed and opened anew; what lay in its ring is counted as lost.
 * - close() only asks for the end; the socket and its ring are released by the next packet that arrives, which never comes on an
 *   interface that is idle or gone. Such handles stay, deaf, and `deadRings` counts them: when they are too many the agent
 *   moves to a new capture process. The native object is never let go, because its poll handle stays in libuv's list for ever.
 */
import pcap, { type PcapSession } from 'pcap';
import { linkTypeFromName, MAX_PREFIX, REST_OFFSET, writeTaggedPrefix, type LinkType } from './frame.ts';
import { interfaceIdentity, interfaceState } from './interfaces.ts';
import type { Output } from './output.ts';
import { zeroCounters, type AttachSpec, type CaptureSettings, type Counters, type FromCapture } from './protocol.ts';

const MAX_DISPATCH_MILLIS = 100;
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

/** While true, rings fill and nothing is read from them. */
let held = false;

export function hold(on: boolean): void {
  held = on;
}

// lookupnet fails on interfaces without an IPv4 address, as the host side of a veth; nothing here depends on it.
pcap.warningHandler = () => undefined;

export interface Session {
  readonly spec: AttachSpec;
  readonly counters: Counters;
  /** Compares with the kernel and opens, closes or reopens. Cheap enough for four times a second. */
  check(): void;
  /** Takes the kernel's counters in, and grows a ring that overflowed. */
  refresh(): void;
  /** Reads the ring to its end. @returns the capture time of the last packet, in microseconds. */
  drain(): number;
  /** Passes over packets up to this time: another process has read them. */
  resume(until: number): void;
  /** Ends the capture. What is left in the ring is counted as dropped. */
  close(): void;
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
  /** Packets captured up to this time, in microseconds, were already read from the ring that this one replaced. */
  seenUntil: number;
  failed: boolean;
  /** The native handle is gone and must not be touched. */
  released: boolean;
}

export function createSession(
  spec: AttachSpec,
  settings: CaptureSettings,
  output: Output,
  tell: (message: FromCapture) => void,
): Session {
  const counters = zeroCounters();
  const prefix = Buffer.alloc(MAX_PREFIX);
  let opened: Opened | undefined;
  let ringSize = settings.ringSize;
  let waitingFor = '';
  /** Of the packet read last, in microseconds. */
  let lastTime = 0;
  let dispatchStarted = 0;

  function check(): void {
    if (opened !== undefined) {
      if (!opened.failed && interfaceIdentity(spec.interface) === opened.identity) return;
      release();
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
      release();
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
      seenUntil: 0,
      failed: false,
      released: false,
    };
    const header = new Uint32Array(handle.header.buffer, handle.header.byteOffset, 4);
    handle.on('packet', () => onPacket(session, header));
    // In place of the native method, which node-pcap itself calls once more in the next tick, even on a handle that is gone by then.
    const dispatch = handle.session.dispatch.bind(handle.session);
    handle.session.dispatch = (packet, info) => {
      if (session.released) return -2;
      if (held) return 0;
      dispatchStarted = performance.now();
      const result = dispatch(packet, info);
      session.released = result === -2;
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
    session.delivered++;
    if (session.seenUntil > 0 && seconds * 1e6 + micros <= session.seenUntil) {
      // The ring before this one had it too.
      counters.received--;
      return;
    }
    lastTime = seconds * 1e6 + micros;
    counters.receivedBytes += length;
    if (captured < length) counters.truncated++;
    const { linkType } = session;
    const prefixLength =
      linkType === undefined
        ? 0
        : writeTaggedPrefix(prefix, 0, handle.buf, captured, length, seconds, micros, linkType, spec.vlan);
    if (prefixLength > 0) {
      const accepted = output.write(prefix, prefixLength, handle.buf, session.restOffset, captured);
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
    if (session.delivered % CLOCK_EVERY === 0 && performance.now() - dispatchStarted > MAX_DISPATCH_MILLIS) {
      breakDispatch(session);
    }
  }

  /** Ends an endless dispatch: what is left in its ring is given up; a new ring takes over at once if it is still wanted. */
  function breakDispatch(session: Opened): void {
    if (session === opened) {
      try {
        opened = openHandle(session.ifindex, ringSize);
      } catch {
        // check() tries again.
        opened = undefined;
      }
    }
    refreshCounters(session);
    counters.droppedKernel += inRing(session);
    close(session);
  }

  function refresh(): void {
    if (opened === undefined || opened.failed) return;
    const dropped = refreshCounters(opened);
    if (dropped > 0 && opened.ringSize < settings.maxRingSize) grow(opened);
  }

  /** Loses nothing: the new ring runs before the old one is read to its end. */
  function grow(old: Opened): void {
    ringSize = Math.min(old.ringSize * RING_GROWTH, settings.maxRingSize);
    let bigger: Opened;
    try {
      bigger = openHandle(old.ifindex, ringSize);
    } catch (error) {
      ringSize = old.ringSize;
      tell({ type: 'warning', message: `${spec.id}: no room for a larger ring: ${String(error)}` });
      return;
    }
    opened = bigger;
    if (read(old) === 0) bigger.seenUntil = lastTime;
    passOn(old);
    close(old);
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

  function release(): void {
    if (opened === undefined) return;
    const session = opened;
    opened = undefined;
    // What is there can still be read, unless the interface is gone and the socket says so.
    if (!session.failed) read(session);
    destroy(session);
  }

  function destroy(session: Opened): void {
    if (session.released) return;
    refreshCounters(session);
    counters.droppedDetached += inRing(session);
    close(session);
  }

  function close(session: Opened): void {
    session.handle.removeAllListeners();
    session.handle.session.read_callback = () => void read(session);
    session.handle.session.close();
    // No packet is put into it any more.
    session.handle.buf = NO_PACKET;
    closed.push(session);
  }

  /** Reads all that is there, for another process to go on behind it. */
  function drain(): number {
    if (opened !== undefined && !opened.failed) {
      read(opened);
      passOn(opened);
    }
    return lastTime;
  }

  /** What came after the last read is in the successor's ring too, and is counted there. */
  function passOn(session: Opened): void {
    refreshCounters(session);
    counters.received -= inRing(session);
  }

  function resume(until: number): void {
    if (opened !== undefined) opened.seenUntil = until;
  }

  return { spec, counters, check, refresh, drain, resume, close: release };
}
