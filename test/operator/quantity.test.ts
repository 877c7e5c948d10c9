import { expect, test } from '@jest/globals';
import { mebibytes, parseQuantity } from '../../agent/operator/quantity.ts';

test.each([
  ['500m', 0.5],
  ['1', 1],
  [2, 2],
  [0.5, 0.5],
  ['0', 0],
  ['+1', 1],
  ['.5', 0.5],
  ['1.', 1],
  ['1.5Gi', 1.5 * 2 ** 30],
  ['1Ki', 1024],
  ['1k', 1000],
  ['1M', 1e6],
  ['1Ei', 2 ** 60],
  ['1E', 1e18],
  ['1e3', 1000],
  ['1E3', 1000],
  ['5e-1', 0.5],
  ['100n', 1e-7],
])('%j is %d', (text, value) => expect(parseQuantity(text)).toBeCloseTo(value, 12));

test.each([
  '',
  ' 1',
  '1 ',
  '-1',
  '1GB',
  '1 Gi',
  '1gi',
  '1K',
  'Gi',
  '.',
  '1e',
  '1e3Mi',
  '0x10',
  '1,5',
  'Infinity',
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  null,
  undefined,
  true,
  {},
  ['1'],
])('%j is no quantity', (value) => expect(parseQuantity(value)).toBeUndefined());

test('bytes are written as whole MiB', () => {
  expect(mebibytes(768 * 2 ** 20 + 5)).toBe('768Mi');
});
