import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Decoded, Decoder } from '../../agent/engine/alert.ts';
import { createAlertJsonDecoder } from '../../agent/engine/readers/alert-json.ts';
import { nodeFileSystem } from '../../agent/engine/readers/tail-files.ts';
import { createTail } from '../../agent/engine/readers/tail.ts';
import { createRotator } from '../../agent/engine/rotate.ts';
import { poll } from '../support/poll.ts';
import { alertsOf } from './readers/support.ts';

let folder: string;
let output: string;
let live: string;
let signals: NodeJS.Signals[];
let rotate: () => void;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-rotate-'));
  output = join(folder, 'output');
  live = join(output, 'eve.json');
  mkdirSync(output);
  signals = [];
  rotate = createRotator(output, 'eve.json', { bytes: 1000, reopen: 'SIGHUP' }, (signal) => signals.push(signal));
});

afterEach(() => rmSync(folder, { recursive: true }));

const names = (): string[] => readdirSync(output).toSorted();
const line = (sid: number): string =>
  `{ "seconds" : 1795308067, "gid" : 1, "sid" : ${sid}, "rev" : 1, "proto" : "ARP" }\n`;

test('a file is put aside once it is larger than the bound, and the engine told to open another', () => {
  rotate();
  writeFileSync(live, 'x'.repeat(1000));
  rotate();
  expect({ names: names(), signals }).toEqual({ names: ['eve.json'], signals: [] });
  writeFileSync(live, 'x'.repeat(1001));
  rotate();
  expect({ names: names(), signals }).toEqual({ names: ['eve.json.1'], signals: ['SIGHUP'] });
});

test('the engine is told again until there is a new file', () => {
  writeFileSync(live, 'x'.repeat(1001));
  for (let looks = 0; looks < 3; looks++) rotate();
  expect(signals).toHaveLength(3);
  writeFileSync(live, 'x');
  rotate();
  expect({ names: names(), told: signals.length }).toEqual({ names: ['eve.json', 'eve.json.1'], told: 3 });
});

test('a name that can’t be had is passed over, and nothing is lost by it', () => {
  mkdirSync(`${live}.1`);
  writeFileSync(live, 'y'.repeat(1001));
  expect(rotate).toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(signals).toEqual([]);
  rotate();
  expect({ names: names(), signals }).toEqual({ names: ['eve.json.1', 'eve.json.2'], signals: ['SIGHUP'] });
});

test.each([
  ['link', (path: string) => symlinkSync(path, live)],
  ['folder', () => mkdirSync(live)],
])('a %s in the file’s place is left alone', (_, make) => {
  const other = join(folder, 'other');
  writeFileSync(other, 'x'.repeat(2000));
  make(other);
  rotate();
  expect({ names: names(), signals, size: readFileSync(other).length }).toEqual({
    names: ['eve.json'],
    signals: [],
    size: 2000,
  });
});

test('what is written between the rename and the reopening is read too, each line once and in order', async () => {
  const decoder: Decoder = createAlertJsonDecoder();
  const deleted: string[] = [];
  let meanwhile: (() => void) | undefined;
  const tail = createTail({
    directory: output,
    stateDirectory: join(folder, 'state'),
    base: 'eve.json',
    stamped: false,
    decoder,
    from: 0,
    pollMillis: 5,
    fileSystem: {
      ...nodeFileSystem,
      lstat(path) {
        // It has read the file to its end, and looks whether there is another one.
        if (path === live) {
          meanwhile?.();
          meanwhile = undefined;
        }
        return nodeFileSystem.lstat(path);
      },
      async unlink(path) {
        deleted.push(basename(path));
        await nodeFileSystem.unlink(path);
      },
    },
  });
  const items: Decoded[] = [];
  const reading = (async () => {
    for await (const batch of tail) {
      items.push(...batch);
      await tail.deleteConsumed(batch.at(-1)?.end ?? 0);
    }
  })();
  const read = (sid: number): Promise<unknown> => poll(() => alertsOf(items).at(-1)?.sid === sid);

  let sid = 0;
  let file = openSync(live, 'a');
  const write = (count: number): void => {
    for (let i = 0; i < count; i++) writeSync(file, line(++sid));
  };
  for (let round = 1; round <= 4; round++) {
    write(20);
    // Every other time the reader is at the end of the file when it is renamed.
    if (round % 2 === 0) await read(sid);
    rotate();
    expect(signals).toHaveLength(round);
    write(3);
    await read(sid);
    expect(existsSync(live)).toBe(false);
    meanwhile = () => {
      write(2);
      closeSync(file);
      file = openSync(live, 'a');
      write(1);
    };
    await poll(() => meanwhile === undefined);
    await read(sid);
  }
  closeSync(file);
  tail.finish();
  await reading;
  expect(items.map((item) => item.kind === 'alert' && item.alert.sid)).toEqual(
    Array.from({ length: sid }, (_, i) => i + 1),
  );
  expect(deleted).toEqual(['eve.json.1', 'eve.json.2', 'eve.json.3', 'eve.json.4']);
  expect(names()).toEqual(['eve.json']);
});
