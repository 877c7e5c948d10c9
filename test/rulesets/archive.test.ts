/** What is taken out of archives, and what they may not do. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync, gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { unpackRules } from '../../agent/rulesets/archive.ts';
import { zip, type ZipEntry } from '../support/zip.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'archive-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function tar(entries: { name: string; text: string | Buffer }[]): Promise<Buffer> {
  const archive = pack();
  for (const { name, text } of entries) archive.entry({ name }, text);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The files that come out, by their paths. */
async function unpacked(bytes: Buffer, maxBytes?: number): Promise<Record<string, string>> {
  const file = join(directory, 'download');
  const target = join(directory, 'set');
  writeFileSync(file, bytes);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target);
  await unpackRules(file, 'x.rules', target, maxBytes);
  const names = readdirSync(target, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    names
      .map((entry) => join(entry.parentPath, entry.name))
      .toSorted()
      .map((path) => [path.slice(target.length + 1), readFileSync(path, 'utf8')]),
  );
}

const refusal = async (bytes: Buffer, maxBytes?: number): Promise<string> => {
  const error: unknown = await unpacked(bytes, maxBytes).catch((reason: unknown) => reason);
  return error instanceof Error ? error.message : `not refused: ${JSON.stringify(error)}`;
};
const zipped = (entries: (ZipEntry & { name: string })[]): Buffer => zip(entries);

const FILES = [
  { name: 'rules/', text: '' },
  { name: 'rules/a.rules', text: 'one' },
  { name: 'rules/lists/md5.txt', text: 'not taken' },
  { name: 'rules/classification.config', text: 'config' },
  { name: 'other/part/a.rules', text: 'two' },
  { name: 'other-part/a.rules', text: 'three' },
  { name: 'other/LICENSE', text: 'first' },
  { name: 'LICENSE', text: 'second' },
];

test.each([
  ['zip', async () => zipped(FILES)],
  ['stored zip', async () => zipped(FILES.map((file) => ({ ...file, stored: true })))],
  ['zip of Windows', async () => zipped(FILES.map(({ name, text }) => ({ name: name.replaceAll('/', '\\'), text })))],
  ['tar', async () => tar(FILES.slice(1))],
  ['tar.gz', async () => gzipSync(await tar(FILES.slice(1)))],
  ['tar without its mark', async () => withoutMark(await tar(FILES.slice(1)))],
])('of a %s: rule files, two of one name in two folders as two, and what goes beside them', async (_, make) => {
  expect(await unpacked(await make())).toEqual({
    'a.rules': 'one',
    'classification.config': 'config',
    'other-part/a.rules': 'two',
    'other-part-2/a.rules': 'three',
    LICENSE: 'first',
  });
});

/** As tar was before 1988. */
function withoutMark(archive: Buffer): Buffer {
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0;) {
    const size = Number.parseInt(archive.toString('latin1', at + 124, at + 135), 8);
    archive.fill(0, at + 257, at + 265);
    archive.fill(' ', at + 148, at + 156);
    const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return archive;
}

test.each([
  ['zip', async (files: typeof FILES) => zipped(files)],
  ['tar', tar],
])('of a %s: the files that rules name lie where they lay, seen from the rules, and no others', async (_, make) => {
  const hash = (path: string): string => `alert http any any -> any any (filemd5:${path}; sid:1;)`;
  const files = [
    { name: 'pack/lists/md5.txt', text: 'first' },
    { name: 'pack/lists/other.txt', text: 'not named' },
    { name: 'pack/readme.txt', text: 'not named' },
    { name: 'pack/a.rules', text: `${hash('lists/md5.txt')}\n${hash('../up.txt')}` },
    { name: 'pack/threshold.config', text: 'suppress' },
    { name: 'more/b.rules', text: `${hash('own.txt')}\n${hash('shared/x.lst')}` },
    { name: 'more/own.txt', text: 'second' },
    { name: 'shared/x.lst', text: 'third' },
    { name: 'up.txt', text: 'not below' },
  ];
  expect(await unpacked(await make(files))).toMatchObject({
    'lists/md5.txt': 'first',
    'more/own.txt': 'second',
    'shared/x.lst': 'third',
    'threshold.config': 'suppress',
  });
  const names = Object.keys(await unpacked(await make(files)));
  expect(names).toEqual([
    'a.rules',
    'lists/md5.txt',
    'more/b.rules',
    'more/own.txt',
    'shared/x.lst',
    'threshold.config',
  ]);
});

describe('a zip', () => {
  test.each(['../a.rules', '/etc/a.rules', 'x/../../a.rules', '..\\a.rules', 'C:/a.rules'])(
    'may not write to %s',
    async (name) => {
      const message = await refusal(
        zipped([
          { name: 'ok.rules', text: 'ok' },
          { name, text: 'evil' },
        ]),
      );
      expect(message).toContain('has an entry that leads out of it');
      expect(existsSync(join(directory, 'a.rules'))).toBe(false);
    },
  );

  test('may not bring links, what is encrypted, or packed in unknown ways', async () => {
    expect(await refusal(zipped([{ name: 'a.rules', text: '/etc/passwd', mode: 0o120_777 }]))).toBe(
      'a.rules is a symlink, not a file: it is not used',
    );
    expect(await refusal(zipped([{ name: 'a.rules', text: 'x', flags: 1 }]))).toBe('a.rules is encrypted');
    expect(await refusal(zipped([{ name: 'a.rules', text: 'x', method: 12 }]))).toBe(
      'a.rules is packed in a way (12) that is not read',
    );
  });

  test('may not be a bomb, whatever it claims', async () => {
    const zeros = Buffer.alloc(20 << 20);
    const bomb = { name: 'a.rules', text: zeros };
    expect(await refusal(zipped([bomb]))).toBe('unpacks to more than 250 times its size');
    expect(await refusal(zipped([bomb]), 1 << 20)).toBe('unpacks to more than 1048576 bytes');
    expect(await refusal(zipped([{ ...bomb, claims: 10 }]))).toContain('is no whole zip file: ');
    // Folders, of which nothing is written.
    const many = Array.from({ length: 10_001 }, (_, index) => ({ name: `f${index}/`, text: '' }));
    expect(await refusal(zipped(many))).toBe('has more than 10000 entries');
  });

  test('that is cut off, or damaged, says so', async () => {
    const whole = zipped([{ name: 'a.rules', text: 'x'.repeat(5000) }]);
    expect(await refusal(whole.subarray(0, 60))).toContain('is no whole zip file: ');
    const packed = deflateRawSync('x'.repeat(5000));
    const damaged = Buffer.from(whole);
    damaged.fill(0xff, whole.indexOf(packed), whole.indexOf(packed) + 8);
    expect(await refusal(damaged)).toContain('is no whole zip file: ');
    const stored = zipped([{ name: 'a.rules', text: 'sid:1', stored: true }]);
    stored.write('sid:2', stored.indexOf('sid:1'));
    expect(await refusal(stored)).toBe('is no whole zip file: a.rules is not what was packed');
  });
});

test('a tar that is cut off anywhere says so', async () => {
  const whole = await tar(FILES.slice(1, 3).map((file) => ({ ...file, text: file.text.repeat(200) })));
  for (const length of [520, 560, 1024, 1100, 1700])
    for (const bytes of [whole.subarray(0, length), gzipSync(whole.subarray(0, length))])
      expect([length, await refusal(bytes)]).toEqual([length, expect.stringContaining('Unexpected end of data')]);
});

test.each([
  ['bzip2', '425a6839314159265359'],
  ['xz', 'fd377a585a000004'],
  ['7z', '377abcaf271c0004'],
  ['rar', '526172211a070100'],
  ['zstd', '28b52ffd04582100'],
  ['an empty zip', `504b0506${'00'.repeat(18)}`],
])('%s is named, also within gzip', async (kind, hex) => {
  const bytes = Buffer.from(hex, 'hex');
  expect(await refusal(bytes)).toBe(`is ${kind}: expected .tar.gz, .tar, .zip, .rules or .rules.gz`);
  expect(await refusal(gzipSync(bytes))).toContain(`is ${kind} within gzip: expected`);
});

test('rules in UTF-16 name their files too', async () => {
  const text = Buffer.from('\ufeffalert http any any -> any any (filemd5:md5.txt; sid:1;)\n', 'utf16le');
  const found = await unpacked(
    await tar([
      { name: 'a.rules', text },
      { name: 'md5.txt', text: 'sums' },
    ]),
  );
  expect(found).toMatchObject({ 'md5.txt': 'sums' });
});

test('a rule file whose name has what is not written into a folder is taken by another name, and none is lost', async () => {
  const names = [
    'web (server) v1.rules',
    'é.rules',
    'è.rules',
    '-x.snort.rules',
    `${'n'.repeat(300)}.rules`,
    '._x.rules',
  ];
  const found = await unpacked(await tar(names.map((name) => ({ name: `rules/${name}`, text: name }))));
  expect(Object.entries(found).map(([path, text]) => [path.slice(-20), text])).toEqual([
    ['2-unnamed.rules', 'è.rules'],
    [`${'n'.repeat(14)}.rules`, names[4]],
    ['unnamed.rules', 'é.rules'],
    ['web-server-v1.rules', names[0]],
    ['x.snort.rules', names[3]],
  ]);
});

test('of two versions of one rule file that come apart, none is lost', async () => {
  const twins = ['a/snort.rules', 'b/snort.rules', 'b/suricata.rules'].map((name) => ({ name, text: name }));
  expect(await unpacked(await tar(twins))).toEqual({
    'b/snort.rules': 'b/snort.rules',
    'b/suricata.rules': 'b/suricata.rules',
    'snort.rules': 'a/snort.rules',
  });
});

test('gzip within gzip is named, and so is an archive within an archive', async () => {
  expect(await refusal(gzipSync(gzipSync('x')))).toContain('is gzip within gzip: expected');
  const file = join(directory, 'nested.zip');
  writeFileSync(file, zipped([{ name: 'v1/rules.tar.gz', text: 'x' }]));
  expect(await unpackRules(file, 'nested.zip', directory)).toEqual({ inner: 'v1/rules.tar.gz' });
});
