import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { readJournal } from '../../agent/journal/journal.ts';
import { saveProgress } from '../../agent/ship/cursor.ts';
import { appendDeadLetters } from '../../agent/ship/dead-letter.ts';
import { SendError } from '../../agent/ship/destination.ts';
import type { Outcome, SendFailure } from '../../agent/ship/destination.ts';
import type { Sink, SinkStatus } from '../../agent/ship/sink.ts';
import { seeded } from '../support/random.ts';
import { createWorld, delivered, until } from './support.ts';
import type { World } from './support.ts';

const worlds: World[] = [];

afterEach(async () => {
  for (const world of worlds.splice(0)) await world.end();
});

async function create(...args: Parameters<typeof createWorld>): Promise<World> {
  const world = await createWorld(...args);
  worlds.push(world);
  return world;
}

const ok: Outcome = { is: 'delivered' };
const later: Outcome = { is: 'retry', reason: 'not now' };
const fail = (failure: SendFailure): never => {
  throw new SendError(failure, `${failure}: made up`);
};
const sum = ({ pending, delivered: sent, deadLettered, evicted }: SinkStatus): number =>
  pending + sent + deadLettered + evicted;
const idle = async (sink: Sink): Promise<void> => until(() => sink.status().pending === 0);
const saved = async (world: World): Promise<unknown> =>
  JSON.parse(await readFile(path.join(world.root, 'sinks', 'test.cursor.json'), 'utf8'));

async function letters(world: World): Promise<Record<string, unknown>[]> {
  const found = [];
  const directory = path.join(world.root, 'sinks', 'test-dead-letters');
  for await (const line of readJournal({ directory, name: 'dead-letters' })) {
    if (line.kind === 'event') found.push(line.event);
  }
  return found;
}

test('events are sent in order, in batches of at most so many, and the cursor follows', async () => {
  const world = await create();
  await world.append(25);
  const sink = world.start(delivered);
  await idle(sink);
  expect(world.sends.map((numbers) => [numbers.at(0), numbers.at(-1)])).toEqual([
    [0, 9],
    [10, 19],
    [20, 24],
  ]);
  expect(await saved(world)).toEqual({
    version: 1,
    cursor: world.journal.end(),
    delivered: 25,
    duplicates: 0,
    deadLettered: 0,
    evicted: 0,
  });
  await world.append(1);
  await idle(sink);
  expect(world.sends.at(-1)).toEqual([25]);
});

test('a batch has at most so many bytes, and an event that is larger goes alone', async () => {
  const world = await create();
  await world.append(3, 100);
  await world.append(1, 2000);
  await world.append(1, 100);
  const sink = world.start(delivered, { batch: { batchEvents: 10, batchSize: 500, batchMillis: 60_000 } });
  await until(() => world.sends.length === 3);
  expect(world.sends).toEqual([[0, 1], [2], [3]]);
  expect(sink.status().pending).toBeLessThanOrEqual(2);
});

test('an event waits for others as long as it may, and no longer than until the batch is full', async () => {
  const world = await create();
  const sink = world.start(delivered, { batch: { batchEvents: 3, batchSize: 1e6, batchMillis: 200 } });
  await world.append(1);
  await until(() => world.clock.waits().includes(200));
  expect(world.sends).toEqual([]);
  await world.clock.advance(200);
  await until(() => world.sends.length === 1);
  await idle(sink);
  await world.append(1);
  await until(() => world.clock.waits().includes(200));
  await world.append(2);
  await until(() => world.sends.length === 2);
  expect(world.sends).toEqual([[0], [1, 2, 3]]);
});

test('what is refused for good becomes a dead letter with reason and status, and holds up nothing', async () => {
  const world = await create();
  await world.append(3);
  const sink = world.start((items) =>
    items.map(({ number }) => (number === 1 ? { is: 'rejected', reason: 'bad\u001B[31m\nfield', status: 400 } : ok)),
  );
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 2, deadLettered: 1, pending: 0 });
  expect(await letters(world)).toEqual([
    expect.objectContaining({ number: 1, reason: 'badfield', status: 400, attempts: 1 }),
  ]);
  expect((await letters(world))[0]?.event).toMatchObject({ record: { event_id: 'e1' } });
});

test('only what has to be sent again is sent again, with new events, and the cursor waits for it', async () => {
  const world = await create();
  await world.append(3);
  let tries = 0;
  const sink = world.start((items) => items.map(({ number }) => (number === 1 && ++tries < 3 ? later : ok)));
  await until(() => world.clock.waits().includes(500));
  expect(sink.status()).toMatchObject({ delivered: 1, pending: 2, failures: { retry: 1 } });
  expect(await saved(world)).toMatchObject({ cursor: { event: 1 }, delivered: 1 });
  await world.append(1);
  await world.clock.advance(500);
  await until(() => world.sends.length === 2);
  expect(world.sends[1]).toEqual([1, 3]);
  world.clock.run();
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 4, deadLettered: 0, retries: 2, circuit: 'closed' });
});

test('an event that never goes through while others do becomes a dead letter after 8 tries', async () => {
  const world = await create();
  await world.append(100);
  world.clock.run();
  const sink = world.start((items) => items.map(({ number }) => (number === 3 ? later : ok)));
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 99, deadLettered: 1 });
  expect(await letters(world)).toEqual([expect.objectContaining({ number: 3, attempts: 8 })]);
});

test('nobody is set aside while nothing goes through, nor while the destination asks for patience', async () => {
  const world = await create();
  await world.append(20);
  world.clock.run();
  let patience = true;
  const sink = world.start((items) => {
    if (world.sends.length <= 120) return items.map(() => later);
    return items.map(({ number }) => (number === 3 && patience ? { ...later, throttled: true } : ok));
  });
  await until(() => world.sends.length > 150);
  expect(sink.status()).toMatchObject({ deadLettered: 0, delivered: 3 });
  patience = false;
  await idle(sink);
  expect(sink.status()).toMatchObject({ deadLettered: 0, delivered: 20 });
});

test('a lone event that fails opens the circuit, and still holds up no later one', async () => {
  const world = await create();
  await world.append(1);
  world.clock.run();
  const sink = world.start((items) => items.map(({ number }) => (number === 0 ? later : ok)));
  await until(() => sink.status().circuit === 'open');
  await world.append(200);
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 200, deadLettered: 1, circuit: 'closed' });
});

test.each(['too_large', 'refused'] as const)(
  'a batch that is %s is halved until the guilty event is alone',
  async (failure) => {
    const world = await create();
    await world.append(8);
    const sink = world.start((items) => (items.some(({ number }) => number === 5) ? fail(failure) : delivered(items)));
    await idle(sink);
    expect(world.sends).toEqual([[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]);
    expect(sink.status()).toMatchObject({ delivered: 7, deadLettered: 1, failures: { [failure]: 4 } });
    expect(await letters(world)).toEqual([expect.objectContaining({ number: 5, reason: `${failure}: made up` })]);
  },
);

test('an outage is logged when it begins and when it ends, and single events probe meanwhile', async () => {
  const world = await create();
  await world.append(10);
  let down = true;
  const sink = world.start((items) => (down ? fail('unreachable') : delivered(items)), {
    retry: { base: 400, max: 30_000 },
  });
  for (const expected of [400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]) {
    await until(() => world.clock.waits().includes(expected));
    await world.clock.advance(expected);
  }
  expect(sink.status()).toMatchObject({
    circuit: 'open',
    lastError: 'unreachable: made up',
    pending: 10,
    delivered: 0,
    retries: 8,
  });
  expect(world.sends.map(({ length }) => length).slice(0, 8)).toEqual([10, 10, 10, 1, 1, 1, 1, 1]);
  expect(new Set(world.sends.slice(3, 8).flat()).size).toBe(5);
  down = false;
  world.clock.run();
  await idle(sink);
  expect(world.sends.at(-1)).toHaveLength(9);
  expect(world.logged.slice(1)).toEqual([
    'warn events are not getting through; they wait',
    'info events are getting through again',
  ]);
});

test('events that were there already are delivered, and counted as duplicates', async () => {
  const world = await create();
  await world.append(2);
  const sink = world.start((items) => items.map(() => ({ is: 'delivered', duplicate: true })));
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 2, duplicates: 2 });
});

test('events evicted while the destination is away are counted then; those in hand are still delivered', async () => {
  const world = await create({ segmentSize: 2000, maxSize: 6000 });
  await world.append(5, 100);
  let down = true;
  const sink = world.start((items) => (down ? fail('unreachable') : delivered(items)), {
    batch: { batchEvents: 5, batchSize: 1e6, batchMillis: 0 },
  });
  await until(() => world.clock.waits().includes(500));
  for (let i = 0; i < 20; i++) await world.append(5, 100);
  const oldest = world.journal.segments()[0]?.sequence ?? 0;
  expect(oldest).toBeGreaterThan(10);
  await until(async () => {
    await world.clock.advance(1000);
    return sink.status().evicted > 0;
  });
  expect(sink.status()).toMatchObject({ evicted: oldest - 5, delivered: 0, pending: 105 - (oldest - 5) });
  down = false;
  world.clock.run();
  await idle(sink);
  expect(sink.status()).toMatchObject({ evicted: oldest - 5, delivered: 105 - (oldest - 5) });
  expect(await saved(world)).toMatchObject({ cursor: { event: 105 }, evicted: oldest - 5 });
  expect(world.logged.filter((line) => line.includes('retention'))).toHaveLength(1);
});

test('a damaged line becomes a dead letter', async () => {
  const world = await create();
  await world.append(2);
  const [segment] = world.journal.segments();
  const text = await readFile(segment?.path ?? '', 'utf8');
  await writeFile(segment?.path ?? '', text.replace('{', 'x'));
  const sink = world.start(delivered);
  await idle(sink);
  expect(sink.status()).toMatchObject({ delivered: 1, deadLettered: 1 });
  expect(await letters(world)).toEqual([
    expect.objectContaining({ number: 0, reason: 'damaged line', raw: text.indexOf('\n') + 1, attempts: 0 }),
  ]);
});

test.each(['save', 'appendLetters'] as const)(
  'when %s fails, the sink waits and then goes on: nothing lost, nothing twice',
  async (which) => {
    const world = await create();
    await world.append(15);
    let full = true;
    const io = { save: saveProgress, appendLetters: appendDeadLetters };
    const broken = (): Promise<never> => Promise.reject(new Error('no space left'));
    const sink = world.start(
      (items) => items.map(({ number }) => (number === 1 ? { is: 'rejected', reason: 'bad' } : ok)),
      {
        io: {
          save: (...args) => (full && which === 'save' ? broken() : io.save(...args)),
          appendLetters: (...args) => (full && which === 'appendLetters' ? broken() : io.appendLetters(...args)),
        },
      },
    );
    await until(() => world.logged.some((line) => line.startsWith('error')));
    for (let i = 0; i < 5; i++) await world.clock.advance(1000);
    expect(sink.status()).toMatchObject({ delivered: 0, deadLettered: 0, pending: 15, lastError: 'no space left' });
    full = false;
    world.clock.run();
    await idle(sink);
    expect(sink.status()).toMatchObject({ delivered: 14, deadLettered: 1 });
    expect(world.sends.flat()).toHaveLength(15);
    expect(await letters(world)).toHaveLength(1);
    expect(world.logged.filter((line) => line.startsWith('error'))).toHaveLength(1);
  },
);

test('when the journal can not be read, the sink waits for it', async () => {
  const world = await create();
  await world.append(3);
  const log = path.join(world.root, 'log');
  await rename(log, `${log}.away`);
  const sink = world.start(delivered);
  await until(() => world.logged.some((line) => line.startsWith('error')));
  await rename(`${log}.away`, log);
  world.clock.run();
  await idle(sink);
  expect(sink.status().delivered).toBe(3);
});

test('a sink goes on from its cursor', async () => {
  const world = await create();
  await world.append(3);
  const first = world.start(delivered);
  await idle(first);
  await first.stop(1000);
  await world.append(2);
  const second = world.start(delivered);
  await idle(second);
  expect(world.sends).toEqual([
    [0, 1, 2],
    [3, 4],
  ]);
  expect(second.status()).toMatchObject({ delivered: 5 });
});

test('a damaged cursor is kept aside, and the sink begins at the oldest event', async () => {
  const world = await create();
  await world.append(3);
  const sink = world.start(delivered);
  await idle(sink);
  await sink.stop(0);
  await writeFile(path.join(world.root, 'sinks', 'test.cursor.json'), '{"version":1,"cur');
  const again = world.start((items) => items.map(() => ({ is: 'delivered', duplicate: true })));
  await idle(again);
  expect(again.status()).toMatchObject({ delivered: 3, duplicates: 3 });
  expect(await readdir(path.join(world.root, 'sinks'))).toContain('test.cursor.json.damaged');
});

test('a stop waits for the send under way, and its events count', async () => {
  const world = await create();
  await world.append(3);
  let finish = (): void => undefined;
  const sink = world.start(async (items) => {
    await new Promise<void>((resolve) => (finish = resolve));
    return delivered(items);
  });
  await until(() => world.sends.length === 1);
  const stopping = sink.stop(5000);
  finish();
  await stopping;
  expect(await saved(world)).toMatchObject({ cursor: { event: 3 }, delivered: 3 });
});

test('a stop aborts a send that takes too long, and its events stay pending', async () => {
  const world = await create();
  await world.append(3);
  const signals: AbortSignal[] = [];
  const sink = world.start((_, signal) => {
    signals.push(signal);
    return new Promise(() => undefined);
  });
  await until(() => world.sends.length === 1);
  const stopping = sink.stop(5000);
  await world.clock.advance(5000);
  await stopping;
  expect(signals[0]?.aborted).toBe(true);
  expect(sink.status()).toMatchObject({ delivered: 0, pending: 3 });
});

test('each send that delivers tells how many, and when the oldest was captured', async () => {
  const world = await create();
  await world.append(3);
  const told: unknown[] = [];
  const sink = world.start(
    (items) => items.map(({ number }) => (number === 0 ? { is: 'rejected', reason: 'x' } : ok)),
    {
      onDelivered: (...args) => told.push(args),
    },
  );
  await idle(sink);
  expect(told).toEqual([[2, Date.parse('2026-01-02T03:04:05.678Z')]]);
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'whatever fails or dies, each event is settled and the sum holds (seed %i)',
  async (seed) => {
    const random = seeded(seed);
    const evicting = seed % 2 === 0;
    const world = await create(evicting ? { segmentSize: 1500, maxSize: 4000 } : {});
    world.clock.run();
    const store = new Set<number>();
    let crashed = false;
    const answer = (items: readonly { number: number }[]): Outcome[] => {
      // A crash: the store has some of the batch, and the agent never hears of it.
      const dies = random() < 0.15;
      const failures = ['unreachable', 'timeout', 'refused', 'too_large', 'incomplete'] as const;
      const failure = random() < 0.2 ? failures[Math.floor(random() * failures.length)] : undefined;
      if (failure !== undefined && !(items.length === 1 && (failure === 'refused' || failure === 'too_large')))
        fail(failure);
      const outcomes = items.map(({ number }): Outcome => {
        const kind = random();
        if (number % 17 === 3) return { is: 'rejected', reason: 'bad', status: 400 };
        if (kind < 0.2) return { ...later, throttled: kind < 0.1 };
        const duplicate = store.has(number);
        store.add(number);
        return { is: 'delivered', duplicate };
      });
      if (dies) {
        crashed = true;
        throw new SendError('incomplete', 'the agent is about to die');
      }
      return outcomes;
    };
    let journaled = 0;
    for (let life = 0; life < 12; life++) {
      crashed = false;
      const sink = world.start(answer, {
        random,
        // The cursor isn't saved once the agent is dead.
        io: {
          save: (file, progress) => (crashed ? Promise.reject(new Error('dead')) : saveProgress(file, progress)),
          appendLetters: appendDeadLetters,
        },
      });
      for (let step = 0; step < 6 && !crashed; step++) {
        await world.append(1 + Math.floor(random() * 12), 50);
        journaled = world.journal.end().event;
        for (let i = 0; i < random() * 40; i++) {
          await world.clock.wait(1, new AbortController().signal);
          expect(sum(sink.status())).toBe(journaled);
        }
      }
      await sink.stop(0);
      expect(sum(sink.status())).toBe(journaled);
    }
    const last = world.start(delivered);
    await idle(last);
    const status = last.status();
    await last.stop(0);
    expect(sum(status)).toBe(journaled);
    expect(status.pending).toBe(0);
    const dead = (await letters(world)).map(({ number }) => Number(number));
    expect(new Set(dead).size).toBe(dead.length);
    if (!evicting) {
      const settled = new Set([...store, ...dead, ...world.sends.flat()]);
      expect(settled.size).toBe(journaled);
      expect(status.evicted).toBe(0);
      expect(status.delivered + status.deadLettered).toBe(journaled);
      // One set aside just before a crash may go through after it.
      expect(dead.length).toBeGreaterThanOrEqual(status.deadLettered);
    } else expect(status.evicted).toBeGreaterThan(0);
  },
);
