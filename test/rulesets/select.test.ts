import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectRuleFiles } from '../../agent/rulesets/select.ts';
import { PROJECT } from '../support/project.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-select-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

function write(...names: string[]): void {
  for (const name of names) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), '');
  }
}

const names = (files: string[]): string[] => files.map((file) => file.slice(folder.length + 1));

test.each(['snort', 'suricata'] as const)('a built-in set is its file for %s', async (engine) => {
  expect(await selectRuleFiles(['kubernetes'], [], engine)).toEqual([
    join(PROJECT, 'rules/kubernetes', `${engine}.rules`),
  ]);
});

test('a set that is not built in is an error that names those that are', async () => {
  await expect(selectRuleFiles(['kubernets'], [], 'snort')).rejects.toThrow(
    /^ruleSets: there is no built-in rule set kubernets for snort; there is: (\S+, )*kubernetes(, \S+)*$/,
  );
});

test('a file is taken by any name, also by the other engine’s', async () => {
  write('suricata.rules', 'mine.txt');
  const paths = [join(folder, 'suricata.rules'), join(folder, 'mine.txt')];
  expect(await selectRuleFiles([], paths, 'snort')).toEqual(paths);
});

test('in a folder, files called by the other engine’s name are left out', async () => {
  write('a.rules', 'b.snort.rules', 'c.suricata.rules', 'd/snort.rules', 'd/suricata.rules', 'my-suricata.rules');
  expect(names(await selectRuleFiles([], [folder], 'snort'))).toEqual([
    'a.rules',
    'b.snort.rules',
    'd/snort.rules',
    'my-suricata.rules',
  ]);
  expect(names(await selectRuleFiles([], [folder], 'suricata'))).toEqual([
    'a.rules',
    'c.suricata.rules',
    'd/suricata.rules',
    'my-suricata.rules',
  ]);
});

test('also when it is the only file there', async () => {
  write('set/suricata.rules');
  expect(await selectRuleFiles([], [join(folder, 'set')], 'snort')).toEqual([]);
  expect(names(await selectRuleFiles([], [join(folder, 'set')], 'suricata'))).toEqual(['set/suricata.rules']);
});

test('sets come first, then paths as they were given, each file once', async () => {
  write('b.rules', 'a.rules');
  const [a, b] = [join(folder, 'a.rules'), join(folder, 'b.rules')];
  const files = await selectRuleFiles(['kubernetes', 'kubernetes'], [b, folder, a], 'snort');
  expect(files.slice(1)).toEqual([b, a]);
});

test('a path that does not exist is an error that names it', async () => {
  await expect(selectRuleFiles([], [join(folder, 'missing')], 'snort')).rejects.toThrow(join(folder, 'missing'));
});
