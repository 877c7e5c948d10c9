import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { explainRule, ruleOptions, type Explanation } from '../../agent/rulesets/explain.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';

function explain(text: string): Explanation {
  const [rule] = parseRules(text, { file: 'x' }).rules;
  if (rule === undefined) throw new Error(`no rule: ${text}`);
  return explainRule(rule);
}

const looksFor = (options: string): string[] => explain(`alert tcp any any -> any any ( ${options} sid:1; )`).looksFor;

test('Snort’s way to write', () => {
  expect(
    explain(
      'alert tcp $HOME_NET any -> $EXTERNAL_NET $HTTP_PORTS ( msg:"M"; flow:to_server,established; http_method; content:"POST"; http_header:field user-agent; content:"Moz|3A 20|\\"x|0D 0A|",nocase,fast_pattern; http_client_body; content:!"smk=",depth 4,offset 2; service:http,https; sid:1; )',
    ),
  ).toEqual({
    traffic: 'TCP from $HOME_NET, any port, to $EXTERNAL_NET, port $HTTP_PORTS',
    direction: 'from the client to the server, in an established connection',
    services: ['http', 'https'],
    looksFor: [
      '"POST" in the HTTP method',
      String.raw`"Moz: \"x\r\n" in the header user-agent, in any case`,
      `not "smk=" in the request's body, in the first 4 bytes looked at, from byte 2 on`,
    ],
  });
});

test('Suricata’s way to write', () => {
  expect(
    looksFor(
      'http.uri; content:"/a;b"; nocase; startswith; content:"c"; distance:0; within:7; bsize:<9; fast_pattern;',
    ),
  ).toEqual([
    '"/a;b" in the URI, in any case, at its beginning',
    '"c" in the URI, behind the last match, ending at most 7 bytes behind the last match',
    'length of the URI: <9',
  ]);
});

test.each([
  ['alert http (sid:1;)', 'HTTP, whoever sends it'],
  ['alert (sid:1;)', 'any traffic, whoever sends it'],
  ['alert file (sid:1;)', 'files, whatever carries them'],
  [
    'alert ip [10.0.0.0/8, !10.1.0.0/16] any <> any [80,8080:] (sid:1;)',
    'IP, of any protocol between [10.0.0.0/8, !10.1.0.0/16], any port, and anybody, port [80,8080:]',
  ],
])('the traffic of %s', (rule, expected) => {
  expect(explain(rule).traffic).toBe(expected);
});

test.each([
  ['pcre:"/a(b)"c/i"; ', 'match of /a(b)"c/i in the payload'],
  ['pcre:!"/a/";', 'no match of /a/ in the payload'],
  ['content:"|22|login|22|";', String.raw`"\"login\"" in the payload`],
  ['file_data; content:"|00 01|";', '"|00 01|" in the body or file'],
  ['flowbits:set,known;', 'notes known for the connection'],
  ['flowbits:isset,known;', 'only where an earlier rule noted known'],
  ['dsize:>100;', 'length of the payload: >100'],
  ['isdataat:!10,relative;', 'no data at byte 10,relative'],
  ['itype:8;', 'ICMP type 8'],
  ['byte_test:1,>,5,0;', 'a number in the payload compares: 1,>,5,0'],
  ['detection_filter:track by_src, count 5, seconds 60;', 'only beyond a rate: track by_src, count 5, seconds 60'],
  ['toString:x;', 'toString x'],
])('%s', (option, expected) => {
  expect(looksFor(option)).toEqual([expected]);
});

describe('options', () => {
  test('over several lines, commented out, and without a last semicolon', () => {
    expect(ruleOptions('# alert tcp any any -> any any (msg:"a\\"b"; \\\n#  content:"x"; sid:1)')).toEqual([
      { key: 'msg', value: '"a\\"b"' },
      { key: 'content', value: '"x"' },
      { key: 'sid', value: '1' },
    ]);
  });

  test('whatever the text, it ends, and says no more than it was given', () => {
    const parts = fc.constantFrom(
      'alert',
      ' ',
      '(',
      ')',
      ';',
      ':',
      '"',
      '\\',
      '\n',
      '#',
      'content',
      'flow',
      '!',
      ',',
      '|',
      '41',
      'pcre',
      'é',
      '\0',
    );
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 60 }), (words) => {
        const text = words.join('');
        const { looksFor: found } = explainRule({ header: text, text });
        expect(found.length).toBeLessThanOrEqual(101);
        expect(
          ruleOptions(text).reduce((sum, { key, value }) => sum + key.length + value.length, 0),
        ).toBeLessThanOrEqual(text.length);
      }),
      { numRuns: 1000 },
    );
  });
});

const COMMUNITY = resolve(import.meta.dirname, '../../../shared/rules/snort3-community.rules');
(existsSync(COMMUNITY) ? test : test.skip)(
  'each community rule says whose traffic it is about and what it looks for',
  () => {
    const { rules } = parseRules(readFileSync(COMMUNITY, 'utf8'), { file: COMMUNITY });
    const mute = rules.filter((rule) => {
      const { traffic, looksFor: found } = explainRule(rule);
      return !/^[A-Z]+,? /.test(traffic) || found.some((line) => line === '' || line.includes('undefined'));
    });
    expect(mute.map(({ sid }) => sid)).toEqual([]);
    expect(rules.length).toBeGreaterThan(4000);
  },
);
