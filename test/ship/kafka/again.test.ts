/** What is sent again after a try that may have been stored. */
import { expect, test } from '@jest/globals';
import { createKafka } from '../../../agent/ship/kafka/kafka.ts';
import type { TextProducer } from '../../../agent/ship/kafka/producer.ts';
import { entryOf, failureOf, items, NEVER } from '../http/support.ts';

const NOT_LEADER = Object.assign(new Error('not the leader'), { apiCode: 6 });

test('a leader that refuses the second try does not make a new producer, which brokers could not tell apart', async () => {
  const answers: (Error | undefined)[] = [new Error('the connection ended'), NOT_LEADER, undefined];
  const sent: unknown[] = [];
  let made = 0;
  const producer = {
    metadata: async () => ({ topics: new Map([['alerts', { partitionsCount: 1 }]]) }),
    clearMetadata: () => undefined,
    close: async () => undefined,
    async send({ messages }: { messages: unknown[] }) {
      sent.push(messages);
      const answer = answers.shift();
      if (answer !== undefined) throw answer;
      return {};
    },
  };
  const entry = entryOf({ kafka: { brokers: ['127.0.0.1:9092'], topic: 'alerts' } });
  if (entry.kind !== 'kafka') throw new Error('no kafka');
  const log = { info: () => undefined, warn: () => undefined };
  const create = (): TextProducer => {
    made += 1;
    return producer as unknown as TextProducer;
  };
  const destination = createKafka({ settings: entry.settings, cluster: 'lab', log, create });
  const events = items(3);
  expect(await failureOf(destination.send(events, NEVER))).toMatchObject({ failure: 'unreachable' });
  // Another question meanwhile: the batch goes first, as it was.
  expect(await failureOf(destination.send(events.slice(0, 1), NEVER))).toMatchObject({ failure: 'server_error' });
  expect(await destination.send(events, NEVER)).toEqual(events.map(() => ({ is: 'delivered' })));
  expect(made).toBe(1);
  expect(sent).toEqual([sent[0], sent[0], sent[0]]);
  expect(sent[0]).toHaveLength(3);
  await destination.close();
});
