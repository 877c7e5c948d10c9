/** A real Kafka: what is sent is there once, also where its answers get lost and it is killed. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Destination, Item } from '../../../agent/ship/destination.ts';
import { createKafka } from '../../../agent/ship/kafka/kafka.ts';
import { partitionOf } from '../../../agent/ship/kafka/message.ts';
import { openDelivery } from '../../support/delivery.ts';
import { PASSWORD, startKafka, USER, whyNoKafka, type TestKafka } from '../../support/kafka.ts';
import { seeded } from '../../support/random.ts';
import { until } from '../support.ts';
import { entryOf, eventOf, failureOf, itemOf, NEVER } from '../http/support.ts';

if (whyNoKafka !== undefined) process.stderr.write(`skipped: ${whyNoKafka}\n`);
const describeKafka = whyNoKafka === undefined ? describe : describe.skip;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'kafka-'));
  ends.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const silent = { info: () => undefined, warn: () => undefined };

function create(kafka: Record<string, unknown>): Destination {
  const entry = entryOf({ kafka });
  if (entry.kind !== 'kafka') throw new Error('no kafka');
  const destination = createKafka({ settings: entry.settings, cluster: 'lab', log: silent });
  ends.push(() => destination.close());
  return destination;
}

/** Of some pods. */
const event = (number: number, more: Record<string, unknown> = {}) =>
  eventOf(number, {}, { seen_at: [{ namespace: 'shop', name: `pod-${number % 7}`, interface: 'cali1' }], ...more });
const someItems = (from: number, to: number): Item[] =>
  Array.from({ length: to - from }, (_, index) => itemOf(event(from + index), from + index));
const idsOf = (items: readonly { id: string }[]): string[] => items.map(({ id }) => id).toSorted();
/** What does not compress. */
const noise = (length: number): string => Array.from({ length }, () => Math.random().toString(36)[3]).join('');

describeKafka('Kafka', () => {
  let kafka: TestKafka;
  beforeAll(async () => {
    kafka = await startKafka();
  });
  afterAll(async () => kafka?.stop());
  beforeEach(() => {
    kafka.answers.lose = () => false;
  });

  test('a topic that is missing is said, and waited for; keys, headers and values are the events', async () => {
    const destination = create({ brokers: [kafka.address], topic: 'plain' });
    const items = someItems(0, 40);
    expect(await failureOf(destination.send(items, NEVER))).toMatchObject({
      failure: 'server_error',
      message: 'there is no topic plain: create it',
    });
    await kafka.createTopic('plain', 3, [{ name: 'max.message.bytes', value: '20000' }]);
    expect(await destination.send(items, NEVER)).toEqual(items.map(() => ({ is: 'delivered' })));
    const found = await kafka.read('plain', items.length);
    expect(found.map(({ value }) => value).toSorted()).toEqual(items.map(({ json }) => json).toSorted());
    expect(idsOf(found)).toEqual(idsOf(items));
    for (const { key, partition } of found) expect(partition).toBe(partitionOf(key, 3));
    expect(new Set(found.map(({ key }) => key)).size).toBe(7);

    // One that is too large is refused, and keeps none from going.
    const mixed = someItems(100, 140);
    mixed[20] = itemOf(event(120, { payload: noise(60_000) }), 120);
    const outcomes = await destination.send(mixed, NEVER);
    expect(outcomes.flatMap(({ is }, index) => (is === 'delivered' ? [] : [[index, is]]))).toEqual([[20, 'rejected']]);
    expect(await kafka.read('plain', 79)).toHaveLength(79);
  });

  test('TLS and users: a wrong authority and a wrong password are said, and files are read again', async () => {
    const directory = await folder();
    const passwordFile = join(directory, 'password');
    await writeFile(passwordFile, 'wrong');
    await kafka.createTopic('secured', 1);
    const common = { brokers: [kafka.secured], topic: 'secured', tls: true, username: USER, passwordFile };
    const stranger = create(common);
    expect(await failureOf(stranger.send(someItems(0, 1), NEVER))).toMatchObject({ failure: 'tls' });
    const destination = create({ ...common, caFile: kafka.authority.file });
    const error = await failureOf(destination.send(someItems(0, 1), NEVER));
    expect(error.failure).toBe('unauthorized');
    expect(error.message).not.toContain('wrong');
    await writeFile(passwordFile, `${PASSWORD}\n`);
    expect(await destination.send(someItems(0, 2), NEVER)).toEqual([{ is: 'delivered' }, { is: 'delivered' }]);
  });

  test('where answers get lost, the same goes again whatever is asked for, and all is there once', async () => {
    await kafka.createTopic('lost', 2);
    const destination = create({ brokers: [kafka.address], topic: 'lost', timeoutMillis: 5000 });
    const random = seeded(5);
    const waiting = new Map(someItems(0, 200).map((item) => [item.number, item]));
    let sent = 0;
    await destination.send([itemOf(event(1000), 1000)], NEVER);
    kafka.answers.lose = () => random() < 0.4;
    while (waiting.size > 0) {
      if (sent++ > 25) kafka.answers.lose = () => false;
      // As a sink asks: for a batch, or only for one event, each time another one.
      const all = [...waiting.values()];
      const from = Math.floor(random() * all.length);
      const asked = random() < 0.5 ? all.slice(from, from + 1) : all.slice(0, 1 + Math.floor(random() * 50));
      const outcomes = await destination.send(asked, NEVER).catch(() => []);
      for (const [index, { is }] of outcomes.entries())
        if (is === 'delivered') waiting.delete(asked[index]?.number ?? -1);
    }
    expect(sent).toBeGreaterThan(5);
    kafka.answers.lose = () => false;
    const found = idsOf(await kafka.read('lost', 201));
    expect(found).toEqual(idsOf([...someItems(0, 200), itemOf(event(1000))]));
  });

  test('killed and back, a broker has all of a journal once, and the books balance at any moment', async () => {
    await kafka.createTopic('killed', 3);
    const directory = await folder();
    const sinks = [
      {
        name: 'bus',
        kafka: { brokers: [kafka.address], topic: 'killed', batchEvents: 20, batchMillis: 0, timeoutMillis: 3000 },
      },
    ];
    const { journal, sinks: running } = await openDelivery(directory, sinks);
    ends.push(
      () => journal.close(),
      () => running.stop(),
    );
    const append = (from: number, to: number): Promise<void> =>
      journal.append(someItems(from, to).map(({ json, number }) => ({ position: `a:${number}`, json })));
    const status = () => {
      const [one] = running.status();
      if (one === undefined) throw new Error('no sink');
      return one;
    };
    const reach = (isSo: () => boolean): Promise<void> =>
      until(async () => {
        await delay(10);
        const { pending, delivered, deadLettered, evicted, filtered, digested } = status();
        expect(pending + delivered + deadLettered + evicted + filtered + digested).toBe(journal.end().event);
        return isSo();
      });
    await append(0, 200);
    await reach(() => status().delivered >= 40);
    await kafka.kill();
    await append(200, 300);
    await reach(() => status().circuit === 'open');
    await kafka.restart();
    await reach(() => status().pending === 0);
    expect(status()).toMatchObject({ delivered: 300, deadLettered: 0, circuit: 'closed' });
    expect(idsOf(await kafka.read('killed', 300))).toEqual(idsOf(someItems(0, 300)));
  });
});
