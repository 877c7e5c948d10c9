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

export function createSession(first: AttachSpec, context: SessionContext): Session {
  const { library, settings, turns, send } = context;
  let spec = first;
  const counters = zeroCounters();
  const createDirections = (): Directions | undefined =>
    watchDirections(spec.addresses ?? [], settings.filter === '', counters);
  const marks: Marks = { vlan: spec.vlan, counters, directions: createDirections() };
  let taps = createTaps(spec);
  /** Those that are counted: while others are gone over to, both have the same packets. */
  let counted = taps;
  taps.forEach(turns.add);
  let closing = false;
  let drops: { ifindex: number; dropped: number } | undefined;
  /** One after the other. */
  let goingOver: Promise<void> = Promise.resolve();

  function createTaps({ id, taps: specs }: AttachSpec): Tap[] {
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
        attached: (link, ifindex) =>
          note(index, { type: 'attached', id, linkType: context.linkTypeName(link), ifindex }),
        waiting: (reason) => note(index, { type: 'waiting', id, reason }),
        log: (level, message) => send({ type: 'log', level, id, message }),
      }),
    );
  }

  function noteDrops(ifindex: number, dropped: number): void {
    // The first number is where to count from; an interface that was made anew counts from 0.
    const before = drops === undefined ? dropped : drops.ifindex === ifindex ? drops.dropped : 0;
    counters.droppedInterface += Math.max(0, dropped - before);
    drops = { ifindex, dropped };
  }

  async function closeTap(tap: Tap): Promise<void> {
    await tap.close();
    turns.remove(tap);
  }

  /** The new interfaces are captured first and read later; they go on behind what was read from the old ones. */
  function goOver(wanted: AttachSpec): Promise<void> {
    goingOver = goingOver.then(() => goOverTo(wanted));
    return goingOver;
  }

  async function goOverTo(next: AttachSpec): Promise<void> {
    const isSame = isDeepStrictEqual(next.taps, spec.taps);
    spec = next;
    if (isSame || closing) return;
    const old = taps;
    const tails = old.map(({ origin }) => keepTail(origin, Date.now() * 1000));
    const added = createTaps(next);
    taps = [...old, ...added];
    await untilOpen(added);
    await sleep(TAIL_MILLIS);
    await Promise.all(old.map(closeTap));
    const cuts = tails.map((tail) => tail.cut());
    // What was seen of flows until now says nothing of what is seen here.
    marks.directions = createDirections();
    for (const { origin } of added) goOnBehind(origin, cuts);
    added.forEach(turns.add);
    taps = counted = added;
    turns.wake();
  }

  async function untilOpen(added: Tap[]): Promise<void> {
    const deadline = performance.now() + GO_OVER_MILLIS;
    for (const tap of added) tap.check();
    while (added.some((tap) => tap.ring() === undefined) && performance.now() < deadline && !closing)
      await sleep(POLL_MILLIS);
  }

  return {
    get spec() {
      return spec;
    },
    counters,
    check: () => taps.forEach((tap) => tap.check()),
    refresh(slowEngine) {
      marks.directions?.tick();
      for (const tap of counted) tap.refresh(slowEngine);
    },
    look(kernel) {
      const [tap, ...others] = taps;
      const passed = tap === undefined ? undefined : kernel.get(tap.spec.interface);
      const captured = tap?.captured();
      if (tap === undefined || others.length > 0 || passed === undefined || captured === undefined) return undefined;
      const { ifindex, packets } = captured;
      noteDrops(ifindex, passed.dropped);
      return {
        name: tap.spec.interface,
        ifindex,
        interface: passed.packets,
        captured: packets,
        openings: tap.openings,
      };
    },
    goOver,
    async close() {
      closing = true;
      await Promise.all(taps.map(closeTap));
    },
  };
}
