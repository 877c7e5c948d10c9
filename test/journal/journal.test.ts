import {
  appendFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Cursor, Journal, JournalIo, JournalLine, JournalOptions } from '../../agent/journal/journal.ts';
import { JournalError, openJournal, readJournal } from '../../agent/journal/journal.ts';
import { eventLine } from './fixtures/lines.ts';
import { whyNoProc } from '../support/proc.ts';

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;

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

const defaults = { segmentSize: 1e6, maxSize: 1e9, segmentAge: 1e9, maxAge: 0, fsync: true };

async function start(
  options: Partial<JournalOptions> = {},
  faulty?: JournalIo,
  now?: () => number,
  tickMillis?: number,
): Promise<Journal> {
  const journal = await openJournal({ directory, ...defaults, ...options }, faulty, now, tickMillis);
  opened.push(journal);
  return journal;
}

async function all(options: Partial<Parameters<typeof readJournal>[0]> = {}): Promise<JournalLine[]> {
  const lines = [];
  for await (const line of readJournal({ directory, ...options })) lines.push(line);
  return lines;
}

const ids = (lines: JournalLine[]): string[] =>
  lines.flatMap((line) => (line.kind === 'event' ? [JSON.parse(line.json).record.event_id] : []));
const numbers = (lines: JournalLine[]): number[] => lines.map(({ number }) => number);
const segmentsOf = (lines: JournalLine[]): number[] => lines.map(({ end }) => end.segment);
const nameOf = (sequence: number): string => `snort-alerts-${String(sequence).padStart(12, '0')}.ndjson`;
const names = async (): Promise<string[]> =>
  (await readdir(directory)).filter((name) => name.endsWith('.ndjson')).toSorted();
const file = (sequence: number): string => path.join(directory, nameOf(sequence));
const first = (): string => file(0);

/** Mounts a tmpfs over the journal's folder while `body` runs. */
async function onTmpfs(options: string, body: () => Promise<void>): Promise<void> {
  await mkdir(directory, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', directory]).status !== 0) {
    process.stderr.write('skipped: mounting a tmpfs needs root\n');
    return;
  }
  try {
    await body();
  } finally {
    spawnSync('umount', ['-l', directory]);
  }
}

const lock = (): string => path.join(directory, 'journal.lock');

/** The system's calls, but for those given. */
const io = (changes: Partial<JournalIo>): JournalIo => ({
  create: (name) => open(name, 'wx+', 0o640),
  write: async (handle, buffer, offset, position) =>
    (await handle.write(buffer, offset, buffer.length - offset, position)).bytesWritten,
  sync: (handle) => handle.datasync(),
  truncate: (handle, length) => handle.truncate(length),
  ...changes,
});

const failure = (code: string): Error => Object.assign(new Error(`${code}: made up`), { code });

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(2);
}

describe('appending', () => {
  test('a new journal has one event a line, in a folder and files that only the owner and the group may read', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    expect(await readFile(first(), 'utf8')).toBe(`${eventLine('a', 1).json}\n${eventLine('a', 2).json}\n`);
    expect((await stat(directory)).mode & 0o777).toBe(0o750);
    expect((await stat(first())).mode & 0o777).toBe(0o640);
    expect(journal.recovered).toBeUndefined();
    expect(journal.end()).toEqual({ segment: 0, offset: (await stat(first())).size, event: 2 });
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
    await onTmpfs('size=64k', async () => {
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
    });
  });

  test.each(['ENOSPC', 'EIO'])('for %s while the next segment is created leaves the journal usable', async (code) => {
    let fail = true;
    const journal = await start(
      { segmentSize: 50 },
      io({
        create: async (name) => (fail && name !== first() ? Promise.reject(failure(code)) : open(name, 'wx+', 0o640)),
      }),
    );
    await journal.append([eventLine('a', 1)]);
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(journal.append([eventLine('a', 98)])).rejects.toMatchObject({ name: 'JournalError', code });
      expect(journal.end()).toEqual({ segment: 0, offset: (await stat(first())).size, event: 1 });
    }
    fail = false;
    await journal.append([eventLine('a', 98)]);
    expect(numbers(await all())).toEqual([0, 1]);
    expect(await names()).toEqual([nameOf(0), nameOf(1)]);
  });

  test('for want of a file on a real, full file system leaves the journal usable', async () => {
    await onTmpfs('size=1m,nr_inodes=16', async () => {
      const journal = await start({ segmentSize: 50 });
      await journal.append([eventLine('a', 1)]);
      const fillers: string[] = [];
      let full: unknown;
      while (full === undefined && fillers.length < 16) {
        const filler = path.join(directory, `other-${fillers.length}`);
        full = await writeFile(filler, '').then(
          () => void fillers.push(filler),
          (reason: unknown) => reason,
        );
      }
      expect(full).toMatchObject({ code: 'ENOSPC' });
      for (let attempt = 0; attempt < 2; attempt++) {
        await expect(journal.append([eventLine('a', 98)])).rejects.toMatchObject({ code: 'ENOSPC' });
      }
      for (const filler of fillers) await rm(filler);
      await journal.append([eventLine('a', 98)]);
      expect(ids(await all())).toEqual(['a-1', 'a-98']);
      expect(await names()).toEqual([nameOf(0), nameOf(1)]);
      await journal.close();
    });
  });
});

describe('rotation and retention', () => {
  const size = eventLine('a', 1).json.length + 1;

  test('a batch that would make the segment too long goes into the next one, whole', async () => {
    const journal = await start({ segmentSize: 2.5 * size });
    await journal.append([eventLine('a', 1)]);
    await journal.append([eventLine('a', 98), eventLine('a', 195)]);
    await journal.append([eventLine('a', 292)]);
    expect(await names()).toEqual([nameOf(0), nameOf(1), nameOf(3)]);
    expect(segmentsOf(await all())).toEqual([0, 1, 1, 3]);
    expect(journal.segments().map(({ sequence }) => sequence)).toEqual([0, 1, 3]);
  });

  test('a batch that is longer than a segment is written all the same', async () => {
    const journal = await start({ segmentSize: 10 });
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    expect(segmentsOf(await all())).toEqual([0, 0]);
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
    expect(numbers(left)).toEqual(left.map((_, index) => 300 - left.length + index));
    expect(journal.end().event).toBe(300);
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

  test('a segment that somebody deletes, empties or moves is left alone, and a new one begun; numbers go on', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    await rm(first());
    await journal.append([eventLine('a', 3)]);
    await truncate(file(2), 0);
    await journal.append([eventLine('a', 4)]);
    await rename(file(3), path.join(directory, 'moved'));
    await journal.append([eventLine('a', 5)]);
    expect(numbers(await all())).toEqual([4]);
    expect(journal.end()).toMatchObject({ segment: 4, event: 5 });
    expect(journal.status()).toMatchObject({ replacedSegments: 3, total: 5, segments: 2 });
    expect(await names()).toEqual([nameOf(2), nameOf(4)]);
    expect(await readFile(path.join(directory, 'moved'), 'utf8')).toBe(`${eventLine('a', 4).json}\n`);
  });

  test('lines that somebody else appends are counted, and no number is used twice', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await appendFile(first(), `${eventLine('b', 1).json}\ndamage\nunterminated`);
    await journal.append([eventLine('a', 2)]);
    expect(await names()).toEqual([nameOf(0), nameOf(3)]);
    expect(numbers(await all())).toEqual([0, 1, 2, 3]);
    expect(journal.end().event).toBe(4);
  });

  test('a file of the same size in the place of the segment is left alone', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await rename(first(), path.join(directory, 'moved'));
    await writeFile(first(), `${eventLine('b', 1).json}\n`);
    await journal.append([eventLine('a', 2)]);
    expect(ids(await all())).toEqual(['b-1', 'a-2']);
  });

  test('a number that another file has is left out', async () => {
    const journal = await start({ segmentSize: 50 });
    await journal.append([eventLine('a', 1)]);
    await writeFile(file(1), 'mine');
    await journal.append([eventLine('a', 98)]);
    expect(await names()).toEqual([nameOf(0), nameOf(1), nameOf(2)]);
    expect(await readFile(file(1), 'utf8')).toBe('mine');
    expect(journal.end()).toMatchObject({ segment: 2, event: 3 });
  });

  test('a failure to begin the new segment counts the old one as replaced once, and forgets no other', async () => {
    let fail = false;
    const journal = await start(
      { segmentSize: 50 },
      io({ create: async (name) => (fail ? Promise.reject(failure('ENOSPC')) : open(name, 'wx+', 0o640)) }),
    );
    for (const offset of [1, 98]) await journal.append([eventLine('a', offset)]);
    await rm(file(1));
    fail = true;
    await expect(journal.append([eventLine('a', 195)])).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(journal.append([eventLine('a', 195)])).rejects.toMatchObject({ code: 'ENOSPC' });
    fail = false;
    await journal.append([eventLine('a', 195)]);
    expect(journal.status()).toMatchObject({ replacedSegments: 1, segments: 2 });
    expect(numbers(await all())).toEqual([0, 2]);
  });

  test('numbers go on after a restart, also when everything but an empty segment was evicted', async () => {
    let clock = Date.now();
    const earlier = await start({ maxAge: 1000 }, undefined, () => clock, 1);
    await earlier.append([eventLine('a', 1), eventLine('a', 2)]);
    clock += 1_000_000;
    await until(() => earlier.status().evicted === 2);
    await earlier.close();
    const journal = await start();
    expect(journal.end()).toEqual({ segment: 2, offset: 0, event: 2 });
    await journal.append([eventLine('a', 3)]);
    expect(numbers(await all())).toEqual([2]);
  });

  test('a journal of another name keeps to its own files', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(file(7), 'mine');
    const journal = await start({ name: 'dead-letters' });
    await journal.append([eventLine('a', 1)]);
    expect(await names()).toEqual(['dead-letters-000000000000.ndjson', nameOf(7)]);
    expect(journal.segments()[0]?.path).toBe(path.join(directory, 'dead-letters-000000000000.ndjson'));
    expect(numbers(await all({ name: 'dead-letters' }))).toEqual([0]);
  });
});

describe('age', () => {
  test('closes a segment at the next append when its first event is that old, but no empty one', async () => {
    let clock = 1e12;
    const journal = await start({ segmentAge: 1000 }, undefined, () => clock);
    clock += 5000;
    await journal.append([eventLine('a', 1)]);
    clock += 999;
    await journal.append([eventLine('a', 2)]);
    clock += 1;
    await journal.append([eventLine('a', 3)]);
    expect(segmentsOf(await all())).toEqual([0, 0, 2]);
  });

  test('closes a segment of an earlier run', async () => {
    const earlier = await start();
    await earlier.append([eventLine('a', 1)]);
    await earlier.close();
    await utimes(first(), 1000, 1000);
    const journal = await start({ segmentAge: 60_000 });
    await journal.append([eventLine('a', 2)]);
    expect(segmentsOf(await all())).toEqual([0, 1]);
  });

  test('of a segment counts from where a clock jumped back to', async () => {
    let clock = 1e12;
    const journal = await start({ segmentAge: 1000 }, undefined, () => clock);
    await journal.append([eventLine('a', 1)]);
    clock -= 36e5;
    await journal.append([eventLine('a', 2)]);
    clock += 999;
    await journal.append([eventLine('a', 3)]);
    clock += 1;
    await journal.append([eventLine('a', 4)]);
    expect(segmentsOf(await all())).toEqual([0, 0, 0, 3]);
  });

  test('closes and evicts by the tick, without appends; the closed segment first, and counted', async () => {
    let clock = 1e12;
    const journal = await start({ segmentAge: 1000, maxAge: 5000 }, undefined, () => clock, 1);
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    clock += 1000;
    await until(() => journal.segments().length === 2);
    expect(journal.end()).toEqual({ segment: 2, offset: 0, event: 2 });
    clock += 4001;
    await until(() => journal.segments().length === 1);
    expect(journal.status()).toMatchObject({ evicted: 2, evictedSegments: 1, total: 2, bytes: 0 });
    expect(await names()).toEqual([nameOf(2)]);
  });

  test('evicts segments by their last write, of an earlier run too, and the active one only when it was closed', async () => {
    const earlier = await start({ segmentSize: 50 });
    for (const offset of [1, 98, 195, 292]) await earlier.append([eventLine('a', offset)]);
    await earlier.close();
    for (const sequence of [0, 1, 3]) await utimes(file(sequence), 1000, 1000);
    const journal = await start({ maxAge: 60_000 });
    expect(journal.status()).toMatchObject({ evicted: 2, segments: 2 });
    expect(await names()).toEqual([nameOf(2), nameOf(3)]);
    await journal.append([eventLine('a', 389)]);
    expect(numbers(await all())).toEqual([2, 3, 4]);
    expect(segmentsOf(await all())).toEqual([2, 3, 4]);
  });

  test('of 0 evicts nothing', async () => {
    let clock = 1e12;
    const journal = await start({ segmentAge: 1000, maxAge: 0 }, undefined, () => clock);
    await journal.append([eventLine('a', 1)]);
    clock += 1e12;
    await journal.append([eventLine('a', 2)]);
    expect(ids(await all())).toEqual(['a-1', 'a-2']);
  });

  test('is no reason for the process to stay, nor for work after closing', async () => {
    let looked = 0;
    const journal = await start({}, undefined, () => ++looked, 1);
    await journal.append([eventLine('a', 1)]);
    await until(() => looked > 20);
    await journal.close();
    const before = looked;
    await sleep(20);
    expect(looked).toBe(before);
  });
});

describe('a folder that is deleted while the journal is open', () => {
  test('is made again by the next append, with its lock; numbers go on', async () => {
    const journal = await start({ segmentSize: 50 });
    for (const offset of [1, 98, 195]) await journal.append([eventLine('a', offset)]);
    await rm(path.join(root, 'log'), { recursive: true });
    await journal.append([eventLine('a', 4)]);
    expect(await names()).toEqual([nameOf(3)]);
    expect((await stat(directory)).mode & 0o777).toBe(0o750);
    expect(journal.status()).toMatchObject({ segments: 1, total: 4, replacedSegments: 1 });
    await expect(start()).rejects.toMatchObject({ code: 'ELOCKED' });
    await journal.close();
    expect(await readdir(directory)).toEqual([nameOf(3)]);
  });

  test('and cannot be made fails the append, and the next tries again', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await rm(path.join(root, 'log'), { recursive: true });
    await writeFile(path.join(root, 'log'), '');
    await expect(journal.append([eventLine('a', 2)])).rejects.toMatchObject({ name: 'JournalError', code: 'ENOTDIR' });
    await rm(path.join(root, 'log'));
    await journal.append([eventLine('a', 2)]);
    expect(numbers(await all())).toEqual([1]);
  });

  withProc('and taken by another writer fails the append until that one is gone', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    const own = await readFile(lock(), 'latin1');
    await rm(directory, { recursive: true });
    await mkdir(directory);
    const other = spawn('sleep', ['1000']);
    try {
      const holder = await readFile(`/proc/${other.pid}/stat`, 'latin1');
      const began = holder.slice(holder.lastIndexOf(')') + 2).split(' ')[19];
      await writeFile(lock(), `${other.pid} ${began} ${own.split(' ')[2]}`);
      for (let attempt = 0; attempt < 2; attempt++) {
        await expect(journal.append([eventLine('a', 2)])).rejects.toMatchObject({ code: 'ELOCKED' });
        expect(await names()).toEqual([]);
      }
    } finally {
      other.kill();
      await once(other, 'close');
    }
    await journal.append([eventLine('a', 2)]);
    expect(await readFile(lock(), 'latin1')).toBe(own);
    expect(numbers(await all())).toEqual([1]);
  });
});

describe('what is told of a journal', () => {
  test('are its size, its age and its number of events, over restarts', async () => {
    let clock = 1e12;
    const earlier = await start({ segmentSize: 50 }, undefined, () => clock);
    expect(earlier.status()).toEqual({
      appended: 0,
      evicted: 0,
      evictedSegments: 0,
      replacedSegments: 0,
      total: 0,
      bytes: 0,
      segments: 1,
    });
    clock += 5;
    await earlier.append([eventLine('a', 1)]);
    clock += 7;
    await earlier.append([eventLine('a', 98), eventLine('a', 195)]);
    const bytes = (await stat(file(0))).size + (await stat(file(1))).size;
    expect(earlier.status()).toMatchObject({ total: 3, bytes, segments: 2, oldest: 1e12 + 5 });
    await earlier.close();
    await utimes(first(), 1000, 1000);
    const journal = await start();
    expect(journal.status()).toMatchObject({ appended: 0, total: 3, bytes, segments: 2, oldest: 1e6 });
  });

  test('is each durable batch, to those that listen, until they stop', async () => {
    let fail = false;
    const journal = await start(
      {},
      io({ sync: async (handle) => (fail ? Promise.reject(failure('EIO')) : handle.datasync()) }),
    );
    const heard: number[] = [];
    const stop = journal.onAppend(() => heard.push(journal.end().event));
    await journal.append([eventLine('a', 1), eventLine('a', 2)]);
    await journal.append([eventLine('a', 3)]);
    fail = true;
    await expect(journal.append([eventLine('a', 4)])).rejects.toMatchObject({ code: 'EIO' });
    fail = false;
    stop();
    await journal.append([eventLine('a', 4)]);
    expect(heard).toEqual([2, 3]);
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

  test('damage in the middle stays, for readers to see, and counts', async () => {
    await mkdir(directory, { recursive: true });
    const content = `${eventLine('a', 1).json}\ngarbage\n${'x'.repeat(2 << 20)}\n${eventLine('a', 2).json}\n`;
    await writeFile(first(), content);
    const journal = await start();
    expect(journal.recovered).toBeUndefined();
    const lines = await all();
    expect(ids(lines)).toEqual(['a-1', 'a-2']);
    expect(numbers(lines)).toEqual([0, 1, 2, 3]);
    expect(lines.slice(1, 3)).toMatchObject([
      { kind: 'damage', bytes: 8 },
      { kind: 'damage', bytes: (2 << 20) + 1 },
    ]);
    expect(journal.end()).toEqual({ segment: 0, offset: content.length, event: 4 });
  });

  test('other files in the folder are left alone', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(path.join(directory, 'snort-alerts-1.ndjson'), 'mine');
    await writeFile(path.join(directory, 'snort-alerts-000000000009.ndjson.gz'), 'mine');
    await writeFile(path.join(directory, 'snort-alerts-0000000000009.ndjson'), 'mine');
    await mkdir(file(5));
    const journal = await start();
    expect(journal.segments().map(({ sequence }) => sequence)).toEqual([0]);
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
    expect(await readdir(directory)).toEqual([nameOf(0)]);
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
    expect((await readdir(directory)).toSorted()).toEqual(['journal.lock', nameOf(0)]);
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
    await onTmpfs('ro', async () => {
      await expect(start()).rejects.toMatchObject({
        code: 'EROFS',
        message: expect.stringContaining('mount it writable'),
      });
    });
  });

  test('that fails gives the lock back', async () => {
    await mkdir(directory, { recursive: true });
    await writeFile(first(), 'torn');
    const broken = {
      ...defaults,
      directory,
      get maxSize(): number {
        throw failure('EIO');
      },
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
    expect(numbers(lines)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (const [index, { end }] of lines.entries()) {
      expect(end.event).toBe(index + 1);
      expect(await all({ from: end })).toEqual(lines.slice(index + 1));
      expect(await all({ to: end })).toEqual(lines.slice(0, index + 1));
      expect(await all({ from: end, to: end })).toEqual([]);
    }
    expect(lines.at(-1)?.end).toEqual(journal.end());
    expect(lines[0]).toMatchObject({ kind: 'event', event: JSON.parse(eventLine('a', 1).json) });
  });

  test('from an evicted segment begins at the oldest one left, and the numbers tell what is missing', async () => {
    const journal = await start({ segmentSize: 250, maxSize: 600 });
    for (let offset = 1; offset <= 20; offset++) await journal.append([eventLine('a', offset)]);
    const lines = await all({ from: { segment: 0, offset: 0, event: 0 } });
    expect(lines[0]?.end.segment).toBe(journal.segments()[0]?.sequence);
    expect(lines[0]?.number).toBe(journal.status().evicted);
    expect(numbers(lines)).toEqual(lines.map((_, index) => 20 - lines.length + index));
  });

  test('from behind the end of a segment that was cut back goes on with the next one', async () => {
    const journal = await start({ segmentSize: 50 });
    await journal.append([eventLine('a', 1)]);
    const from: Cursor = { ...journal.end(), offset: 200, event: 2 };
    expect(await all({ from })).toEqual([]);
    await journal.append([eventLine('a', 98)]);
    expect(numbers(await all({ from }))).toEqual([1]);
  });

  test('leaves an unterminated line for later', async () => {
    const journal = await start();
    await journal.append([eventLine('a', 1)]);
    await appendFile(first(), '{"half":');
    expect(numbers(await all())).toEqual([0]);
  });
});
