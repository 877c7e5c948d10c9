/** Redrives of dead letters, to a made-up destination. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { appendDeadLetters, takeDeadLetters, type DeadLetter } from '../../agent/ship/dead-letter.ts';
import { SendError, type Item, type Outcome } from '../../agent/ship/destination.ts';
import { redriveLetters, type Redriven } from '../../agent/ship/redrive.ts';
import { foundEvent } from '../journal/fixtures/events.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'redrive-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const letter = (number: number): DeadLetter => ({
  time: '2026-11-24T00:00:00.000Z',
  number,
  reason: 'mapping',
  status: 400,
  attempts: 1,
  event: JSON.parse(foundEvent(number)) as Record<string, unknown>,
});
const put = (...letters: DeadLetter[]): Promise<unknown> => appendDeadLetters({ directory, maxSize: 1 << 26, letters });
async function left(): Promise<DeadLetter[]> {
  const taken = await takeDeadLetters(directory);
  const all = [];
  for await (const one of taken.letters) all.push(one);
  taken.release();
  return all;
}
function redrive(
  send: (items: readonly Item[]) => Outcome[],
  signal = new AbortController().signal,
): Promise<Redriven> {
  return redriveLetters({
    directory,
    maxSize: 1 << 26,
    destination: { send: async (items) => send(items), close: async () => undefined },
    signal,
    pauses: [1, 1],
    now: () => Date.UTC(2026, 10, 25),
  });
}
const delivered = (items: readonly Item[]): Outcome[] => items.map(() => ({ is: 'delivered' }));
const none = { duplicates: 0, refused: 0, left: 0, evicted: 0 };

test('sends all letters in batches, as the lines they were, and they are gone', async () => {
  const letters = Array.from({ length: 1201 }, (_, number) => letter(number));
  await put(...letters);
  const sizes: number[] = [];
  const items: Item[] = [];
  const counts = await redrive((batch) => {
    sizes.push(batch.length);
    items.push(...batch);
    return delivered(batch);
  });
  expect(counts).toEqual({ ...none, letters: 1201, delivered: 1201 });
  expect(sizes).toEqual([500, 500, 201]);
  expect(items[7]).toEqual({ number: 7, id: '7'.padStart(40, '0'), json: foundEvent(7) });
  expect(await left()).toEqual([]);
});

test('what is refused again is put back with one attempt more and the new reason; the rest is gone', async () => {
  await put(letter(0), letter(1), letter(2));
  const counts = await redrive(() => [
    { is: 'delivered', duplicate: true },
    { is: 'rejected', reason: 'still wrong', status: 422 },
    { is: 'delivered' },
  ]);
  expect(counts).toEqual({ ...none, letters: 3, delivered: 2, duplicates: 1, refused: 1 });
  expect(await left()).toEqual([
    { ...letter(1), time: '2026-11-25T00:00:00.000Z', reason: 'still wrong', status: 422, attempts: 2 },
  ]);
});

test('only what is to be tried again is, and what is too much at once goes in halves', async () => {
  await put(letter(0), letter(1), letter(2), letter(3));
  const calls: number[][] = [];
  const counts = await redrive((items) => {
    const numbers = items.map(({ number }) => number);
    calls.push(numbers);
    if (numbers.includes(3)) throw new SendError('too_large', 'too large');
    return items.map(({ number }) =>
      number === 2 && calls.length < 6 ? { is: 'retry', reason: 'busy' } : { is: 'delivered' },
    );
  });
  expect(calls).toEqual([[0, 1, 2, 3], [0, 1], [2, 3], [2], [3], [2]]);
  expect(counts).toEqual({ ...none, letters: 4, delivered: 3, refused: 1 });
  expect((await left()).map(({ number, reason }) => ({ number, reason }))).toEqual([
    { number: 3, reason: 'too large' },
  ]);
});

test('after a few tries the rest is put back as it was, and nothing more is sent', async () => {
  const letters = Array.from({ length: 600 }, (_, number) => letter(number));
  await put(...letters);
  let calls = 0;
  const counts = await redrive(() => {
    calls += 1;
    throw new SendError('unreachable', 'nobody there');
  });
  expect(calls).toBe(3);
  expect(counts).toEqual({ ...none, letters: 600, delivered: 0, left: 600, problem: 'nobody there' });
  expect(await left()).toEqual(letters);
});

test('one that ends in the middle leaves all for the next', async () => {
  await put(letter(0), letter(1));
  const broken = redrive(() => {
    throw new TypeError('a fault of the program');
  });
  await expect(broken).rejects.toThrow('a fault of the program');
  await put(letter(2));
  const numbers: number[] = [];
  const counts = await redrive((items) => {
    numbers.push(...items.map(({ number }) => number));
    return delivered(items);
  });
  expect(numbers.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
  expect(counts).toEqual({ ...none, letters: 3, delivered: 3 });
});

test('when it is interrupted, nothing is sent and everything is put back', async () => {
  await put(letter(0));
  const counts = await redrive(delivered, AbortSignal.abort());
  expect(counts).toMatchObject({ letters: 1, delivered: 0, left: 1 });
  expect(await left()).toEqual([letter(0)]);
});

test('a letter without its event stays as it is', async () => {
  const { event: _event, ...bare } = letter(0);
  await put({ ...bare, raw: 2_000_000 });
  expect(await redrive(delivered)).toMatchObject({ letters: 1, delivered: 0, refused: 1 });
  expect(await left()).toEqual([{ ...bare, raw: 2_000_000 }]);
});
