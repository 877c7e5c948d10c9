import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unpackRules } from '../../agent/rulesets/archive.ts';
import { openStore, type Store } from '../../agent/ruleserver/store.ts';

const RULE = 'alert tcp any any -> any any ( msg:"a"; sid:1; )\n';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-store-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function folder(name: string, files: Record<string, string>): string {
  const path = join(directory, name);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(path, file, '..'), { recursive: true });
    writeFileSync(join(path, file), text);
  }
  return path;
}

const about = (version: string) => ({ version, rules: 1, engines: [], since: '2026-11-30T00:00:00.000Z' });
const open = (): Promise<Store> => openStore(join(directory, 'served'), ['community']);
const names = (): string[] => readdirSync(join(directory, 'served/files')).toSorted();

describe('what a rule server serves', () => {
  test('is the files of the version, without what is its own, wherever and whenever it was packed', async () => {
    const files = { 'b.rules': RULE, 'a.rules': RULE, 'deep/c.rules': RULE, 'classification.config': '#\n' };
    const first = folder('first', { ...files, 'version.json': '{"a":1}' });
    const second = folder('second', { ...files, 'version.json': '{"b":2}' });
    utimesSync(join(second, 'a.rules'), 1, 1);
    const store = await open();
    const { digest, bytes } = await store.publish('community', first, about('1'));
    expect((await store.publish('community', second, about('2'))).digest).toBe(digest);
    const file = store.fileOf(digest) ?? '';
    expect(readFileSync(file).length).toBe(bytes);
    const unpacked = folder('unpacked', {});
    mkdirSync(unpacked);
    await unpackRules(file, 'x.tar.gz', unpacked);
    expect(readdirSync(unpacked, { recursive: true }).map(String).toSorted()).toEqual([
      'a.rules',
      'b.rules',
      'classification.config',
      'deep',
      'deep/c.rules',
    ]);
  });

  test('are two versions of a set: the newest and the last one that was proven', async () => {
    const store = await open();
    const one = await store.publish('community', folder('1', { 'a.rules': RULE }), about('1'));
    one.state = 'proven';
    const versions = store.sets.get('community');
    if (versions === undefined) throw new Error('nothing is served');
    versions.proven = one.digest;
    await store.publish('community', folder('2', { 'a.rules': `${RULE}#2\n` }), about('2'));
    const three = await store.publish('community', folder('3', { 'a.rules': `${RULE}#3\n` }), about('3'));
    expect(names()).toEqual([`${one.digest}.tar.gz`, `${three.digest}.tar.gz`].toSorted());
    expect(await store.aim('community', '1')).toBe(true);
    expect(versions).toMatchObject({ target: one.digest, proven: one.digest });
    expect(await store.aim('community', '2')).toBe(false);
  });

  test('is known again after a restart, as far as it is whole', async () => {
    const { digest } = await (await open()).publish('community', folder('1', { 'a.rules': RULE }), about('1'));
    expect((await open()).sets.get('community')?.target).toBe(digest);
    expect((await openStore(join(directory, 'served'), [])).sets.size).toBe(0);
    rmSync(join(directory, 'served/files', `${digest}.tar.gz`));
    expect((await open()).sets.size).toBe(0);
    writeFileSync(join(directory, 'served/state.json'), '{"community":');
    expect((await open()).sets.size).toBe(0);
  });
});
