import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { lockDirectory } from '../../agent/journal/lock.ts';
import type { DeadLetter } from '../../agent/ship/dead-letter.ts';
import { appendDeadLetters, cleanReason, createLetterWriter, takeDeadLetters } from '../../agent/ship/dead-letter.ts';
import { poll } from '../support/poll.ts';

let root: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'dead-'));
  directory = path.join(root, 'a-dead-letters');
});

afterEach(() => rm(root, { recursive: true, force: true }));

const letter = (number: number, padding = 0): DeadLetter => ({
  time: '2026-01-02T03:04:05.000Z',
  number,
  reason: 'bad',
  status: 400,
  attempts: 1,
  event: { id: `e${number}`, padding: 'x'.repeat(padding) },
});
const append = (letters: DeadLetter[], maxSize = 64 << 20): Promise<{ evicted: number }> =>
  appendDeadLetters({ directory, maxSize, letters, lockMillis: 100 });

async function numbers(letters: AsyncIterable<DeadLetter>): Promise<number[]> {
  const found = [];
  for await (const { number } of letters) found.push(number);
  return found;
}

test('letters come back as they were, once, and are gone when redrive is done', async () => {
  await append([letter(1), { time: 't', number: 2, reason: 'damaged line', attempts: 0, raw: 7 }]);
  const taken = await takeDeadLetters(directory);
  const found = [];
  for await (const one of taken.letters) found.push(one);
  expect(found).toEqual([letter(1), { time: 't', number: 2, reason: 'damaged line', attempts: 0, raw: 7 }]);
  await taken.done();
  const again = await takeDeadLetters(directory);
  expect(await numbers(again.letters)).toEqual([]);
  again.release();
});

test('after a crash the same letters are not there twice, but those of another journal are', async () => {
  await append([letter(1), letter(2)]);
  await append([letter(2), letter(3), { ...letter(1), event: { id: 'another' } }]);
  const taken = await takeDeadLetters(directory);
  expect(await numbers(taken.letters)).toEqual([1, 2, 3, 1]);
  await taken.done();
});

test('a batch over several segments is not there twice either', async () => {
  const many = Array.from({ length: 12 }, (_, index) => letter(index, 120_000));
  await append(many, 4 << 20);
  await append(many, 4 << 20);
  const taken = await takeDeadLetters(directory);
  expect(await numbers(taken.letters)).toEqual(many.map(({ number }) => number));
  await taken.done();
});

test('beyond the budget the oldest letters go, and are counted', async () => {
  let evicted = 0;
  for (let number = 0; number < 40; number++)
    ({ evicted } = addUp(evicted, await append([letter(number, 60_000)], 1 << 20)));
  const taken = await takeDeadLetters(directory);
  const left = await numbers(taken.letters);
  expect(left.at(-1)).toBe(39);
  expect(evicted).toBeGreaterThan(0);
  expect(left.length + evicted).toBe(40);
  await taken.done();
});

const addUp = (sum: number, { evicted }: { evicted: number }): { evicted: number } => ({ evicted: sum + evicted });

test('what an interrupted redrive left is found by the next, and letters can be put back meanwhile', async () => {
  await append([letter(1)]);
  (await takeDeadLetters(directory)).release();
  await append([letter(2)]);
  const taken = await takeDeadLetters(directory);
  await append([letter(1)]);
  expect(await numbers(taken.letters)).toEqual([1, 2]);
  await taken.done();
  expect(await readdir(path.join(directory, 'redriving'))).toEqual([]);
  const last = await takeDeadLetters(directory);
  expect(await numbers(last.letters)).toEqual([1]);
  await last.done();
});

test('a lock that somebody holds is waited for, and then reported', async () => {
  await append([letter(1)]);
  const unlock = lockDirectory(directory);
  await expect(append([letter(2)])).rejects.toMatchObject({ code: 'ELOCKED' });
  const waiting = appendDeadLetters({ directory, maxSize: 1 << 20, letters: [letter(2)] });
  unlock();
  expect(await waiting).toEqual({ evicted: 0 });
});

test('a writer keeps the folder open from batch to batch, but for a redrive', async () => {
  const writer = createLetterWriter(3_600_000);
  const write = (...letters: DeadLetter[]) => writer.append({ directory, maxSize: 64 << 20, letters, lockMillis: 100 });
  const isOpen = async () => (await readdir(directory)).includes('journal.lock');
  await write(letter(1));
  expect(await isOpen()).toBe(true);
  await write(letter(2));
  const waiting = takeDeadLetters(directory);
  await poll(async () => (await readdir(path.join(directory, 'redriving'))).includes('journal.lock'));
  await write(letter(3));
  expect(await isOpen()).toBe(false);
  const taken = await waiting;
  expect(await numbers(taken.letters)).toEqual([1, 2, 3]);
  await write(letter(4));
  expect(await isOpen()).toBe(false);
  await taken.done();
  await write(letter(5));
  await writer.close();
  expect(await isOpen()).toBe(false);
});

test('a writer that was idle gives the folder back', async () => {
  const writer = createLetterWriter(1);
  await writer.append({ directory, maxSize: 64 << 20, letters: [letter(1)] });
  await poll(async () => !(await readdir(directory)).includes('journal.lock'));
  await writer.append({ directory, maxSize: 64 << 20, letters: [letter(1), letter(2)] });
  await writer.close();
  const taken = await takeDeadLetters(directory);
  expect(await numbers(taken.letters)).toEqual([1, 2]);
  await taken.done();
});

test('what goes for new letters is counted batch by batch', async () => {
  const writer = createLetterWriter();
  let evicted = 0;
  for (let number = 0; number < 40; number++) {
    const options = { directory, maxSize: 1 << 20, letters: [letter(number, 60_000)] };
    ({ evicted } = addUp(evicted, await writer.append(options)));
  }
  await writer.close();
  const taken = await takeDeadLetters(directory);
  expect((await numbers(taken.letters)).length + evicted).toBe(40);
  expect(evicted).toBeGreaterThan(0);
  await taken.done();
});

test('a reason has at most 1 KiB and no controls', () => {
  expect(cleanReason('a\n\u001B[31mb')).toBe('ab');
  expect(cleanReason('€'.repeat(2000))).toBe('€'.repeat(341));
});
