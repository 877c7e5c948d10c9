/** A real OpenSearch: events are there once, in an index and in a data stream, and the page reads and marks them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { EeEvent } from '../../../agent/events/event.ts';
import type { Destination } from '../../../agent/ship/destination.ts';
import { namesOf, type Schema } from '../../../agent/ship/elasticsearch/template.ts';
import { createOpenSearch } from '../../../agent/ship/opensearch/opensearch.ts';
import { openElasticsearchSource } from '../../../agent/ui/elasticsearch-source.ts';
import { openJournalSource } from '../../../agent/ui/journal-source.ts';
import type { AlertSource } from '../../../agent/ui/source.ts';
import { schema as configSchema } from '../../../agent/config/schema.ts';
import { startEsProxy, type EsProxy } from '../../support/es-proxy.ts';
import { startOpensearch, whyNoOpensearch, type TestOpensearch } from '../../support/opensearch.ts';
import { alertsUntil, makeJournal, never, pageOf, queryOf } from '../../ui/support.ts';
import { entryOf, failureOf, itemOf } from '../http/support.ts';

if (whyNoOpensearch !== undefined) process.stderr.write(`skipped: ${whyNoOpensearch}\n`);
const describeOpensearch = whyNoOpensearch === undefined ? describe : describe.skip;

const now = Date.now();
const events = alertsUntil(now, 60, 900_000);
const items = events.map((event, number) => itemOf(event, number));
const delivered = { is: 'delivered' };
const duplicate = { is: 'delivered', duplicate: true };

describeOpensearch('OpenSearch', () => {
  let server: TestOpensearch;
  let proxy: EsProxy;
  let cluster = '';
  let turn = 0;
  let said: string[] = [];
  const ends: (() => unknown)[] = [];
  const keepSaid = (fields: unknown, message = fields): void => void said.push(String(message));
  const log = { info: keepSaid, warn: keepSaid };

  beforeAll(async () => {
    server = await startOpensearch();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    cluster = `lab-${(turn += 1)}`;
    said = [];
    proxy = await startEsProxy(server.url);
    ends.push(() => proxy.close());
  });
  afterEach(async () => {
    for (const end of ends.splice(0).toReversed()) await end();
  });

  function create(more: Record<string, unknown> = {}): Destination {
    const entry = entryOf({ opensearch: { nodes: [proxy.url], ...more } });
    if (entry.kind !== 'opensearch') throw new Error('no opensearch');
    const destination = createOpenSearch({ settings: entry.settings, cluster, log });
    ends.push(() => destination.close());
    return destination;
  }

  function read(more: Record<string, unknown> = {}): AlertSource {
    const nodes = [server.url];
    const config = { ...configSchema.parse({ node: 'n' }).sinks.elasticsearch, nodes, ...more };
    const source = openElasticsearchSource({ config, store: 'opensearch', cluster });
    ends.push(() => source.close());
    return source;
  }

  /** Stored, but what was answered is lost. */
  async function sendAndLose(destination: Destination, some: typeof items): Promise<void> {
    proxy.fault = ({ path }) => (path.includes('/_bulk') ? { type: 'cut' } : undefined);
    expect(await failureOf(destination.send(some, never))).toMatchObject({ failure: 'incomplete' });
    proxy.fault = undefined;
  }

  async function expectSame(source: AlertSource, expected: AlertSource): Promise<void> {
    for (const text of [
      'range=all',
      'range=all&level=critical',
      'range=all&q=jndi%20SHOP',
      'range=all&state=dismissed',
    ]) {
      const query = queryOf(text, now);
      const both = <T>(ask: (one: AlertSource) => Promise<T>): Promise<T[]> => Promise.all([source, expected].map(ask));
      const [rows, wantedRows] = await both(async (one) => (await one.list(query, 'all', pageOf(), never)).rows);
      expect(rows).toEqual(wantedRows);
      const [summary, wanted] = await both((one) => one.summary(query, 'all', never));
      expect({ total: summary?.total, counts: summary?.counts }).toEqual({
        total: wanted?.total,
        counts: wanted?.counts,
      });
      const [pods, wantedPods] = await both(async (one) =>
        (await one.groups('pod', query, 'all', never))
          .map(({ key, count, level }) => JSON.stringify([key, count, level]))
          .toSorted(),
      );
      expect(pods).toEqual(wantedPods);
    }
  }

  async function journalOf(...some: EeEvent[]): Promise<AlertSource> {
    const journal = await makeJournal(...some);
    ends.push(() => journal.remove());
    const source = await openJournalSource({ ...journal });
    ends.push(() => source.close());
    return source;
  }

  test.each<[Schema, boolean]>([
    ['calico', false],
    ['calico', true],
    ['ecs', true],
  ])('%s, in a data stream: %s: once, read and marked, also after a rollover', async (schema, dataStream) => {
    const more = { schema, dataStream };
    const { index, alias, template } = namesOf(cluster, schema);
    const destination = create(more);
    await sendAndLose(destination, items.slice(0, 30));
    const marked = events[7]?.record.event_id ?? '';
    const sources = [read(more), await journalOf(...events)];
    const act = { state: 'dismissed', by: 'anna', at: new Date(now).toISOString() } as const;
    await server.refresh(index);
    for (const source of sources) await source.mark([marked], act);
    if (dataStream) await server.call('POST', `/${index}/_rollover`);
    expect(await destination.send(items.slice(0, 40), never)).toEqual([
      ...items.slice(0, 30).map(() => duplicate),
      ...items.slice(30, 40).map(() => delivered),
    ]);
    // The agent is killed, and began again where its cursor was.
    if (dataStream) await server.call('POST', `/${index}/_rollover`);
    const next = await create(more).send(items.slice(20), never);
    expect(next).toEqual([...items.slice(20, 40).map(() => duplicate), ...items.slice(40).map(() => delivered)]);
    expect(await server.count(index)).toBe(events.length);
    expect(await server.count(alias)).toBe(events.length);
    const thing = dataStream ? 'data stream is made' : 'index is made';
    expect(said).toEqual(['index template is made', thing]);
    expect(await server.call('GET', `/_index_template/${template}`)).toMatchObject({
      index_templates: [{ index_template: dataStream ? { data_stream: {} } : { priority: 500 } }],
    });
    const [source, expected] = sources;
    if (source === undefined || expected === undefined) throw new Error('no sources');
    await expectSame(source, expected);
    if (dataStream) {
      const { data_streams: streams } = (await server.call('GET', `/_data_stream/${index}`)) as {
        data_streams: { indices: unknown[] }[];
      };
      expect(streams[0]?.indices).toHaveLength(3);
    }
  });

  test('an event with a time that is none is taken, and one that is no event is refused', async () => {
    const { index } = namesOf(cluster);
    const [one, other] = [itemOf(events[0] as EeEvent), { number: 1, id: 'b', json: '["no event"]' }];
    const odd = { ...one, id: 'a', json: one.json.replace(/"timestamp":"[^"]*"/, '"timestamp":"soon"') };
    expect(await create({ dataStream: true }).send([odd, other], never)).toMatchObject([
      delivered,
      { is: 'rejected', status: 400 },
    ]);
    expect(await server.count(index)).toBe(1);
  });

  test('a stream that was an index, an index that was a stream, a policy that the cluster has no part for: all is said', async () => {
    const { index } = namesOf(cluster);
    expect(await create().send(items.slice(0, 2), never)).toEqual([delivered, delivered]);
    expect(await create({ dataStream: true }).send(items.slice(0, 3), never)).toEqual([
      duplicate,
      duplicate,
      delivered,
    ]);
    expect(said).toContainEqual(expect.stringContaining('an index has the name of the data stream'));
    await server.call('DELETE', `/${index}`);
    said = [];
    expect(await create({ dataStream: true, deleteAfter: '90d' }).send(items.slice(0, 1), never)).toEqual([delivered]);
    expect(said).toEqual([
      `the cluster has no index state management (ISM): the data stream ${index} neither rolls over nor loses old events`,
      'data stream is made',
    ]);
    expect(await failureOf(create().send(items.slice(0, 1), never))).toMatchObject({
      failure: 'server_error',
      message: `${index} is a data stream: set the sink's dataStream to true, or delete it`,
    });
  });
});
