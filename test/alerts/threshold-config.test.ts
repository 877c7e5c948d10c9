import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readPolicy } from '../../agent/alerts/policy-file.ts';
import { thresholdLines } from '../../agent/alerts/threshold-config.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'threshold-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (text: string): string => {
  const file = join(directory, 'threshold.config');
  writeFileSync(file, text);
  return file;
};

test.each([
  ['suppress gen_id 1, sig_id 7', 'suppress', '{ signature: "1:7" }'],
  ['suppress gen_id 0, sig_id 7, track by_src, ip 10.0.0.1 #ours', 'suppress', '{ signature: 7, source: "10.0.0.1" }'],
  [
    'suppress gen_id 1, sig_id 7, track by_dst, ip [10.0.0.0/8, fd00::/8]',
    'suppress',
    '{ signature: "1:7", destination: [10.0.0.0/8,fd00::/8] }',
  ],
  [
    'threshold gen_id 1, sig_id 7, type limit, track by_src, count 1, seconds 60',
    'threshold',
    '{ signature: "1:7", count: 1, seconds: 60, track: by_source, type: limit }',
  ],
  [
    '  event_filter gen_id 1, sig_id 7, type both, track by_rule, count 5, seconds 9',
    'threshold',
    '{ signature: "1:7", count: 5, seconds: 9, track: by_rule, type: both }',
  ],
])('%s says what it is in a policy, which reads it', (line, where, entry) => {
  const file = write(`# comment\n${line}\n`);
  expect(readPolicy(file)).toEqual({
    errors: [`${file}:2: is a line of an engine's threshold.config: in the policy it is, below ${where}:  - ${entry}`],
  });
  expect(readPolicy(write(`${where}:\n  - ${entry}\n`))).toMatchObject({ [where]: [{ name: `${where}-1` }] });
});

test.each([
  'rate_filter gen_id 1, sig_id 7, track by_rule, count 1, seconds 1, new_action drop, timeout 1',
  'suppress gen_id 1, sig_id 0',
  'threshold gen_id 1, sig_id 7, type backoff, track by_src',
])('%s has nothing like it there', (line) => {
  expect(thresholdLines(write(line))[0]).toContain(':1: is a line of');
  expect(thresholdLines(write(line))[0]).toContain('nothing like it');
});

test('it is read in any encoding of rules, and with any ends of lines', () => {
  const file = write('');
  const text = '# comment\rsuppress gen_id 1, sig_id 7\r';
  for (const bytes of [Buffer.from(text), Buffer.from(`\ufeff${text}`, 'utf16le')]) {
    writeFileSync(file, bytes);
    expect(thresholdLines(file)).toEqual([expect.stringContaining(':2: is a line of')]);
  }
});

test("Snort 3's tables are known, and a policy is none of these", () => {
  expect(thresholdLines(write('suppress =\n{\n  { gid = 1, sid = 7 },\n}\n'))[0]).toContain(':1: is Lua');
  expect(thresholdLines(write('suppress:\n  - { signature: 7 }\nthreshold: []\n'))).toEqual([]);
  expect(thresholdLines(join(directory, 'none'))).toEqual([]);
});

test.each([
  '{ source: 0.0.0.0/0 }',
  '{ destination: ["::/0", 10.0.0.1] }',
  '{ pod: "*/*" }',
  '{ pod: "*/*", hours: 08:00-09:00 }',
])('an entry such as %s matches everything, which is an error', (entry) => {
  const file = write(`suppress:\n  - ${entry}\n`);
  expect(readPolicy(file)).toEqual({ errors: [expect.stringContaining('suppress[0]: matches every alert')] });
  expect(readPolicy(write(`suppress:\n  - ${entry.replace('{', '{ signature: 7,')}\n`))).toMatchObject({
    suppress: [{}],
  });
});
