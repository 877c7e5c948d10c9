import { expect, test } from '@jest/globals';
import { createFlow } from '../../../agent/capture/shunt/flow.ts';
import { keptFrom, mapped, takenFrom, takeOut } from '../../../agent/capture/shunt/ranges.ts';

const MEGABYTE = 1 << 20;

test('a range of many times 4 GB: what is near its end is known, and its end is where it began', () => {
  const direction = createFlow().low;
  const start = 0x7fff_0000;
  let end = start;
  for (let count = 0; count < 20_000; count++) {
    const to = (end + MEGABYTE) | 0;
    takeOut(direction, end, to);
    end = to;
    if (count % 100 !== 0) continue;
    expect([mapped(direction, end), mapped(direction, (end - 1000) | 0)]).toEqual([start, start]);
    expect(mapped(direction, (end + 77) | 0)).toBe((start + 77) | 0);
    expect(takenFrom(direction, (end - 1000) | 0)).toBe(1000);
  }
  expect(direction.rangeCount).toBe(1);
});

test('ranges that touch are one; of others the last four are known, and what is older counts as before the oldest', () => {
  const direction = createFlow().low;
  takeOut(direction, 100, 200);
  takeOut(direction, 200, 300);
  expect(direction.rangeCount).toBe(1);
  for (const start of [400, 500, 600, 700]) takeOut(direction, start, start + 10);
  expect(direction.rangeCount).toBe(4);
  const numbers = [350, 400, 405, 410, 505, 600, 709, 710, 800].map((sequence) => mapped(direction, sequence));
  expect(numbers).toEqual([150, 200, 200, 200, 290, 380, 470, 470, 560]);
  expect([350, 400, 405, 410].map((sequence) => takenFrom(direction, sequence))).toEqual([0, 10, 5, 0]);
  expect([350, 410, 710].map((sequence) => keptFrom(direction, sequence, 95))).toEqual([50, 90, 95]);
});
