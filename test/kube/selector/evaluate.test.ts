import { describe, expect, test } from '@jest/globals';
import { matches, parseSelector } from '../../../agent/kube/selector/selector.ts';

type Labels = Record<string, string>;
const POD = { 'projectcalico.org/namespace': 'default' };

describe('a selector means what it means to Calico:', () => {
  test.each<[fact: string, text: string, selected: Labels[], not: Labels[]]>([
    ['an empty text selects everything', '', [{}, { a: 'b' }], []],
    ['all() selects everything', 'all()', [{}, POD], []],
    ['!all() selects nothing', '!all()', [], [{}, POD]],
    ['global() selects what has no namespace, so no pod', 'global()', [{}, { a: 'b' }], [POD]],
    ['!global() selects pods', '!global()', [POD], [{}, { a: 'b' }]],
    ['has', 'has(a)', [{ a: 'b' }, { a: '' }], [{}, { b: 'a' }, { A: 'b' }]],
    ['!has', '!has(a)', [{}, { b: 'a' }], [{ a: 'b' }, { a: '' }]],
    ['==', 'a == "b"', [{ a: 'b' }, { a: 'b', c: 'd' }], [{}, { a: 'c' }, { a: 'B' }, { a: 'bb' }, { b: 'a' }]],
    ['== "" needs the label', 'a == ""', [{ a: '' }], [{}, { a: 'b' }]],
    ['!= is true where the label is absent', 'a != "b"', [{}, { a: 'c' }, { b: 'b' }], [{ a: 'b' }]],
    ['contains', 'a contains "b"', [{ a: 'b' }, { a: 'abc' }], [{}, { a: 'c' }, { b: 'b' }]],
    ['contains "" needs the label', 'a contains ""', [{ a: '' }, { a: 'b' }], [{}]],
    ['starts with', 'a starts with "b"', [{ a: 'b' }, { a: 'bc' }], [{}, { a: 'ab' }, { b: 'b' }]],
    ['ends with', 'a ends with "b"', [{ a: 'b' }, { a: 'ab' }], [{}, { a: 'bc' }, { b: 'b' }]],
    ['in', `a in {"b", '"', "'"}`, [{ a: 'b' }, { a: '"' }, { a: "'" }], [{}, { a: 'c' }, { b: 'b' }]],
    ['in {""} needs the label', 'a in {""}', [{ a: '' }], [{}]],
    ['in an empty set is false', 'a in {}', [], [{}, { a: '' }]],
    [
      'not in is true where the label is absent',
      'a not in {"b", "c"}',
      [{}, { a: 'd' }, { b: 'b' }],
      [{ a: 'b' }, { a: 'c' }],
    ],
    ['not in an empty set is true', 'a not in {}', [{}, { a: '' }], []],
    ['&&', 'a == "1" && b == "2"', [{ a: '1', b: '2' }], [{}, { a: '1' }, { b: '2' }, { a: '1', b: '1' }]],
    ['||', 'a == "1" || b == "2"', [{ a: '1' }, { b: '2' }, { a: '1', b: '2' }], [{}, { a: '2', b: '1' }]],
    ['! of a comparison is true where the label is absent', '!a contains "b"', [{}, { a: 'c' }], [{ a: 'abc' }]],
    [
      '! of a comparison is about that comparison only',
      '!a == "1" && b == "2"',
      [{ b: '2' }, { a: '2', b: '2' }],
      [{}, { a: '1', b: '2' }],
    ],
    ['! of a parenthesis', '!(has(a) || !has(b))', [{ b: '' }], [{}, { a: '' }, { a: '', b: '' }]],
    ['&& before ||', 'has(a) || has(b) && has(c)', [{ a: '' }, { b: '', c: '' }], [{}, { b: '' }, { c: '' }]],
    ['labels that Calico adds', 'projectcalico.org/namespace == "default"', [POD], [{}]],
    [
      'only labels, not what objects inherit',
      'has(constructor) || has(__proto__) || has(toString)',
      [{ constructor: '' }],
      [{}],
    ],
  ])('%s: %s', (_fact, text, selected, not) => {
    const selector = parseSelector(text);
    for (const labels of selected)
      expect({ labels, matches: matches(selector, labels) }).toEqual({ labels, matches: true });
    for (const labels of not)
      expect({ labels, matches: matches(selector, labels) }).toEqual({ labels, matches: false });
  });
});

test('labels can come from a function, which is asked once for each operation', () => {
  const asked: string[] = [];
  const selector = parseSelector('(has(a) || b == "x") && c not in {"y"} && !global() && !d contains "z"');
  const labels = (name: string): string | undefined => {
    asked.push(name);
    return { b: 'x', c: 'x', 'projectcalico.org/namespace': 'default' }[name];
  };
  expect(matches(selector, labels)).toBe(true);
  expect(asked).toEqual(['a', 'b', 'c', 'projectcalico.org/namespace', 'd']);
});
