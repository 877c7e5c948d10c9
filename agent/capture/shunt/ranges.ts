/**
 * What was taken out of one direction of a TCP stream, and what sequence numbers are then.
 *
 * The engine is to see a stream without gaps. So the number of a byte is lowered by what was taken out before it, and
 * an acknowledgement of the other direction likewise; one inside a range acknowledges what is before the range.
 *
 * The last few ranges are kept. What is older counts as before the oldest one known; only a retransmission from
 * before four other ranges would notice.
 */
import { RANGE_FIELDS, RANGES, type Direction } from './flow.ts';

/** Longer ranges forget their beginning: differences of sequence numbers must not wrap around. */
const MAX_RANGE = 1 << 29;

/** Notes that [from, to) is taken out, `from` being behind all that was taken out before. */
export function takeOut(direction: Direction, from: number, to: number): void {
  const { ranges, rangeCount } = direction;
  const last = (rangeCount - 1) * RANGE_FIELDS;
  if (rangeCount > 0 && field(ranges, last + 1) === from) {
    ranges[last + 1] = to;
    const excess = ((to - field(ranges, last)) | 0) - MAX_RANGE;
    if (excess > 0) {
      ranges[last] = (field(ranges, last) + excess) | 0;
      ranges[last + 2] = (field(ranges, last + 2) + excess) | 0;
    }
    return;
  }
  const before = rangeCount === 0 ? 0 : removedAfter(ranges, last);
  if (rangeCount === RANGES) ranges.copyWithin(0, RANGE_FIELDS);
  else direction.rangeCount++;
  const at = (direction.rangeCount - 1) * RANGE_FIELDS;
  ranges[at] = from;
  ranges[at + 1] = to;
  ranges[at + 2] = before;
}

/** The number that the engine sees for a sequence number of this direction. */
export function mapped(direction: Direction, sequence: number): number {
  const { ranges, rangeCount } = direction;
  if (rangeCount === 0) return sequence;
  for (let at = (rangeCount - 1) * RANGE_FIELDS; at >= 0; at -= RANGE_FIELDS) {
    if (((sequence - field(ranges, at + 1)) | 0) >= 0) return (sequence - removedAfter(ranges, at)) | 0;
    const start = field(ranges, at);
    if (((sequence - start) | 0) > 0) return (start - field(ranges, at + 2)) | 0;
  }
  return (sequence - field(ranges, 2)) | 0;
}

/** How many bytes from `sequence` on are in a range. */
export function takenFrom(direction: Direction, sequence: number): number {
  const { ranges, rangeCount } = direction;
  for (let at = (rangeCount - 1) * RANGE_FIELDS; at >= 0; at -= RANGE_FIELDS) {
    const rest = (field(ranges, at + 1) - sequence) | 0;
    if (rest <= 0) return 0;
    if (((sequence - field(ranges, at)) | 0) >= 0) return rest;
  }
  return 0;
}

/** How many bytes from `sequence`, which is in no range, to the next range; `most` when there is none so near. */
export function keptFrom(direction: Direction, sequence: number, most: number): number {
  const { ranges, rangeCount } = direction;
  for (let at = 0; at < rangeCount * RANGE_FIELDS; at += RANGE_FIELDS) {
    const distance = (field(ranges, at) - sequence) | 0;
    if (distance > 0) return Math.min(distance, most);
  }
  return most;
}

function removedAfter(ranges: number[], at: number): number {
  return (field(ranges, at + 2) + field(ranges, at + 1) - field(ranges, at)) | 0;
}

function field(ranges: number[], at: number): number {
  return ranges[at] ?? 0;
}
