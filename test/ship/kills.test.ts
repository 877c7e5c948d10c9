/** A process with its sinks is killed at random moments: http and Kafka have each event at least once, by its id. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import type { SinkStatus } from '../../agent/ship/sink.ts';
import { alertEvent } from '../support/alerts.ts';
import { startKafka, whyNoKafka } from '../support/kafka.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';
import { seeded } from '../support/random.ts';
import { startServer } from './http/server.ts';

const EVENTS = 3000;
const KILLS = 5;
const BATCH = 50;
const PROGRAM = join(PROJECT, 'dist/test/support/sink-process.js');

/** @param came Counts what came. @returns the books of those sinks, in the end. */
async function runKilled(flags: object, came: () => number): Promise<SinkStatus[]> {
  const random = seeded(3);
  for (let kills = 0; ; kills += 1) {
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify(flags), `${EVENTS}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    const closed = once(child, 'close');
    if (kills < KILLS) {
      const moment = came() + random() * 500;
      await poll(() => came() >= moment);
      await delay(random() * 20);
      child.kill('SIGKILL');
    }
    await closed;
    if (kills < KILLS) expect(output).toBe('');
    else return JSON.parse(output) as SinkStatus[];
  }
}

test('killed again and again while it sends, it loses nothing, and the sums balance', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kills-'));
  if (whyNoKafka !== undefined) process.stderr.write(`skipped: the part of Kafka: ${whyNoKafka}\n`);
  const kafka = whyNoKafka === undefined ? await startKafka() : undefined;
  await kafka?.createTopic('alerts', 3);
  const came: string[] = [];
  const server = await startServer(({ body }, response, socket) => {
    for (const event of JSON.parse(body) as { record: { event_id: string } }[]) came.push(event.record.event_id);
    // Some answers get lost.
    if (came.length % 7 === 0) return socket.destroy();
    return response.writeHead(200).end();
  });
  const batch = { batchEvents: BATCH, batchMillis: 0, timeoutMillis: 3000 };
  const sinks = [
    { name: 'web', http: { url: server.url, ...batch } },
    ...(kafka === undefined ? [] : [{ name: 'bus', kafka: { brokers: [kafka.address], topic: 'alerts', ...batch } }]),
  ];
  try {
    const books = await runKilled(
      { sinks, stateDirectory: directory, 'journal.directory': join(directory, 'journal') },
      () => came.length,
    );
    expect(books).toHaveLength(sinks.length);
    for (const { delivered, deadLettered, evicted, filtered, digested, pending } of books) {
      expect({ delivered, rest: deadLettered + evicted + filtered + digested + pending }).toEqual({
        delivered: EVENTS,
        rest: 0,
      });
    }
    const wanted = Array.from(
      { length: EVENTS },
      (_, number) => alertEvent(number, 1.8e12 + number).record.event_id,
    ).toSorted();
    expect([...new Set(came)].toSorted()).toEqual(wanted);
    const messages = (await kafka?.read('alerts', EVENTS))?.map(({ id }) => id);
    if (messages !== undefined) {
      expect([...new Set(messages)].toSorted()).toEqual(wanted);
      // What was under way at a kill, at most.
      expect(messages.length).toBeLessThanOrEqual(EVENTS + KILLS * BATCH);
    }
  } finally {
    await server.close();
    await kafka?.stop();
    await rm(directory, { recursive: true, force: true });
  }
});
