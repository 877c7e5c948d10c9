import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDataReader, fingerprintOf, mentionedFiles, placesNamed } from '../../agent/rulesets/data.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-data-'));
  mkdirSync(join(folder, 'set/deep/lists'), { recursive: true });
  write('set/deep/lists/a.txt', 'a\n');
  write('set/top.lst', 'YQ==\n');
  write('secret', 'x');
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);
const write = (name: string, text: string): void => writeFileSync(at(name), text);

async function read(options: string, allowScripts = false): Promise<string> {
  const text = `alert http any any -> any any (${options} sid:1;)`;
  const [rule] = parseRules(text, { file: at('set/deep/x.rules') }).rules;
  if (rule === undefined) throw new Error(`no rule: ${text}`);
  const found = await createDataReader().read(rule, { root: at('set'), allowScripts });
  if (found.kind === 'refused') return found.reason;
  const files = found.data.map(
    ({ name, file, content }) => `${name} ${file.slice(folder.length + 1)} ${String(content)}`,
  );
  return [found.text, ...files].join('|').replaceAll(/[0-9a-f]{16}-/g, '#-');
}

test.each([
  ['content:"filemd5:x;";', 'alert http any any -> any any (content:"filemd5:x;"; sid:1;)'],
  [
    'filemd5:lists/a.txt;',
    'alert http any any -> any any (filemd5:data/#-a.txt; sid:1;)|#-a.txt set/deep/lists/a.txt a\n',
  ],
  [
    'filesha256 : ! "lists/a.txt";',
    'alert http any any -> any any (filesha256:!data/#-a.txt; sid:1;)|#-a.txt set/deep/lists/a.txt a\n',
  ],
  [
    'dataset:isset,d,type string,load top.lst;',
    'alert http any any -> any any (dataset:isset,d,type string,load data/#-top.lst; sid:1;)|#-top.lst set/top.lst YQ==\n',
  ],
  [
    'dataset:set,d, type string, state  top.lst, memcap 10mb;',
    'alert http any any -> any any (dataset:set,d,type string,load data/#-top.lst,memcap 10mb; sid:1;)|#-top.lst set/top.lst YQ==\n',
  ],
  ['dataset:set,d,type string,state new.lst;', 'alert http any any -> any any (dataset:set,d,type string; sid:1;)'],
  ['dataset:set,d,type string,save /etc/x;', 'alert http any any -> any any (dataset:set,d,type string; sid:1;)'],
  ['dataset:isset,d;', 'alert http any any -> any any (dataset:isset,d; sid:1;)'],
])('%s', async (options, expected) => {
  expect(await read(options)).toBe(expected);
});

test.each([
  ['filemd5:/etc/passwd;', 'filemd5: "/etc/passwd" is an absolute path'],
  ['dataset:isset,d,type string,load /etc/passwd;', 'dataset: "/etc/passwd" is an absolute path'],
  ['filemd5:../../secret;', "leads out of the set's folder by .."],
  ['filemd5:lists/../lists/a.txt;', "leads out of the set's folder by .."],
  ['filemd5:lists;', 'is no plain file'],
  ['filemd5:none.txt;', 'there is no file "none.txt" beside'],
  ['filemd5:;', 'is no name of a file'],
  ['lua:lists/a.txt;', 'rules may run no scripts, unless rulesLua is true'],
  ['dataset:isset,d,type md5,load top.lst;', 'top.lst:1: expected an MD5 in hexadecimal'],
  ['datarep:d,>,1,load top.lst,type string;', 'top.lst:1: expected base64, and a number behind a comma'],
])('%s is refused: %s', async (options, reason) => {
  expect(await read(options)).toContain(reason);
});

test('a link may lead within the set, and not out of it', async () => {
  symlinkSync('lists/a.txt', at('set/deep/in.txt'));
  symlinkSync('../../secret', at('set/deep/out.txt'));
  symlinkSync(folder, at('set/deep/up'));
  symlinkSync('set', at('link'));
  expect(await read('filemd5:in.txt;')).toContain('data/#-in.txt');
  expect(await read('filemd5:out.txt;')).toContain("is a link that leads out of the set's folder");
  expect(await read('filemd5:up/secret;')).toContain("is a link that leads out of the set's folder");
});

test('a script is taken where scripts are allowed', async () => {
  expect(await read('lua:!lists/a.txt;', true)).toContain('lua:!data/#-a.txt;');
});

test('what is larger than any list is not read', async () => {
  write('set/deep/large', '');
  truncateSync(at('set/deep/large'), (64 << 20) + 1);
  expect(await read('filemd5:large;')).toBe('filemd5: "large" has 64 MB: expected at most 64');
});

test('a change of a file that rules name shows without reading it', () => {
  const text = 'alert http any any -> any any (filemd5:lists/a.txt; sid:1;)';
  const now = (): string => fingerprintOf(placesNamed(text, at('set/deep/x.rules'), at('set')));
  const before = now();
  expect(now()).toBe(before);
  write('set/deep/lists/a.txt', 'ab\n');
  expect(now()).not.toBe(before);
  expect(mentionedFiles('alert tcp (content:"load x";)')).toEqual([]);
});
