/**
 * One interface of an endpoint: a ring on it, opened again whenever the interface is another one, and of the size that
 * its traffic needs.
 *
 * A ring grows before it is full, and becomes small again when it has been quiet. The new ring gets each packet from a
 * moment on, and the old one is read to its end first: so neither loses a packet, nor changes their order.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { statSync } from 'node:fs';
import type { Tap as TapSpec } from '../endpoints/endpoint.ts';
import { createOrigin, type Marks, type Origin } from './forward.ts';
import { interfaceIdentity, interfaceState } from './interfaces.ts';
import type { CaptureSettings } from './protocol.ts';
import type { Library, Ring } from './ring.ts';
import type { Reading } from './turns.ts';
import { messageOf } from '../files/errors.ts';

const RING_GROWTH = 4;
/** A ring that brought less than this part of it at a time, for so long, is too large. */
const QUIET_PART = 16;
const QUIET_MILLIS = 60_000;
/**
 * A small ring has two blocks, of which the kernel closes each at a timeout: one that is read so often in a second has
 * no time to spare.
 */
const STEADY_READS = 20;
/** How long a ring is read to its end; what an engine has not taken by then is lost. */
const END_MILLIS = 5_000;
/** The kernel's timer is not exact. */
const BLOCK_SLACK_MILLIS = 5;
/**
 * A ring that has given nothing for so many timeouts, or has failed so often, has nothing to give, whatever its
 * statistics say.
 */
const MAX_IDLE = 3;
const POLL_MILLIS = 2;

export interface TapEvents {
  attached(link: number, ifindex: number): void;
  waiting(reason: string): void;
  log(level: 'info' | 'warn', message: string): void;
}

export interface Tap extends Reading {
  readonly spec: TapSpec;
  /** How often the interface was opened, where no ring took the place of another one. */
  readonly openings: number;
  /** Compares with the kernel and opens, closes or reopens. Cheap enough for four times a second. */
  check(): void;
  /** Each second: takes the kernel's counters in. `slowEngine`: it had no room for packets meanwhile. */
  refresh(slowEngine: boolean): void;
  /** Reads what was captured until now to its end, and closes. */
  close(): Promise<void>;
}

interface Counted {
  ring: Ring;
  received: number;
  dropped: number;
  /** So many are read; what comes later can't be kept away from each library's rings, and is not wanted. */
  until?: number;
}

export function createTap(
  spec: TapSpec,
  marks: Marks,
  library: Library,
  settings: CaptureSettings,
  wake: () => void,
  events: TapEvents,
): Tap {
  const { counters } = marks;
  const origin: Origin = createOrigin(marks, -1);
  /** Of the interface, see interfaceIdentity. */
  let identity = 0;
  let current: Counted | undefined;
  /** Are read to their ends before `current`, in this order. */
  let before: Counted[] = [];
  /** Of rings that were left. */
  let openings = 0;
  /** The kernel takes some milliseconds for each. */
  const releases = new Set<Promise<unknown>>();
  let opening = false;
  let closing = false;
  let reason = '';
  let slow = false;
  /** Bytes that were read since the ring was empty, and when they were many for its size. */
  let burst = 0;
  /** Since the last refresh. */
  let reads = 0;
  let busyAt = performance.now();

  function check(): void {
    if (closing || opening) return;
    if (current !== undefined) {
      // /sys does not show a pod's interfaces: there the ring fails.
      if (spec.netns !== undefined || interfaceIdentity(spec.interface) === identity) return;
      leave();
    }
    const why = whyNotYet();
    if (why === undefined) void open();
    else wait(why);
  }

  function whyNotYet(): string | undefined {
    if (spec.netns !== undefined) {
      if (!library.entersNamespaces)
        return `${spec.interface} is in a pod's network namespace, which ${library.name} cannot enter (capture.library native can)`;
      return statSync(spec.netns, { throwIfNoEntry: false }) === undefined
        ? `the network namespace ${spec.netns} is gone`
        : undefined;
    }
    const state = interfaceState(spec.interface);
    if (state.is === 'absent') return `there is no interface ${spec.interface}`;
    return state.is === 'down' ? `${spec.interface} is down` : undefined;
  }

  function wait(why: string): void {
    if (why !== reason) events.waiting(why);
    reason = why;
  }

  async function open(): Promise<void> {
    opening = true;
    const wanted = spec.netns === undefined ? interfaceIdentity(spec.interface) : 0;
    let ring: Ring;
    try {
      ring = await library.open({ interface: spec.interface, netns: spec.netns, size: settings.ringSize });
    } catch (error) {
      opening = false;
      return wait(`${spec.interface} cannot be captured: ${messageOf(error)}`);
    }
    opening = false;
    // The name may have changed hands while it was opened.
    const isOther = spec.netns === undefined && interfaceIdentity(spec.interface) !== wanted;
    if (closing || isOther) {
      await ring.close();
      if (isOther) wait(`${spec.interface} was replaced while it was opened`);
      return;
    }
    identity = wanted;
    use(ring);
    reason = '';
    events.attached(ring.link, ring.ifindex);
    wake();
  }

  function use(ring: Ring): void {
    current = { ring, received: 0, dropped: 0 };
    burst = 0;
    busyAt = performance.now();
    Object.assign(origin, createOrigin(marks, ring.link), { overlap: origin.overlap, tail: origin.tail });
  }

  function count(counted: Counted): number {
    const { received, dropped } = counted.ring.statistics();
    const lost = dropped - counted.dropped;
    counters.received += received - counted.received;
    counters[slow ? 'droppedQueue' : 'droppedKernel'] += lost;
    counted.received = received;
    counted.dropped = dropped;
    return lost;
  }

  /** The interface is gone, down, or another one: what its ring has is read. */
  function leave(): void {
    if (current === undefined) return;
    openings += current.ring.openings;
    endReading(current);
  }

  function endReading(last: Counted): void {
    current = undefined;
    before.push(last);
    void readToEnd(last);
  }

  function read(ring: Ring, bytes: number): number {
    if (ring.failed && ring === current?.ring) {
      leave();
      check();
    }
    burst += bytes;
    if (bytes > 0) reads++;
    const share = burst / ring.size;
    if (share >= 1 / QUIET_PART) busyAt = performance.now();
    if (share >= 1 / 2 && ring === current?.ring) resize(ring.size * RING_GROWTH);
    if (!ring.empty) return share;
    burst = 0;
    const [first] = before;
    if (first?.ring === ring && isRead(first)) retire(first);
    return share;
  }

  /** `cause`: why it was not read to its end, if it was not. */
  function retire(old: Counted, cause: 'droppedDetached' | 'droppedQueue' = 'droppedDetached'): void {
    count(old);
    const { delivered } = old.ring.statistics();
    const left = Math.max(0, old.received - old.dropped - delivered);
    if (old.until !== undefined && delivered >= old.until) counters.received -= left;
    else counters[cause] += left;
    before = before.filter((other) => other !== old);
    release(old.ring);
    wake();
  }

  function release(ring: Ring): void {
    const closed: Promise<unknown> = ring.close().then(() => releases.delete(closed));
    releases.add(closed);
  }

  function resize(wanted: number): void {
    const size = Math.max(settings.ringSize, Math.min(wanted, settings.maxRingSize));
    if (!library.replaces || opening || closing || current === undefined || before.length > 0) return;
    if (current.ring.size === size) return;
    opening = true;
    const old = current;
    library.open({ interface: spec.interface, netns: spec.netns, size, before: old.ring }).then(
      (ring) => {
        opening = false;
        if (current === old) endReading(old);
        // It has the packets from now on, also where the interface has gone meanwhile.
        use(ring);
      },
      (error: unknown) => {
        opening = false;
        // A ring on an interface that has just gone, most often.
        if (current === old) events.log('warn', `a ring of ${size} bytes cannot be opened: ${String(error)}`);
        busyAt = performance.now();
      },
    );
  }

  /** Its last block comes when it is full, or at a timeout. */
  async function readToEnd(old: Counted): Promise<void> {
    for (let idle = 0; before.includes(old);) {
      await sleep(settings.timeoutMillis + BLOCK_SLACK_MILLIS);
      if (!before.includes(old)) return;
      idle = old.ring.ready && !old.ring.failed ? 0 : idle + 1;
      if (isRead(old) || idle > MAX_IDLE) retire(old);
      else wake();
    }
  }

  async function close(): Promise<void> {
    closing = true;
    const deadline = performance.now() + END_MILLIS;
    // What comes to the ring that is being opened does not come to the other one.
    while (opening && performance.now() < deadline) await sleep(POLL_MILLIS);
    if (current !== undefined) {
      current.ring.mute();
      count(current);
      current.until = current.received - current.dropped;
      leave();
    }
    for (; before.length > 0 && performance.now() < deadline; wake()) await sleep(POLL_MILLIS);
    for (const old of before) retire(old, 'droppedQueue');
    await Promise.all(releases);
  }

  return {
    spec,
    origin,
    get openings() {
      return openings + (current?.ring.openings ?? 0);
    },
    ring: () => (before[0] ?? current)?.ring,
    read,
    check,
    refresh(slowEngine) {
      slow = slowEngine;
      const lost = [...before, ...(current === undefined ? [] : [current])].reduce((sum, ring) => sum + count(ring), 0);
      slow = false;
      const isSteady = reads >= STEADY_READS;
      reads = 0;
      if (current === undefined) return;
      if (isSteady) busyAt = performance.now();
      if (lost > 0) resize(current.ring.size * RING_GROWTH);
      else if (isSteady) resize(Math.max(current.ring.size, settings.ringSize * RING_GROWTH));
      else if (performance.now() - busyAt > QUIET_MILLIS) resize(settings.ringSize);
    },
    close,
  };
}

function isRead({ ring, until }: Counted): boolean {
  const { received, dropped, delivered } = ring.statistics();
  return delivered >= (until ?? received - dropped);
}
