import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { watchFiles } from '../../agent/rulesets/watch.ts';

let folder: string;
let stop: (() => void) | undefined;
let changes: number;
let looks: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-watch-'));
  changes = 0;
  looks = 0;
});
afterEach(() => {
  stop?.();
  rmSync(folder, { recursive: true });
});

/** Watches by looks alone, so that it does not matter what inotify says on this machine. */
async function watch(...names: string[]): Promise<void> {
  stop = watchFiles({
    paths() {
      looks++;
      return Promise.resolve(names.map((name) => join(folder, name)));
    },
    changed: () => void changes++,
    pollMillis: 10,
    settleMillis: 10,
  });
  await changed(1);
  await look(2);
  changes = 0;
}

async function look(times: number): Promise<void> {
  const until = looks + times;
  for (let tries = 0; looks < until; tries++) {
    if (tries > 6000) throw new Error('nobody looks');
    await sleep(10);
  }
}

async function changed(times: number): Promise<void> {
  for (let tries = 0; changes < times; tries++) {
    if (tries > 6000) throw new Error('no change was told');
    await sleep(10);
  }
}

test('the first look is told: files may have changed before it', async () => {
  await watch('a');
});

test('a file that changes, comes or goes is told, each once; what stays is not', async () => {
  writeFileSync(join(folder, 'a'), 'one');
  await watch('a', 'b');
  expect(changes).toBe(0);
  writeFileSync(join(folder, 'a'), 'two!');
  await changed(1);
  writeFileSync(join(folder, 'b'), '');
  await changed(2);
  rmSync(join(folder, 'a'));
  await changed(3);
  await look(5);
  expect(changes).toBe(3);
});

test('a link that leads elsewhere is a change, as ConfigMaps are mounted', async () => {
  for (const version of ['..1', '..2']) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'a'), 'same size');
  }
  symlinkSync('..1', join(folder, '..data'));
  symlinkSync('..data/a', join(folder, 'a'));
  await watch('a');
  symlinkSync('..2', join(folder, '..new'));
  renameSync(join(folder, '..new'), join(folder, '..data'));
  await changed(1);
});

test('what inotify tells, and nothing more for a moment, is a change at the first look', async () => {
  writeFileSync(join(folder, 'a'), 'one');
  stop = watchFiles({
    paths() {
      looks++;
      return Promise.resolve([join(folder, 'a')]);
    },
    changed: () => void changes++,
    // By inotify alone.
    pollMillis: 1_000_000,
    settleMillis: 10,
  });
  await changed(1);
  writeFileSync(join(folder, 'a'), 'two!');
  await changed(2);
  expect(looks).toBe(2);
});

test('nothing is told after it was ended', async () => {
  await watch('a');
  stop?.();
  writeFileSync(join(folder, 'a'), '');
  await sleep(50);
  expect(changes).toBe(0);
});
