import { describe, expect, test } from '@jest/globals';
import { createOverlap, createTail } from '../../agent/capture/cut.ts';
import { seeded } from '../support/random.ts';

interface Packet {
  /** Microseconds by the clock of either ring. */
  times: [old: number, next: number];
  frame: Buffer;
}

const packet = (time: number, text: string, later = 0): Packet => ({
  times: [time, time + later],
  frame: Buffer.from(text),
});

/**
 * Reads `packets` from the old ring up to the index `end`, of which the tail has those from `noted` on, and all from
 * the new one.
 */
function goOn(packets: readonly Packet[], noted: number, end: number): string[] {
  const read = packets.slice(0, end).map(({ frame }) => String(frame));
  const tail = createTail(packets[noted - 1]?.times[0] ?? 0);
  for (const { times, frame } of packets.slice(noted, end)) tail.add(times[0], frame, frame.length);
  // As another process gets it.
  const overlap = createOverlap(JSON.parse(JSON.stringify(tail.cut())) as ReturnType<typeof tail.cut>);
  for (const { times, frame } of packets.toSorted((one, other) => one.times[1] - other.times[1])) {
    if (times[1] > overlap.end || !overlap.has(times[1], frame, frame.length)) read.push(String(frame));
  }
  return read;
}

const frames = (packets: readonly Packet[]): string[] => packets.map(({ frame }) => String(frame));

describe('the change from one ring to the next', () => {
  test('packets of the same microsecond on both sides of the cut', () => {
    const packets = [packet(1_000, 'before'), packet(10_000, 'a'), packet(10_000, 'b'), packet(10_000, 'c')];
    expect(goOn(packets, 1, 3)).toEqual(frames(packets));
  });

  test.each([
    ['earlier', -1_500],
    ['later', 1_500],
  ])('the new ring has its packets %s', (_, apart) => {
    const packets = Array.from({ length: 100 }, (_packet, index) => packet(10_000 + index * 300, `${index}`, apart));
    expect(goOn(packets, 40, 60)).toEqual(frames(packets));
  });

  test('the same packet again is another packet', () => {
    const packets = ['a', 'a', 'b', 'a', 'a', 'b'].map((text, index) => packet(10_000 + index, text));
    expect(goOn(packets, 0, 3)).toEqual(['a', 'a', 'b', 'a', 'a', 'b']);
  });

  test('a packet that differs only behind its headers is another one', () => {
    const head = 'h'.repeat(120);
    const packets = [packet(10_000, `${head}1`), packet(10_001, `${head}2`)];
    expect(goOn(packets, 0, 1)).toEqual(frames(packets));
  });

  test('packets that differ only in their length are different ones', () => {
    const packets = [packet(10_000, 'x'.repeat(300)), packet(10_001, 'x'.repeat(301))];
    expect(goOn(packets, 0, 1)).toEqual(frames(packets));
  });

  test('nothing was read', () => {
    const packets = [packet(10_000, 'a'), packet(10_001, 'b')];
    expect(goOn(packets, 0, 0)).toEqual(['a', 'b']);
  });

  test('a packet that the old ring had to drop is read from the new one', () => {
    const tail = createTail(0);
    tail.add(10_000, Buffer.from('a'), 1);
    tail.add(20_000, Buffer.from('c'), 1);
    const overlap = createOverlap(tail.cut());
    expect(['a', 'b', 'c'].map((text, index) => overlap.has(10_000 + index * 5_000, Buffer.from(text), 1))).toEqual([
      true,
      false,
      true,
    ]);
  });

  test('what no longer fits into the tail was read all the same', () => {
    const packets = Array.from({ length: 10_000 }, (_, index) => packet(10_000 + index * 2, `${index}`));
    expect(goOn(packets, 100, 9_900)).toEqual(frames(packets));
  });

  test.each([
    ['whose clocks are apart, of different packets', 1_000, 0],
    ['of packets that often come again', 0, 4],
  ])('any stream %s, cut anywhere', (_, apart, repeated) => {
    const number = seeded(21_562);
    const random = (below: number): number => Math.floor(number() * below);
    for (let round = 0; round < 300; round++) {
      let time = 1_000_000;
      const packets = Array.from({ length: 200 }, (_packet, index) => {
        // Bursts within a microsecond, and pauses: one of them while what is read is noted, as in a capture, and a
        // short one before it, because equal packets of one microsecond can't be told from each other.
        time += random(3) === 0 ? random(100) : random(2);
        if (index === 50) time++;
        if (index === 100) time += 10_000;
        return packet(time, random(10) < repeated ? 'again' : `${index}`, random(2 * apart + 1) - apart);
      });
      expect(goOn(packets, 50, 120 + random(60)).toSorted()).toEqual(frames(packets).toSorted());
    }
  });
});
