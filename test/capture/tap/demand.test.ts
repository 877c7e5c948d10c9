import { expect, test } from '@jest/globals';
import {
  newDemand,
  noteRead,
  sizeAfterRead,
  sizeAfterSecond,
  timeoutOf,
  type Demand,
} from '../../../agent/capture/tap/demand.ts';

const LEAST = 1 << 20;
const LARGE = 4 * LEAST;

function quietDemand(): Demand {
  return { ...newDemand(), busyAt: performance.now() - 3_600_000 };
}

test('a ring is larger as soon as half of it was filled since it was last empty', () => {
  const demand = newDemand();
  const read = (): number | undefined => sizeAfterRead(demand, noteRead(demand, LEAST / 4, LEAST), LEAST, LEAST);
  expect([read(), read()]).toEqual([undefined, LARGE]);
});

test('a ring that lost packets is larger, also where it was quiet', () => {
  expect(sizeAfterSecond(quietDemand(), LEAST, LEAST, 1)).toBe(LARGE);
  expect(sizeAfterSecond(quietDemand(), LARGE, LEAST, 1)).toBe(4 * LARGE);
});

test('one that is read often, a little each time, has more than two blocks, and no more', () => {
  const demand = quietDemand();
  const read = (): number | undefined => sizeAfterRead(demand, noteRead(demand, 1, LEAST), LEAST, LEAST);
  expect([read(), read(), read(), read(), read()]).toEqual([undefined, undefined, undefined, undefined, LARGE]);
  expect(sizeAfterSecond(demand, LEAST, LEAST, 0)).toBe(LARGE);
  expect(sizeAfterSecond(demand, 2 * LARGE, LEAST, 0)).toBe(2 * LARGE);
});

test('a ring is small again when bursts were small for it for a while', () => {
  const demand = quietDemand();
  noteRead(demand, LARGE / 100, LARGE);
  expect(sizeAfterSecond(demand, LARGE, LEAST, 0)).toBe(LEAST);
  noteRead(demand, LARGE / 10, LARGE);
  expect(sizeAfterSecond(demand, LARGE, LEAST, 0)).toBeUndefined();
});

test('a ring of few blocks is given each of them later, within what is allowed', () => {
  const [small, larger, large] = [512 * 1024, 2 << 20, 64 << 20];
  expect([small, larger, large].map((size) => timeoutOf(size, 30))).toEqual([30, 15, 10]);
  expect([small, larger, large].map((size) => timeoutOf(size, 1000))).toEqual([100, 15, 10]);
  expect([small, larger, large].map((size) => timeoutOf(size, 1))).toEqual([1, 1, 1]);
});
