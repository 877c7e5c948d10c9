import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { globTester, parsePattern } from '../agent/pattern.ts';

describe('a pattern', () => {
  test('is an expression, with flags between slashes', () => {
    expect(parsePattern('b+').matching(['abc', 'x', 'bb'])).toEqual([0, 2]);
    expect(parsePattern('/^ABC/i').matching(['abc', 'xabc'])).toEqual([0]);
    expect(parsePattern('a/b').matching(['a/b'])).toEqual([0]);
  });

  test('replaces every match, with groups, and all else as it is written', () => {
    expect(parsePattern('(a)(b)?').replace('a ab', String.raw`<\1\2\0>$1\\`)).toBe(
      String.raw`<aa>$1\ <abab>$1\ `.trimEnd(),
    );
    expect(parsePattern('x').replace('abc', 'y')).toBeUndefined();
    expect(parsePattern('b').replace('abc', 'b')).toBe('abc');
  });

  test.each([
    ['', 'is empty'],
    ['(', 'is no regular expression'],
    ['x'.repeat(1001), 'is longer than 1000 characters'],
  ])('%j is refused', (source, why) => {
    expect(() => parsePattern(source)).toThrow(why);
  });

  test('that would never end is given up', () => {
    const evil = parsePattern('(a+)+$', 50);
    expect(() => evil.matching([`${'a'.repeat(60)}b`])).toThrow('takes longer than 50 ms');
    expect(() => evil.replace(`${'a'.repeat(60)}b`, '')).toThrow('takes longer than 50 ms');
  });
});

test('a glob matches what the same expression does, whatever both are', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '.'), maxLength: 12 });
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 20 });
  fc.assert(
    fc.property(letters, texts, (glob, text) => {
      const expression = new RegExp(`^${glob.replaceAll('.', String.raw`\.`).replaceAll(/\*+/g, '.*')}$`);
      expect(globTester(glob)(text)).toBe(expression.test(text));
    }),
    { numRuns: 1000 },
  );
});
