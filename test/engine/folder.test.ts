import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boundPatterns, forgetRules, stageRules } from '../../agent/engine/folder.ts';
import type { EngineRules } from '../../agent/engine/rules.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-folder-'));
  mkdirSync(join(folder, 'config'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const config = (...names: string[]): string => join(folder, 'config', ...names);
const base = () => ({
  mode: 'live' as const,
  fifo: '/f',
  configDirectory: config(),
  outputDirectory: '/o',
  output: 'json' as const,
});
const naming = (name: string): EngineRules => ({
  files: [],
  defaults: [],
  policies: [],
  data: [{ name, file: `/r/${name}`, content: Buffer.from(`of ${name}`) }],
});

test('files that rules name are staged where everybody can read them, and go with the last rules that name them', async () => {
  for (let revision = 0; revision <= 5; revision++) {
    stageRules(base(), naming(revision < 2 ? 'first' : 'later'), revision);
    await forgetRules(config(), revision);
    if (revision === 2) expect(readdirSync(config('data'))).toEqual(['first', 'later']);
  }
  expect(readdirSync(config('data'))).toEqual(['later']);
  expect(readFileSync(config('data', 'later'), 'utf8')).toBe('of later');
  expect(statSync(config('data', 'later')).mode & 0o777).toBe(0o644);
  expect(statSync(config('data')).mode & 0o777).toBe(0o755);
});

test('reputations are replaced in their place', () => {
  for (const list of ['a', 'b']) {
    const rules = { files: [], defaults: [], policies: [], reputation: { categories: 'c', list } };
    const { reputationDirectory } = stageRules(base(), rules, list === 'a' ? 0 : 1);
    expect(reputationDirectory).toBe(config('iprep'));
  }
  expect(readFileSync(config('iprep', 'reputation.list'), 'utf8')).toBe('b');
  expect(readFileSync(config('iprep', 'categories.txt'), 'utf8')).toBe('c');
});

test('compiled patterns are kept up to a bound, and then go without what an engine may have linked to', () => {
  const patterns = join(folder, 'patterns');
  const elsewhere = join(folder, 'elsewhere');
  for (const path of [patterns, join(patterns, 'folder'), elsewhere]) mkdirSync(path);
  for (const path of [join(patterns, 'a.hsdb'), join(patterns, 'b.hsdb'), join(elsewhere, 'x')])
    writeFileSync(path, '');
  symlinkSync(elsewhere, join(patterns, 'link'));
  const most = 1 << 20;
  truncateSync(join(patterns, 'a.hsdb'), most / 2);
  boundPatterns(patterns, most);
  expect(readdirSync(patterns)).toEqual(['a.hsdb', 'b.hsdb', 'folder', 'link']);
  truncateSync(join(patterns, 'b.hsdb'), most / 2);
  boundPatterns(patterns, most);
  expect(readdirSync(patterns)).toEqual(['folder']);
  expect(readdirSync(elsewhere)).toEqual(['x']);
});
