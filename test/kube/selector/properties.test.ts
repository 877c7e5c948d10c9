import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { UNPRINTABLE } from '../../../agent/text.ts';
import {
  MAX_SELECTOR_DEPTH,
  MAX_SELECTOR_LENGTH,
  matches,
  parseSelector,
  printSelector,
  SelectorError,
} from '../../../agent/kube/selector/selector.ts';
import type { Selector } from '../../../agent/kube/selector/selector.ts';
import { labels, pieces, selectors } from './support.ts';

/** What the text says; undefined where it is refused, as it must be. */
function read(text: string): Selector | undefined {
  try {
    return parseSelector(text);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    expect(error.position).toBeGreaterThanOrEqual(0);
    expect(error.position).toBeLessThanOrEqual(Math.min(text.length, MAX_SELECTOR_LENGTH));
    expect(error.message.length).toBeLessThanOrEqual(200);
    expect(error.message.search(UNPRINTABLE)).toBe(-1);
    return undefined;
  }
}

/** What is accepted can be evaluated, and printed as something that says the same. */
function use(selector: Selector): void {
  matches(selector, {});
  expect(parseSelector(printSelector(selector))).toEqual(selector);
}

/** Two texts, made of printed selectors, select the same. */
function same(one: (a: string, b: string) => string, other: (a: string, b: string) => string): void {
  fc.assert(
    fc.property(selectors.map(printSelector), selectors.map(printSelector), labels, (a, b, has) => {
      expect(matches(parseSelector(one(a, b)), has)).toBe(matches(parseSelector(other(a, b)), has));
    }),
  );
}

describe('for all selectors and labels', () => {
  test('what is printed is read as the same selector', () => {
    fc.assert(fc.property(selectors, (selector) => expect(parseSelector(printSelector(selector))).toEqual(selector)));
  });
  test('not (a and b) is not a or not b', () => {
    same(
      (a, b) => `!((${a}) && (${b}))`,
      (a, b) => `!(${a}) || !(${b})`,
    );
  });
  test('not (a or b) is not a and not b', () => {
    same(
      (a, b) => `!((${a}) || (${b}))`,
      (a, b) => `!(${a}) && !(${b})`,
    );
  });
  test('not not a is a', () => {
    same(
      (a) => `!(!(${a}))`,
      (a) => a,
    );
  });
  test('a is never what not a is', () => {
    fc.assert(
      fc.property(selectors, labels, (selector, has) => {
        const negated = parseSelector(`!(${printSelector(selector)})`);
        expect(matches(negated, has)).toBe(!matches(selector, has));
      }),
    );
  });
});

describe('nothing but a SelectorError is thrown', () => {
  const soup = fc.array(pieces, { maxLength: 20 });
  const mutated = fc
    .tuple(selectors.map(printSelector), fc.nat(), fc.nat(5), fc.oneof(pieces, fc.constant('')))
    .map(([text, seed, removed, added]) => {
      const at = seed % (text.length + 1);
      return text.slice(0, at) + added + text.slice(at + removed);
    });

  test.each<[of: string, texts: fc.Arbitrary<string>]>([
    ['any text', fc.string({ unit: 'binary', maxLength: 60 })],
    ['pieces of the language', soup.map((words) => words.join(''))],
    ['pieces of the language with blanks between', soup.map((words) => words.join(' '))],
    ['selectors with a mistake', mutated],
  ])('by %s', (_of, texts) => {
    fc.assert(
      fc.property(texts, (text) => {
        const selector = read(text);
        if (selector !== undefined) use(selector);
      }),
      { numRuns: 1000 },
    );
  });
});

/** Repetitions of `unit` between `before` and `after`, as many as are allowed. */
function long(unit: string, before = '', after = ''): string {
  return before + unit.repeat((MAX_SELECTOR_LENGTH - before.length - after.length) / unit.length) + after;
}

describe('a text of 64 KB', () => {
  // A stack that overflows throws a RangeError, which fails the test; a time that is not linear runs into the test's
  // time limit.
  test.each<[what: string, text: string]>([
    ['of !', long('!', '', 'has(a)')],
    ['of ! between blanks', long('! ', '', 'has(a)')],
    ['of blanks', long(' ', 'has(a)')],
    ['of &&', long('has(a)&&', '', 'has(b)')],
    ['of ||', long('has(a)||', '', 'has(b)')],
    ['of && and || by turns', long('has(a)&&has(b)||', '', 'has(c)')],
    ['of parentheses side by side', long('!(has(a))||', '', 'has(b)')],
    ['with a long set', long('"x",', 'a in{', '}')],
    ['with a long string', long('x', 'a contains "', '"')],
    ['with blanks within an operator', long(' ', 'a starts', 'with "x"')],
    [
      'of deep parentheses side by side',
      long(`${'!('.repeat(MAX_SELECTOR_DEPTH)}has(a)&&has(b)${')'.repeat(MAX_SELECTOR_DEPTH)}||`, '', 'has(c)'),
    ],
  ])('%s is a selector', (_what, text) => {
    expect(text.length).toBeGreaterThan(MAX_SELECTOR_LENGTH - 400);
    const selector = parseSelector(text);
    for (const value of [undefined, 'x']) {
      let asked = 0;
      matches(selector, () => (asked++, value));
      expect(asked).toBeLessThan(text.length / 6);
    }
    expect(printSelector(selector).length).toBeLessThan(2 * text.length);
  });

  test.each<[what: string, text: string]>([
    ['of (', long('(')],
    ['of ( that are all closed', `${'('.repeat(32_000)}all()${')'.repeat(32_000)}`],
    ['of )', long(')', 'has(a)')],
    ['of !(', long('!(')],
    ['of !( with operators', long('has(a)||!(')],
    ['of has(', long('has(')],
    ['of double quotes', long('"')],
    ['of both quotes by turns', long(`"'`)],
    ['of strings in a set without a comma', long('""', 'a in {')],
    ['with a set that is not closed', long('"x",', 'a in{')],
    ['with a string that is not closed', long('x', 'a == "')],
    ['with a long label', long('a', '', ' == "x"')],
    ['with blanks within half an operator', long(' ', 'a not')],
    ['of labels', long('a ')],
    ['of &&', long('&&')],
    ['of ! and nothing to negate', long('!')],
    ['of halves of surrogate pairs', long('\uDC00\uD800')],
    ['of line breaks', long('\n')],
  ])('%s is refused', (_what, text) => {
    expect(text.length).toBeGreaterThan(MAX_SELECTOR_LENGTH - 2000);
    expect(read(text)).toBeUndefined();
  });

  test('and one character more is refused by its length', () => {
    expect(parseSelector(long(' '))).toEqual({ kind: 'all' });
    expect(() => parseSelector(`${long(' ')} `)).toThrow(
      'column 65537: expected at most 65536 characters, found 65537',
    );
  });
});

test('parentheses may be 100 deep', () => {
  const nested = (depth: number): string => `${'(has(a) && '.repeat(depth)}has(b)${')'.repeat(depth)}`;
  use(parseSelector(nested(MAX_SELECTOR_DEPTH)));
  expect(() => parseSelector(nested(MAX_SELECTOR_DEPTH + 1))).toThrow(
    'column 1101: expected at most 100 nested parentheses, found "("',
  );
});
