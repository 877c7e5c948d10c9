import { expect, test } from '@jest/globals';
import { isRecord } from '../../agent/files/record.ts';

test.each(['{}', '{"a":1}'])('%s is a record', (json) => {
  expect(isRecord(JSON.parse(json))).toBe(true);
});

test.each(['[]', 'null', '1', '"text"', 'true'])('%s is none', (json) => {
  expect(isRecord(JSON.parse(json))).toBe(false);
});
