import { expect, test } from '@jest/globals';
import { CALLS } from '../native/load.mjs';
import { native, whyNoNative } from './support/native.ts';

if (whyNoNative !== undefined) process.stderr.write(`skipped: ${whyNoNative}\n`);

(native === undefined ? test.skip : test)('the calls that are asked for are those that there are', () => {
  expect(Object.keys(native ?? {}).sort()).toEqual([...CALLS].sort());
});

(native === undefined ? test.skip : test)(
  'bytes are copied as they are, from and to any place, and none beside them',
  () => {
    const source = Buffer.from(Array.from({ length: 400 }, (_, index) => index % 251));
    for (const at of [0, 1, 15, 16, 17, 63]) {
      for (const from of [0, 1, 7, 16]) {
        for (const length of [0, 1, 15, 63, 64, 65, 79, 80, 128, 300]) {
          const [target, expected] = [Buffer.alloc(400, 0xee), Buffer.alloc(400, 0xee)];
          source.copy(expected, at, from, from + length);
          native?.copy(target, at, source, from, from + length);
          expect(target.equals(expected)).toBe(true);
        }
      }
    }
    const small = Buffer.alloc(10);
    for (const [at, from, to] of [
      [1, 0, 10],
      [11, 0, 0],
      [0, 5, 4],
      [0, 0, 401],
    ] as const)
      expect(() => native?.copy(small, at, source, from, to)).toThrow('wrong arguments');
  },
);
