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
import { messageOf } from '../files/errors.ts';
import { createOrigin, type Marks, type Origin } from './forward.ts';
import { interfaceIdentity, interfaceState } from './interfaces.ts';
import type { CaptureSettings } from './protocol.ts';
import type { Library, OpenOptions, Ring } from './ring.ts';
import { count, countOff, isRead, type Counted } from './tap/counted.ts';
import { newDemand, noteRead, sizeAfterRead, sizeAfterSecond, timeoutOf, type Demand } from './tap/demand.ts';
import type { Reading } from './turns.ts';

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
  /** Packets of the interface that was opened last; undefined: its name is nobody's now, or another one's. */
  captured(): { ifindex: number; packets: number } | undefined;
  /** Compares with the kernel and opens, closes or reopens. Cheap enough for four times a second. */
  check(): void;
  /** Each second: takes the kernel's counters in. `slowEngine`: it had no room for packets meanwhile. */
  refresh(slowEngine: boolean): void;
  /** Reads what was captured until now to its end, and closes. */
  close(): Promise<void>;
}

interface State {
  readonly spec: TapSpec;
  readonly marks: Marks;
  readonly library: Library;
  readonly settings: CaptureSettings;
  readonly wake: () => void;
  readonly events: TapEvents;
  readonly origin: Origin;
  readonly demand: Demand;
  /** Of the interface, see interfaceIdentity. */
  identity: number;
  current: Counted | undefined;
  /** Are read to their ends before `current`, in this order. */
  before: Counted[];
  /** Of rings that were left. */
  openings: number;
  /** Of the interface that was opened last, and packets of its rings that are closed. */
  ifindex: number;
  retired: number;
  /** Rings that are being closed: the kernel takes some milliseconds for each. */
  readonly releases: Set<Promise<unknown>>;
  opening: boolean;
  closing: boolean;
  /** Why it is not captured, as last told. */
  reason: string;
}

export function createTap(
  spec: TapSpec,
  marks: Marks,
  library: Library,
  settings: CaptureSettings,
  wake: () => void,
  events: TapEvents,
): Tap {
  const state: State = {
    spec,
    marks,
    library,
    settings,
    wake,
    events,
    origin: createOrigin(marks, -1),
    demand: newDemand(),
    identity: 0,
    current: undefined,
    before: [],
    openings: 0,
    ifindex: 0,
    retired: 0,
    releases: new Set(),
    opening: false,
    closing: false,
    reason: '',
  };
  return {
    spec,
    origin: state.origin,
    get openings() {
      return state.openings + (state.current?.ring.openings ?? 0);
    },
    captured: () => captured(state),
    ring: () => (state.before[0] ?? state.current)?.ring,
    read: (ring, bytes) => noteTurn(state, ring, bytes),
    check: () => check(state),
    refresh: (slowEngine) => refresh(state, slowEngine),
    close: () => close(state),
  };
}

function check(state: State): void {
  const { spec, library } = state;
  if (state.closing || state.opening) return;
  if (state.current !== undefined) {
    // /sys does not show a pod's interfaces: there the ring fails.
    if (spec.netns !== undefined || interfaceIdentity(spec.interface) === state.identity) return;
    leave(state);
  }
  const why = whyNotYet(spec, library);
  if (why === undefined) void open(state);
  else wait(state, why);
}

function whyNotYet(spec: TapSpec, library: Library): string | undefined {
  if (spec.netns !== undefined) {
    if (!library.entersNamespaces)
      return `${spec.interface} is in a pod's network namespace, which ${library.name} cannot enter (capture.library native can)`;
    return statSync(spec.netns, { throwIfNoEntry: false }) === undefined
      ? `the network namespace ${spec.netns} is gone`
      : undefined;
  }
  const { is } = interfaceState(spec.interface);
  if (is === 'absent') return `there is no interface ${spec.interface}`;
  return is === 'down' ? `${spec.interface} is down` : undefined;
}

function wait(state: State, why: string): void {
  if (why !== state.reason) state.events.waiting(why);
  state.reason = why;
}

async function open(state: State): Promise<void> {
  const { spec, library, settings } = state;
  state.opening = true;
  const wanted = spec.netns === undefined ? interfaceIdentity(spec.interface) : 0;
  let ring: Ring;
  try {
    ring = await library.open(openOptions(state, settings.ringSize));
  } catch (error) {
    state.opening = false;
    return wait(state, `${spec.interface} cannot be captured: ${messageOf(error)}`);
  }
  state.opening = false;
  // The name may have changed hands while it was opened.
  const isOther = spec.netns === undefined && interfaceIdentity(spec.interface) !== wanted;
  if (state.closing || isOther) {
    await ring.close();
    if (isOther) wait(state, `${spec.interface} was replaced while it was opened`);
    return;
  }
  state.identity = wanted;
  if (ring.ifindex !== state.ifindex) {
    state.ifindex = ring.ifindex;
    state.retired = 0;
  }
  use(state, ring);
  state.reason = '';
  state.events.attached(ring.link, ring.ifindex);
  state.wake();
}

function openOptions({ spec, settings }: State, size: number): OpenOptions {
  const timeoutMillis = timeoutOf(size, settings.timeoutMillis);
  return { interface: spec.interface, netns: spec.netns, size, timeoutMillis };
}

function use(state: State, ring: Ring): void {
  const { marks, origin, demand } = state;
  state.current = { ring, received: 0, dropped: 0 };
  demand.burst = 0;
  demand.busyAt = performance.now();
  Object.assign(origin, createOrigin(marks, ring.link), { overlap: origin.overlap, tail: origin.tail });
}

/** A piece was read. @returns which part of the ring was filled since it was last empty. */
function noteTurn(state: State, ring: Ring, bytes: number): number {
  const { demand, settings } = state;
  if (ring.failed && ring === state.current?.ring) {
    leave(state);
    check(state);
  }
  const share = noteRead(demand, bytes, ring.size);
  if (ring === state.current?.ring) resize(state, sizeAfterRead(demand, share, ring.size, settings.ringSize));
  if (!ring.empty) return share;
  demand.burst = 0;
  const [first] = state.before;
  if (first?.ring === ring && isRead(first)) retire(state, first);
  return share;
}

function ringsOf({ before, current }: State): Counted[] {
  return current === undefined ? before : [...before, current];
}

function captured(state: State): { ifindex: number; packets: number } | undefined {
  const { spec, identity, ifindex } = state;
  if (identity === 0 || interfaceIdentity(spec.interface) !== identity) return undefined;
  const own = ringsOf(state).filter(({ ring }) => ring.ifindex === ifindex);
  return { ifindex, packets: own.reduce((sum, { received }) => sum + received, state.retired) };
}

function refresh(state: State, slowEngine: boolean): void {
  const { marks, settings, demand, current } = state;
  const cause = slowEngine ? 'droppedQueue' : 'droppedKernel';
  const lost = ringsOf(state).reduce((sum, counted) => sum + count(marks.counters, counted, cause), 0);
  if (current !== undefined) resize(state, sizeAfterSecond(demand, current.ring.size, settings.ringSize, lost));
  demand.reads = 0;
}

/** Has a ring of another size take the place of the one that there is. @param wanted undefined: as it is. */
function resize(state: State, wanted: number | undefined): void {
  const { library, settings, events, demand, current: old } = state;
  if (wanted === undefined || !library.replaces || state.opening || state.closing) return;
  // Of two rings the kernel can tell which one gets a packet, and one that is being closed is still there.
  if (old === undefined || state.before.length > 0 || state.releases.size > 0) return;
  const size = Math.max(settings.ringSize, Math.min(wanted, settings.maxRingSize));
  if (old.ring.size === size) return;
  state.opening = true;
  library.open({ ...openOptions(state, size), before: old.ring }).then(
    (ring) => {
      state.opening = false;
      if (state.current === old) endReading(state, old);
      // It has the packets from now on, also where the interface has gone meanwhile.
      use(state, ring);
    },
    (error: unknown) => {
      state.opening = false;
      // A ring on an interface that has just gone, most often.
      if (state.current === old) events.log('warn', `a ring of ${size} bytes cannot be opened: ${String(error)}`);
      demand.busyAt = performance.now();
    },
  );
}

/** The interface is gone, down, another one, or no longer wanted: what its ring has is read. */
function leave(state: State): void {
  const { current } = state;
  if (current === undefined) return;
  state.openings += current.ring.openings;
  // One that only seemed to be gone would count what its successor counts.
  current.ring.mute();
  endReading(state, current);
}

function endReading(state: State, last: Counted): void {
  state.current = undefined;
  state.before.push(last);
  void readToEnd(state, last);
}

/** Its last block comes when it is full, or at a timeout. */
async function readToEnd(state: State, old: Counted): Promise<void> {
  const { ring } = old;
  for (let idle = 0; state.before.includes(old);) {
    await sleep(timeoutOf(ring.size, state.settings.timeoutMillis) + BLOCK_SLACK_MILLIS);
    if (!state.before.includes(old)) return;
    idle = ring.ready && !ring.failed ? 0 : idle + 1;
    if (isRead(old) || idle > MAX_IDLE) retire(state, old);
    else state.wake();
  }
}

/** @param cause Why it was not read to its end, if it was not. */
function retire(state: State, old: Counted, cause: 'droppedDetached' | 'droppedQueue' = 'droppedDetached'): void {
  countOff(state.marks.counters, old, cause);
  if (old.ring.ifindex === state.ifindex) state.retired += old.received;
  state.before = state.before.filter((other) => other !== old);
  release(state, old.ring);
  state.wake();
}

function release({ releases }: State, ring: Ring): void {
  const closed: Promise<unknown> = ring.close().then(() => releases.delete(closed));
  releases.add(closed);
}

async function close(state: State): Promise<void> {
  state.closing = true;
  const deadline = performance.now() + END_MILLIS;
  // What comes to the ring that is being opened does not come to the other one.
  while (state.opening && performance.now() < deadline) await sleep(POLL_MILLIS);
  leave(state);
  for (; state.before.length > 0 && performance.now() < deadline; state.wake()) await sleep(POLL_MILLIS);
  for (const old of state.before) retire(state, old, 'droppedQueue');
  await Promise.all(state.releases);
}
