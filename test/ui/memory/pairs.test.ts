import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createPairs } from '../../../agent/ui/memory/pairs.ts';

const KINDS = 3;

test('pairs are counted as a Map counts them, in the order in which they were met, however many they are', () => {
  const number = fc.oneof(fc.nat(70), fc.nat(0xffffffff));
  const met = fc.array(fc.tuple(number, number, fc.nat(KINDS - 1)), { maxLength: 3000, size: 'max' });
  fc.assert(
    fc.property(met, (all) => {
      const pairs = createPairs(KINDS);
      const counts = new Map<string, number[]>();
      for (const [one, other, kind] of all) {
        pairs.add(one, other, kind);
        const known = counts.get(`${one} ${other}`) ?? Array.from({ length: KINDS }, () => 0);
        known[kind] = (known[kind] ?? 0) + 1;
        counts.set(`${one} ${other}`, known);
      }
      const counted = pairs.all().map(({ one, other, counts: of }) => [`${one} ${other}`, [...of]]);
      expect(counted).toEqual([...counts]);
    }),
    { numRuns: 30 },
  );
});
