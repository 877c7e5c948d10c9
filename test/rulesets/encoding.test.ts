import { describe, expect, test } from '@jest/globals';
import { gzipSync } from 'node:zlib';
import { decodeRules } from '../../agent/rulesets/encoding.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';

const RULE = (sid: number, about = ''): string =>
  `alert tcp any any -> any any (msg:"ä€ ${sid}"; ${about}content:"EVIL"; sid:${sid};)`;

function sidsOf(bytes: Buffer): { sids: number[]; lines: number[]; messages: string[] } | string {
  const decoded = decodeRules(bytes);
  if ('problem' in decoded) return decoded.problem;
  const { rules, problems } = parseRules(decoded.text, { file: 'x' });
  expect(problems).toEqual([]);
  return {
    sids: rules.map(({ sid }) => sid),
    lines: rules.map(({ line }) => line),
    messages: rules.map(({ message }) => message),
  };
}

const swapped = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();

describe('the same two rules are read', () => {
  const lines = (end: string): string => [RULE(1), '# c', RULE(2), ''].join(end);
  test.each([
    ['LF', Buffer.from(lines('\n'))],
    ['CRLF', Buffer.from(lines('\r\n'))],
    ['CR', Buffer.from(lines('\r'))],
    ['CR CR LF', Buffer.from(lines('\r\r\n'))],
    ['LF and CR in turns', Buffer.from(`${RULE(1)}\n# c\r${RULE(2)}\r\n`)],
    ['a byte order mark', Buffer.from(`\uFEFF${lines('\r\n')}`)],
    ['UTF-16 LE with a mark', Buffer.from(`\uFEFF${lines('\r\n')}`, 'utf16le')],
    ['UTF-16 BE with a mark', swapped(`\uFEFF${lines('\n')}`)],
    ['UTF-16 LE without a mark', Buffer.from(lines('\n'), 'utf16le')],
    ['UTF-16 BE without a mark', swapped(lines('\r'))],
  ])('%s', (_, bytes) => {
    expect(sidsOf(bytes)).toEqual({ sids: [1, 2], lines: [1, 3], messages: ['ä€ 1', 'ä€ 2'] });
  });
});

test('what is not UTF-8 is Latin-1: messages as characters, patterns as the same bytes', () => {
  const rule = (about: string): string => RULE(1, about).replace('€', '');
  const bytes = Buffer.from(rule('content:!"caf\u00e9|0A|\u00e4\u00e4"; pcre:"/\u00e9;/"; '), 'latin1');
  const text = rule(String.raw`content:!"caf|E9||0A||E4 E4|"; pcre:"/\xE9;/"; `);
  expect(decodeRules(bytes)).toEqual({ text });
});

test.each([
  ['UTF-32', Buffer.concat([Buffer.from('fffe0000', 'hex'), Buffer.from('a\0\0\0')]), 'it is UTF-32: save it as UTF-8'],
  ['half a character', Buffer.from(`\uFEFF${RULE(1)}`, 'utf16le').subarray(0, -1), 'UTF-16LE, and ends inside'],
  ['gzip', gzipSync(RULE(1)), 'it is gzip, not rules'],
])('%s is the reason', (_, bytes, reason) => {
  expect(sidsOf(bytes)).toContain(reason);
});
