import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findRuleFiles, loadRules, ruleKey } from '../../agent/rulesets/files.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dpi-agent-rulesets-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const at = (path: string) => join(folder, path);
const rule = (sid: number, rev = 1, message = 'm') =>
  `alert tcp any any -> any any (msg:"${message}"; sid:${sid}; rev:${rev};)\n`;

async function write(path: string, text = ''): Promise<string> {
  await mkdir(join(at(path), '..'), { recursive: true });
  await writeFile(at(path), text);
  return at(path);
}

describe('findRuleFiles', () => {
  test('takes a file by any name', async () => {
    const path = await write('mine.txt');
    expect(await findRuleFiles(path)).toEqual([path]);
  });

  test('finds rule files at any depth, sorted', async () => {
    const paths = [await write('b/z.rules'), await write('a.rules'), await write('b/c/d.rules')];
    await write('b/notes.txt');
    expect(await findRuleFiles(folder)).toEqual(paths.toSorted());
  });

  test('follows links to files and folders', async () => {
    await write('elsewhere/x.rules');
    await write('elsewhere/y.txt');
    await mkdir(at('set'));
    await symlink(at('elsewhere'), at('set/linked'));
    await symlink(at('elsewhere/y.txt'), at('set/y.rules'));
    expect(await findRuleFiles(at('set'))).toEqual([at('set/linked/x.rules'), at('set/y.rules')]);
  });

  test('ends at links that lead back up, and counts a file once', async () => {
    await write('set/a.rules');
    await symlink(at('set'), at('set/again'));
    await symlink('a.rules', at('set/b.rules'));
    await symlink('nowhere', at('set/dangling'));
    await symlink('round', at('set/round'));
    expect(await findRuleFiles(at('set'))).toEqual([at('set/a.rules')]);
  });

  test('sees the files of a mounted ConfigMap once, by their names', async () => {
    await write('..2026_01_01/a.rules');
    await symlink('..2026_01_01', at('..data'));
    await symlink('..data/a.rules', at('a.rules'));
    expect(await findRuleFiles(folder)).toEqual([at('a.rules')]);
  });

  test('names a path that is missing', async () => {
    await expect(findRuleFiles(at('none'))).rejects.toThrow(
      `cannot read rules from ${at('none')}: no such file or folder`,
    );
  });

  test('names a folder without rule files', async () => {
    await write('notes.txt');
    await expect(findRuleFiles(folder)).rejects.toThrow(`no rule files (*.rules) in ${folder}`);
  });

  test('names a rule file that is a link to nowhere', async () => {
    await write('a.rules');
    await symlink('nowhere', at('b.rules'));
    await expect(findRuleFiles(folder)).rejects.toThrow(
      `cannot read rules from ${at('b.rules')}: no such file or folder`,
    );
  });

  test('names what is neither a file nor a folder', async () => {
    await expect(findRuleFiles('/dev/null')).rejects.toThrow(
      'cannot read rules from /dev/null: neither a file nor a folder',
    );
  });

  const isRoot = process.getuid?.() === 0;
  (isRoot ? test.skip : test)('names what it must not read', async () => {
    await chmod(await write('set/a.rules'), 0);
    await expect(findRuleFiles(at('set'))).rejects.toThrow(
      `cannot read rules from ${at('set/a.rules')}: permission denied`,
    );
  });
});

describe('loadRules', () => {
  test('keeps the highest revision, and lists the others with both places', async () => {
    const one = await write('1.rules', `\n${rule(1, 2, 'first')}${rule(2, 1, 'low')}${rule(3)}`);
    const two = await write('2.rules', `${rule(1, 2, 'again')}${rule(2, 5, 'high')}`);
    const loaded = await loadRules([one, two]);
    expect([...loaded.index.keys()]).toEqual(['1:1', '1:2', '1:3']);
    expect(loaded.index.get(ruleKey({ gid: 1, sid: 1 }))).toMatchObject({ message: 'first', file: one });
    expect(loaded.index.get(ruleKey({ gid: 1, sid: 2 }))).toMatchObject({ message: 'high', file: two });
    expect(loaded.duplicates).toEqual([
      { gid: 1, sid: 1, kept: { file: one, line: 2, rev: 2 }, dropped: { file: two, line: 1, rev: 2 } },
      { gid: 1, sid: 2, kept: { file: two, line: 2, rev: 5 }, dropped: { file: one, line: 3, rev: 1 } },
    ]);
  });

  test('tells the same sid of two generators apart', async () => {
    const path = await write('1.rules', rule(1) + rule(1).replace('sid', 'gid:3; sid'));
    const { index, duplicates } = await loadRules([path]);
    expect([...index.keys()]).toEqual(['1:1', '3:1']);
    expect(duplicates).toEqual([]);
  });

  test('only counts rules that are commented out', async () => {
    const path = await write('1.rules', `${rule(1)}#${rule(1, 9)}#${rule(2)}`);
    const { index, duplicates, disabled } = await loadRules([path]);
    expect(index.get('1:1')).toMatchObject({ rev: 1 });
    expect({ size: index.size, duplicates, disabled }).toEqual({ size: 1, duplicates: [], disabled: 2 });
  });

  test('says where the problems are', async () => {
    const one = await write('1.rules', rule(1));
    const two = await write('2.rules', `${rule(2)}nonsense\n${'x\n'.repeat(1001)}`);
    const { index, problems, unlistedProblems } = await loadRules([one, two]);
    expect(index.size).toBe(2);
    expect(problems[0]).toEqual({ file: two, line: 2, reason: 'not a rule: "nonsense"' });
    expect({ listed: problems.length, unlistedProblems }).toEqual({ listed: 1000, unlistedProblems: 2 });
  });

  test('names a file that it cannot read', async () => {
    await expect(loadRules([at('none')])).rejects.toThrow(
      `cannot read rules from ${at('none')}: no such file or folder`,
    );
  });
});
