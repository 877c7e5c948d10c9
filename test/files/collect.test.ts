import { expect, test } from '@jest/globals';
import { collectGarbage } from '../../agent/files/collect.ts';

const used = (): number => process.memoryUsage().heapUsed;

/** Garbage of `bytes` bytes. */
function waste(bytes: number): void {
  const wasted: number[][] = [];
  for (let made = 0; made < bytes; made += 8 * 1000)
    wasted.push(Array.from({ length: 1000 }, (_, index) => index + 0.5));
  if (wasted.length === 0) throw new Error('nothing was made');
}

test('after much garbage it is gone', () => {
  collectGarbage(-Infinity);
  const before = used();
  waste(200 << 20);
  collectGarbage(before);
  expect(used() - before).toBeLessThan(64 << 20);
});
