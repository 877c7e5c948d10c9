import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import type { QuietSettings, When } from '../../agent/config/sinks.ts';
import { SendError, type Item } from '../../agent/ship/destination.ts';
import type { Sink, SinkStatus } from '../../agent/ship/sink.ts';
import { eventOf } from './http/support.ts';
import { createWorld, delivered, until, type World } from './support.ts';

const worlds: World[] = [];

afterEach(async () => {
  for (const world of worlds.splice(0)) await world.end();
});

async function create(): Promise<World> {
  const world = await createWorld();
  worlds.push(world);
  return world;
}

const QUIET: QuietSettings = { every: 60_000, after: 1, alike: ['signature', 'resource'] };
const SHOP: When = { namespace: ['shop'] };

/** Appends an event of a signature, so many milliseconds after the first. */
async function alert(
  world: World,
  number: number,
  sid = 1,
  more: Parameters<typeof eventOf>[2] = {},
  origin = 'dpi.shop/web',
) {
  const event = eventOf(number, { origin }, { snort_signature_id: String(sid), ...more });
  await world.journal.append([{ position: `a:${number}`, json: JSON.stringify(event) }]);
}

interface Sent {
  id: number;
  count: number | undefined;
  last: string | undefined;
}

function collect(): { sent: Sent[]; answer: (items: readonly Item[]) => ReturnType<typeof delivered> } {
  const sent: Sent[] = [];
  return {
    sent,
    answer(items) {
      for (const { id, json } of items) {
        const { record } = JSON.parse(json) as ReturnType<typeof eventOf>;
        sent.push({ id: Number(id), count: record.count, last: record.last_timestamp });
      }
      return delivered(items);
    },
  };
}

const sum = ({ pending, delivered: sent, deadLettered, evicted, filtered, digested }: SinkStatus): number =>
  pending + sent + deadLettered + evicted + filtered + digested;

/** Lets the time go on, while the sink has nothing else to do, until so many events are pending. */
async function settled(world: World, sink: Sink, pending: number): Promise<void> {
  for (;;) {
    await until(() => world.clock.isResting());
    if (sink.status().pending === pending) return;
    await world.clock.advance(1000);
  }
}

test('what is not for a sink is filtered, counted, and not sent', async () => {
  const world = await create();
  for (const number of [0, 1, 2]) await alert(world, number, 1, {}, number === 1 ? 'dpi.shop/web' : 'dpi.pay/api');
  const { sent, answer } = collect();
  const sink = world.start(answer, { when: SHOP });
  await settled(world, sink, 0);
  expect(sent.map(({ id }) => id)).toEqual([1]);
  expect(sink.status()).toMatchObject({ delivered: 1, filtered: 2, digested: 0 });
  const saved = JSON.parse(await readFile(path.join(world.root, 'sinks', 'test.cursor.json'), 'utf8')) as object;
  expect(saved).toMatchObject({ delivered: 1, filtered: 2, cursor: { event: 3 } });
});

test('30,000 events that are not for a sink take no room in it, and its cursor follows', async () => {
  const world = await create();
  for (let thousand = 0; thousand < 30; thousand++) await world.append(1000);
  await alert(world, 1);
  const { sent, answer } = collect();
  const sink = world.start(answer, { when: SHOP, batch: { batchEvents: 1, batchSize: 1e6, batchMillis: 0 } });
  await settled(world, sink, 0);
  expect(sent).toHaveLength(1);
  expect(sink.status()).toMatchObject({ delivered: 1, filtered: 30_000 });
});

test('the first of alike events goes at once; the others become one with their count when the time is over', async () => {
  const world = await create();
  const { sent, answer } = collect();
  const sink = world.start(answer, { quiet: QUIET });
  await alert(world, 0);
  await alert(world, 1);
  await alert(world, 2, 1, { count: 10, last_timestamp: '2026-01-02T05:00:00.000000Z' });
  await alert(world, 3, 2);
  await alert(world, 4);
  await until(() => sent.length === 2);
  expect(sent).toEqual([
    { id: 0, count: undefined, last: undefined },
    { id: 3, count: undefined, last: undefined },
  ]);
  // The cursor is before the event that is held back, whatever was sent behind it.
  expect(sum(sink.status())).toBe(5);
  expect(sink.status().pending).toBeGreaterThan(0);
  await settled(world, sink, 0);
  expect(sent.slice(2)).toEqual([{ id: 1, count: 12, last: eventOf(4).record.timestamp }]);
  expect(sink.status()).toMatchObject({ delivered: 3, digested: 2 });
  expect(sum(sink.status())).toBe(5);
});

test('digests follow each other while alike events come, and a quiet time begins anew', async () => {
  const world = await create();
  const { sent, answer } = collect();
  const sink = world.start(answer, { quiet: { ...QUIET, after: 2 } });
  for (const number of [0, 1, 2, 3]) await alert(world, number);
  await settled(world, sink, 0);
  expect(sent.map(({ id, count }) => [id, count])).toEqual([
    [0, undefined],
    [1, undefined],
    [2, 2],
  ]);
  await alert(world, 4);
  await alert(world, 5);
  // Held back: a digest went out just now.
  await world.clock.advance(30_000);
  expect(sent).toHaveLength(3);
  await settled(world, sink, 0);
  expect(sent.slice(3).map(({ id, count }) => [id, count])).toEqual([[4, 2]]);
  await world.clock.advance(200_000);
  await alert(world, 6);
  await until(() => sent.length === 5);
  expect(sent[4]).toEqual({ id: 6, count: undefined, last: undefined });
});

test('what events have in common is chosen; with nothing, all are alike', async () => {
  const world = await create();
  const bySource = collect();
  const sink = world.start(bySource.answer, { quiet: { ...QUIET, alike: [] } });
  await alert(world, 0, 1);
  await alert(world, 1, 2);
  await alert(world, 2, 3);
  await settled(world, sink, 0);
  expect(bySource.sent.map(({ id, count }) => [id, count])).toEqual([
    [0, undefined],
    [1, 2],
  ]);
});

test('an agent that ends sends what it holds back; one that is killed reads it again', async () => {
  const world = await create();
  const first = collect();
  const sink = world.start(first.answer, { quiet: { ...QUIET, every: 86_400_000 } });
  for (const number of [0, 1, 2]) await alert(world, number);
  await until(() => first.sent.length === 1);
  // As after a kill: the cursor is where it was, and nothing else is known.
  const file = path.join(world.root, 'sinks', 'test.cursor.json');
  await until(() => world.clock.isResting());
  const killed = await readFile(file, 'utf8');
  sink.hurry();
  await settled(world, sink, 0);
  expect(first.sent.slice(1).map(({ id, count }) => [id, count])).toEqual([[1, 2]]);
  await sink.stop(0);

  await writeFile(file, killed);
  const second = collect();
  const next = world.start(second.answer, { quiet: QUIET });
  await settled(world, next, 0);
  expect(second.sent.map(({ id, count }) => [id, count])).toEqual([
    [1, undefined],
    [2, undefined],
  ]);
  expect(sum(next.status())).toBe(3);
});

test('a flood of many kinds is held back no further than there is room, and none is lost', async () => {
  const world = await create();
  const { sent, answer } = collect();
  const batch = { batchEvents: 10, batchSize: 20_000, batchMillis: 0 };
  const sink = world.start(answer, { quiet: { ...QUIET, every: 86_400_000 }, batch });
  for (let number = 0; number < 200; number++) await alert(world, number, number % 50);
  sink.hurry();
  await settled(world, sink, 0);
  const counted = sent.reduce((all, { count = 1 }) => all + count, 0);
  expect(counted).toBe(200);
  expect(Math.max(...world.sends.map(({ length }) => length))).toBeLessThanOrEqual(10);
  expect(sum(sink.status())).toBe(200);
});

test('a destination that says when to come again is not asked before', async () => {
  const world = await create();
  await world.append(1);
  let tries = 0;
  const sink = world.start((items) => {
    tries += 1;
    if (tries === 1) throw new SendError('throttled', 'later', undefined, 90_000);
    return delivered(items);
  });
  await until(() => world.clock.waits().length > 0);
  expect(world.clock.waits()).toEqual([90_000]);
  await world.clock.advance(89_999);
  expect(tries).toBe(1);
  await world.clock.advance(1);
  await until(() => sink.status().pending === 0);
  expect(tries).toBe(2);
});
