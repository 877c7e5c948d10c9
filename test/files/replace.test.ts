import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { replaceFile, replaceFileSync, syncDirectory, type ReplaceFileSystem } from '../../agent/files/replace.ts';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-files-'));
  file = join(folder, 'state.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The real file system; `calls` is what was asked of it, `failing` the call that fails, and how. */
function recorded(failing = '', code = 'EIO'): { fileSystem: ReplaceFileSystem; calls: string[] } {
  const calls: string[] = [];
  async function call<T>(what: string, action: () => Promise<T>): Promise<T> {
    calls.push(what);
    if (what !== failing) return action();
    if (what.startsWith('close')) await action();
    throw Object.assign(new Error(what), { code });
  }
  const nameOf = (path: string): string => (path === folder ? 'folder' : basename(path));
  const fileSystem: ReplaceFileSystem = {
    open: (path, flags, mode) =>
      call(`open ${nameOf(path)} ${flags}`, async () => {
        const handle = await open(path, flags, mode);
        return {
          writeFile: (content) => call(`write ${nameOf(path)}`, () => handle.writeFile(content)),
          sync: () => call(`sync ${nameOf(path)}`, () => handle.sync()),
          close: () => call(`close ${nameOf(path)}`, () => handle.close()),
        };
      }),
    rename: (from, to) => call(`rename ${nameOf(from)} ${nameOf(to)}`, () => rename(from, to)),
  };
  return { fileSystem, calls };
}

const STEPS = [
  'open state.json.new w',
  'write state.json.new',
  'sync state.json.new',
  'close state.json.new',
  'rename state.json.new state.json',
  'open folder r',
  'sync folder',
  'close folder',
];
const BEFORE_RENAME = STEPS.slice(0, STEPS.indexOf('rename state.json.new state.json') + 1);

const variants: [string, (content: string, mode?: number) => void | Promise<void>][] = [
  ['replaceFile', (content, mode = 0o600) => replaceFile(file, content, mode)],
  ['replaceFileSync', (content, mode = 0o600) => replaceFileSync(file, content, mode)],
];

describe.each(variants)('%s', (_, replace) => {
  test('makes the file, and replaces it, whatever an earlier one left', async () => {
    await replace('one');
    expect(readFileSync(file, 'utf8')).toBe('one');
    writeFileSync(`${file}.new`, 'what a process that was killed left');
    await replace('2');
    expect(readFileSync(file, 'utf8')).toBe('2');
    expect(readdirSync(folder)).toEqual(['state.json']);
  });

  test('gives the mode that is asked for', async () => {
    for (const mode of [0o600, 0o640]) {
      await replace('x', mode);
      expect(statSync(file).mode & 0o777).toBe(mode);
    }
  });

  test('fails with the system’s error, and the old file is there', async () => {
    await replace('old');
    mkdirSync(`${file}.new`);
    await expect((async () => replace('new'))()).rejects.toMatchObject({ code: 'EISDIR' });
    expect(readFileSync(file, 'utf8')).toBe('old');
  });
});

describe('replaceFile', () => {
  test('syncs the content before the name, and the name before it returns', async () => {
    const { fileSystem, calls } = recorded();
    await replaceFile(file, 'new', 0o600, fileSystem);
    expect(calls).toEqual(STEPS);
  });

  test.each(BEFORE_RENAME)('the old file is there when it fails at %s', async (step) => {
    writeFileSync(file, 'old');
    await expect(replaceFile(file, 'new', 0o600, recorded(step).fileSystem)).rejects.toThrow(step);
    expect(readFileSync(file, 'utf8')).toBe('old');
  });

  test('what is not on disk is an error, but not where no folder can be synced', async () => {
    await expect(replaceFile(file, '1', 0o600, recorded('sync folder').fileSystem)).rejects.toThrow('sync folder');
    await replaceFile(file, '2', 0o600, recorded('sync folder', 'EINVAL').fileSystem);
    await expect(replaceFile(file, '3', 0o600, recorded('sync state.json.new', 'EINVAL').fileSystem)).rejects.toThrow();
    expect(readFileSync(file, 'utf8')).toBe('2');
  });
});

test('syncDirectory closes what it opened', async () => {
  const { fileSystem, calls } = recorded('sync folder');
  await expect(syncDirectory(folder, fileSystem)).rejects.toThrow('sync folder');
  expect(calls).toEqual(['open folder r', 'sync folder', 'close folder']);
});
