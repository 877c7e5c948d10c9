import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chmod, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findRuleFiles, readRuleFile } from '../../agent/rulesets/files.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dpi-agent-rulesets-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const at = (path: string) => join(folder, path);

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

describe('readRuleFile', () => {
  test('names a file that it cannot read', async () => {
    await expect(readRuleFile(at('none'))).rejects.toThrow(
      `cannot read rules from ${at('none')}: no such file or folder`,
    );
  });

  test('does not read what is larger than any list of rules', async () => {
    const path = await write('huge.rules');
    await truncate(path, (64 << 20) + 1);
    await expect(readRuleFile(path)).rejects.toThrow(`cannot read rules from ${path}: 64 MB, at most 64 are read`);
  });
});
