import { describe, expect, test } from '@jest/globals';
import { parseSelector, SelectorError } from '../../../agent/kube/selector/selector.ts';
import type { Selector } from '../../../agent/kube/selector/selector.ts';

const all: Selector = { kind: 'all' };
const has = (label: string): Selector => ({ kind: 'has', label });
const is = (label: string, value: string): Selector => ({ kind: 'compare', label, operator: '==', value });
const isIn = (label: string, ...values: string[]): Selector => ({ kind: 'in', label, values: new Set(values) });
const not = (operand: Selector): Selector => ({ kind: 'not', operand });
const and = (...operands: Selector[]): Selector => ({ kind: 'and', operands });
const or = (...operands: Selector[]): Selector => ({ kind: 'or', operands });
const compare = (label: string, operator: 'contains' | 'starts with' | 'ends with', value: string): Selector => ({
  kind: 'compare',
  label,
  operator,
  value,
});

describe('the language is that of Calico:', () => {
  test.each<[fact: string, text: string, tree: Selector]>([
    ['an empty text is all()', '', all],
    ['blanks alone are all()', ' \t ', all],
    ['all()', 'all()', all],
    ['global()', 'global()', { kind: 'global' }],
    [
      'blanks may stand within the parentheses of a function',
      'all( ) && global(\t) && has( a )',
      and(all, { kind: 'global' }, has('a')),
    ],
    ['has(label)', 'has(a)', has('a')],
    ['a label may have the characters - _ . / and digits', '9-a_B.c/d == "x"', is('9-a_B.c/d', 'x')],
    ['a label may have 512 characters', `has(${'a'.repeat(512)})`, has('a'.repeat(512))],
    ['names of operators are labels where a label is expected', 'in in {"in"}', isIn('in', 'in')],
    ['so is not', 'not not in {"in"}', not(isIn('not', 'in'))],
    ['so is contains', 'contains contains "contains"', compare('contains', 'contains', 'contains')],
    [
      'so are has, all and global without a parenthesis',
      'has == "a" || all == "b" || global == "c"',
      or(is('has', 'a'), is('all', 'b'), is('global', 'c')),
    ],
    [
      'a label may begin with the name of a function',
      'hasty == "a" || all-a == "b"',
      or(is('hasty', 'a'), is('all-a', 'b')),
    ],
    ['==', 'a == "b"', is('a', 'b')],
    ['!= is the negation of ==', 'a != "b"', not(is('a', 'b'))],
    ['contains', 'a contains "b"', compare('a', 'contains', 'b')],
    ['starts with', 'a starts with "b"', compare('a', 'starts with', 'b')],
    ['ends with', 'a ends with "b"', compare('a', 'ends with', 'b')],
    ['in', 'a in {"b", "c"}', isIn('a', 'b', 'c')],
    ['not in is the negation of in', 'a not in {"b"}', not(isIn('a', 'b'))],
    [
      'startswith, endswith and notin need no blank within',
      "a startswith 'b' && a endswith 'c' && a notin {'d'}",
      and(compare('a', 'starts with', 'b'), compare('a', 'ends with', 'c'), not(isIn('a', 'd'))),
    ],
    [
      'operators of two words may have any blanks within',
      "a starts  with 'b' && a ends\twith 'c' && a not \t in {'d'}",
      and(compare('a', 'starts with', 'b'), compare('a', 'ends with', 'c'), not(isIn('a', 'd'))),
    ],
    [
      'no blank is needed where a token ends without one',
      '!a in{"b"}&&c contains"d"||(e=="f")',
      or(and(not(isIn('a', 'b')), compare('c', 'contains', 'd')), is('e', 'f')),
    ],
    ['blanks may stand before, between and after', '\t ( a == "b" )  ', is('a', 'b')],
    ['strings stand in single quotes or in double ones', `a == 'b' || a == "b"`, or(is('a', 'b'), is('a', 'b'))],
    [
      'a string contains the other quote, a backslash and line breaks as they are',
      `a == 'say "\\n"\n'`,
      is('a', 'say "\\n"\n'),
    ],
    ['a string may be empty', `a == ""`, is('a', '')],
    ['a set may be empty', 'a in {}', isIn('a')],
    ['a set may end in a comma', 'a in { "b" , "c" , }', isIn('a', 'b', 'c')],
    ['a set has each string once', 'a in {"b", "c", \'b\'}', isIn('a', 'b', 'c')],
    ['&& and || chain', 'has(a) && has(b) && has(c)', and(has('a'), has('b'), has('c'))],
    [
      '&& binds tighter than ||',
      'has(a) || has(b) && has(c) || has(d)',
      or(has('a'), and(has('b'), has('c')), has('d')),
    ],
    ['parentheses go first', '(has(a) || has(b)) && has(c)', and(or(has('a'), has('b')), has('c'))],
    ['parentheses keep what they group', 'has(a) && (has(b) && has(c))', and(has('a'), and(has('b'), has('c')))],
    ['parentheses around parentheses say nothing', '((has(a)))', has('a')],
    ['! negates the one operation after it', '!a == "b" && has(c)', and(not(is('a', 'b')), has('c'))],
    ['! negates a parenthesis', '!(has(a) || has(b))', not(or(has('a'), has('b')))],
    ['an even number of ! is none', '! !has(a) && !!!!has(b)', and(has('a'), has('b'))],
    ['an odd number of ! is one', '!!! has(a)', not(has('a'))],
    ['! of a negation is what was negated', '!a != "b" && !(!has(c))', and(is('a', 'b'), has('c'))],
  ])('%s', (_fact, text, tree) => {
    expect(parseSelector(text)).toEqual(tree);
  });
});

const EXPRESSION = "a label's name, has(…), all(), global(), ! or (";
const OPERATOR = 'an operator (==, !=, in, not in, contains, starts with, ends with)';
const STRING = 'a string in quotes';
const END = '&&, || or the end';

describe('an error says where it is, what was expected and what was found:', () => {
  test.each<[text: string, position: number, expected: string, found: string]>([
    ['app = "x"', 4, OPERATOR, '"="'],
    ['app', 3, OPERATOR, 'the end'],
    ['a ', 2, OPERATOR, 'the end'],
    ['a b', 2, OPERATOR, '"b"'],
    ['a squiggles "x"', 2, OPERATOR, '"squiggles"'],
    ['a inf {"x"}', 2, OPERATOR, '"inf"'],
    ['a containsb "x"', 2, OPERATOR, '"containsb"'],
    ['a starts foo "x"', 2, OPERATOR, '"starts"'],
    ['a ends withs "x"', 2, OPERATOR, '"ends"'],
    ['a not contains "x"', 2, OPERATOR, '"not"'],
    ['a not\nin {"x"}', 2, OPERATOR, '"not"'],
    ['a Contains "x"', 2, OPERATOR, '"Contains"'],
    ['has (a)', 4, OPERATOR, '"("'],
    ['all', 3, OPERATOR, 'the end'],
    ['a == b', 5, STRING, '"b"'],
    ['a === "b"', 4, STRING, '"="'],
    ['a !=', 4, STRING, 'the end'],
    ['a != ||', 5, STRING, '"||"'],
    ['a contains b', 11, STRING, '"b"'],
    ['a starts with b', 14, STRING, '"b"'],
    ['a == {"b"}', 5, STRING, '"{"'],
    ['a == "b', 5, 'a closing " for the string that begins here', 'the end'],
    [`a == 'b"`, 5, "a closing ' for the string that begins here", 'the end'],
    [`a == "b" && c == 'd' && e in {"f", 'g"}`, 35, "a closing ' for the string that begins here", 'the end'],
    ['a in "b"', 5, 'a set such as {"a", "b"}', 'the string "b"'],
    ['a not in (b)', 9, 'a set such as {"a", "b"}', '"("'],
    ['a in {,}', 6, 'a string in quotes or }', '","'],
    ['a in {b}', 6, 'a string in quotes or }', '"b"'],
    ['a in {"b",,}', 10, 'a string in quotes or }', '","'],
    ['a in {"b"', 9, 'a comma or }', 'the end'],
    ['a in {"b" "c"}', 10, 'a comma or }', 'the string "c"'],
    ['a == "b" c == "d"', 9, END, '"c"'],
    ['a == "b" & has(c)', 9, END, '"&"'],
    ['a == "b" | has(c)', 9, END, '"|"'],
    ['a == "b" and has(c)', 9, END, '"and"'],
    ['a == "b")', 8, END, '")"'],
    ['a == "b"\n', 8, END, 'U+000A'],
    ['a == "b" "c"', 9, END, 'the string "c"'],
    ['has(a) &&', 9, EXPRESSION, 'the end'],
    ['has(a) || || has(b)', 10, EXPRESSION, '"||"'],
    ['has(a) &&& has(b)', 9, EXPRESSION, '"&"'],
    ['!', 1, EXPRESSION, 'the end'],
    ['!= "b"', 0, EXPRESSION, '"!="'],
    [`'a' == "b"`, 0, EXPRESSION, `the string 'a'`],
    ['()', 1, EXPRESSION, '")"'],
    [')', 0, EXPRESSION, '")"'],
    ['  %', 2, EXPRESSION, '"%"'],
    ['(', 1, EXPRESSION, 'the end'],
    ['(has(a)', 7, '&&, || or a closing )', 'the end'],
    ['((has(a) has(b)))', 9, '&&, || or a closing )', '"has"'],
    ['all(', 4, 'a closing )', 'the end'],
    ['global(a)', 7, 'a closing )', '"a"'],
    ['has()', 4, "a label's name", '")"'],
    ['has("a")', 4, "a label's name", 'the string "a"'],
    ['has(a', 5, 'a closing )', 'the end'],
    ['has(a b)', 6, 'a closing )', '"b"'],
    [`x == "" && ${'a'.repeat(513)} == "b"`, 11, "a label's name of at most 512 characters", `"${'a'.repeat(40)}…"`],
    // Offsets are UTF-16 units.
    ['a == "😀" %', 10, END, '"%"'],
    // What only looks right, or must not reach a terminal, is shown by its number.
    ['a == “b”', 5, STRING, 'U+201C'],
    ['a\u00A0== "b"', 1, OPERATOR, 'U+00A0'],
    ['\u001B[2Jall()', 0, EXPRESSION, 'U+001B'],
    ['😀', 0, EXPRESSION, 'U+1F600'],
    ['has(a) "\u001B]0;title\u0007\u202Ex"', 7, END, 'the string "x"'],
    [`has(a) "${'x'.repeat(99)}"`, 7, END, `the string "${'x'.repeat(39)}…`],
  ])('%j', (text, position, expected, found) => {
    const message = `column ${position + 1}: expected ${expected}, found ${found}`;
    expect(() => parseSelector(text)).toThrow(SelectorError);
    expect(() => parseSelector(text)).toThrow(
      expect.objectContaining({ name: 'SelectorError', message, position, expected, found }),
    );
  });
});
