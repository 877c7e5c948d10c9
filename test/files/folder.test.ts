/** Which folders reach the disk, by the calls that put them there. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Paths of what was synced since the test began. */
let synced: string[] = [];
jest.unstable_mockModule('node:fs', () => ({
  ...fs,
  fsyncSync(fd: number) {
    synced.push(fs.readlinkSync(`/proc/self/fd/${fd}`));
    fs.fsyncSync(fd);
  },
}));
const { makeDirectorySync } = await import('../../agent/files/folder.ts');
const { openLeases } = await import('../../agent/endpoints/leases.ts');
const { layOut } = await import('../../agent/engine/folder.ts');
const { writeGood } = await import('../../agent/rulesets/store.ts');

let root: string;
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'dpi-folder-'));
  synced = [];
});
afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

test('a folder is there with those above it, and each name is on disk', () => {
  const folder = join(root, 'a/b');
  makeDirectorySync(folder, 0o700);
  expect(fs.statSync(folder).mode & 0o777).toBe(0o700);
  expect(synced.slice(0, 2)).toEqual([join(root, 'a'), root]);
});

test('the folder of leases is on disk with them', () => {
  openLeases(join(root, 'state/leases.ndjson'));
  expect(synced).toEqual(expect.arrayContaining([join(root, 'state'), root]));
});

test("the folders of an engine's state are on disk before it runs", async () => {
  const sandbox = { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] };
  const rules = { files: [], defaults: [], policies: [] };
  const laneDirectory = join(root, 'engines/main');
  const { directory } = await layOut({ laneDirectory, sandbox, output: 'json', mode: 'live' }, rules, 'generation');
  expect(synced).toEqual(expect.arrayContaining([directory, laneDirectory, join(root, 'engines'), root]));
});

test('the folder of the last good rules is on disk with them', () => {
  writeGood(join(root, 'rules/main'), 'snort 3', { sets: new Map() });
  expect(synced).toEqual(expect.arrayContaining([join(root, 'rules/main'), join(root, 'rules'), root]));
});
