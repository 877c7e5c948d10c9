/** One endpoint's capture: its interfaces, which share a VLAN id and counters, and how it goes over to other ones. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { watchDirections, type Directions } from './directions.ts';
import { goOnBehind, keepTail, type Marks } from './forward.ts';
import type { InterfaceCounters } from './interfaces.ts';
import {
  zeroCounters,
  type AttachSpec,
  type CaptureSettings,
  type Counters,
  type FromCapture,
  type Seen,
} from './protocol.ts';
import type { Library } from './ring.ts';
import { createTap, type Tap } from './tap.ts';
import type { Turns } from './turns.ts';

/** For so long before other interfaces are gone over to, it is kept in mind what was read. */
const TAIL_MILLIS = 20;
/** How long the interfaces that are left are read on while none of the others can be opened. */
const GO_OVER_MILLIS = 5_000;
const POLL_MILLIS = 5;

export interface Session {
  readonly spec: AttachSpec;
  readonly counters: Counters;
  /** Compares interfaces with the kernel; see Tap. */
  check(): void;
  /** Each second. */
  refresh(slowEngine: boolean): void;
  /**
   * Takes in what the kernel has counted at its interface.
   * @param kernel Of now, by the interfaces' names.
   * @returns undefined where that tells nothing of what it captures.
   */
  look(kernel: ReadonlyMap<string, InterfaceCounters>): Seen | undefined;
  /** Goes over to these interfaces: each packet is counted, and inspected, once. */
  goOver(spec: AttachSpec): Promise<void>;
  /** Ends the capture, once the packets that were captured until now are read. */
  close(): Promise<void>;
}

export interface SessionContext {
  library: Library;
  settings: CaptureSettings;
  turns: Turns;
  linkTypeName: (dlt: number) => string;
  send: (message: FromCapture) => void;
}

interface State extends SessionContext {
  spec: AttachSpec;
  readonly counters: Counters;
  readonly marks: Marks;
  taps: Tap[];
  /** Those that are counted: while others are gone over to, both have the same packets. */
  counted: Tap[];
  closing: boolean;
  /** Of the interface that was looked at last. */
  drops: { ifindex: number; dropped: number } | undefined;
  /** One after the other. */
  goingOver: Promise<void>;
}

/** @param key What its packets are kept by for alerts. */
export function createSession(spec: AttachSpec, context: SessionContext, key: number): Session {
  const counters = zeroCounters();
  const marks: Marks = {
    vlan: spec.vlan,
    counters,
    directions: directionsOf(spec, context.settings, counters),
    recent: { key, keep: spec.keep ?? 'full' },
  };
  const taps = createTaps(spec, marks, context);
  const state: State = {
    ...context,
    spec,
    counters,
    marks,
    taps,
    counted: taps,
    closing: false,
    drops: undefined,
    goingOver: Promise.resolve(),
  };
  taps.forEach(context.turns.add);
  return {
    get spec() {
      return state.spec;
    },
    counters,
    check: () => state.taps.forEach((tap) => tap.check()),
    refresh: (slowEngine) => refresh(state, slowEngine),
    look: (kernel) => look(state, kernel),
    goOver(wanted) {
      state.goingOver = state.goingOver.then(() => goOver(state, wanted));
      return state.goingOver;
    },
    close: () => close(state),
  };
}

function directionsOf(
  { addresses }: AttachSpec,
  { filter }: CaptureSettings,
  counters: Counters,
): Directions | undefined {
  return watchDirections(addresses ?? [], filter === '', counters);
}

function createTaps({ id, taps: specs }: AttachSpec, marks: Marks, context: SessionContext): Tap[] {
  const { library, settings, turns, linkTypeName, send } = context;
  const states: (FromCapture | undefined)[] = specs.map(() => undefined);
  /** The endpoint is captured once all of its interfaces are; the first one stands for it. */
  function note(index: number, state: FromCapture): void {
    states[index] = state;
    const shared =
      states.find((each) => each?.type === 'waiting') ?? (states.includes(undefined) ? undefined : states[0]);
    if (shared !== undefined) send(shared);
  }
  return specs.map((tapSpec, index) =>
    createTap(tapSpec, marks, library, settings, turns.wake, {
      attached: (link, ifindex) => note(index, { type: 'attached', id, linkType: linkTypeName(link), ifindex }),
      waiting: (reason) => note(index, { type: 'waiting', id, reason }),
      log: (level, message) => send({ type: 'log', level, id, message }),
    }),
  );
}

function refresh({ marks, counted }: State, slowEngine: boolean): void {
  marks.directions?.tick();
  for (const tap of counted) tap.refresh(slowEngine);
}

function look(state: State, kernel: ReadonlyMap<string, InterfaceCounters>): Seen | undefined {
  const [tap, ...others] = state.taps;
  const passed = tap === undefined ? undefined : kernel.get(tap.spec.interface);
  const captured = tap?.captured();
  if (tap === undefined || others.length > 0 || passed === undefined || captured === undefined) return undefined;
  const { ifindex, packets } = captured;
  noteDrops(state, ifindex, passed.dropped);
  return {
    name: tap.spec.interface,
    ifindex,
    interface: passed.packets,
    captured: packets,
    openings: tap.openings,
  };
}

function noteDrops(state: State, ifindex: number, dropped: number): void {
  const { drops, counters } = state;
  // The first number is where to count from; an interface that was made anew counts from 0.
  const before = drops === undefined ? dropped : drops.ifindex === ifindex ? drops.dropped : 0;
  counters.droppedInterface += Math.max(0, dropped - before);
  state.drops = { ifindex, dropped };
}

/** The new interfaces are captured first and read later; they go on behind what was read from the old ones. */
async function goOver(state: State, next: AttachSpec): Promise<void> {
  const { marks, turns, settings, counters, taps: old } = state;
  if (marks.recent !== undefined) marks.recent.keep = next.keep ?? 'full';
  const isSame = isDeepStrictEqual(next.taps, state.spec.taps);
  state.spec = next;
  if (isSame || state.closing) return;
  const tails = old.map(({ origin }) => keepTail(origin, Date.now() * 1000));
  const added = createTaps(next, marks, state);
  state.taps = [...old, ...added];
  await untilOpen(state, added);
  await sleep(TAIL_MILLIS);
  await Promise.all(old.map((tap) => closeTap(state, tap)));
  const cuts = tails.map((tail) => tail.cut());
  // What was seen of flows until now says nothing of what is seen here.
  marks.directions = directionsOf(next, settings, counters);
  for (const { origin } of added) goOnBehind(origin, cuts);
  added.forEach(turns.add);
  state.taps = state.counted = added;
  turns.wake();
}

async function untilOpen(state: State, added: readonly Tap[]): Promise<void> {
  const deadline = performance.now() + GO_OVER_MILLIS;
  for (const tap of added) tap.check();
  while (added.some((tap) => tap.ring() === undefined) && performance.now() < deadline && !state.closing)
    await sleep(POLL_MILLIS);
}

async function closeTap({ turns }: State, tap: Tap): Promise<void> {
  await tap.close();
  turns.remove(tap);
}

async function close(state: State): Promise<void> {
  state.closing = true;
  await Promise.all(state.taps.map((tap) => closeTap(state, tap)));
}
