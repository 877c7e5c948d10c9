import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { linkSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onceDiskAllows } from '../../agent/files/disk.ts';
import { LockedError, takeLock, type LockSystem } from '../../agent/files/lock.ts';
import { identityOf } from '../../agent/files/process.ts';

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-lock-'));
  file = join(folder, 'agent.lock');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('a lock that is held names its holder and what else can be done', () => {
  takeLock(file, 'set it to another folder');
  expect(() => takeLock(file, 'set it to another folder')).toThrow(
    `${folder} is in use by the agent with process id ${process.pid}: stop it, or set it to another folder`,
  );
});

test('a lock of a process that is gone is taken over, and nothing else is left in the folder', () => {
  writeFileSync(file, identityOf(process.pid).replace(/ \d+ /, ' 1 '));
  const release = takeLock(file, '');
  expect(readFileSync(file, 'latin1')).toBe(identityOf(process.pid));
  expect(readdirSync(folder)).toEqual(['agent.lock']);
  release();
  expect(readdirSync(folder)).toEqual([]);
});

/** A process of that pid, among those that run. */
function processOf(pid: number, running: readonly number[]): LockSystem {
  return {
    link: linkSync,
    read: (path) => readFileSync(path, 'latin1'),
    rename: renameSync,
    remove: (path) => rmSync(path, { force: true }),
    write: writeFileSync,
    names: (path) => readdirSync(path),
    id: () => 'id',
    pid,
    identityOf: (of) => `${of} 1 boot`,
    runningPid: (identity) => running.find((each) => identity === `${each} 1 boot`),
  };
}

test('three that come at a stale lock together do not get it twice', () => {
  writeFileSync(file, '1 1 boot');
  const running = [2, 3, 4];
  const taken: number[] = [];
  const take = (pid: number): void => {
    takeLock(file, '', processOf(pid, running));
    taken.push(pid);
  };
  const late = processOf(2, running);
  const meanwhile: LockSystem = {
    ...late,
    rename(from, to) {
      // It has read the stale lock. One takes that over, and another one comes while the new lock is moved aside.
      take(3);
      late.rename(from, to);
      expect(() => take(4)).toThrow(LockedError);
    },
  };
  expect(() => takeLock(file, '', meanwhile)).toThrow('with process id 3');
  expect(taken).toEqual([3]);
  expect(readFileSync(file, 'latin1')).toBe('3 1 boot');
  expect(readdirSync(folder)).toEqual(['agent.lock']);
});

test('a lock whose folder is gone meanwhile is given back without an error', () => {
  const release = takeLock(file, '');
  rmSync(folder, { recursive: true });
  writeFileSync(folder, '');
  release();
});

test('a full disk is waited for, and any other failure is not', async () => {
  const failing = (...codes: string[]) => {
    return () => {
      const code = codes.shift();
      if (code === undefined) return 'done';
      throw Object.assign(new Error(code), { code });
    };
  };
  const waits: unknown[] = [];
  const note = (error: unknown, failures: number): unknown => waits.push([String(error), failures]);
  await expect(onceDiskAllows(failing('ENOSPC'), note)).resolves.toBe('done');
  await expect(onceDiskAllows(failing('EROFS', 'EACCES'), note)).rejects.toThrow('EACCES');
  await expect(onceDiskAllows(failing('ENOSPC'), note, AbortSignal.abort('ending'))).rejects.toBe('ending');
  expect(waits).toEqual([
    ['Error: ENOSPC', 0],
    ['Error: EROFS', 0],
    ['Error: ENOSPC', 0],
  ]);
});
