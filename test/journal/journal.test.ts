import { appendFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Journal, JournalIo, JournalLine, JournalOptions } from '../../agent/journal/journal.ts';
import { JournalError, openJournal, readJournal } from '../../agent/journal/journal.ts';
import { eventLine } from './fixtures/lines.ts';

let root: string;
let directory: string;
const opened: Journal[] = [];

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'journal-'));
  directory = path.join(root, 'log', 'snort-alerts');
});

afterEach(async () => {
  for (const journal of opened.splice(0)) await journal.close().catch(() => undefined);
  await rm(root, { recursive: true, force: true });
});

async function start(options: Partial<JournalOptions> = {}, io?: JournalIo): Promise<Journal> {
  const journal = await openJournal({ directory, segmentSize: 1e6, maxSize: 1e9, fsync: true, ...options }, io);
  opened.push(journal);
  return journal;
}

async function all(options: Partial<Parameters<typeof readJournal>[0]> = {}): Promise<JournalLine[]> {
  const lines = [];
  for await (const line of readJournal({ directory, ...options })) lines.push(line);
  return lines;
}

const ids = (lines: JournalLine[]): string[] => lines.map(({ line }) => JSON.parse(line).record.event_id);
const names = async (): Promise<string[]> =>
  (await readdir(directory)).filter((name) => name.endsWith('.ndjson')).toSorted();
const first = (): string => path.join(directory, 'snort-alerts-00000001.ndjson');

const lock = (): string => path.join(directory, 'journal.lock');

/** The system's calls, but for those given. */
const io = (changes: Partial<JournalIo>): JournalIo => ({
  write: async (handle, buffer, offset, position) =>
    (await handle.write(buffer, offset, buffer.length - offset, position)).bytesWritten,
  sync: (handle) => handle.datasync(),
  truncate: (handle, length) => handle.truncate(length),
  ...changes,
});

const failure = (code: string): Error => Object.assign(new Error(`${code}: made up`), { code });

describe('appending', () => {
  test('a new journal has one event a line, in a folder and files that only the owner and the group may read', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    expect(await readFile(first(), 'utf8')).toBe(`${eventLine('a', 1).json}\n${eventLine('a', 2).json}\n`);
    expect((await stat(directory)).mode & 0o777).toBe(0o750);
    expect((await stat(first())).mode & 0o777).toBe(0o640);
    expect(journal.recovered).toBeUndefined();
    expect(journal.end()).toEqual({ segment: 1, offset: (await stat(first())).size });
  });

  test('batches that are appended at the same time are written in the order of the calls', async () => {
    const journal = await start();
    await Promise.all([1, 2, 3, 4, 5].map((offset) => journal.append([eventLine('a', offset)])));
    expect(ids(await all())).toEqual(['a-1', 'a-2', 'a-3', 'a-4', 'a-5']);
  });

  test('a batch is one write and one sync', async () => {
    const calls: string[] = [];
    const system = io({});
    const journal = await start(
      {},
      io({
        write: (...args) => (calls.push('write'), system.write(...args)),
        sync: (...args) => (calls.push('sync'), system.sync(...args)),
      }),
    );
    await journal.append([eventLine('a', 1), eventLine('a', 2), eventLine('a', 3)]);
    expect(calls).toEqual(['write', 'sync']);
  });

  test('without fsync nothing is synced', async () => {
    let synced = 0;
    const journal = await start({ fsync: false }, io({ sync: async () => void synced++ }));
    await journal.append([eventLine('a', 1)]);
    expect(synced).toBe(0);
  });

  test('an empty batch and a line that is no line leave the journal as it was', async () => {
    const journal = await start();
    await journal.append([]);
    await expect(journal.append([{ position: 'a:1', json: '{\n}' }])).rejects.toThrow('a:1 has a line break');
    await expect(journal.append([{ position: 'a:2', json: 'x'.repeat(1048577) }])).rejects.toThrow('longer than');
    expect((await stat(first())).size).toBe(0);
  });

  test('a closed journal refuses events', async () => {
    const journal = await start();
    await journal.close();
    await expect(journal.append([eventLine('a', 1)])).rejects.toMatchObject({ code: 'ECLOSED' });
  });
});

describe('a failed append', () => {
  test('in the middle of a write leaves no torn line, and the same batch can be given again', async () => {
    const system = io({});
    let fail = true;
    const journal = await start(
      {},
      io({
        async write(handle, buffer, offset, position) {
          if (!fail) return system.write(handle, buffer, offset, position);
          if (offset === 0) return system.write(handle, buffer.subarray(0, 30), 0, position);
          throw failure('ENOSPC');
        },
      }),
    );
    fail = false;
    await journal.append([eventLine('a', 1)]);
    fail = true;
    const error: unknown = await journal.append([eventLine('a', 2)]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(JournalError);
    expect(error).toMatchObject({ code: 'ENOSPC', path: first() });
    expect(String(error)).toContain(`can't append to ${first()}: no space left: free some`);
    expect(ids(await all())).toEqual(['a-1']);
    expect((await stat(first())).size).toBe(journal.end().offset);
    fail = false;
    await journal.append([eventLine('a', 2)]);
    expect(await readFile(first(), 'utf8')).toBe(`${eventLine('a', 1).json}\n${eventLine('a', 2).json}\n`);
  });

  test('is cut off before the next one when cutting failed too', async () => {
    const system = io({});
    let broken = true;
    const journal = await start(
      {},
      io({
        async write(handle, buffer, offset, position) {
          if (!broken) return system.write(handle, buffer, offset, position);
          if (offset === 0) return system.write(handle, buffer.subarray(0, 90), 0, position);
          throw failure('EIO');
        },
        truncate: async (...args) => (broken ? Promise.reject(failure('EIO')) : system.truncate(...args)),
      }),
    );
    await expect(journal.append([eventLine('a', 1), eventLine('a', 2)])).rejects.toMatchObject({ code: 'EIO' });
    expect((await stat(first())).size).toBe(90);
    broken = false;
    await journal.append([eventLine('b', 1)]);
    expect(await readFile(first(), 'utf8')).toBe(`${eventLine('b', 1).json}\n`);
  });

  test('by its sync counts as not written', async () => {
    let fail = true;
    const journal = await start(
      {},
      io({ sync: async (handle) => (fail ? Promise.reject(failure('EIO')) : handle.datasync()) }),
    );
    await expect(journal.append([eventLine('a', 1)])).rejects.toMatchObject({ code: 'EIO' });
    expect(await all()).toEqual([]);
    fail = false;
    await journal.append([eventLine('a', 1)]);
    expect(ids(await all())).toEqual(['a-1']);
    expect(journal.status().appended).toBe(1);
  });

  test('for want of space on a real, full file system says so, and goes on when there is space again', async () => {
    await mkdir(directory, { recursive: true });
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory]).status !== 0) {
      console.log('skipped: mounting a tmpfs needs root');
      return;
    }
    try {
      const journal = await start();
      await writeFile(path.join(directory, 'other'), Buffer.alloc(50_000));
      let offset = 0;
      let error: unknown;
      while (error === undefined && offset < 1000) {
        offset++;
        error = await journal.append([eventLine('a', offset)]).then(
          () => undefined,
          (reason: unknown) => reason,
        );
      }
      expect(error).toMatchObject({ name: 'JournalError', code: 'ENOSPC' });
      await rm(path.join(directory, 'other'));
      await journal.append([eventLine('a', offset)]);
      expect(ids(await all())).toEqual(Array.from({ length: offset }, (_, index) => `a-${index + 1}`));
      await journal.close();
    } finally {
      spawnSync('umount', ['-l', directory]);
    }
  });
});

describe('rotation and retention', () => {
  const size = eventLine('a', 1).json.length + 1;

  test('a batch that would make the segment too long goes into the next one, whole', async () => {
    const journal = await start({ segmentSize: 2.5 * size });
    await journal.append([eventLine('a', 1)]);
    await journal.append([eventLine('a', 98), eventLine('a', 195)]);
    await journal.append([eventLine('a', 292)]);
    expect(await names()).toEqual([
      'snort-alerts-00000001.ndjson',
      'snort-alerts-00000002.ndjson',
      'snort-alerts-00000003.ndjson',
    ]);
    expect((await all()).map(({ segment }) => segment)).toEqual([1, 2, 2, 3]);
    expect(journal.segments().map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
  });

  test('a batch that is longer than a segment is written all the same', async () => {
    const journal = await start({ segmentSize: 10 });
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    expect((await all()).map(({ segment }) => segment)).toEqual([1, 1]);
  });

  test('beyond the budget the oldest segments go, and their events are counted, those of an earlier run too', async () => {
    const limits = { segmentSize: 3000, maxSize: 9000 };
    const earlier = await start(limits);
    for (let offset = 1; offset <= 40; offset++) await earlier.append([eventLine('a', offset)]);
    const evictedBefore = earlier.status().evicted;
    await earlier.close();
    const journal = await start(limits);
    for (let offset = 41; offset <= 300; offset++) await journal.append([eventLine('a', offset)]);
    const left = await all();
    expect(evictedBefore + journal.status().evicted + left.length).toBe(300);
    expect(journal.status().evictedSegments).toBeGreaterThan(5);
    expect(ids(left).at(-1)).toBe('a-300');
    const total = journal.segments().reduce((sum, segment) => sum + segment.size, 0);
    expect(total).toBeLessThanOrEqual(limits.maxSize);
    expect(journal.segments().map((segment) => path.basename(segment.path))).toEqual(await names());
  });

  test('a segment that cannot be deleted fails no append, shows in the status, and goes later', async () => {
    const journal = await start({ segmentSize: 3 * size, maxSize: 6 * size });
    for (const offset of [1, 98, 195]) await journal.append([eventLine('a', offset)]);
    await rename(first(), `${first()}.kept`);
    await mkdir(first());
    for (const offset of [292, 389, 486, 583]) await journal.append([eventLine('a', offset)]);
    expect(journal.status()).toMatchObject({ evicted: 0, retentionError: { path: first() } });
    await rm(first(), { recursive: true });
    await rename(`${first()}.kept`, first());
    await journal.append([eventLine('a', 680)]);
    const { retentionError, evicted } = journal.status();
    expect(retentionError).toBeUndefined();
    expect(evicted).toBeGreaterThan(0);
    expect(evicted + (await all()).length).toBe(8);
  });

  test('a segment that somebody deletes or empties is left alone, and a new one begun', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await rm(first());
    await journal.append([eventLine('a', 2)]);
    await truncate(path.join(directory, 'snort-alerts-00000002.ndjson'), 0);
    await journal.append([eventLine('a', 3)]);
    expect((await all()).map(({ segment }) => segment)).toEqual([3]);
    expect(journal.status().replacedSegments).toBe(2);
    expect(await names()).toEqual(['snort-alerts-00000002.ndjson', 'snort-alerts-00000003.ndjson']);
  });
});

describe('recovery', () => {
  const sound = `${eventLine('a', 1).json}\n${eventLine('a', 2).json}\n`;
  const torn = eventLine('a', 3).json.slice(0, 70);

  test.each([
    ['a line without its end', torn, 'unterminated line'],
    ['a whole line that has no newline', eventLine('a', 3).json, 'unterminated line'],
    ['a hole of NUL bytes at the end', '\0'.repeat(5000), 'NUL bytes'],
    ['a hole in a line', `${torn}${'\0'.repeat(20)}"}}\n`, 'NUL bytes'],
    ['a hole before lines of the same batch', `${'\0'.repeat(200)}"}}\n${eventLine('a', 4).json}\n`, 'NUL bytes'],
    ['a hole longer than any line', `${'\0'.repeat(3 << 20)}\n${eventLine('a', 4).json}\n`, 'NUL bytes'],
    [
      'a hole at the start of a line longer than any',
      `\0${'x'.repeat(3 << 20)}\n${eventLine('a', 4).json}\n`,
      'NUL bytes',
    ],
    ['old bytes of the disk', '{"a":\nfoo\n', 'not a JSON object'],
    ['old bytes longer than any line', 'x'.repeat(3 << 20), 'unterminated line'],
  ])('%s is cut off and reported, and writing goes on behind the last whole event', async (_, damage, reason) => {
    await mkdir(directory, { recursive: true });
    await writeFile(first(), sound + damage);
    const journal = await start();
    expect(journal.recovered).toEqual({ path: first(), kept: sound.length, cut: damage.length, reason });
    await journal.append([eventLine('a', 5)]);
    expect(await readFile(first(), 'utf8')).toBe(`${sound}${eventLine('a', 5).json}\n`);
  });

  test('a segment with nothing whole in it becomes empty', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(first(), torn);
    expect((await start()).recovered).toMatchObject({ kept: 0, cut: torn.length });
  });

  test('damage in the middle stays, for readers to skip and count', async () => {
    await mkdir(directory, { recursive: true });
    const content = `${eventLine('a', 1).json}\ngarbage\n${'x'.repeat(2 << 20)}\n${eventLine('a', 2).json}\n`;
    await writeFile(first(), content);
    const journal = await start();
    expect(journal.recovered).toBeUndefined();
    const skipped: number[] = [];
    expect(ids(await all({ onSkip: ({ bytes }) => skipped.push(bytes) }))).toEqual(['a-1', 'a-2']);
    expect(skipped).toEqual([8, (2 << 20) + 1]);
  });

  test('other files in the folder are left alone', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(path.join(directory, 'snort-alerts-1.ndjson'), 'mine');
    await writeFile(path.join(directory, 'snort-alerts-00000009.ndjson.gz'), 'mine');
    const journal = await start();
    expect(journal.segments().map(({ sequence }) => sequence)).toEqual([1]);
  });
});

describe('the lock', () => {
  test('refuses a second writer, and says who writes', async () => {
    await start();
    const error: unknown = await start().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'JournalError', code: 'ELOCKED', path: directory });
    expect(String(error)).toContain(`in use by the agent with process id ${process.pid}`);
  });

  test('is given back on closing', async () => {
    await (await start()).close();
    expect(await readdir(directory)).toEqual(['snort-alerts-00000001.ndjson']);
    await start();
  });

  test('is taken over from a process that is gone', async () => {
    await mkdir(directory, { recursive: true });
    const { pid } = spawnSync('true');
    const own = await (await start(), readFile(lock(), 'latin1'));
    await opened.pop()?.close();
    await writeFile(lock(), own.replace(/^\d+/, String(pid)));
    await start();
    expect(await readFile(lock(), 'latin1')).toBe(own);
    expect((await readdir(directory)).toSorted()).toEqual(['journal.lock', 'snort-alerts-00000001.ndjson']);
  });

  test.each([
    ['whose pid another process has now', (own: string) => own.replace(/ \d+ /, ' 1 ')],
    ['from before a reboot', (own: string) => own.replace(/[-0-9a-f]+$/, 'another-boot')],
    ['that says nothing', () => ''],
    ['that is not ours', () => 'hello world'],
  ])('is taken over from one %s', async (_, change) => {
    await start();
    const own = await readFile(lock(), 'latin1');
    await opened.pop()?.close();
    await writeFile(lock(), change(own));
    await start();
    expect(await readFile(lock(), 'latin1')).toBe(own);
  });

  test('is not given back by a writer that lost it', async () => {
    const journal = await start();
    await writeFile(lock(), 'somebody else');
    await journal.close();
    expect(await readFile(lock(), 'latin1')).toBe('somebody else');
  });
});

describe('opening', () => {
  test('where a file is in the way names the path and what to do', async () => {
    await writeFile(path.join(root, 'log'), '');
    await expect(start()).rejects.toMatchObject({
      name: 'JournalError',
      code: 'ENOTDIR',
      path: directory,
      message: expect.stringContaining('set journal.directory to another folder'),
    });
  });

  test('on a read-only file system says so', async () => {
    await mkdir(directory, { recursive: true });
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', directory]).status !== 0) {
      console.log('skipped: mounting a tmpfs needs root');
      return;
    }
    try {
      await expect(start()).rejects.toMatchObject({
        code: 'EROFS',
        message: expect.stringContaining('mount it writable'),
      });
    } finally {
      spawnSync('umount', [directory]);
    }
  });

  test('that fails gives the lock back', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(first(), 'torn');
    const broken = {
      directory,
      segmentSize: 1,
      get maxSize(): number {
        throw failure('EIO');
      },
      fsync: true,
    };
    await expect(openJournal(broken)).rejects.toMatchObject({ code: 'EIO' });
    await start();
  });
});

describe('reading', () => {
  test('goes on from a cursor, over segments', async () => {
    const journal = await start({ segmentSize: 250 });
    for (let offset = 1; offset <= 10; offset++) await journal.append([eventLine('a', offset)]);
    const lines = await all();
    expect(ids(lines)).toHaveLength(10);
    for (const [index, { segment, offset }] of lines.entries()) {
      expect(ids(await all({ from: { segment, offset } }))).toEqual(ids(lines.slice(index + 1)));
      expect(ids(await all({ to: { segment, offset } }))).toEqual(ids(lines.slice(0, index + 1)));
    }
  });

  test('from an evicted segment begins at the oldest one left', async () => {
    const journal = await start({ segmentSize: 250, maxSize: 600 });
    for (let offset = 1; offset <= 20; offset++) await journal.append([eventLine('a', offset)]);
    const lines = await all({ from: { segment: 1, offset: 0 } });
    expect(lines[0]?.segment).toBe(journal.segments()[0]?.sequence);
  });

  test('leaves an unterminated line for later', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await appendFile(first(), '{"half":');
    expect(ids(await all({ onSkip: () => expect('skipped').toBe('never') }))).toEqual(['a-1']);
  });
});
