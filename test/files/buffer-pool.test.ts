import { expect, test } from '@jest/globals';
import { createBufferPool } from '../../agent/files/buffer-pool.ts';
import { seeded } from '../support/random.ts';

const MIB = 1 << 20;

test('what was given back is taken again, by one at a time, and what is too large for that is not', () => {
  const pool = createBufferPool(MIB);
  const first = pool.take(100_000);
  expect(first.length).toBeGreaterThanOrEqual(100_000);
  pool.give(first);
  const again = pool.take(90_000);
  expect(again).toBe(first);
  expect(pool.take(90_000)).not.toBe(first);
  pool.give(again);
  expect(pool.take(10)).not.toBe(first);
  expect(pool.take(100_000)).toBe(first);
});

test('of what is given back so many bytes are kept as it may have, less those that are taken', () => {
  const pool = createBufferPool(MIB);
  const random = seeded(1);
  const taken = Array.from({ length: 40 }, () => pool.take(1 + Math.floor(random() * 200_000)));
  for (const buffer of taken) pool.give(buffer);
  const again = taken.map(({ length }) => pool.take(length)).filter((buffer) => taken.includes(buffer));
  const kept = again.reduce((sum, { length }) => sum + length, 0);
  expect(kept).toBeGreaterThan(MIB / 2);
  expect(kept).toBeLessThanOrEqual(MIB);
});
