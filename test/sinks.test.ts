/**
 * The sinks of a configuration from a journal to real HTTP servers: each event exactly counted, whatever they answer.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { loadConfig, type Config } from '../agent/config/load.ts';
import type { EeEvent } from '../agent/events/event.ts';
import { openJournal, type Journal } from '../agent/journal/journal.ts';
import { readProgress } from '../agent/ship/cursor.ts';
import type { SinkStatus } from '../agent/ship/sink.ts';
import { startSinks, type Sinks } from '../agent/sinks.ts';
import { answer, startServer, type Reply, type TestServer } from './ship/http/server.ts';
import { eventOf } from './ship/http/support.ts';
import { until } from './ship/support.ts';
import { PROJECT } from './support/project.ts';
import { seeded } from './support/random.ts';

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function serve(reply?: Reply): Promise<TestServer> {
  const server = await startServer(reply);
  ends.push(() => server.close());
  return server;
}

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'sinks-'));
  ends.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function configOf(directory: string, sinks: unknown): Config {
  const flags = { sinks, stateDirectory: directory, 'journal.directory': join(directory, 'journal') };
  const loaded = loadConfig({ env: {}, flags }, () => 'node-1');
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return loaded.config;
}

async function journalOf(config: Config): Promise<Journal> {
  const journal = await openJournal(config.journal);
  ends.push(() => journal.close().catch(() => undefined));
  return journal;
}

async function start(config: Config, journal: Journal): Promise<Sinks> {
  const sinks = await startSinks({ config, journal, log: pino({ level: 'silent' }) });
  ends.push(() => sinks.stop());
  return sinks;
}

async function append(journal: Journal, events: readonly EeEvent[]): Promise<void> {
  await journal.append(
    events.map((event) => ({ position: `a:${Number(event.record.event_id)}`, json: JSON.stringify(event) })),
  );
}

const events = (from: number, to: number, more: Parameters<typeof eventOf>[1] = {}): EeEvent[] =>
  Array.from({ length: to - from }, (_, index) => eventOf(from + index, more));

const sum = ({ pending, delivered, deadLettered, evicted, filtered, digested }: SinkStatus): number =>
  pending + delivered + deadLettered + evicted + filtered + digested;

const idOf = (event: unknown): number => Number((event as EeEvent).record.event_id);
const batchIds = ({ received }: TestServer): number[] =>
  received.flatMap(({ body }) => (JSON.parse(body) as unknown[]).map(idOf));

test('each sink of a list takes what is for it, with a cursor of its own, and all is counted', async () => {
  const [all, shop] = [await serve(), await serve()];
  const directory = await folder();
  const config = configOf(directory, [
    { name: 'all', http: { url: all.url, batchMillis: 0 } },
    { name: 'shop', http: { url: shop.url, batchMillis: 0 }, when: { namespace: 'shop', severity: 90 } },
  ]);
  const journal = await journalOf(config);
  const sinks = await start(config, journal);
  await append(journal, events(0, 10));
  await append(journal, events(10, 15, { origin: 'dpi.pay/api' }));
  await append(journal, events(15, 17, { severity: 40 }));
  await until(async () => {
    await delay(5);
    return sinks.status().every(({ delivered, filtered }) => delivered + filtered === 17);
  });
  expect(batchIds(all)).toEqual(Array.from({ length: 17 }, (_, id) => id));
  expect(batchIds(shop)).toEqual(Array.from({ length: 10 }, (_, id) => id));
  expect(sinks.status().map(({ name, delivered, filtered, pending }) => [name, delivered, filtered, pending])).toEqual([
    ['all', 17, 0, 0],
    ['shop', 10, 7, 0],
  ]);
  await sinks.stop();
  expect((await readdir(join(directory, 'sinks'))).toSorted()).toEqual(['all.cursor.json', 'shop.cursor.json']);

  const again = await start(config, journal);
  await append(journal, events(17, 18));
  await until(async () => {
    await delay(5);
    return again.status().every(({ delivered, filtered }) => delivered + filtered === 18);
  });
  expect(batchIds(all).slice(17)).toEqual([17]);
});

test('one that is away, throttles, refuses or resets holds up no other, and loses nothing', async () => {
  const random = seeded(17);
  const taken = new Map<number, number>();
  const poison = 13;
  /** Refuses a batch with one event in it, and answers anything else at random. */
  const moody: Reply = ({ body }, response, socket) => {
    const ids = (JSON.parse(body) as unknown[]).map(idOf);
    const mood = random();
    if (ids.includes(poison)) return response.writeHead(400).end('no 13');
    if (mood < 0.2) return socket.destroy();
    if (mood < 0.3) return response.writeHead(429, { 'retry-after': '0' }).end();
    if (mood < 0.4) return response.writeHead(503).end('busy');
    for (const id of ids) taken.set(id, (taken.get(id) ?? 0) + 1);
    // Taken, and the answer is lost.
    if (mood < 0.5) return socket.destroy();
    return response.writeHead(200).end();
  };
  const [well, bad] = [await serve(), await serve(moody)];
  const config = configOf(await folder(), [
    { name: 'well', http: { url: well.url, batchMillis: 0 } },
    { name: 'bad', http: { url: bad.url, batchMillis: 0, batchEvents: 5 } },
  ]);
  const journal = await journalOf(config);
  const sinks = await start(config, journal);
  for (let from = 0; from < 40; from += 4) await append(journal, events(from, from + 4));
  await until(async () => {
    await delay(5);
    return sinks.status()[0]?.pending === 0;
  });
  expect(batchIds(well)).toHaveLength(40);
  await until(async () => {
    await delay(5);
    for (const status of sinks.status()) expect(sum(status)).toBe(40);
    return sinks.status().every(({ pending }) => pending === 0);
  });
  expect(sinks.status()[1]).toMatchObject({ delivered: 39, deadLettered: 1 });
  expect([...taken.keys()].toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: 40 }, (_, id) => id).filter((id) => id !== poison),
  );
});

test('killed at any moment, a sink has sent each event at least once, with the same id, and its books agree', async () => {
  const seen = new Map<number, number>();
  const random = seeded(99);
  const server = await serve(({ headers }, response, socket) => {
    const id = Number(headers['idempotency-key']);
    seen.set(id, (seen.get(id) ?? 0) + 1);
    const mood = random();
    if (mood < 0.04) socket.destroy();
    else if (mood < 0.06) response.writeHead(429, { 'retry-after': '0' }).end();
    else response.writeHead(200).end();
  });
  const directory = await folder();
  const settings = [{ name: 'pager', http: { url: server.url, oneByOne: true, batchMillis: 0 } }];
  const config = configOf(directory, settings);
  const journal = await journalOf(config);
  const count = 100;
  await append(journal, events(0, count));
  await journal.close();

  const file = join(directory, 'sinks', 'pager.cursor.json');
  const script = join(directory, 'child.mjs');
  const module = (path: string): string => JSON.stringify(join(PROJECT, path));
  await writeFile(
    script,
    `import { openJournal } from ${module('dist/agent/journal/journal.js')};
     import { startSinks } from ${module('dist/agent/sinks.js')};
     const config = JSON.parse(process.argv[2]);
     const log = { info() {}, warn() {}, error() {}, child: () => log };
     await startSinks({ config, journal: await openJournal(config.journal), log });
     setInterval(() => undefined, 1000);`,
  );
  const run = () => spawn(process.execPath, [script, JSON.stringify(config)], { stdio: 'inherit' });
  for (let kills = 0; kills < 3; kills++) {
    const child = run();
    const target = Math.min(count - 20, seen.size + 1 + Math.floor(random() * 25));
    await until(async () => {
      await delay(2);
      return seen.size >= target;
    });
    child.kill('SIGKILL');
    await once(child, 'close');
    const progress = await readProgress(file);
    // What is behind the cursor was taken.
    for (let id = 0; id < (progress?.delivered ?? 0); id++) expect(seen.get(id)).toBeGreaterThan(0);
  }
  const last = run();
  await until(async () => {
    await delay(5);
    return (await readProgress(file))?.cursor.event === count;
  });
  last.kill('SIGKILL');
  await once(last, 'close');
  expect(await readProgress(file)).toMatchObject({ delivered: count, deadLettered: 0, filtered: 0 });
  expect([...seen.keys()].toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, id) => id));
});

test('sinks go over to another configuration: who stays is not disturbed, who changes goes on, and nothing is lost', async () => {
  const [stays, before, after, added] = [await serve(), await serve(), await serve(), await serve()];
  const directory = await folder();
  const sinkOf = (name: string, { url }: TestServer, more = {}) => ({ name, http: { url, batchMillis: 0, ...more } });
  const old = configOf(directory, [sinkOf('stays', stays), sinkOf('moves', before), sinkOf('goes', before)]);
  const journal = await journalOf(old);
  const sinks = await start(old, journal);
  const delivered = (): Promise<void> =>
    until(async () => {
      await delay(5);
      return sinks.status().every(({ pending }) => pending === 0);
    });
  await append(journal, events(0, 10));
  await delivered();
  const [{ lastSuccess } = {}] = sinks.status();
  const next = configOf(directory, [sinkOf('added', added), sinkOf('stays', stays), sinkOf('moves', after)]);
  // Changes that come at once are taken one after the other, while events come.
  const changes = [sinks.apply(next), append(journal, events(10, 20)), sinks.apply(old), sinks.apply(next)];
  await Promise.all(changes);
  await append(journal, events(20, 30));
  await delivered();
  expect(sinks.status().map((status) => [status.name, sum(status), status.delivered])).toEqual([
    ['added', 30, 30],
    ['stays', 30, 30],
    ['moves', 30, 30],
  ]);
  expect(batchIds(stays)).toEqual(Array.from({ length: 30 }, (_, id) => id));
  const moved = new Set([...batchIds(before), ...batchIds(after)]);
  expect(moved.size).toBe(30);
  expect(batchIds(after)).toEqual(expect.arrayContaining([20, 29]));
  expect(lastSuccess).toBeDefined();

  // One that can't be made leaves all as they are.
  const wrong = configOf(directory, [sinkOf('stays', added), sinkOf('wrong', added)]);
  const [, second] = wrong.sinks.list;
  Object.assign(second?.http ?? {}, { format: 'unheard-of' });
  await expect(sinks.apply(wrong)).rejects.toThrow('sink wrong: ');
  await append(journal, events(30, 31));
  await delivered();
  expect(batchIds(stays)).toHaveLength(31);
  await sinks.stop();
  await sinks.apply(next);
  await append(journal, events(31, 32));
  expect(sinks.status().map(({ pending }) => pending)).toEqual([1, 1, 1]);
});

test('a message that is alike goes to a chat once in a while, and the rest is in its count', async () => {
  const chat = await serve(answer(200, 'ok'));
  const config = configOf(await folder(), [
    { name: 'chat', http: { url: chat.url, format: 'slack', batchMillis: 0 }, quiet: { every: '1h' } },
  ]);
  const journal = await journalOf(config);
  const sinks = await start(config, journal);
  await append(journal, events(0, 500));
  await until(async () => {
    await delay(5);
    return chat.received.length === 1;
  });
  await sinks.stop();
  expect(chat.received).toHaveLength(2);
  expect(chat.received[1]?.body).toContain('(×499)');
  expect(sinks.status()[0]).toMatchObject({ delivered: 2, digested: 498, pending: 0 });
});
