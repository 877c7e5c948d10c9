import { expect, test } from '@jest/globals';
import { CALLS } from '../native/load.mjs';
import { native, whyNoNative } from './support/native.ts';

if (whyNoNative !== undefined) process.stderr.write(`skipped: ${whyNoNative}\n`);

(native === undefined ? test.skip : test)('the calls that are asked for are those that there are', () => {
  expect(Object.keys(native ?? {}).sort()).toEqual([...CALLS].sort());
});
