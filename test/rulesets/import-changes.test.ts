import { expect, test } from '@jest/globals';
import { actionOfFile, importChanges, type ImportedAction } from '../../agent/rulesets/import-changes.ts';

const imported = (text: string, action: ImportedAction = 'disable'): string[] => {
  const { lines, problems } = importChanges(text, action);
  return [...lines, ...problems.map(({ line, reason }) => `${line}! ${reason}`)];
};

test.each([
  ['disablesid.conf', 'disable'],
  ['enablesid.conf', 'enable'],
  ['modifysid-lab.conf', 'modify'],
  ['disable.conf', 'disable'],
  ['my.modify.txt', 'modify'],
  ['dropsid.conf', undefined],
  ['disabled-things', undefined],
])('%s says %s', (name, action) => {
  expect(actionOfFile(name)).toBe(action);
});

test.each([
  ['# a comment\n\n  1:1034\r\n1034 # with one behind', ['disable 1:1034', 'disable 1034']],
  ['1:1034,1:9837, 1:1270', ['disable 1:1034', 'disable 1:9837', 'disable 1:1270']],
  ['1:220-1:3264,10-20', ['disable 1:220-3264', 'disable 10-20']],
  ['1:1034\n1:1034', ['disable 1:1034']],
  ['pcre:fooo\nre:heart\\d+, "bleed"', ['disable re:/fooo/i', 'disable "re:/heart\\d+, \\"bleed\\"/i"']],
  ['re:(?i)a#b', ['disable "re:/a#b/i"']],
  ['VRT-web-iis,ET-shellcode', ['disable file:*web-iis.rules', 'disable file:*shellcode.rules']],
  [
    'group:emerging-icmp\ngroup:emerging-dos.rules',
    ['disable file:emerging-icmp.rules', 'disable file:emerging-dos.rules'],
  ],
  ['filename:rules/*deleted*', ['disable file:*deleted*']],
  ['MS09-008,cve:2009-0008', ['disable re:/MS09-008/i', 'disable re:/reference\\s*:\\s*cve\\s*,\\s*2009-0008\\b/i']],
  ['metadata: deployment Perimeter', ['disable re:/metadata\\s*:[^;]*\\bdeployment\\s+Perimeter\\b/i']],
  ['disablesid 1324, 1325\nenablesid 7', ['disable 1324', 'disable 1325', 'enable 7']],
  [
    'localsid 5\nwhat is this\nre:(',
    [
      '1! localsid has no like here: nothing is dropped or kept from updates by such a line',
      '2! "what is this" is not understood',
      expect.stringMatching(/^3! .*is no regular expression/) as unknown as string,
    ],
  ],
])('%j to turn off', (text, expected) => {
  expect(imported(text)).toEqual(expected);
});

test.each([
  ['1:10011 "\\(msg:\\"EXPLOIT" "(msg:\\"ET"', ['modify 1:10011 "\\(msg:\\"EXPLOIT" "(msg:\\"ET"']],
  [
    '10010,1011 "\\$HTTP_PORTS" "any" # why',
    ['modify 10010 "\\$HTTP_PORTS" "any"', 'modify 1011 "\\$HTTP_PORTS" "any"'],
  ],
  ['* "^alert" "drop"', ['modify re:. "^alert" "drop"']],
  ['re:trojan "(?i)Seconds (\\d+)" "seconds \\g<1>0"', ['modify re:/trojan/i "/Seconds (\\d+)/i" "seconds \\10"']],
  ['modifysid 1325 "a" | "b"', ['modify 1325 "a" "b"']],
  ['1325 "a"', ['1! "1325 \\"a\\"": expected which rules, "what" and "by what"']],
])('%j to change', (text, expected) => {
  expect(imported(text, 'modify')).toEqual(expected);
});
