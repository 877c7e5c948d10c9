/**
 * A process with a sink of each kind is killed at random moments, while destinations lose answers, take parts and are
 * away: stores have each event once, the others at least once by its id, and the sums balance.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import type { SinkStatus } from '../../agent/ship/sink.ts';
import { alertEvent } from '../support/alerts.ts';
import { startKafka, whyNoKafka } from '../support/kafka.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';
import { seeded } from '../support/random.ts';
import { startServer } from './http/server.ts';
import { startCollector, startStore, type Receiver } from './receivers.ts';

const EVENTS = 1500;
const KILLS = 4;
const BATCH = 50;
const PROGRAM = join(PROJECT, 'dist/test/support/sink-process.js');

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** @param came Counts what came. @param killed Called after each kill. @returns the books of those sinks, in the end. */
async function runKilled(flags: object, came: () => number, killed: () => Promise<void>): Promise<SinkStatus[]> {
  const random = seeded(3);
  for (let kills = 0; ; kills += 1) {
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(flags), `${EVENTS}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    const closed = once(child, 'close');
    if (kills < KILLS) {
      const moment = came() + (random() * EVENTS) / (2 * KILLS);
      await poll(() => came() >= moment);
      await delay(random() * 20);
      child.kill('SIGKILL');
    }
    await closed;
    if (kills === KILLS) return JSON.parse(output) as SinkStatus[];
    expect(output).toBe('');
    await killed();
  }
}

type Ids = () => string[] | Promise<string[]>;
interface Part {
  sink: Record<string, unknown>;
  ids: Ids;
  /** How often it may have an event that it had already; endless where answers get lost. */
  copies: number;
}

function held<T extends { close(): Promise<void> } | { stop(): Promise<void> }>(receiver: T): T {
  ends.push(() => ('close' in receiver ? receiver.close() : receiver.stop()));
  return receiver;
}

/** By HTTP in lists, and one by one as for a chat; some answers get lost, some say that it is busy. */
async function webParts(random: () => number): Promise<Part[]> {
  const lists: string[] = [];
  const chat: string[] = [];
  const server = held(
    await startServer(({ path, body }, response, socket) => {
      // Of both, some twenty go wrong.
      const fault = random() * (path === '/chat' ? 50 : 2);
      if (fault < 0.2) return response.writeHead(503).end();
      if (path === '/chat') chat.push(...(/event ([0-9a-f]{40})/.exec(body)?.slice(1) ?? []));
      else
        for (const event of JSON.parse(body) as { record: { event_id: string } }[]) lists.push(event.record.event_id);
      return fault < 0.4 ? socket.destroy() : response.writeHead(200).end();
    }),
  );
  return [
    { sink: { name: 'web', http: { url: server.url } }, ids: () => lists, copies: Infinity },
    { sink: { name: 'chat', http: { url: `${server.url}/chat`, format: 'slack' } }, ids: () => chat, copies: Infinity },
  ];
}

/** Those that are not fetched are left out. */
async function realParts(): Promise<Part[]> {
  // Not beside that of Kafka: jest can't link what two modules wait for at once.
  const { startOpensearch, whyNoOpensearch } = await import('../support/opensearch.ts');
  const parts: Part[] = [];
  for (const why of [whyNoKafka, whyNoOpensearch]) {
    if (why !== undefined) process.stderr.write(`skipped: a part of it: ${why}\n`);
  }
  if (whyNoKafka === undefined) {
    const kafka = held(await startKafka());
    await kafka.createTopic('alerts', 3);
    const ids: Ids = async () => (await kafka.read('alerts', EVENTS)).map(({ id }) => id);
    const sink = { name: 'bus', kafka: { brokers: [kafka.address], topic: 'alerts' } };
    // What was under way at a kill, at most.
    parts.push({ sink, ids, copies: KILLS * BATCH });
  }
  if (whyNoOpensearch === undefined) {
    const server = held(await startOpensearch());
    const ids: Ids = async () => [...(await server.documents('tigera_secure_ee_events.*')).keys()];
    parts.push({ sink: { name: 'real', opensearch: { nodes: [server.url] } }, ids, copies: 0 });
  }
  return parts;
}

const storePart = (kind: 'opensearch' | 'elasticsearch', { address, came }: Receiver): Part => ({
  sink: { name: `as-${kind}`, [kind]: { nodes: [address], manageTemplate: false } },
  ids: () => came,
  copies: 0,
});

test('killed again and again while it sends, it loses nothing, and the sums balance', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kills-'));
  ends.push(() => rm(directory, { recursive: true, force: true }));
  const random = seeded(7);
  const collector = held(await startCollector());
  const parts: Part[] = [
    ...(await webParts(random)),
    storePart('opensearch', held(await startStore(random))),
    storePart('elasticsearch', held(await startStore(random))),
    // A kill ends no connection of the kernel's.
    {
      sink: { name: 'siem', syslog: { address: collector.address } },
      ids: () => collector.came,
      copies: KILLS * 2 * BATCH,
    },
    ...(await realParts()),
  ];
  const batch = { batchEvents: BATCH, batchMillis: 0 };
  const sinks = parts.map(({ sink }) => {
    const [kind = ''] = Object.keys(sink).filter((key) => key !== 'name');
    const timeout = kind === 'syslog' ? {} : { timeoutMillis: 3000 };
    return { ...sink, [kind]: { ...(sink[kind] as object), ...batch, ...timeout } };
  });
  const books = await runKilled(
    { sinks, stateDirectory: directory, 'journal.directory': join(directory, 'journal') },
    () => collector.came.length,
    () => collector.away(random() * 100),
  );
  expect(books).toHaveLength(parts.length);
  for (const { delivered, deadLettered, evicted, filtered, digested, pending } of books) {
    expect({ delivered, rest: deadLettered + evicted + filtered + digested + pending }).toEqual({
      delivered: EVENTS,
      rest: 0,
    });
  }
  const wanted = Array.from({ length: EVENTS }, (_, number) => alertEvent(number, 1.8e12 + number).record.event_id);
  for (const { sink, ids, copies } of parts) {
    const found = await ids();
    expect([sink['name'], [...new Set(found)].toSorted()]).toEqual([sink['name'], wanted.toSorted()]);
    expect(found.length - EVENTS).toBeLessThanOrEqual(copies);
  }
  expect(books.find(({ name }) => name === 'as-opensearch')?.duplicates).toBeGreaterThan(0);
});
