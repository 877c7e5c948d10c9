/**
 * Where one interface of an endpoint ends and another one goes on, to the packet.
 *
 * Both show each packet, but each with a time of its own. So around the end packets are told by their content: the
 * reader of the old one keeps what it read last (a Tail), and the reader of the new one passes over exactly that (an
 * Overlap).
 *
 * Not promised: equal packets within CLOCKS_APART of each other, just at the cut, may be taken for one another.
 */
import { crc32 } from 'node:zlib';

/** How far the two times of a packet may be apart, in microseconds. */
const CLOCKS_APART = 2_000;
/** How many packets a tail keeps. */
const TAIL_PACKETS = 4_096;
/** How much of a packet is looked at: its headers, and what follows them. */
const LOOKED_AT_BYTES = 256;

/** The end of what was read. Times are those of capture, in microseconds since the epoch. */
export interface Cut {
  /** Every packet that was read and captured after this time is in `read`. */
  from: number;
  /** Of the packet read last. */
  until: number;
  /** A checksum of each, in no order. */
  read: number[];
}

export interface Tail {
  add(time: number, frame: Buffer, captured: number): void;
  cut(): Cut;
}

export interface Overlap {
  /** Asked of each packet of the new ring, in order: whether the old one's reader had it. */
  has(time: number, frame: Buffer, captured: number): boolean;
  /** No packet that is captured after this time, in microseconds, can be in it. */
  readonly end: number;
}

/** @param before Capture time of the packet that was read last, in microseconds. */
export function createTail(before: number): Tail {
  const times: number[] = [];
  const sums: number[] = [];
  let added = 0;
  let from = before;
  let until = before;
  return {
    add(time, frame, captured) {
      const at = added++ % TAIL_PACKETS;
      from = times[at] ?? from;
      times[at] = time;
      sums[at] = checksum(frame, captured);
      until = time;
    },
    cut: () => ({ from, until, read: [...sums] }),
  };
}

/** What was read from several interfaces. */
export function joinCuts(cuts: readonly Cut[]): Cut {
  return {
    from: Math.max(...cuts.map(({ from }) => from)),
    until: Math.max(...cuts.map(({ until }) => until)),
    read: cuts.flatMap(({ read }) => read),
  };
}

export function createOverlap({ from, until, read }: Cut): Overlap {
  // The same packet may come twice, and is then read twice.
  const unmatched = new Map<number, number>();
  for (const sum of read) unmatched.set(sum, (unmatched.get(sum) ?? 0) + 1);
  return {
    has(time, frame, captured) {
      if (time <= from) return true;
      const sum = checksum(frame, captured);
      const left = unmatched.get(sum) ?? 0;
      if (left > 0) unmatched.set(sum, left - 1);
      return left > 0 || time <= from + CLOCKS_APART;
    },
    end: until + CLOCKS_APART,
  };
}

function checksum(frame: Buffer, captured: number): number {
  return crc32(frame.subarray(0, Math.min(captured, LOOKED_AT_BYTES)), captured);
}
