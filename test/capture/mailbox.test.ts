import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBufferPool } from '../../agent/files/buffer-pool.ts';
import { createPost, MAILBOX_BYTES, openMailbox, type Mailbox, type Posted } from '../../agent/capture/mailbox.ts';
import { seeded } from '../support/random.ts';

let directory: string;
let mailbox: Mailbox;
const pool = createBufferPool(1 << 20);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mailbox-'));
  const opened = openMailbox(directory);
  if (opened === undefined) throw new Error('there are no files without a name here');
  mailbox = opened;
});
afterEach(() => {
  mailbox.close();
  rmSync(directory, { recursive: true });
});

interface Put {
  sent: Buffer;
  posted: Posted;
}

function expectTaken(put: Put | undefined): void {
  const taken = put === undefined ? undefined : mailbox.take(put.posted, pool);
  expect(taken?.subarray(0, put?.sent.length).equals(put?.sent ?? Buffer.alloc(0))).toBe(true);
  if (taken !== undefined) pool.give(taken);
}

test('what was put is taken as it was, however often the ring goes round, and what has no room is not put', () => {
  const next = seeded(1);
  const random = (below: number): number => Math.floor(next() * below);
  const post = createPost(mailbox.file);
  const waiting: Put[] = [];
  let refused = 0;
  for (let round = 0; round < 300; round++) {
    const sent = Buffer.alloc(random(300_000), round);
    const half = sent.length >>> 1;
    const posted = post.put([sent.subarray(0, half), sent.subarray(half)]);
    if (posted === undefined) refused++;
    else waiting.push({ sent, posted });
    // Read behind by some, at times by more than fit.
    while (waiting.length > random(20)) {
      expectTaken(waiting.shift());
    }
  }
  for (const put of waiting) expectTaken(put);
  expect(refused).toBeGreaterThan(0);
  expect(post.put([Buffer.alloc(MAILBOX_BYTES / 2)])).toBeDefined();
});

test('of what nobody put nothing is taken, whatever a process says', () => {
  createPost(mailbox.file).put([Buffer.alloc(100)]);
  for (const [at, length] of [
    [0, 101],
    [-8, 8],
    [0, -1],
    [0, MAILBOX_BYTES + 1],
    [MAILBOX_BYTES - 1, 2],
    [Number.NaN, 1],
    [0.5, 1],
    [0, Infinity],
    [2 ** 60, 1],
  ] as const)
    expect(mailbox.take({ at, length }, pool)).toBeUndefined();
  mailbox.close();
  expect(mailbox.take({ at: 0, length: 100 }, pool)).toBeUndefined();
});

test('where there is no file system for it, there is none', () => {
  expect(openMailbox(join(directory, 'none'))).toBeUndefined();
});
