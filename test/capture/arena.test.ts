import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createArena, type Arena } from '../../agent/capture/arena.ts';
import { RECORD_HEADER } from '../../agent/capture/record.ts';

const create = (size: number): Arena => createArena(Buffer.alloc(size));

/** Takes up to `most` bytes. @returns the pieces that were offered. */
function consume(arena: Arena, most = Infinity): [from: number, to: number][] {
  const pieces: [number, number][] = [];
  for (let rest = most; rest > 0 && arena.waiting > 0;) {
    const count = arena.consume((from, to) => {
      pieces.push([from, Math.min(to, from + rest)]);
      return Math.min(to - from, rest);
    });
    rest -= count;
  }
  return pieces;
}

/** Places of a record of so many bytes; -1 when there was none. */
function put(arena: Arena, size: number): number {
  const from = arena.reserve(size);
  if (from < 0) return from;
  arena.view.setUint32(from + 8, size - RECORD_HEADER, true);
  arena.commit(from, from + size);
  return from;
}

describe('places', () => {
  test('follow each other, and begin anew where there is room', () => {
    const arena = create(1000);
    expect([put(arena, 400), arena.end, put(arena, 500), put(arena, 200)]).toEqual([0, 1000, 400, -1]);
    consume(arena);
    arena.release(900);
    expect([put(arena, 600), put(arena, 400), put(arena, 1)]).toEqual([0, 600, -1]);
  });

  test('are not used again before they were read, but whole pieces are', () => {
    const arena = create(300_000);
    put(arena, 100_000);
    put(arena, 100_000);
    expect(consume(arena)).toEqual([
      [0, 100_000],
      [100_000, 200_000],
    ]);
    arena.release(99_999);
    expect(arena.reserve(150_000)).toBe(-1);
    arena.release(100_000);
    expect(arena.reserve(150_000)).toBe(-1);
    expect([arena.reserve(100_001), arena.reserve(100_000), arena.end]).toEqual([-1, 200_000, 300_000]);
    put(arena, 100_000);
    expect([put(arena, 100_000), put(arena, 1)]).toEqual([0, -1]);
  });

  test('that were reserved and not committed are free', () => {
    const arena = create(1000);
    expect([arena.reserve(1000), arena.reserve(1001), arena.waiting]).toEqual([0, -1, 0]);
    arena.commit(500, 500);
    expect([arena.reserve(1000), arena.waiting]).toEqual([0, 0]);
  });
});

describe('taking', () => {
  test('offers records that lie behind each other in one piece, up to a size', () => {
    const arena = create(300_000);
    for (let record = 0; record < 100; record++) put(arena, 1000);
    expect(consume(arena)).toEqual([
      [0, 65_000],
      [65_000, 100_000],
    ]);
    expect(consume(arena)).toEqual([]);
  });

  test('goes on where it stopped, and what was refused is offered again', () => {
    const arena = create(1000);
    put(arena, 100);
    expect(arena.consume(() => 0)).toBe(0);
    expect(arena.consume(() => -11)).toBe(-11);
    expect([consume(arena, 30), arena.waiting, consume(arena), arena.consumed]).toEqual([
      [[0, 30]],
      70,
      [[30, 100]],
      100,
    ]);
  });
});

describe('clearing', () => {
  test.each([
    [0, [0, 100, 300]],
    [99, [0, 100, 300]],
    [100, [100, 300]],
    [299, [100, 300]],
    [500, [300]],
    [600, []],
  ])('names the records that do not end within the first %p bytes', (position, expected) => {
    const arena = create(1000);
    for (const size of [100, 200, 300]) put(arena, size);
    const unread: number[] = [];
    arena.clear(position, (record) => unread.push(record));
    expect(unread).toEqual(expected);
    expect([arena.waiting, arena.consumed, arena.reserve(1000)]).toEqual([0, 0, 0]);
  });
});

test('any use: what is read late is what was written, in order, and all places come back', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('put' as const), bytes: fc.integer({ min: 16, max: 700 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('put' as const), bytes: fc.constant(70_000) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('take' as const), bytes: fc.nat(90_000) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('read' as const), bytes: fc.nat(90_000) }) },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 200_000 }), fc.array(step, { maxLength: 200 }), (size, steps) => {
      const arena = create(size);
      const written: number[] = [];
      /** What the FIFO has: places, whose bytes are looked at when they are read. */
      let fifo: number[] = [];
      let read = 0;
      let next = 0;
      const readSome = (bytes: number): void => {
        for (const place of fifo.slice(0, bytes)) if (arena.bytes[place] !== written[read++]) throw new Error('other');
        fifo = fifo.slice(bytes);
        arena.release(read);
      };
      const takeSome = (bytes: number): void => {
        for (const [from, to] of consume(arena, bytes)) for (let place = from; place < to; place++) fifo.push(place);
      };
      for (const { do: what, bytes } of steps) {
        if (what === 'put') {
          const from = put(arena, bytes);
          if (from < 0) continue;
          expect(from + bytes).toBeLessThanOrEqual(arena.end);
          for (let at = from; at < from + bytes; at++) written.push((arena.bytes[at] = next++ & 0xff));
        } else if (what === 'take') takeSome(bytes);
        else readSome(bytes);
        expect(arena.waiting).toBe(written.length - arena.consumed);
      }
      takeSome(Infinity);
      readSome(Infinity);
      expect(read).toBe(written.length);
      expect([arena.reserve(size), arena.waiting]).toEqual([0, 0]);
    }),
    { numRuns: 60 },
  );
});
