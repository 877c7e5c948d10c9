import { describe, expect, test } from '@jest/globals';
import { parseSelector, printSelector } from '../../../agent/kube/selector/selector.ts';

describe('a selector is printed in one form:', () => {
  test.each<[text: string, printed: string]>([
    ['', 'all()'],
    [' (all( ) )', 'all()'],
    ['global(\t)', 'global()'],
    ['has( a )', 'has(a)'],
    [`a=='b'`, 'a == "b"'],
    [`a!='"'`, `a != '"'`],
    [`a contains "'"`, `a contains "'"`],
    [`a startswith '"'`, `a starts with '"'`],
    [`a endswith "'"`, `a ends with "'"`],
    ['a in{}', 'a in {}'],
    [`a notin {'z','x',"'",'"','x',}`, `a not in {'"', "'", "x", "z"}`],
    ['!a == "b" && !a in {"b"}', 'a != "b" && a not in {"b"}'],
    ['!a != "b" && !a not in {"b"}', 'a == "b" && a in {"b"}'],
    ['!a contains "b" && ! has(c) && !all()', '!a contains "b" && !has(c) && !all()'],
    ['!(!has(a))', 'has(a)'],
    ['!(a == "b"&&! c != "d")', '!(a == "b" && c == "d")'],
    ['! (has( b)||! has(a ))', '!(has(b) || !has(a))'],
    ['((has(a)&&has(b))||has(c))', 'has(a) && has(b) || has(c)'],
    ['(has(a)||has(b))&&(has(c))', '(has(a) || has(b)) && has(c)'],
    ['has(a)&&(has(b)&&has(c))', 'has(a) && (has(b) && has(c))'],
    ['(has(a)||has(b))||has(c)', '(has(a) || has(b)) || has(c)'],
  ])('%s', (text, printed) => {
    expect(printSelector(parseSelector(text))).toBe(printed);
    expect(printSelector(parseSelector(printed))).toBe(printed);
  });
});
