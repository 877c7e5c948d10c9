/** Elasticsearch, in both schemas, answers as the journal does. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { EeEvent } from '../../agent/events/event.ts';
import { VALUE_FIELDS, type Act, type AlertRow, type Span } from '../../agent/ui/api.ts';
import { openElasticsearchSource } from '../../agent/ui/elasticsearch-source.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import type { Scope } from '../../agent/ui/query.ts';
import type { AlertSource } from '../../agent/ui/source.ts';
import { namesOf, packetNamesOf, type Schema } from '../../agent/ship/elasticsearch/template.ts';
import { alertEvent } from '../support/alerts.ts';
import { describeElasticsearch, startElasticsearch, type TestElasticsearch } from '../support/elasticsearch.ts';
import { poll } from '../support/poll.ts';
import { startUi } from '../support/ui.ts';
import * as fc from 'fast-check';
import { queries } from './language/made.ts';
import {
  alertsUntil,
  deliverTo,
  makeJournal,
  never,
  pageOf,
  queryOf,
  sinkConfig,
  type TestJournal,
} from './support.ts';

const now = Date.now();
/** Of more than two days. */
const events = alertsUntil(now, 240, 900_000);
const [some] = events;
const pod = `${some?.dest_namespace}/${some?.dest_name}`;
const address = some?.dest_ip ?? '';

const QUERIES: [string, string, Scope][] = [
  ['everything', 'range=all', 'all'],
  ['the last six hours', 'range=6h', 'all'],
  ['a span', `from=${new Date(now - 40_000_000).toISOString()}&to=${new Date(now - 20_000_000).toISOString()}`, 'all'],
  ['a namespace', 'range=all&namespace=payments', 'all'],
  ['two namespaces', 'range=all&namespace=payments&namespace=ci', 'all'],
  ['a pod', `range=all&pod=${encodeURIComponent(pod)}`, 'all'],
  ['a signature', 'range=all&signature=1:21562', 'all'],
  ['levels', 'range=all&level=critical&level=low', 'all'],
  ['a tactic, or none', 'range=all&tactic=TA0001&tactic=none', 'all'],
  ['words', 'range=all&q=jndi%20SHOP', 'all'],
  ['an address', `range=all&q=${address}`, 'all'],
  ['a wildcard for everything', 'range=all&q=*', 'all'],
  ['a network and no pod', `range=all&q=${encodeURIComponent(`ip: 10.65.0.0/24 and not pod: ${pod}`)}`, 'all'],
  ['all states, in words', `range=all&q=${encodeURIComponent('state: (open or dismissed)')}`, 'all'],
  ['several', 'range=all&namespace=shop&level=critical&q=log4j', 'all'],
  ['what was dismissed', 'range=all&state=dismissed', 'all'],
  ['what is open', 'range=all&state=open&level=high', 'all'],
  ['what may be seen', 'range=all', new Set(['ci', 'payments'])],
  ['what may be seen: nothing', 'range=all', new Set()],
  ['a namespace that may not be seen', 'range=all&namespace=shop', new Set(['ci'])],
];

/** What was done with one of them. */
const acts: Act[] = [
  { at: '2026-11-25T10:00:00.000Z', by: 'anna', state: 'dismissed', reason: 'expected', comment: 'ours' },
  { at: '2026-11-25T10:01:00.000Z', by: 'bob', assignee: 'anna' },
  { at: '2026-11-25T10:02:00.000Z', by: 'bob', state: 'open' },
  { at: '2026-11-25T10:03:00.000Z', by: 'bob', comment: 'not ours' },
];

describeElasticsearch(() => {
  let server: TestElasticsearch;
  let journal: TestJournal;
  let expected: AlertSource;

  beforeAll(async () => {
    [server, journal] = await Promise.all([startElasticsearch(), makeJournal(...events)]);
    expected = await openJournalSource({ ...journal });
  });
  afterAll(async () => {
    await expected?.close();
    await Promise.all([server?.stop(), journal?.remove()]);
  });

  describe.each<Schema>(['calico', 'ecs'])('schema %s', (schema) => {
    const cluster = `ui-${schema}`;
    let source: AlertSource;
    const ids = (rows: readonly AlertRow[]): string[] => rows.map(({ id }) => id);
    const deliver = async (list: readonly EeEvent[]): Promise<void> => {
      await deliverTo(server.url, cluster, schema, list);
      await server.refresh(namesOf(cluster, schema).index);
    };

    beforeAll(async () => {
      source = openElasticsearchSource({ config: sinkConfig(server.url, schema), cluster });
      await deliver(events);
      for (const [state, index] of [
        ['dismissed', 3],
        ['acknowledged', 5],
      ] as const) {
        const id = events[index]?.record.event_id ?? '';
        const act = { state, by: 'anna', at: new Date(now).toISOString() };
        await source.mark([id], act);
        await expected.mark([id], act);
      }
      const handled = events[20]?.record.event_id ?? '';
      for (const act of acts) for (const one of [source, expected]) await one.mark([handled], act);
      await server.refresh(namesOf(cluster, schema).index);
    });
    afterAll(() => source?.close());

    test('packets are found for the resource that they are of, and for no other', async () => {
      const [one, other] = events;
      if (one === undefined || other === undefined) throw new Error('no events');
      const content = Buffer.from('packets of one');
      await deliverTo(server.url, cluster, schema, [one], async () => ({ content, cut: false }));
      await server.refresh(packetNamesOf(cluster).index);
      const rows = (await source.get([one.record.event_id, other.record.event_id], never)).map(({ row }) => row);
      const [row, without] = [one, other].map(({ record }) => rows.find(({ id }) => id === record.event_id));
      if (row === undefined || without === undefined) throw new Error('no rows');
      expect(await source.packets?.(row, never)).toEqual(content);
      expect(await source.packets?.(without, never)).toBeUndefined();
      expect(await source.packets?.({ ...row, resource: 'other/all' }, never)).toBeUndefined();
    });

    test.each(QUERIES)('%s', async (_, text, scope) => {
      const query = queryOf(text, now);
      const [found, wanted] = await Promise.all([
        source.summary(query, scope, never),
        expected.summary(query, scope, never),
      ]);
      expect({ total: found.total, counts: found.counts, facets: sorted(found.facets) }).toEqual({
        total: wanted.total,
        counts: wanted.counts,
        facets: sorted(wanted.facets),
      });
      // Where nothing is found, there is no time to show.
      if (wanted.total > 0) expect(found.histogram.buckets).toEqual(wanted.histogram.buckets);
      const pages: string[][] = [];
      for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
        const page = await source.list(query, scope, pageOf(after), never);
        const last = pages.length === 0 ? undefined : lastOf(pages, events);
        const other = await expected.list(query, scope, pageOf(last), never);
        expect(page.rows).toEqual(other.rows);
        pages.push(ids(page.rows));
        after = page.next;
      }
      expect(pages.flat()).toHaveLength(wanted.total);
      for (const by of ['signature', 'pod'] as const) {
        const [groups, others] = await Promise.all([
          source.groups(by, query, scope, never),
          expected.groups(by, query, scope, never),
        ]);
        // Elasticsearch's times of groups are in milliseconds.
        const plain = (list: typeof groups) =>
          list
            .map((group) => ({ ...group, newest: Date.parse(group.newest) }))
            .toSorted((a, b) => (a.key < b.key ? -1 : 1));
        expect(plain(groups)).toEqual(plain(others));
      }
    });

    test.each(QUERIES.filter(([name]) => /everything|network|words|may be seen/.test(name)))(
      'values, flows and span of %s',
      async (_, text, scope) => {
        const query = queryOf(text, now);
        const both = <T>(ask: (one: AlertSource) => Promise<T>): Promise<T[]> =>
          Promise.all([source, expected].map(ask));
        for (const field of VALUE_FIELDS) {
          const [found, wanted] = await both((one) =>
            one.values({ field, prefix: '', limit: 1000 }, query, scope, never),
          );
          // In this schema, what the flow said is a service too where the engine names none.
          const said = (value: string): boolean => schema === 'ecs' && ['dns', 'tls', 'ssh'].includes(value);
          const named = field === 'service' ? found?.filter(({ value }) => !said(value)) : found;
          expect({ field, found: named }).toEqual({ field, found: wanted });
        }
        const request = { field: 'destination.pod', prefix: 'shop/c', limit: 5 } as const;
        const [begun, wantedBegun] = await both((one) => one.values(request, query, scope, never));
        expect(begun).toEqual(wantedBegun);
        const [flows, wantedFlows] = await both((one) => one.flows(query, scope, never));
        expect(flows?.pairs).toEqual(wantedFlows?.pairs);
        expect(flows?.edges).toEqual(wantedFlows?.edges);
        expect(flows?.others).toBe(wantedFlows?.others);
        const counts = (list: typeof flows): object[] => list?.talkers.map((talker) => talker.counts) ?? [];
        expect(counts(flows).slice(0, 3)).toEqual(counts(wantedFlows).slice(0, 3));
        // Of times, aggregations know milliseconds.
        const inMillis = ({ count, first = '', last = '' }: Span): unknown[] => [
          count,
          Date.parse(first),
          Date.parse(last),
        ];
        expect((await both((one) => one.span(query, scope, never))).map(inMillis)).toEqual(
          Array(2).fill(inMillis(await expected.span(query, scope, never))),
        );
      },
    );

    test('what was done with an alert is in its history, and the last of it in its row', async () => {
      const id = events[20]?.record.event_id ?? '';
      const [found] = await source.get([id], never);
      const [wanted] = await expected.get([id], never);
      expect(found?.history).toEqual(acts);
      // It is the same one for both schemas.
      expect(wanted?.history.slice(-acts.length)).toEqual(acts);
      expect(found?.row).toEqual(wanted?.row);
      expect(found?.row).toMatchObject({ state: 'open', handledBy: 'bob', assignee: 'anna' });
      expect(found?.row.reason).toBeUndefined();
      await server.refresh(namesOf(cluster, schema).index);
      const mine = queryOf('range=all&q=assignee:anna', now);
      expect(ids((await source.list(mine, 'all', pageOf(), never)).rows)).toEqual([id]);
    });

    test('the most severe come first where they are wanted, and of those the newest', async () => {
      const query = queryOf('range=all&state=open', now);
      const pages: AlertRow[][] = [];
      for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
        const { rows, next } = await source.list(query, 'all', pageOf(after, 'severity', 70), never);
        pages.push(rows);
        after = next;
      }
      const wanted: AlertRow[] = [];
      for (let after: string | undefined, first = true; first || after !== undefined; first = false) {
        const { rows, next } = await expected.list(query, 'all', pageOf(after, 'severity', 200), never);
        wanted.push(...rows);
        after = next;
      }
      expect(pages.map(({ length }) => length)).toEqual([70, 70, 70, wanted.length - 210]);
      expect(pages.flat()).toEqual(wanted);
      expect(wanted.map(({ severity }) => severity)).toEqual(
        wanted.map(({ severity }) => severity).toSorted((a, b) => b - a),
      );
    });

    test('what can be marked at once are the newest that match', async () => {
      const query = queryOf('range=all&q=jndi', now);
      const [found, wanted] = await Promise.all([source, expected].map((one) => one.matching(query, 'all', 5, never)));
      expect(found).toHaveLength(5);
      expect(found).toEqual(wanted);
    });

    test('a query in words selects what a plain look at the events does', async () => {
      const states = new Map([
        [events[3]?.record.event_id, 'dismissed'],
        [events[5]?.record.event_id, 'acknowledged'],
      ]);
      const made = fc.sample(queries(events), 150).filter(({ text }) => text.length <= 1000);
      for (const { text, selects } of made) {
        const query = queryOf(`range=all&state=open&state=acknowledged&state=dismissed&q=${encodeURIComponent(text)}`);
        const found = (await source.matching(query, 'all', 1000, never)).map(({ id }) => id);
        const wanted = events.filter((event) => selects(event, states.get(event.record.event_id) ?? 'open'));
        expect({ text, found: found.toSorted() }).toEqual({
          text,
          found: wanted.map(({ record }) => record.event_id).toSorted(),
        });
      }
    });

    test('a document is the event, with its payload; what is not there is not found', async () => {
      const id = events[10]?.record.event_id ?? '';
      const [found, ...more] = await source.get([id, 'missing'], never);
      expect(more).toEqual([]);
      expect(found?.event).toEqual(events[10]);
      expect(found?.row).toMatchObject({ id, state: 'open' });
    });

    test('what the agent sends again undoes no mark', async () => {
      await deliver(events.slice(0, 10));
      const marked = [3, 5].map((index) => events[index]?.record.event_id ?? '');
      const found = await source.get(marked, never);
      expect(found.map(({ row }) => `${row.state} ${row.handledBy}`).toSorted()).toEqual([
        'acknowledged anna',
        'dismissed anna',
      ]);
    });

    test('an alert that becomes visible before the first look is found by who asks when the source is ready', async () => {
      const event = alertEvent(900, Date.now());
      const came: string[] = [];
      const delivered = deliver([event]);
      const stop = await new Promise<() => void>((resolve) => {
        const end = source.subscribe({
          rows: (rows) => came.push(...ids(rows)),
          ready: () => queueMicrotask(() => resolve(end)),
        });
      });
      const query = queryOf('range=1h', Date.now());
      const { rows } = await source.list(query, 'all', pageOf(), never);
      await delivered;
      await poll(() => [...came, ...ids(rows)].includes(event.record.event_id));
      stop();
    });

    test('subscribers get what is new', async () => {
      const came: string[] = [];
      const stop = source.subscribe({ rows: (rows) => came.push(...ids(rows)), ready: () => undefined });
      const sent: string[] = [];
      // What is there when the first look is taken is not new.
      await poll(async () => {
        const event = alertEvent(1000 + sent.length, Date.now());
        sent.push(event.record.event_id);
        await deliver([event]);
        return came.length > 0;
      });
      expect(sent).toEqual(expect.arrayContaining(came));
      expect(new Set(came).size).toBe(came.length);
      stop();
    });
  });

  test('the page shows further clusters, each by its index', async () => {
    for (const [cluster, count] of [
      ['page-east', 3],
      ['page-west', 5],
    ] as const) {
      await deliverTo(server.url, cluster, 'calico', events.slice(0, count));
      await server.refresh(namesOf(cluster, 'calico').index);
    }
    const flags = ['--cluster', 'page-east', '--ui.clusters', 'page-west,page-north'];
    const ui = await startUi('--sinks.elasticsearch.nodes', server.url, '--ui.source', 'elasticsearch', ...flags);
    try {
      const total = async (path: string): Promise<unknown> =>
        ((await (await fetch(`${ui.url}${path}/summary?range=all`)).json()) as { total?: number }).total;
      expect(await total('api')).toBe(3);
      expect(await total('clusters/page-west/api')).toBe(5);
      expect(await total('clusters/page-north/api')).toBe(0);
    } finally {
      await ui.stop();
    }
  });

  test('who is wrong is named: no server, no right', async () => {
    const source = openElasticsearchSource({ config: sinkConfig('http://127.0.0.1:1', 'calico'), cluster: 'x' });
    await expect(source.list(queryOf('range=all'), 'all', pageOf(), never)).rejects.toThrow(
      /^Elasticsearch \(http:\/\/127\.0\.0\.1:1\/?\) does not answer: /,
    );
    await source.close();
  });

  test('an index that is not there is empty', async () => {
    const source = openElasticsearchSource({ config: sinkConfig(server.url, 'calico'), cluster: 'nothing-here' });
    expect(await source.list(queryOf('range=all'), 'all', pageOf(), never)).toEqual({ rows: [] });
    expect(await source.summary(queryOf('range=24h'), 'all', never)).toMatchObject({ total: 0 });
    await source.close();
  });
});

/** Values of equal counts may come in any order. */
function sorted(facets: Record<string, { value: string; count: number }[]>): object {
  return Object.fromEntries(
    Object.entries(facets).map(([name, values]) => [
      name,
      values.filter(({ count }) => count > 0).toSorted((a, b) => (a.value < b.value ? -1 : 1)),
    ]),
  );
}

function lastOf(
  pages: readonly string[][],
  all: readonly { record: { event_id: string; timestamp: string } }[],
): string {
  const id = pages.at(-1)?.at(-1) ?? '';
  return `${all.find(({ record }) => record.event_id === id)?.record.timestamp},${id}`;
}
