import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { MAX_PROBLEMS, MAX_RULE_LENGTH, parseRules, ruleOptions, type RuleInfo } from '../../agent/rulesets/rule.ts';

const parse = (text: string) => parseRules(text, { file: 'a.rules' });
const sids = (text: string) => parse(text).rules.map(({ sid }) => sid);
const rule = (sid: number, options = '') => `alert tcp any any -> any any (msg:"m"; ${options}sid:${sid}; rev:1;)`;

describe('parseRules', () => {
  test('reads what a Snort 3 rule says about itself', () => {
    const text =
      'alert  tcp $HOME_NET any -> [10.0.0.0/8,!10.1.0.0/16] $HTTP_PORTS ( msg:"A \\"B\\"\\; C"; http_uri; content:"x;)y",nocase; ' +
      'metadata:impact_flag red,ruleset community, mitre_technique T1190 , mitre_technique T1059,flag; service:http; ' +
      'reference:cve,2021-44228; reference:url,example.test/a,b; classtype:trojan-activity; priority:2; gid:3; sid:21562; rev:6; )';
    expect(parse(text)).toEqual({
      rules: [
        {
          action: 'alert',
          protocol: 'tcp',
          header: 'alert tcp $HOME_NET any -> [10.0.0.0/8,!10.1.0.0/16] $HTTP_PORTS',
          gid: 3,
          sid: 21562,
          rev: 6,
          message: 'A "B"; C',
          classtype: 'trojan-activity',
          priority: 2,
          references: [
            { type: 'cve', id: '2021-44228' },
            { type: 'url', id: 'example.test/a,b' },
          ],
          metadata: {
            impact_flag: ['red'],
            ruleset: ['community'],
            mitre_technique: ['T1190', 'T1059'],
            flag: [''],
          },
          file: 'a.rules',
          line: 1,
          endLine: 1,
          enabled: true,
          text,
        },
      ],
      problems: [],
      unlistedProblems: 0,
    });
  });

  test('gives what is missing its default', () => {
    expect(parse('drop ( sid:7 )').rules).toMatchObject([
      {
        action: 'drop',
        header: 'drop',
        gid: 1,
        sid: 7,
        rev: 0,
        message: '',
        classtype: '',
        references: [],
        metadata: {},
      },
    ]);
    expect(parse('drop ( sid:7 )').rules[0]).not.toHaveProperty('protocol');
    expect(parse('drop ( sid:7 )').rules[0]).not.toHaveProperty('priority');
  });

  test('reads a body over several lines with comments inside', () => {
    const text = [
      '# the next one',
      'alert http',
      '(',
      '    msg:"one"; # alerts on everything; really)',
      '    # sid:99;',
      '    /* sid:98; "*/" */ http_uri;',
      '    content:"a",',
      '      nocase;',
      '    sid:1;',
      '    rev:2',
      ')',
      rule(2),
    ].join('\r\n');
    expect(parse(text).problems).toEqual([]);
    expect(parse(text).rules).toMatchObject([
      { header: 'alert http', message: 'one', sid: 1, rev: 2, line: 2, endLine: 11 },
      { sid: 2, line: 12, endLine: 12 },
    ]);
  });

  test('joins lines whose backslash has blanks behind it, and takes one at the end of the text', () => {
    const { rules, problems } = parseRules(
      'alert tcp any any -> any \\ \t\r\n any ( \\  \nmsg:"a \\ \nb"; \\\t\n metadata:x \\ \n y; sid:1; )\n' +
        '# alert tcp any any -> any any ( \\ \n# msg:"off"; sid:3; )\nalert tcp any any -> any any (sid:2;) \\',
      { file: 'x' },
    );
    expect(problems).toEqual([]);
    expect(rules.map(({ sid, enabled, line }) => [sid, enabled, line])).toEqual([
      [1, true, 1],
      [3, false, 7],
      [2, true, 9],
    ]);
    expect(rules[0]).toMatchObject({ header: 'alert tcp any any -> any any', message: 'a b', metadata: { x: ['y'] } });
    expect(ruleOptions(rules[0] as RuleInfo)).toContainEqual({ key: 'msg', value: '"a b"' });
  });

  test('joins lines that end with a backslash', () => {
    const text = 'alert tcp any any -> \\\n  any any (msg:"one \\\ntwo"; \\\r\n sid:1; rev:3;)\n' + rule(2);
    expect(parse(text)).toMatchObject({
      rules: [
        { header: 'alert tcp any any -> any any', message: 'one two', sid: 1, line: 1, endLine: 4 },
        { sid: 2, line: 5 },
      ],
      problems: [],
    });
  });

  test('reads several rules on one line', () => {
    expect(sids(`${rule(1)} ${rule(2)}${rule(3)} # ${rule(4)}`)).toEqual([1, 2, 3]);
  });

  test('takes a last option without semicolon or value', () => {
    expect(sids('alert (sid:1; noalert) alert (sid:2; noalert ) # x')).toEqual([1, 2]);
  });

  test("takes `#begin` elsewhere than at a line's start for a comment", () => {
    expect(sids(` #begin\n${rule(1)}\n## #begin\n${rule(2)}`)).toEqual([1, 2]);
  });

  test('marks rules that are commented out as not enabled', () => {
    const text = `#${rule(1)}\n  # # ${rule(2)}\n# alert tcp any any -> any any (\n#   msg:"three";\n#   sid:3;)\n${rule(4)}`;
    expect(parse(text)).toMatchObject({
      rules: [
        { sid: 1, enabled: false, header: 'alert tcp any any -> any any', text: `#${rule(1)}` },
        { sid: 2, enabled: false },
        { sid: 3, enabled: false, message: 'three', line: 3, endLine: 5 },
        { sid: 4, enabled: true, line: 6 },
      ],
      problems: [],
    });
  });

  test('takes prose in comments for prose', () => {
    const text =
      '# alert http rules (see below) are new\n# drop them\n#\n# pass tcp any any -> any any (msg:"no sid";)\n';
    expect(parse(text + rule(1))).toMatchObject({ rules: [{ sid: 1, line: 5 }], problems: [] });
  });

  test('skips block comments of both kinds', () => {
    const text = `/* ${rule(1)}\n"*/" ${rule(2)} */ ${rule(3)}\n#BEGIN\n${rule(4)}\n#end\n${rule(5)}`;
    expect(parse(text)).toMatchObject({ rules: [{ sid: 3 }, { sid: 5, line: 6 }], problems: [] });
  });

  test('reports a block comment without its end, and stops', () => {
    expect(parse(`${rule(1)}\n/* ${rule(2)}\n${rule(3)}`)).toMatchObject({
      rules: [{ sid: 1 }],
      problems: [{ line: 2 }],
    });
  });

  test('ends a pattern of pcre at the semicolon, whatever its quotation marks', () => {
    expect(sids(rule(1, 'pcre:"/a"b(c)\\;/i"; content:"d"; ') + '\n' + rule(2))).toEqual([1, 2]);
  });

  test('keeps semicolons and parentheses between quotation marks', () => {
    expect(sids(rule(1, 'content:"a;)"; content:!"\\"\\\\"; '))).toEqual([1]);
  });

  test('keeps keys of metadata that objects have by nature', () => {
    const [parsed] = parse(rule(1, 'metadata:__proto__ a, constructor b, toString; ')).rules;
    expect(Object.entries(parsed?.metadata ?? {})).toEqual([
      ['__proto__', ['a']],
      ['constructor', ['b']],
      ['toString', ['']],
    ]);
  });

  test.each([
    ['a rule without "("', 'alert tcp any any -> any any msg:"a"; sid:5;'],
    ['a rule without its end', 'alert tcp any any -> any any (msg:"a"; sid:5;'],
    ['a rule without its end', 'alert tcp any any -> any any (msg:"a"; /* sid:5;)'],
    ['a rule without its end: a quotation mark is missing', 'alert tcp any any -> any any (msg:"a; sid:5;)'],
    ['a rule without sid', 'alert tcp any any -> any any (msg:"a";)'],
    ['reference is not <type>,<id>: "cve"', rule(5, 'reference:cve; ')],
    ['sid is not a number from 1 to 4294967295: "0"', rule(0)],
    ['sid is not a number from 1 to 4294967295: "4294967296"', rule(4294967296)],
    ['rev is not a number from 0 to 4294967295: "x"', 'alert tcp any any -> any any (sid:5; rev:x;)'],
    ['not a rule: "allert tcp any any"', 'allert tcp any any'],
    ['include is not followed: "more.rules"', 'include more.rules'],
  ])('reports %s, with its line, and reads the next rule', (reason, damaged) => {
    expect(parse(`\n${damaged}\n${rule(1)}\n`)).toMatchObject({
      rules: [{ sid: 1, line: 3 }],
      problems: [{ line: 2, reason }],
    });
    expect(parse(`\n${damaged}\n#${rule(1)}\n`)).toMatchObject({ rules: [{ sid: 1, line: 3, enabled: false }] });
  });

  test('reports text behind a rule', () => {
    expect(parse(`${rule(1)} x\n${rule(2)}`)).toMatchObject({
      rules: [{ sid: 1 }, { sid: 2 }],
      problems: [{ line: 1, reason: 'text behind a rule' }],
    });
  });

  test('reports a rule that is too long', () => {
    const long = rule(1, `content:"${'a'.repeat(MAX_RULE_LENGTH)}"; `);
    expect(parse(`${long}\n${rule(2)}`)).toMatchObject({
      rules: [{ sid: 2 }],
      problems: [{ line: 1, reason: 'a rule of more than 262,144 characters' }],
    });
  });

  test('lists a bounded number of problems and counts the others', () => {
    const parsed = parse('x\n'.repeat(MAX_PROBLEMS + 5));
    expect(parsed.problems).toHaveLength(MAX_PROBLEMS);
    expect(parsed.unlistedProblems).toBe(5);
  });

  // Each would take hours if the time grew with the square of the length.
  test.each([
    ['one line of letters', 'a'],
    ['an endless option', 'alert tcp (a', 'a'],
    ['endless options', 'alert tcp (', 'a;'],
    ['endless quotation marks', 'alert tcp (', '"'],
    ['backslashes', 'alert tcp (a:', '\\'],
    ['rules without ends', '', 'alert tcp (\n'],
    ['rules without parentheses', '', 'alert tcp '],
    ['commented-out rules without ends', '', '# alert tcp (\n'],
    ['comments behind a commented-out rule', '# alert tcp (\n', '#\n'],
    ['rules with block comments without ends', '', 'alert tcp ( /*\n'],
    ['block comments', '', '/*'],
    ['blanks', 'alert tcp (', ' '],
    ['empty lines', 'alert tcp (', '\n'],
    ['empty lines in a header', 'alert tcp \\\n', '\\\n'],
    ['hash signs', '', '#'],
    ['begin marks', '', '#begin\n'],
    ['references', 'alert tcp (sid:1;', 'reference:a,b;'],
    ['parentheses', 'alert tcp (a:', ')'],
    ['small rules on one line', '', 'alert (sid:1;)'],
  ])('reads %s in time that grows with its length', (_, start, repeated = start) => {
    const text = start + repeated.repeat(1_000_000 / repeated.length);
    expect(parse(text).problems.length).toBeLessThanOrEqual(MAX_PROBLEMS);
  });
});

const pieces = fc.oneof(
  fc.constantFrom(
    'alert',
    ' tcp',
    ' any any -> any any ',
    '(',
    ')',
    ';',
    ':',
    '"',
    '\\',
    '\n',
    '\r\n',
    '#',
    '/*',
    '*/',
  ),
  fc.constantFrom('msg', 'sid', 'sid:1;', 'pcre', 'metadata', 'reference:', '1', ',', ' ', '#begin\n', '#end\n'),
  fc.constantFrom('\u0000', '\ufeff', 'é', rule(1), rule(2)),
);

/** Text that an option can hold between quotation marks, as it is meant and as it is written. */
const quotable = fc.string({
  unit: fc.constantFrom('a', 'B', '7', ' ', ';', '"', ':', '\\', '(', ')', '#', '/', '*', ',', 'é'),
});
const escaped = (text: string) => text.replaceAll(/[;"\\]/g, '\\$&');
const token = fc.stringMatching(/^[a-z0-9_.]{1,12}$/);
const number = fc.integer({ min: 1, max: 0xffff_ffff });

const described = fc.record({
  action: fc.constantFrom('alert', 'drop', 'pass', 'rejectsrc'),
  protocol: fc.constantFrom('tcp', 'udp', 'http', 'ip'),
  message: quotable.map((text) => text.trim()),
  gid: number,
  sid: number,
  rev: number,
  priority: fc.integer({ min: 0, max: 255 }),
  classtype: token,
  references: fc.array(fc.record({ type: token, id: token }), { maxLength: 4 }),
  metadata: fc.dictionary(token, fc.array(token, { minLength: 1, maxLength: 3 }), { maxKeys: 4 }),
});

interface Layout {
  spaces: string;
  lines: string;
  lastSemicolon: boolean;
}

const layout = fc.record<Layout>({
  spaces: fc.constantFrom('', ' ', '  ', '\t'),
  lines: fc.constantFrom('', '\n', '\r\n  ', ' \\\n', '\n  # note: "\n', ' /* ") */" ) */ '),
  lastSemicolon: fc.boolean(),
});

function print(
  info: typeof described extends fc.Arbitrary<infer T> ? T : never,
  { spaces, lines, lastSemicolon }: Layout,
) {
  const pairs = Object.entries(info.metadata).flatMap(([key, values]) => values.map((value) => `${key} ${value}`));
  const options = [
    `msg:${spaces}"${escaped(info.message)}"`,
    'content:"a\\;b)"',
    ...info.references.map(({ type, id }) => `reference:${type},${id}`),
    ...(pairs.length > 0 ? [`metadata:${pairs.join(`,${spaces}`)}`] : []),
    `classtype:${info.classtype}`,
    `priority:${info.priority}`,
    `gid:${info.gid}`,
    `rev:${spaces}${info.rev}`,
    `sid:${info.sid}${lastSemicolon ? ';' : ''}`,
  ];
  return `${info.action} ${info.protocol} any any -> any any ${spaces}(${lines}${options.join(`;${spaces}${lines}`)}${lastSemicolon ? lines : ''})`;
}

describe('parseRules, by properties', () => {
  test('never throws, and each rule is a part of the text', () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(pieces, { maxLength: 60 }).map((list) => list.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const { rules } = parse(text);
        const numbers = rules.flatMap(({ line, endLine }) => [line, endLine]);
        expect(numbers).toEqual(numbers.toSorted((one, other) => one - other));
        expect(numbers.at(-1) ?? 1).toBeLessThanOrEqual(text.split('\n').length);
        expect(rules.every((info) => text.includes(info.text))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  test('reads back printed rules', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(described, layout), { maxLength: 5 }), (list) => {
        const { rules, problems } = parse(list.map(([info, style]) => print(info, style)).join('\n'));
        expect(problems).toEqual([]);
        expect(rules).toMatchObject(list.map(([info]) => ({ ...info, enabled: true })));
        expect(rules.map((info) => ({ ...info.metadata }))).toEqual(list.map(([info]) => ({ ...info.metadata })));
      }),
    );
  });

  test('finds the rule behind a damaged one', () => {
    const damage = fc.record({
      at: fc.nat({ max: 400 }),
      length: fc.nat({ max: 400 }),
      instead: fc.array(fc.constantFrom('"', '\\', '(', ')', ';', ':', 'a', ' ', '#'), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(described, layout, damage, fc.constantFrom('', '#'), (info, style, { at, length, instead }, mark) => {
        const text = print(info, style);
        const damaged = text.slice(0, at) + instead.join('') + text.slice(at + length);
        expect(parse(`${damaged}\n${mark}${rule(77)}`).rules.at(-1)).toMatchObject({ sid: 77, text: mark + rule(77) });
      }),
      { numRuns: 1000 },
    );
  });
});

describe('the community rules', () => {
  const path = resolve(import.meta.dirname, '../../../shared/rules/snort3-community.rules');
  const isThere = existsSync(path);
  if (!isThere) process.stderr.write('skipped: ../shared/rules/snort3-community.rules is not there\n');

  (isThere ? test : test.skip)('are read without a problem', () => {
    const { rules, problems } = parse(readFileSync(path, 'utf8'));
    expect(problems).toEqual([]);
    expect(rules).toHaveLength(4004);
    expect(new Set(rules.map(({ gid, sid }) => `${gid}:${sid}`)).size).toBe(4004);
    expect(rules.every(({ message, classtype, enabled }) => message !== '' && classtype !== '' && enabled)).toBe(true);
    expect(rules.find(({ sid }) => sid === 21562)).toMatchObject({
      header: 'alert tcp $HOME_NET any -> $EXTERNAL_NET $HTTP_PORTS',
      rev: 6,
      message: 'MALWARE-CNC Win.Trojan.Bredolab variant outbound connection',
      classtype: 'trojan-activity',
      references: [
        {
          type: 'url',
          id: 'www.virustotal.com/file/9384733182a6cbe5236b9b253d1f070570b7f6b6ff31aa86be253421f4c5c645/analysis/',
        },
      ],
      metadata: { ruleset: ['community'] },
    });
  });
});
