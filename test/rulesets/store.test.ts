import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Candidate, SetVersion } from '../../agent/rulesets/admit.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';
import { readGood, writeGood } from '../../agent/rulesets/store.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-store-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function set(name: string, hash: string): SetVersion {
  const text = `\n\nalert tcp any any -> any any (\n  msg:"ä \\; b"; sid:5; rev:2;\n)\nalert http ( sid:6; )\n`;
  const [one, two] = parseRules(text, { file: '/r/x.rules' }).rules;
  if (one === undefined || two === undefined) throw new Error('no rules');
  const rules = [
    { ...one, sets: [name], staged: one.text },
    { ...two, sets: [name], staged: 'translated' },
  ];
  const failed = [{ set: name, gid: 1, sid: 7, file: '/r/x.rules', line: 9, reason: 'bad' }];
  return { name, hash, changedAt: 5, rules, failed };
}
const given = (hash: string): Candidate => ({ sets: new Map([['a', set('a', hash)]]), overrides: '-- mine' });

test('what was written is read again, with places and texts', () => {
  writeGood(folder, 'snort 3', given('1'.repeat(64)));
  const read = readGood(folder, 'snort 3');
  const expected = given('1'.repeat(64));
  expect(read?.overrides).toBe('-- mine');
  expect(read?.sets.get('a')).toMatchObject({
    hash: '1'.repeat(64),
    changedAt: 5,
    failed: expected.sets.get('a')?.failed,
  });
  const about = (candidate: Candidate | undefined) =>
    candidate?.sets
      .get('a')
      ?.rules.map(({ file, line, text, staged, message, sid, sets }) => [file, line, text, staged, message, sid, sets]);
  expect(about(read)).toEqual(about(expected));
});

test('only the newest is kept', () => {
  writeGood(folder, 'snort 3', given('1'.repeat(64)));
  writeGood(folder, 'snort 3', given('2'.repeat(64)));
  expect(readdirSync(folder).toSorted()).toEqual([`a-${'2'.repeat(16)}.ndjson`, 'good.json']);
});

test('what another engine took, or is damaged, is none', () => {
  expect(readGood(folder, 'snort 3')).toBeUndefined();
  writeGood(folder, 'snort 3', given('1'.repeat(64)));
  expect(readGood(folder, 'snort 4')).toBeUndefined();
  writeFileSync(join(folder, `a-${'1'.repeat(16)}.ndjson`), '{"file": "torn');
  expect(readGood(folder, 'snort 3')).toBeUndefined();
});
