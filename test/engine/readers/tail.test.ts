import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { nodeFileSystem, type TailFileSystem } from '../../../agent/engine/readers/tail-files.ts';
import { createTail, type Tail, type TailOptions } from '../../../agent/engine/readers/tail.ts';
import { createAlertJsonDecoder } from '../../../agent/engine/readers/alert-json.ts';
import { createUnified2Decoder } from '../../../agent/engine/readers/unified2.ts';
import type { Decoded } from '../../../agent/engine/alert.ts';
import { alertsOf, damageOf, event3, expectOrderly } from './support.ts';

let root: string;
let directory: string;
let stateDirectory: string;
let live: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'tail-'));
  directory = join(root, 'output');
  stateDirectory = join(root, 'state');
  live = join(directory, 'alert_json.txt');
  mkdirSync(directory);
});
afterEach(() => rmSync(root, { recursive: true }));

function line(sid: number): string {
  return `{ "seconds" : 1795308067, "gid" : 1, "sid" : ${sid}, "rev" : 1, "proto" : "ARP" }\n`;
}

function lines(from: number, to: number): string {
  return Array.from({ length: to - from + 1 }, (_, i) => line(from + i)).join('');
}

function tailOf(changes: Partial<TailOptions> = {}): Tail {
  return createTail({
    directory,
    stateDirectory,
    base: 'alert_json.txt',
    stamped: false,
    decoder: createAlertJsonDecoder(),
    from: 0,
    pollMillis: 20,
    ...changes,
  });
}

async function readAll(tail: Tail): Promise<Decoded[]> {
  const items: Decoded[] = [];
  for await (const batch of tail) items.push(...batch);
  return items;
}

/** What is there, to its end. */
async function readToEnd(changes: Partial<TailOptions> = {}): Promise<Decoded[]> {
  const tail = tailOf(changes);
  tail.finish();
  return readAll(tail);
}

/** Reads until that many alerts are there. */
async function readAlerts(items: AsyncIterator<Decoded[]>, count: number): Promise<Decoded[]> {
  const found: Decoded[] = [];
  while (alertsOf(found).length < count) {
    const next = await items.next();
    if (next.done === true) break;
    found.push(...next.value);
  }
  return found;
}

const sids = (items: Decoded[]): number[] => alertsOf(items).map(({ sid }) => sid);

/** `done` after the alert with this id, as an offset of the whole stream of lines from 1 on. */
const offsetBehind = (sid: number): number => lines(1, sid).length;

let rotations = 100;
function rotate(): void {
  renameSync(live, `${live}.${++rotations}`);
}

/** A file system on which `act` runs before the operation with that number. */
function actAt(number: number, act: () => void): { fileSystem: TailFileSystem; acted: () => boolean } {
  let operations = 0;
  let acted = false;
  const count = (): void => {
    if (++operations !== number) return;
    acted = true;
    act();
  };
  const counted =
    <A extends unknown[], R>(operation: (...args: A) => R): ((...args: A) => R) =>
    (...args) => {
      count();
      return operation(...args);
    };
  return {
    fileSystem: {
      ...nodeFileSystem,
      async open(path, flags, mode) {
        count();
        const handle = await nodeFileSystem.open(path, flags, mode);
        const stat = handle.stat.bind(handle);
        const read = handle.read.bind(handle);
        return Object.assign(handle, { stat: counted(stat), read: counted(read) });
      },
      readdir: counted((path) => nodeFileSystem.readdir(path)),
      lstat: counted((path) => nodeFileSystem.lstat(path)),
    },
    acted: () => acted,
  };
}

describe('a tail', () => {
  test('waits for the folder and the file, and reads what is written to it', async () => {
    rmSync(directory, { recursive: true });
    const tail = tailOf();
    const items = tail[Symbol.asyncIterator]();
    const first = items.next();
    mkdirSync(directory);
    appendFileSync(live, line(1));
    expect((await first).value).toMatchObject([{ kind: 'alert', start: 0, end: line(1).length - 1 }]);
    appendFileSync(live, line(2).slice(0, 10));
    const second = items.next();
    appendFileSync(live, line(2).slice(10));
    expect((await second).value).toMatchObject([{ kind: 'alert', start: line(1).length }]);
    tail.stop();
    expect(await items.next()).toEqual({ done: true, value: undefined });
  });

  test('is woken by the system long before the poll', async () => {
    writeFileSync(live, line(1));
    const tail = tailOf({ pollMillis: 3_600_000 });
    const items = tail[Symbol.asyncIterator]();
    await items.next();
    const second = items.next();
    setTimeout(() => appendFileSync(live, line(2)), 20);
    expect(sids((await second).value ?? [])).toEqual([2]);
    tail.stop();
    await items.next();
  });

  test('reads no further than the consumer asks', async () => {
    writeFileSync(live, lines(1, 1000));
    let reads = 0;
    const decoder = createAlertJsonDecoder();
    const tail = tailOf({
      maxChunk: 200,
      decoder: { push: (chunk) => (reads++, decoder.push(chunk)), end: () => decoder.end() },
    });
    const items = tail[Symbol.asyncIterator]();
    await items.next();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(reads).toBeLessThanOrEqual(2);
    tail.stop();
    expect((await items.next()).done).toBe(true);
  });

  test('finish() reads to the end; stop() and an aborted signal end at once', async () => {
    writeFileSync(live, lines(1, 5) + line(6).slice(0, 20));
    const items = await readToEnd({ maxChunk: 50 });
    expect(sids(items)).toEqual([1, 2, 3, 4, 5]);
    expect(damageOf(items)).toMatchObject([{ start: offsetBehind(5), end: offsetBehind(5) + 20 }]);

    const stopped = tailOf();
    stopped.stop();
    expect(await readAll(stopped)).toEqual([]);

    const controller = new AbortController();
    const aborted = tailOf({ signal: controller.signal, maxChunk: 100 });
    const read = aborted[Symbol.asyncIterator]();
    await read.next();
    controller.abort();
    expect((await read.next()).done).toBe(true);
    expect(await readAll(tailOf({ signal: controller.signal }))).toEqual([]);
  });

  test('finish() and stop() end a wait', async () => {
    for (const end of ['finish', 'stop'] as const) {
      const tail = tailOf({ pollMillis: 3_600_000 });
      const result = readAll(tail);
      setTimeout(() => tail[end](), 20);
      expect(await result).toEqual([]);
    }
  });

  test('passes links, pipes and folders over, and other names', async () => {
    writeFileSync(join(root, 'secret'), lines(1, 3));
    symlinkSync(join(root, 'secret'), live);
    symlinkSync(join(root, 'secret'), `${live}.1`);
    execFileSync('mkfifo', [`${live}.2`]);
    mkdirSync(`${live}.3`);
    writeFileSync(`${live}.4`, line(4));
    writeFileSync(`${live}.4x`, line(5));
    writeFileSync(join(directory, 'other.5'), line(6));
    expect(sids(await readToEnd())).toEqual([4]);
  });

  test('asks a decoder that holds something back for it when nothing more comes', async () => {
    const stamped = join(directory, 'unified2.log.1795308067');
    writeFileSync(stamped, event3({ sid: 1 }));
    const tail = tailOf({ base: 'unified2.log', stamped: true, decoder: createUnified2Decoder(), flushMillis: 5 });
    const items = tail[Symbol.asyncIterator]();
    expect(sids((await items.next()).value ?? [])).toEqual([1]);
    tail.stop();
    await items.next();
  });

  test('rejects when its state does not say how much was deleted', async () => {
    mkdirSync(stateDirectory);
    writeFileSync(join(stateDirectory, 'alert_json.txt.consumed.json'), '{"version":1,"consumed":-1}');
    await expect(readToEnd()).rejects.toThrow('does not say how much was deleted');
  });
});

describe('rotation', () => {
  test('neither loses nor repeats a byte, whenever it happens', async () => {
    // The object 4 is split: its first half stands in the rotated file, the second in the new one.
    const whole = lines(1, 9);
    const split = offsetBehind(3) + 30;
    for (let number = 1; ; number++) {
      rmSync(directory, { recursive: true });
      mkdirSync(directory);
      writeFileSync(live, whole.slice(0, split - 60));
      const { fileSystem, acted } = actAt(number, () => {
        appendFileSync(live, whole.slice(split - 60, split));
        rotate();
        writeFileSync(live, whole.slice(split, split + 100));
        rotate();
        writeFileSync(live, whole.slice(split + 100));
      });
      const tail = tailOf({ fileSystem, maxChunk: 50, pollMillis: 1 });
      const items = tail[Symbol.asyncIterator]();
      const found = await readAlerts(items, 9);
      tail.finish();
      for (let next = await items.next(); next.done !== true; next = await items.next()) found.push(...next.value);
      expect(damageOf(found)).toEqual([]);
      expect(sids(found)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
      expectOrderly(found, whole.length);
      expect(found.at(-1)).toMatchObject({ end: whole.length - 1 });
      // The last runs rotate while the tail waits for what is not written yet.
      expect(acted()).toBe(true);
      if (number === 60) break;
    }
  });

  test('in halves, the rename first and the new file later, goes on with the new file', async () => {
    writeFileSync(live, lines(1, 2));
    const tail = tailOf();
    const items = tail[Symbol.asyncIterator]();
    await readAlerts(items, 2);
    rotate();
    const next = items.next();
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeFileSync(live, line(3));
    expect((await next).value).toMatchObject([{ kind: 'alert', start: offsetBehind(2) }]);
    tail.stop();
    await items.next();
  });

  test('is read in the order of the numbers, as one stream', async () => {
    writeFileSync(`${live}.9`, lines(1, 2).slice(0, 40));
    writeFileSync(`${live}.10`, lines(1, 2).slice(40));
    writeFileSync(`${live}.0100`, line(3));
    writeFileSync(live, line(4));
    expect(sids(await readToEnd())).toEqual([1, 2, 3, 4]);
  });

  test('of stamped files goes on with the newest', async () => {
    const base = join(directory, 'unified2.log');
    writeFileSync(`${base}.99`, event3({ id: 1, sid: 1 }));
    const tail = tailOf({ base: 'unified2.log', stamped: true, decoder: createUnified2Decoder() });
    const result = readAll(tail);
    writeFileSync(`${base}.100`, event3({ id: 2, sid: 2 }).subarray(0, 500));
    appendFileSync(`${base}.100`, event3({ id: 2, sid: 2 }).subarray(500));
    writeFileSync(`${base}.101`, event3({ id: 3, sid: 3 }));
    writeFileSync(base, event3({ id: 4, sid: 4 }));
    tail.finish();
    expect(sids(await result)).toEqual([1, 2, 3]);
  });
});

describe('resuming', () => {
  beforeEach(() => {
    const whole = lines(1, 6);
    writeFileSync(`${live}.1`, whole.slice(0, 100));
    writeFileSync(`${live}.2`, whole.slice(100, 333));
    writeFileSync(live, whole.slice(333));
  });

  test('behind any item goes on with the next one, at the same offsets', async () => {
    const all = await readToEnd();
    expect(all).toHaveLength(6);
    for (let i = 0; i < all.length; i++) expect(await readToEnd({ from: all[i]?.end ?? 0 })).toEqual(all.slice(i + 1));
  });

  test('at any byte never gives an item again that ended before', async () => {
    const all = await readToEnd();
    for (let from = 0; from <= offsetBehind(6); from++) {
      const rest = await readToEnd({ from });
      expect(rest.filter(({ kind }) => kind === 'alert')).toEqual(all.filter(({ start }) => start >= from));
    }
  });

  test('behind the end of files that lost their end is one damage, and goes on with what is appended', async () => {
    const from = offsetBehind(6) + 100;
    const tail = tailOf({ from });
    const items = tail[Symbol.asyncIterator]();
    expect((await items.next()).value).toEqual([
      { kind: 'damage', reason: 'the alert files are shorter than they were', start: from, end: from },
    ]);
    appendFileSync(live, line(7));
    expect((await items.next()).value).toMatchObject([{ kind: 'alert', start: from }]);
    tail.stop();
    await items.next();
  });
});

/** Three rotated files with two lines each, two lines in the live one, all read; the iteration goes on. */
async function readFour(
  fileSystem: TailFileSystem = nodeFileSystem,
): Promise<{ tail: Tail; close: () => Promise<void> }> {
  for (let i = 0; i < 3; i++) writeFileSync(`${live}.${i + 1}`, lines(2 * i + 1, 2 * i + 2));
  writeFileSync(live, lines(7, 8));
  const tail = tailOf({ fileSystem });
  const items = tail[Symbol.asyncIterator]();
  await readAlerts(items, 8);
  return {
    tail,
    close: async () => {
      tail.stop();
      await items.next();
    },
  };
}

function files(): string[] {
  return readdirSync(directory).toSorted();
}

describe('deleteConsumed', () => {
  const all = ['alert_json.txt', 'alert_json.txt.1', 'alert_json.txt.2', 'alert_json.txt.3'];

  /** Whatever was deleted, an offset means the same alert. */
  async function expectOffsetsKept(): Promise<void> {
    expect(sids(await readToEnd({ from: offsetBehind(6) }))).toEqual([7, 8]);
    const items = await readToEnd({ from: offsetBehind(7) });
    expect(items).toMatchObject([{ kind: 'alert', start: offsetBehind(7), end: offsetBehind(8) - 1 }]);
  }

  test.each([
    [0, all],
    [offsetBehind(2) - 1, all],
    [offsetBehind(2), all.toSpliced(1, 1)],
    [offsetBehind(5), all.toSpliced(1, 2)],
    [offsetBehind(8), ['alert_json.txt']],
  ])('up to %i leaves the files %j', async (offset, left) => {
    const { tail, close } = await readFour();
    await tail.deleteConsumed(offset);
    expect(files()).toEqual(left);
    await close();
    await expectOffsetsKept();
  });

  test('in steps, and again after a restart, keeps the offsets', async () => {
    const { tail, close } = await readFour();
    await Promise.all([tail.deleteConsumed(offsetBehind(2)), tail.deleteConsumed(offsetBehind(4))]);
    expect(files()).toEqual(all.toSpliced(1, 2));
    await close();
    const again = tailOf({ from: offsetBehind(7) });
    const items = again[Symbol.asyncIterator]();
    await items.next();
    await again.deleteConsumed(offsetBehind(7));
    expect(files()).toEqual(['alert_json.txt']);
    again.stop();
    await items.next();
    await expectOffsetsKept();
  });

  test('that crashes before a file is deleted deletes it at the next start', async () => {
    for (const survivors of [1, 2, 3]) {
      let unlinks = 0;
      const { tail, close } = await readFour({
        ...nodeFileSystem,
        unlink: async (path) => {
          if (++unlinks > 3 - survivors) throw new Error('crash');
          await nodeFileSystem.unlink(path);
        },
      });
      await expect(tail.deleteConsumed(offsetBehind(6))).rejects.toThrow('crash');
      expect(files()).toHaveLength(1 + survivors);
      await close();
      await expectOffsetsKept();
      expect(files()).toEqual(['alert_json.txt']);
      rmSync(stateDirectory, { recursive: true });
    }
  });

  test('that crashes after the files are deleted never deletes another file', async () => {
    let renames = 0;
    const { tail, close } = await readFour({
      ...nodeFileSystem,
      rename: async (from, to) => {
        if (++renames === 2) throw new Error('crash');
        await nodeFileSystem.rename(from, to);
      },
    });
    await expect(tail.deleteConsumed(offsetBehind(6))).rejects.toThrow('crash');
    await close();
    // The inodes of deleted files come back: the state may not be taken to mean the new file.
    const state: { deleting: { inode: string }[] } = JSON.parse(
      readFileSync(join(stateDirectory, 'alert_json.txt.consumed.json'), 'utf8'),
    );
    expect(state.deleting).toHaveLength(3);
    const liveInode = String((await nodeFileSystem.lstat(live)).ino);
    for (const one of state.deleting) one.inode = liveInode;
    writeFileSync(join(stateDirectory, 'alert_json.txt.consumed.json'), JSON.stringify(state));
    await expectOffsetsKept();
  });

  test('that can not write its state deletes nothing', async () => {
    const { tail, close } = await readFour({ ...nodeFileSystem, rename: () => Promise.reject(new Error('disk full')) });
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(tail.deleteConsumed(offsetBehind(6))).rejects.toThrow('disk full');
      expect(files()).toEqual(all);
    }
    await close();
    await expectOffsetsKept();
  });

  test('does nothing once the iteration is over', async () => {
    const { tail, close } = await readFour();
    await close();
    rmSync(directory, { recursive: true });
    await tail.deleteConsumed(offsetBehind(6));
    expect(existsSync(stateDirectory)).toBe(false);
    mkdirSync(directory);
  });

  test('up to an offset behind what is still to be read leaves a damage of its length', async () => {
    const { tail, close } = await readFour();
    await tail.deleteConsumed(offsetBehind(4));
    await close();
    const items = await readToEnd({ from: offsetBehind(1) });
    expect(damageOf(items)).toMatchObject([{ start: offsetBehind(1), end: offsetBehind(4) }]);
    expect(sids(items)).toEqual([5, 6, 7, 8]);
    expect(items.at(-1)).toMatchObject({ end: offsetBehind(8) - 1 });
  });
});

describe('truncation', () => {
  test('is one damage, and the new content follows it, also after a restart', async () => {
    writeFileSync(`${live}.1`, lines(1, 2));
    writeFileSync(live, lines(3, 4));
    const tail = tailOf();
    const items = tail[Symbol.asyncIterator]();
    const found = await readAlerts(items, 4);
    truncateSync(live);
    found.push(...((await items.next()).value ?? []));
    appendFileSync(live, line(5));
    found.push(...(await readAlerts(items, 1)));
    expect(found.slice(4)).toMatchObject([
      { kind: 'damage', reason: 'the alert file was truncated', start: offsetBehind(4), end: offsetBehind(4) },
      { kind: 'alert', start: offsetBehind(4), end: offsetBehind(5) - 1 },
    ]);
    tail.stop();
    await items.next();

    expect(await readToEnd({ from: offsetBehind(5) })).toEqual([]);
    expect(await readToEnd({ from: offsetBehind(4) })).toEqual(found.slice(5));
    const again = await readToEnd({ from: offsetBehind(1) });
    expect(sids(again)).toEqual([2, 5]);
    expect(damageOf(again)).toMatchObject([{ start: offsetBehind(2), end: offsetBehind(4) }]);
    expect(again.at(-1)).toEqual(found.at(-1));

    // What was cut off goes on counting when the file is rotated and deleted.
    rotate();
    writeFileSync(live, line(6));
    const last = tailOf({ from: offsetBehind(5) });
    const rest = last[Symbol.asyncIterator]();
    expect(await readAlerts(rest, 1)).toMatchObject([{ start: offsetBehind(5) }]);
    await last.deleteConsumed(offsetBehind(5));
    expect(readdirSync(directory)).toEqual(['alert_json.txt']);
    last.stop();
    await rest.next();
    expect(await readToEnd({ from: offsetBehind(5) })).toMatchObject([{ start: offsetBehind(5) }]);
  });

  test('before a rotation keeps the offsets of what is read and deleted after it', async () => {
    writeFileSync(live, lines(1, 2));
    const tail = tailOf();
    const items = tail[Symbol.asyncIterator]();
    await readAlerts(items, 2);
    truncateSync(live);
    await items.next();
    appendFileSync(live, line(3));
    await readAlerts(items, 1);
    rotate();
    writeFileSync(live, line(4));
    expect(await readAlerts(items, 1)).toMatchObject([{ start: offsetBehind(3) }]);
    await tail.deleteConsumed(offsetBehind(3) - 1);
    expect(files()).toHaveLength(2);
    await tail.deleteConsumed(offsetBehind(3));
    expect(files()).toEqual(['alert_json.txt']);
    tail.stop();
    await items.next();
    expect(await readToEnd({ from: offsetBehind(3) })).toMatchObject([{ start: offsetBehind(3) }]);
  });

  test('in the middle of an object counts that as damage too', async () => {
    writeFileSync(live, lines(1, 2) + line(3).slice(0, 20));
    const tail = tailOf();
    const items = tail[Symbol.asyncIterator]();
    await readAlerts(items, 2);
    writeFileSync(live, line(4));
    const found = await readAlerts(items, 1);
    expect(damageOf(found)).toMatchObject([
      { start: offsetBehind(2), end: offsetBehind(2) + 20 },
      { start: offsetBehind(2) + 20, end: offsetBehind(2) + 20 },
    ]);
    expect(sids(found)).toEqual([4]);
    tail.stop();
    await items.next();
  });
});
