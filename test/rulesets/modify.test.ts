import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createModifier, parseChanges, type Modifier } from '../../agent/rulesets/modify.ts';
import { parseRules, type RuleInfo } from '../../agent/rulesets/rule.ts';

const FILE = '/rules/community/emerging-games.rules';
const RULES = `alert tcp any any -> any $HTTP_PORTS ( msg:"ONE telnet"; content:"a;b"; classtype:misc-activity; sid:1; rev:1; )
# alert tcp any any -> any 80 ( msg:"TWO"; classtype:trojan-activity; sid:2; rev:1; )
##alert udp any any -> any 53 ( msg:"THREE"; \\
#   content:"x"; sid:3; rev:1; )
alert tcp any any -> any any ( msg:"OTHER one"; gid:3; sid:1; rev:1; )
`;

function modifierOf(changes: string): Modifier {
  const parsed = parseChanges(changes);
  if ('problems' in parsed) throw new Error(JSON.stringify(parsed.problems));
  return createModifier(parsed.changes);
}

const read = (text = RULES): RuleInfo[] => parseRules(text, { file: FILE }).rules;
const modified = (changes: string): RuleInfo[] => modifierOf(changes).modify(read(), 'community');
const enabled = (changes: string): string[] =>
  modified(changes)
    .filter((rule) => rule.enabled)
    .map(({ gid, sid }) => `${gid}:${sid}`);
const ALL = ['1:1', '1:2', '1:3', '3:1'];

describe('conditions', () => {
  test.each([
    ['', ['1:1', '3:1']],
    ['# disable 1', ['1:1', '3:1']],
    ['disable 1', []],
    ['disable 1:1 # the first', ['3:1']],
    ['disable 1:1-2', ['3:1']],
    ['disable 4-9', ['1:1', '3:1']],
    ['disable class:Misc-Activity', ['3:1']],
    ['disable set:community', []],
    ['disable set:kubernetes', ['1:1', '3:1']],
    ['disable file:emerging-*.rules', []],
    ['disable file:/rules/*', []],
    ['disable file:rules', ['1:1', '3:1']],
    ['disable re:telnet', ['3:1']],
    ['disable re:"/one TELNET/i"', ['3:1']],
    ['disable re:"msg:\\"ONE"', ['3:1']],
    ['disable 1 class:misc-activity set:community', ['3:1']],
    ['disable 1 class:trojan-activity', ['1:1', '3:1']],
    ['enable set:community', ALL],
    ['enable 2', ['1:1', '1:2', '3:1']],
    ['enable 3', ['1:1', '1:3', '3:1']],
    ['disable set:community\nenable 1:1', ['1:1']],
    ['enable 2\r\ndisable 2\r\n', ['1:1', '3:1']],
    ['disable 1:1\nenable 1:1', ['1:1', '3:1']],
  ])('%j leaves %j', (changes, left) => {
    expect(enabled(changes)).toEqual(left);
  });
});

describe('what changes', () => {
  test('an enabled rule is whole, at its place, and knows its lines', () => {
    const [, two, three] = modified('\nenable set:community');
    expect(two).toMatchObject({ line: 2, text: expect.stringMatching(/^alert tcp/), changes: [2] });
    expect(three).toMatchObject({
      line: 3,
      endLine: 4,
      message: 'THREE',
      text: expect.stringMatching(/\\\ncontent:"x"/),
    });
    expect(parseRules(three?.text ?? '', { file: FILE }).problems).toEqual([]);
  });

  test('modify replaces each match, with groups, and what the rule says of itself follows', () => {
    const changes = String.raw`modify 1:1 "msg:\"(\w+) telnet\"" "msg:\"\1 changed\"; priority:1"
modify class:misc-activity \$HTTP_PORTS any
modify 2 "TWO" "Two"`;
    const [one, two] = modified(changes);
    expect(one).toMatchObject({
      message: 'ONE changed',
      priority: 1,
      header: 'alert tcp any any -> any any',
      changes: [1, 2],
    });
    // Also while it is commented out.
    expect(two).toMatchObject({ message: 'Two', enabled: false });
  });

  test.each([
    ['modify 1:1 sid:1 sid:9', 'would no longer be one rule'],
    ['modify 1:1 "\\(.*" ""', 'would no longer be one rule'],
    ['modify 1:1 "alert" "alert tcp any any -> any any (sid:1;) alert"', 'would no longer be one rule'],
    ['modify 1:1 "^alert" "#alert"', ''],
  ])('%j changes nothing that is not the same rule', (changes, why) => {
    const modifier = modifierOf(changes);
    const [one] = modifier.modify(read(), 'community');
    expect([one?.sid, one?.enabled]).toEqual([1, why !== '']);
    expect(modifier.problems().map(({ reason }) => reason)).toEqual(why === '' ? [] : [expect.stringContaining(why)]);
  });

  test('each line knows how many rules it met, over all files', () => {
    const modifier = modifierOf('disable 1\ndisable 99\nmodify 1:1 nothing else\nenable class:trojan-activity');
    modifier.modify(read(), 'community');
    modifier.modify(read(), 'other');
    expect(modifier.touched()).toEqual([
      { line: 1, rules: 4 },
      { line: 2, rules: 0 },
      { line: 3, rules: 0 },
      { line: 4, rules: 2 },
    ]);
  });

  test('an expression without end is given up, and told of', () => {
    const text = `alert tcp any any -> any any ( msg:"${'a'.repeat(60)}!"; sid:7; )`;
    const modifier = modifierOf('disable re:(a+)+$\ndisable 7');
    expect(modifier.modify(read(text), 'x')[0]?.enabled).toBe(false);
    expect(modifier.problems()).toEqual([{ line: 1, reason: expect.stringContaining('takes longer than') }]);
  });
});

test.each([
  ['x', '"x": expected enable, disable or modify'],
  ['disable', 'expected a condition behind disable'],
  ['disable nonsense', '"nonsense": expected 1:21562, 21562, 1:220-3264, class:NAME'],
  ['disable 1:', 'expected 1:21562'],
  ['disable 1:9-4', 'expected the lower number first'],
  ['disable re:', '"re:": expected something behind re:'],
  ['disable re:(', '"re:(": is no regular expression'],
  ['disable "x', 'a quotation mark is missing'],
  ['modify 1 a', 'expected modify CONDITION "what" "by what"'],
  ['modify 1 ( b', '"(": is no regular expression'],
  ['\u001B[2Jx', 'expected enable'],
])('%j is refused with its line', (line, why) => {
  const parsed = parseChanges(`# fine\n${line}\ndisable 1`);
  expect(parsed).toEqual({ problems: [{ line: 2, reason: expect.stringContaining(why) }] });
});

test('errors and changes are bounded', () => {
  const errors = parseChanges('x\n'.repeat(1000));
  expect('problems' in errors && errors.problems.length).toBe(100);
  const many = parseChanges('disable 1\n'.repeat(10_001));
  expect(many).toEqual({ problems: [{ line: 10_001, reason: expect.stringContaining('at most 10000') }] });
});

test('whatever the lines and the rules, as many rules come out, each with its signature, and no line breaks in messages', () => {
  const words = fc.constantFrom(
    'enable',
    'disable',
    'modify',
    '1',
    '3:1',
    're:a',
    're:.',
    'set:x',
    'file:*',
    '"',
    ' ',
    '#',
    '\\',
    '\n',
    'sid',
    '(',
    ')',
    ';',
    'alert',
    '\u001B[2J',
  );
  fc.assert(
    fc.property(fc.array(words, { maxLength: 30 }), (parts) => {
      const parsed = parseChanges(parts.join(' '));
      if ('problems' in parsed) {
        for (const { reason } of parsed.problems) expect(reason).toMatch(/^\P{Cc}+$/u);
        return;
      }
      const before = read();
      const after = createModifier(parsed.changes).modify(before, 'x');
      expect(after.map(({ gid, sid, line }) => [gid, sid, line])).toEqual(
        before.map(({ gid, sid, line }) => [gid, sid, line]),
      );
    }),
    { numRuns: 500 },
  );
});
