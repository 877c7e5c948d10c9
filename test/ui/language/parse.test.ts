import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { FIELDS } from '../../../agent/ui/language/fields.ts';
import { LanguageError, parseLanguage } from '../../../agent/ui/language/parse.ts';
import { narrowed, quoted } from '../../../agent/ui/language/write.ts';

const text = (field: string, ...like: string[]) => ({ is: 'text', in: [field], like });

describe('reads', () => {
  test.each<[string, object]>([
    ['', { is: 'all' }],
    ['  *  ', { is: 'all' }],
    ['node: worker-1', text('node', 'worker-1')],
    ['node:WORKER-*', text('node', 'worker-', '')],
    ['node: "worker-*"', text('node', 'worker-*')],
    [String.raw`node: worker-\*`, text('node', 'worker-*')],
    [String.raw`node: "a \"b\" \\"`, text('node', String.raw`a "b" \ `.trimEnd())],
    ['message: jndi', text('message', '', 'jndi', '')],
    ['severity > 70', { is: 'number', of: 'severity', from: 71 }],
    ['severity <= high', { is: 'number', of: 'severity', below: 90 }],
    ['count: *', { is: 'number', of: 'count', from: 0 }],
    ['time: 2026-11-24', { is: 'number', of: 'time', from: 1795478400000, below: 1795564800000 }],
    ['time < 2026-11-24T01:00+01:00', { is: 'number', of: 'time', below: 1795478400000 }],
    ['state: Open', { is: 'state', state: 'open' }],
    ['tactic: "initial access"', text('tactic', 'ta0001')],
    ['tactic: none', { is: 'not', of: text('tactic', '', '') }],
    ['signature: 1:21562', { is: 'and', of: [text('gid', '1'), text('sid', '21562')] }],
    ['1:21562:3', { is: 'and', of: [text('gid', '1'), text('sid', '21562'), text('rev', '3')] }],
    ['not not node: a', text('node', 'a')],
    [
      'node: a or node: b and node: c',
      { is: 'or', of: [text('node', 'a'), { is: 'and', of: [text('node', 'b'), text('node', 'c')] }] },
    ],
    ['node: a node: b', { is: 'and', of: [text('node', 'a'), text('node', 'b')] }],
    ['NOT(node:a)', { is: 'not', of: text('node', 'a') }],
    ['node: (a or not b)', { is: 'or', of: [text('node', 'a'), { is: 'not', of: text('node', 'b') }] }],
    [
      'source.pod: shop/cart-*',
      { is: 'and', of: [text('source.namespace', 'shop'), text('source.name', 'cart-', '')] },
    ],
  ])('%s', (query, condition) => {
    expect(parseLanguage(query)).toEqual(condition);
  });

  test.each([
    ['10.65.0.3', '10.65.0.3', 1n],
    ['10.65.0.0/16', '10.65.0.0/16', 1n << 16n],
    ['10.65.*', '10.65.0.0/16', 1n << 16n],
    ['203.0.113.', '203.0.113.0/24', 1n << 8n],
    ['2001:db8::/32', '2001:db8::/32', 1n << 96n],
    ['fe80::1', 'fe80::1', 1n],
    ['dead:beef::1', 'dead:beef::1', 1n],
  ])('%s as addresses at either end', (query, network, addresses) => {
    const condition = parseLanguage(query);
    expect(condition).toMatchObject({
      is: 'or',
      of: [
        { is: 'address', at: 'source' },
        { is: 'address', at: 'destination' },
      ],
    });
    const [source] = condition.is === 'or' ? condition.of : [];
    if (source?.is !== 'address') throw new Error('no address');
    expect(source.in.text).toBe(network);
    expect(source.in.last - source.in.first + 1n).toBe(addresses);
  });
});

test.each<[string, number, RegExp]>([
  ['pods: a', 0, /^column 1: there is no field pods: did you mean pod\? A text with a colon stands in quotes\.$/],
  ['a http://x', 2, /there is no field http: there are message, .* in quotes\.$/],
  ['node:', 5, /expected what node is, found the end/],
  ['node: or a', 6, /found or: put it in quotes/],
  ['(a or b', 0, /this \( is not closed/],
  ['a) b', 1, /there is no \( for this \)/],
  ['a or', 4, /expected a word, a field, not or \(, found the end/],
  ['say "hello', 4, /this quotation mark is not closed/],
  ['ip: 10.0.0.256', 4, /ip: expected an address, or a network such as/],
  ['ip: 10.0.0.0/33', 4, /ip: expected an address/],
  ['port: http', 6, /port: expected a number from 0 to 65535/],
  ['severity >= worst', 12, /severity: expected one of critical, high, medium, low, or a number/],
  ['node > a', 0, /node has no order: expected node: and a value/],
  ['time > yesterday', 7, /time: expected a date such as/],
  ['state: gone', 7, /state: expected one of open, acknowledged, dismissed/],
  ['tactic: "Nothing Such"', 8, /tactic: expected a tactic such as/],
  ['a'.repeat(1001), 1000, /at most 1000 characters/],
  ['a '.repeat(65), 128, /at most 64 words and values/],
  ['('.repeat(33), 32, /at most 32 parentheses/],
])('%s is refused, with its place', (query, position, message) => {
  const refused = (): unknown => parseLanguage(query);
  expect(refused).toThrow(LanguageError);
  try {
    refused();
  } catch (error) {
    expect(error).toMatchObject({ position, message: expect.stringMatching(message) });
    expect((error as Error).message.startsWith(`column ${position + 1}: `)).toBe(true);
  }
});

test('any text is read, or refused with a place in it', () => {
  const pieces = fc.constantFrom(
    ...FIELDS.keys(),
    ...' ():*"\\<>=/.'.split(''),
    'and',
    'or',
    'not',
    '1',
    'a',
    '10.0.0.0/8',
    '::',
    'é',
  );
  const made = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(made, (query) => {
      try {
        parseLanguage(query);
      } catch (error) {
        if (!(error instanceof LanguageError)) throw error;
        expect(error.position).toBeGreaterThanOrEqual(0);
        expect(error.position).toBeLessThanOrEqual(query.length);
      }
    }),
    { numRuns: 2000 },
  );
});

test('a value that is written is read as itself, whatever is in it', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 100 }), (value) => {
      expect(parseLanguage(`node: ${quoted(value)}`)).toEqual(
        parseLanguage(`node: "${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`),
      );
    }),
  );
});

test('a query is narrowed as a whole, and once', () => {
  expect(narrowed('', 'pod', 'shop/cart-0')).toBe('pod: shop/cart-0');
  expect(narrowed('log4j', 'class', 'A Network Trojan', true)).toBe('log4j and not class: "A Network Trojan"');
  expect(narrowed('a or b', 'node', 'x')).toBe('(a or b) and node: x');
  expect(narrowed('a and node: x', 'node', 'x')).toBe('a and node: x');
});
