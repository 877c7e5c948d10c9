/**
 * Who is read when: rings take turns, a bounded piece each, so that one that floods leaves the others theirs, and the
 * event loop goes on at any load.
 *
 * While the engine is slower than what comes, packets wait in their endpoints' own rings, and one that is full drops
 * its own endpoint's packets. A ring that is read again each round never fills, so what an endpoint sends below its
 * share is not lost. A small ring has two blocks, of which the kernel closes each after some milliseconds, whatever is
 * in it: so a little of each is read ahead even when the engine has to read first.
 */
import type { Forwarder, Origin } from './forward.ts';
import { RECORD_HEADER } from './record.ts';
import type { Output } from './output.ts';
import type { Ring } from './ring.ts';

/**
 * What one ring is read in its turn: bytes, and packets, of which each costs an engine about as much as 8 KB of a large
 * one.
 */
const TURN_BYTES = 256 * 1024;
const TURN_PACKETS = 128;
/** After so long the event loop goes on. */
const ROUNDS_MILLIS = 5;
/** So much is written at a time at least, while there is more to read. */
const WRITTEN_BYTES = 64 * 1024;
const MAX_ROOM = 32;
/**
 * Each wake-up costs as much as many packets: rounds are so far apart that the rings that are ready have room for what
 * comes at 4 Gbit/s.
 */
const APART_MILLIS = { least: 2, most: 8 };
const FILL_BYTES_PER_MILLI = 512 * 1024;
/**
 * A ring that brought less than that is woken for; another one is read again without being asked for, the sooner the
 * fuller it was.
 */
const QUIET_BYTES = 2 * 1024;
const PRESSED_SHARE = 1 / 2;
const PRESSED_MILLIS = 1;

/** Of each ring, while the engine has to read first, and how often that is looked at. */
const AHEAD_BYTES = 32 * 1024;
const AHEAD_MILLIS = 4;

/** Something that is read: its ring may be another one each time. */
export interface Reading {
  ring(): Ring | undefined;
  readonly origin: Origin;
  /** After each piece; the ring may have failed. @returns which part of the ring was filled since it was last empty. */
  read(ring: Ring, bytes: number): number;
}

export interface Turns {
  add: (reading: Reading) => void;
  remove: (reading: Reading) => void;
  /** A ring has become ready, or there is room again. */
  wake: () => void;
}

interface State {
  readonly output: Output;
  readonly forwarder: Forwarder;
  /** Bytes that the largest record takes. */
  readonly least: number;
  readings: Reading[];
  /** Whose turn is next, in a round and ahead. */
  next: number;
  nextAhead: number;
  /** A run is to come, or is on. */
  scheduled: boolean;
  running: boolean;
  /** When the last round ended. */
  ranAt: number;
  /** After how many milliseconds rings that are empty are to be read again. */
  again: number;
  aheadTimer: NodeJS.Timeout | undefined;
  /** Bytes that were read since the engine has to read first. */
  readonly ahead: Map<Reading, number>;
}

export function createTurns(output: Output, forwarder: Forwarder, snaplen: number): Turns {
  const state: State = {
    output,
    forwarder,
    least: RECORD_HEADER + MAX_ROOM + snaplen,
    readings: [],
    next: 0,
    nextAhead: 0,
    scheduled: false,
    running: false,
    ranAt: 0,
    again: Infinity,
    aheadTimer: undefined,
    ahead: new Map(),
  };
  return {
    add: (reading) => void state.readings.push(reading),
    remove(reading) {
      state.readings = state.readings.filter((other) => other !== reading);
      state.ahead.delete(reading);
    },
    wake: () => wake(state),
  };
}

function wake(state: State): void {
  if (state.scheduled) return;
  const due = state.ranAt + apart(smallestReady(state.readings)) - performance.now();
  if (due <= 0 && !state.running) run(state);
  else schedule(state, due);
}

function smallestReady(readings: readonly Reading[]): number {
  let size = Infinity;
  for (const reading of readings) {
    const ring = reading.ring();
    if (ring?.ready === true) size = Math.min(size, ring.size);
  }
  return size;
}

function schedule(state: State, millis: number): void {
  if (state.scheduled) return;
  state.scheduled = true;
  if (millis < PRESSED_MILLIS / 2) setImmediate(run, state);
  else setTimeout(run, millis, state);
}

function run(state: State): void {
  const { output } = state;
  state.scheduled = false;
  state.running = true;
  state.again = Infinity;
  if (!output.blocked) state.ahead.clear();
  const more = readRounds(state);
  state.running = false;
  // What waits in rings is read as soon as there is room: only rings that were emptied are given time to fill.
  if (more || output.blocked) state.ranAt = -Infinity;
  // When it is blocked, the output says when it no longer is.
  if (output.blocked) state.aheadTimer ??= setTimeout(readAhead, AHEAD_MILLIS, state);
  else if (more) schedule(state, 0);
  else if (state.again < Infinity) schedule(state, state.again);
}

/** Until all rings are empty, the engine has to read first, or the event loop has waited. @returns as `readRound`. */
function readRounds(state: State): boolean {
  const { output } = state;
  const end = performance.now() + ROUNDS_MILLIS;
  let more = true;
  while (more && !output.blocked) {
    more = readRound(state);
    // Before it is asked whether there is room.
    output.flush();
    state.ranAt = performance.now();
    if (state.ranAt > end) break;
  }
  return more;
}

function readAhead(state: State): void {
  const { output, readings, ahead } = state;
  state.aheadTimer = undefined;
  for (let count = readings.length; count > 0 && output.blocked; count--) {
    const reading = readings[state.nextAhead++ % readings.length];
    const ring = reading?.ring();
    const read = reading === undefined ? AHEAD_BYTES : (ahead.get(reading) ?? 0);
    if (reading === undefined || ring?.ready !== true || read >= AHEAD_BYTES) continue;
    const more = readPiece(state, reading, ring, AHEAD_BYTES);
    if (more < 0) break;
    ahead.set(reading, read + more);
  }
  if (output.blocked) state.aheadTimer = setTimeout(readAhead, AHEAD_MILLIS, state);
}

/** One turn for each, until the engine has to read first. @returns whether there may be more. */
function readRound(state: State): boolean {
  const { output } = state;
  let more = false;
  for (let count = state.readings.length; count > 0; count--) {
    if (state.next >= state.readings.length) state.next = 0;
    const reading = state.readings[state.next++];
    const ring = reading?.ring();
    if (reading === undefined || ring?.ready !== true) continue;
    if (readPiece(state, reading, ring, TURN_BYTES) < 0) {
      state.next--;
      return true;
    }
    more ||= !ring.empty;
    if (output.blocked) return true;
  }
  return more;
}

/** @returns its bytes; -1: there is no room. */
function readPiece(state: State, reading: Reading, ring: Ring, most: number): number {
  const { output, forwarder, least } = state;
  const { arena } = output;
  let from = arena.reserve(least);
  if (from < 0) {
    output.flush();
    from = arena.reserve(least);
    if (from < 0) return -1;
  }
  const to = ring.fill(arena.bytes, from, Math.min(arena.end, from + least + most), TURN_PACKETS, reading.origin.room);
  if (to > from) forwarder.forward(reading.origin, from, to);
  const share = reading.read(ring, to - from);
  // It may have been the last of a ring that has a successor.
  if (ring.empty && !ring.failed && reading.ring() === ring) {
    if (share * ring.size < QUIET_BYTES) ring.rearm();
    else state.again = Math.min(state.again, share < PRESSED_SHARE ? apart(ring.size) : PRESSED_MILLIS);
  }
  if (arena.waiting > WRITTEN_BYTES) output.flush();
  return to - from;
}

/** Milliseconds. */
function apart(ringSize: number): number {
  return Math.max(APART_MILLIS.least, Math.min(ringSize / FILL_BYTES_PER_MILLI, APART_MILLIS.most));
}
