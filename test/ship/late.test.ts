/** Events wait for what becomes known of them, as long as they may, and the cursor with them. */
import { afterEach, expect, test } from '@jest/globals';
import type { Item } from '../../agent/ship/destination.ts';
import type { Found, LateFacts } from '../../agent/ship/late-facts.ts';
import { loadProgress } from '../../agent/ship/cursor.ts';
import { createWorld, delivered, until, type World } from './support.ts';

const ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

async function create(): Promise<World> {
  const world = await createWorld();
  ends.push(() => world.end());
  return world;
}

/** Those that are pending, and what will be found. */
function createFacts(...pending: string[]) {
  const listeners = new Set<() => void>();
  const open = new Set(pending);
  const found = new Map<string, object>();
  const late: LateFacts = {
    patienceMillis: 4_000,
    isPending: (id) => open.has(id),
    onSettled(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async find({ record }): Promise<Found | undefined> {
      const known = found.get((record as { event_id: string }).event_id);
      return known && { record: known, packets: async () => ({ content: Buffer.from('packets'), cut: false }) };
    },
  };
  return {
    late,
    settle: (id: string, record?: object): void => {
      if (record !== undefined) found.set(id, record);
      open.delete(id);
      for (const listener of listeners) listener();
    },
  };
}

const outcomeOf = ({ json }: Item): unknown => (JSON.parse(json) as { record: { outcome?: string } }).record.outcome;

test('an event goes with what became known of it, and none behind it waits for it, but the cursor does', async () => {
  const world = await create();
  const { late, settle } = createFacts('e0');
  const sent: [string, unknown, string | undefined][] = [];
  await world.append(3);
  const sink = world.start(
    async (items) => {
      for (const item of items) sent.push([item.id, outcomeOf(item), (await item.packets?.(1))?.content.toString()]);
      return delivered(items);
    },
    { late },
  );
  await until(() => sent.length === 2 && world.clock.isResting());
  expect(sink.status()).toMatchObject({ delivered: 0, pending: 3 });
  settle('e0', { outcome: '2xx' });
  await until(() => sink.status().delivered === 3);
  expect(sent).toEqual([
    ['e1', undefined, undefined],
    ['e2', undefined, undefined],
    ['e0', '2xx', 'packets'],
  ]);
  expect(sink.status()).toMatchObject({ pending: 0, evidence: { joined: 1, late: 0, without: 2 } });
});

test('what never becomes known holds up an event for so long and no longer', async () => {
  const world = await create();
  const { late } = createFacts('e0');
  await world.append(1);
  const sink = world.start(delivered, { late });
  await until(() => world.clock.isResting());
  await world.clock.advance(3_999);
  await until(() => world.clock.isResting());
  expect(world.sends).toEqual([]);
  await world.clock.advance(1_001);
  await until(() => sink.status().delivered === 1);
  expect(sink.status().evidence).toEqual({ joined: 0, late: 1, without: 0 });
});

test('no more events wait than a batch has, and a stop loses none of them', async () => {
  const world = await create();
  const ids = Array.from({ length: 30 }, (_, index) => `e${index}`);
  const { late, settle } = createFacts(...ids);
  await world.append(30);
  const sink = world.start(delivered, { late });
  await until(() => world.clock.isResting());
  for (const id of ids.slice(10)) settle(id, { outcome: '2xx' });
  await until(() => world.clock.isResting());
  // The first ten fill the batch: what is behind them was not read yet.
  expect(world.sends).toEqual([]);
  await sink.stop(0);
  const { progress } = await loadProgress(`${world.root}/sinks/test.cursor.json`, world.journal.end());
  expect(progress.delivered).toBe(0);

  for (const id of ids.slice(0, 10)) settle(id);
  const again = world.start(delivered, { late });
  await until(() => again.status().delivered === 30);
  expect(world.sends.flat()).toEqual(ids.map((_, index) => index));
  expect(again.status().evidence).toEqual({ joined: 20, late: 0, without: 10 });
});

test('what cannot be read is said, and the event goes without', async () => {
  const world = await create();
  const { late } = createFacts();
  await world.append(1);
  const sink = world.start(delivered, {
    late: { ...late, find: async () => Promise.reject(new Error('EIO: i/o error')) },
  });
  await until(() => sink.status().delivered === 1);
  expect(sink.status().evidence.without).toBe(1);
  expect(world.logged.filter((line) => line.includes('cannot be read'))).toHaveLength(1);
});
