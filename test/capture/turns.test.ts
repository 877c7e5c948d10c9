import { describe, expect, test } from '@jest/globals';
import { setImmediate as tick, setTimeout as sleep } from 'node:timers/promises';
import { createForwarder, createOrigin } from '../../agent/capture/forward.ts';
import { RECORD_HEADER } from '../../agent/capture/record.ts';
import { zeroCounters } from '../../agent/capture/protocol.ts';
import type { Ring } from '../../agent/capture/ring.ts';
import { createTurns, type Reading, type Turns } from '../../agent/capture/turns.ts';
import { createFakeOutput, putRecord, type FakeOutput } from '../support/capture.ts';
import { ethernet } from '../support/packets.ts';

const SNAPLEN = 65_535;

interface FakeRing extends Ring {
  /** Packets that wait in it; Infinity: one that floods. */
  left: number;
  failed: boolean;
  given: number;
  rearmed: number;
  fills: { bytes: number; packets: number; given: number }[];
}

function createRing(left: number, frameBytes = 100): FakeRing {
  const frame = ethernet(Buffer.alloc(frameBytes - 14), { type: 0x8137 });
  const record = RECORD_HEADER + 4 + frameBytes;
  let armed = false;
  let empty = false;
  const ring: FakeRing = {
    link: 1,
    ifindex: 1,
    openings: 1,
    size: 1 << 20,
    left,
    failed: false,
    given: 0,
    rearmed: 0,
    fills: [],
    get ready() {
      return ring.failed || (!armed ? true : ring.left > 0);
    },
    get empty() {
      return empty;
    },
    fill(arena, from, to, packets, room) {
      let at = from;
      let count = 0;
      for (; count < packets && ring.left > 0 && at + RECORD_HEADER + room + SNAPLEN <= to; count++) {
        at = putRecord(arena, at, room, { seconds: ring.given++, micros: 0, frame, length: frameBytes });
        ring.left--;
      }
      ring.fills.push({ bytes: to - from, packets, given: count });
      empty = !ring.failed && ring.left === 0;
      armed = false;
      expect(at - from).toBe(count * record);
      return at;
    },
    rearm() {
      armed = true;
      ring.rearmed++;
    },
    statistics: () => ({ received: 0, dropped: 0, delivered: ring.given }),
    mute: () => undefined,
    close: () => Promise.resolve(),
  };
  return ring;
}

interface Bench {
  output: FakeOutput;
  turns: Turns;
  rings: FakeRing[];
  readings: Reading[];
  /** Pieces that readings were told of. */
  told: number[][];
}

function createBench(rings: FakeRing[], arenaBytes = 4 << 20): Bench {
  const output = createFakeOutput(arenaBytes);
  output.flush = () => void output.read();
  const turns = createTurns(output, createForwarder(output, undefined), SNAPLEN);
  const told: number[][] = rings.map(() => []);
  const readings = rings.map((ring, index): Reading => ({
    ring: () => ring,
    origin: createOrigin({ vlan: index + 1, counters: zeroCounters(), directions: undefined }, 1),
    read: (_ring, bytes) => {
      told[index]?.push(bytes);
      return 0;
    },
  }));
  readings.forEach((reading) => turns.add(reading));
  return { output, turns, rings, readings, told };
}

/** Packets of 120 bytes of one ring that are read ahead: up to 32 KiB, in pieces of 128. */
const MOST_AHEAD = 384;

const given = (rings: readonly FakeRing[]): number[] => rings.map((ring) => ring.given);

describe('turns', () => {
  test('read every ring to its end, and ask to be woken then', async () => {
    const { turns, rings, told } = createBench([createRing(10), createRing(1000), createRing(0)]);
    turns.wake();
    while (rings.some(({ left, rearmed }) => left > 0 || rearmed === 0)) await tick();
    expect(given(rings)).toEqual([10, 1000, 0]);
    expect(rings.map(({ rearmed }) => rearmed)).toEqual([1, 1, 1]);
    expect(told.map((pieces) => pieces.reduce((sum, bytes) => sum + bytes, 0))).toEqual([1200, 120_000, 0]);
    for (let more = 0; more < 5; more++) await tick();
    expect(rings.map(({ fills }) => fills.length)).toEqual([1, Math.ceil(1001 / 128), 1]);
  });

  test('come again by themselves for a ring that brings much, until it brings little', async () => {
    const ring = createRing(100);
    const { turns, readings } = createBench([ring]);
    let share = 1 / 100;
    for (const reading of readings) reading.read = () => share;
    turns.wake();
    while (ring.fills.length < 3 && ring.rearmed === 0) await tick();
    expect(ring.rearmed).toBe(0);
    share = 1 / 1000;
    while (ring.rearmed === 0) await tick();
    const { length } = ring.fills;
    await sleep(20);
    expect(ring.fills).toHaveLength(length);
  });

  test('are a bounded piece each', async () => {
    const { turns, rings } = createBench([createRing(2000), createRing(200, 60_000)]);
    turns.wake();
    while (rings.some(({ left }) => left > 0)) await tick();
    for (const { bytes, packets } of rings.flatMap(({ fills }) => fills)) {
      expect(packets).toBeLessThanOrEqual(128);
      expect(bytes).toBeLessThanOrEqual(256 * 1024 + SNAPLEN + 100);
    }
    expect(Math.max(...(rings[1]?.fills.map((fill) => fill.given) ?? []))).toBeLessThan(6);
  });

  test('leave the event loop its own, and rings that do not flood theirs, however many flood', async () => {
    const floods = Array.from({ length: 5 }, () => createRing(Infinity));
    const quiet = createRing(0);
    const { turns, readings } = createBench([...floods, quiet]);
    turns.wake();
    // Timers run.
    for (let round = 1; round <= 20; round++) {
      quiet.left = 1;
      while (quiet.given < round) await sleep(1);
    }
    readings.forEach((reading) => turns.remove(reading));
    await sleep(1);
    const before = given(floods);
    await sleep(20);
    expect(given(floods)).toEqual(before);
    expect(Math.max(...before) - Math.min(...before)).toBeLessThanOrEqual(128);
  });

  test('end while the engine is slower, and go on where they ended, so that shares are equal', async () => {
    const rings = [...Array.from({ length: 7 }, () => createRing(Infinity)), createRing(0)];
    const quiet = rings[7];
    const bench = createBench(rings);
    const { output, turns } = bench;
    // It takes three turns' worth at a time.
    let room = 3;
    const add = output.add.bind(output);
    output.add = (from, to, records) => {
      add(from, to, records);
      output.blocked = --room <= 0;
    };
    const floods = rings.slice(0, 7);
    for (let round = 0; round < 100; round++) {
      if (quiet !== undefined) quiet.left += 3;
      room = 3;
      output.blocked = false;
      turns.wake();
      while (!output.blocked) await tick();
      await tick();
    }
    // A turn, and what may be read ahead of each.
    expect(Math.max(...given(floods)) - Math.min(...given(floods))).toBeLessThanOrEqual(128 + 2 * MOST_AHEAD);
    expect(Math.min(...floods.map(({ fills }) => fills.length))).toBeGreaterThan(30);
    // What it sends in three rounds is less than its share.
    expect(quiet?.left).toBeLessThanOrEqual(9);
    bench.readings.forEach((reading) => turns.remove(reading));
    output.blocked = false;
  });

  test('read a little ahead, and no more, while the engine has to read first', async () => {
    const { output, turns, rings, readings } = createBench([createRing(10), createRing(Infinity)]);
    output.blocked = true;
    turns.wake();
    while (rings[0]?.left !== 0) await tick();
    await sleep(50);
    expect(rings[1]?.given).toBeLessThanOrEqual(MOST_AHEAD);
    output.blocked = false;
    turns.wake();
    while ((rings[1]?.given ?? 0) <= 2 * MOST_AHEAD) await tick();
    readings.forEach((reading) => turns.remove(reading));
  });

  test('go on at once when there is room again: only rings that were emptied are given time to fill', () => {
    const ring = createRing(10_000);
    const { output, turns, readings } = createBench([ring]);
    const add = output.add.bind(output);
    output.add = (from, to, records) => {
      add(from, to, records);
      output.blocked = true;
    };
    turns.wake();
    for (let round = 2; round < 10; round++) {
      output.blocked = false;
      turns.wake();
      expect(ring.fills).toHaveLength(round);
    }
    output.blocked = false;
    readings.forEach((reading) => turns.remove(reading));
  });

  test('wait for a place in the arena, and the ring whose turn it was is the first then', async () => {
    const rings = [createRing(Infinity, 1000), createRing(Infinity, 1000), createRing(Infinity, 1000)];
    const order: number[] = [];
    // Room for one turn.
    const { output, turns, readings } = createBench(rings, 140_000);
    readings.forEach((reading, index) => (reading.read = () => order.push(index) * 0));
    let reads = 0;
    output.flush = () => {
      if (reads-- > 0) output.read();
    };
    turns.wake();
    for (let round = 0; round < 20; round++) {
      reads = 1;
      while (order.length <= round) await tick();
    }
    expect(order.slice(0, 20)).toEqual(Array.from({ length: 20 }, (_, turn) => turn % 3));
    readings.forEach((reading) => turns.remove(reading));
  });

  test('tell that a ring has failed, once, without asking it to wake, and read the others', async () => {
    const broken = createRing(3);
    broken.failed = true;
    const { turns, rings, readings, told } = createBench([broken, createRing(500)]);
    const [first] = readings;
    if (first === undefined) throw new Error('no reading');
    let current: Ring | undefined = broken;
    first.ring = () => current;
    first.read = (ring, bytes) => {
      told[0]?.push(bytes);
      if (ring.failed && bytes === 0) current = undefined;
      return 0;
    };
    turns.wake();
    while (rings[1]?.left !== 0) await tick();
    expect([told[0], broken.rearmed]).toEqual([[360, 0], 0]);
  });
});
