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

export function createTurns(output: Output, forwarder: Forwarder, snaplen: number): Turns {
  const { arena } = output;
  const least = RECORD_HEADER + MAX_ROOM + snaplen;
  let readings: Reading[] = [];
  let next = 0;
  let scheduled = false;
  let running = false;
  let ranAt = 0;
  /** When rings that are empty are to be read again. */
  let again = Infinity;
  let aheadTimer: NodeJS.Timeout | undefined;
  /** Bytes that were read since the engine has to read first. */
  const ahead = new Map<Reading, number>();
  let nextAhead = 0;

  function wake(): void {
    if (scheduled) return;
    const due = ranAt + apart(smallestReady()) - performance.now();
    if (due <= 0 && !running) run();
    else schedule(due);
  }

  function smallestReady(): number {
    let size = Infinity;
    for (const reading of readings) {
      const ring = reading.ring();
      if (ring?.ready === true) size = Math.min(size, ring.size);
    }
    return size;
  }

  function schedule(millis: number): void {
    if (scheduled) return;
    scheduled = true;
    if (millis < PRESSED_MILLIS / 2) setImmediate(run);
    else setTimeout(run, millis);
  }

  function run(): void {
    scheduled = false;
    running = true;
    again = Infinity;
    if (!output.blocked) ahead.clear();
    const end = performance.now() + ROUNDS_MILLIS;
    let more = true;
    while (more && !output.blocked) {
      more = round();
      // Before it is asked whether there is room.
      output.flush();
      ranAt = performance.now();
      if (ranAt > end) break;
    }
    running = false;
    // What waits in rings is read as soon as there is room: only rings that were emptied are given time to fill.
    if (more || output.blocked) ranAt = -Infinity;
    // When it is blocked, the output says when it no longer is.
    if (output.blocked) aheadTimer ??= setTimeout(readAhead, AHEAD_MILLIS);
    else if (more) schedule(0);
    else if (again < Infinity) schedule(again);
  }

  function readAhead(): void {
    aheadTimer = undefined;
    for (let count = readings.length; count > 0 && output.blocked; count--) {
      const reading = readings[nextAhead++ % readings.length];
      const ring = reading?.ring();
      const read = reading === undefined ? AHEAD_BYTES : (ahead.get(reading) ?? 0);
      if (reading === undefined || ring?.ready !== true || read >= AHEAD_BYTES) continue;
      const more = readPiece(reading, ring, AHEAD_BYTES);
      if (more < 0) break;
      ahead.set(reading, read + more);
    }
    if (output.blocked) aheadTimer = setTimeout(readAhead, AHEAD_MILLIS);
  }

  /** One turn for each, until the engine has to read first. @returns whether there may be more. */
  function round(): boolean {
    let more = false;
    for (let count = readings.length; count > 0; count--) {
      if (next >= readings.length) next = 0;
      const reading = readings[next++];
      const ring = reading?.ring();
      if (reading === undefined || ring?.ready !== true) continue;
      if (readPiece(reading, ring, TURN_BYTES) < 0) {
        next--;
        return true;
      }
      more ||= !ring.empty;
      if (output.blocked) return true;
    }
    return more;
  }

  /** @returns its bytes; -1: there is no room. */
  function readPiece(reading: Reading, ring: Ring, most: number): number {
    let from = arena.reserve(least);
    if (from < 0) {
      output.flush();
      from = arena.reserve(least);
      if (from < 0) return -1;
    }
    const to = ring.fill(
      arena.bytes,
      from,
      Math.min(arena.end, from + least + most),
      TURN_PACKETS,
      reading.origin.room,
    );
    if (to > from) forwarder.forward(reading.origin, from, to);
    const share = reading.read(ring, to - from);
    // It may have been the last of a ring that has a successor.
    if (ring.empty && !ring.failed && reading.ring() === ring) {
      if (share * ring.size < QUIET_BYTES) ring.rearm();
      else again = Math.min(again, share < PRESSED_SHARE ? apart(ring.size) : PRESSED_MILLIS);
    }
    if (arena.waiting > WRITTEN_BYTES) output.flush();
    return to - from;
  }

  return {
    add: (reading) => void readings.push(reading),
    remove(reading) {
      readings = readings.filter((other) => other !== reading);
      ahead.delete(reading);
    },
    wake,
  };
}

/** Milliseconds. */
function apart(ringSize: number): number {
  return Math.max(APART_MILLIS.least, Math.min(ringSize / FILL_BYTES_PER_MILLI, APART_MILLIS.most));
}
