/** A real Kafka of three brokers: a leader is killed under load, replicas are too few, and all are away for long. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { EeEvent } from '../../../agent/events/event.ts';
import type { SinkStatus } from '../../../agent/ship/sink.ts';
import { openDelivery } from '../../support/delivery.ts';
import { startKafkaCluster, type KafkaCluster } from '../../support/kafka-cluster.ts';
import { whyNoKafka } from '../../support/kafka.ts';
import { poll } from '../../support/poll.ts';
import { eventOf, itemOf } from '../http/support.ts';

if (whyNoKafka !== undefined) process.stderr.write(`skipped: ${whyNoKafka}\n`);
const describeKafka = whyNoKafka === undefined ? describe : describe.skip;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

/** Of some pods. */
const events = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => {
    const number = from + index;
    const pod = { namespace: 'shop', name: `pod-${number % 7}`, interface: 'cali1' };
    return itemOf(eventOf(number, {}, { seen_at: [pod] }), number);
  });
const PARTITIONS = { alerts: 2, strict: 1 };

describeKafka('Kafka of three brokers', () => {
  let kafka: KafkaCluster;
  beforeAll(async () => {
    kafka = await startKafkaCluster();
    await kafka.createTopic('alerts', PARTITIONS.alerts, 2);
    await kafka.createTopic('strict', PARTITIONS.strict, 3);
  });
  afterAll(async () => kafka?.stop());

  /** A journal, and a sink for each topic. */
  async function run(topics: string[]) {
    const directory = await mkdtemp(join(tmpdir(), 'kafka-cluster-'));
    ends.push(() => rm(directory, { recursive: true, force: true }));
    const common = { brokers: [...kafka.addresses], batchEvents: 50, batchMillis: 0, timeoutMillis: 3000 };
    const sinks = topics.map((topic) => ({ name: topic, kafka: { ...common, topic } }));
    const { journal, sinks: running } = await openDelivery(directory, sinks);
    ends.push(
      () => journal.close(),
      () => running.stop(),
    );
    return {
      append: (from: number, to: number) =>
        journal.append(events(from, to).map(({ json, number }) => ({ position: `a:${number}`, json }))),
      /** Waits until it is so of a topic's sink; the books of all balance meanwhile. */
      reach: (topic: string, isSo: (status: SinkStatus) => boolean) =>
        poll(() => {
          for (const { pending, delivered, deadLettered, evicted, filtered, digested } of running.status())
            expect(pending + delivered + deadLettered + evicted + filtered + digested).toBe(journal.end().event);
          const status = running.status().find(({ name }) => name === topic);
          return status !== undefined && isSo(status);
        }),
    };
  }

  test('leaders that are killed, replicas that are too few, all brokers away: everything is there once', async () => {
    const { append, reach } = await run(['alerts', 'strict']);
    const isDone = ({ pending }: SinkStatus): boolean => pending === 0;
    let journaled = 0;
    const more = async (count: number): Promise<void> => {
      await append(journaled, (journaled += count));
    };
    await more(300);
    await reach('alerts', ({ delivered }) => delivered >= 50);
    // Under load: most of it is still to go, and more comes.
    const leader = await kafka.leaderOf('alerts', 0);
    await kafka.kill(leader);
    for (let times = 0; times < 5; times += 1) await more(100);
    await reach('alerts', isDone);
    expect(await kafka.leaderOf('alerts', 0)).not.toBe(leader);
    // Two of three replicas: too few for this one, which waits.
    await reach('strict', ({ circuit, pending }) => circuit === 'open' && pending > 0);
    await kafka.restart(leader);
    await reach('strict', isDone);

    for (const broker of [0, 1, 2]) await kafka.kill(broker);
    await more(300);
    for (const topic of ['alerts', 'strict']) {
      await reach(topic, ({ circuit, retries }) => circuit === 'open' && retries > 5);
    }
    await Promise.all([0, 1, 2].map((broker) => kafka.restart(broker)));
    for (const topic of ['alerts', 'strict']) {
      await reach(topic, isDone);
    }
    const ids = events(0, journaled).map(({ id }) => id);
    for (const [topic, partitions] of Object.entries(PARTITIONS)) {
      const stored = kafka.stored(topic, partitions).map((json) => (JSON.parse(json) as EeEvent).record.event_id);
      expect({ topic, stored: stored.toSorted() }).toEqual({ topic, stored: ids.toSorted() });
    }
    expect(journaled).toBe(1100);
  });
});
