import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { schema, type Config } from '../../../agent/config/schema.ts';
import type { Destination, Item } from '../../../agent/ship/destination.ts';
import { createElasticsearch } from '../../../agent/ship/elasticsearch/elasticsearch.ts';
import { indexBody, namesOf, packetNamesOf } from '../../../agent/ship/elasticsearch/template.ts';
import type { Finding } from '../../../agent/cli/finding.ts';
import { runCli } from '../../support/cli.ts';
import { createAuthority, type Authority } from '../../support/certificates.ts';
import {
  describeElasticsearch,
  isElasticsearchGiven,
  startElasticsearch,
  testOnOwnElasticsearch,
  type TestElasticsearch,
} from '../../support/elasticsearch.ts';
import { startEsProxy, type EsFault, type EsProxy, type ItemError } from '../../support/es-proxy.ts';

type Sink = Config['sinks']['elasticsearch'];

/** Longer than a slow machine's Elasticsearch needs to make an index. */
const HANGS_MILLIS = 5_000;

let directory = '';
let cluster = '';
let said: { level: string; message: string; [key: string]: unknown }[] = [];
let opened: Destination[] = [];
let clock = 0;

const log = Object.fromEntries(
  ['info', 'warn'].map((level) => [
    level,
    (fields: object | string, message?: string) =>
      said.push(typeof fields === 'string' ? { level, message: fields } : { ...fields, level, message: message ?? '' }),
  ]),
) as unknown as Parameters<typeof createElasticsearch>[0]['log'];

const open = (change: Partial<Sink>): Destination => {
  const config = { ...schema.parse({ node: 'n' }).sinks.elasticsearch, ...change };
  const destination = createElasticsearch({ config, cluster, log, now: () => clock });
  opened.push(destination);
  return destination;
};
const batch = (count: number, json: (index: number) => unknown = (index) => ({ host: `h${index}` })): Item[] =>
  Array.from({ length: count }, (_, index) => ({
    number: index,
    id: `id-${index}`,
    json: JSON.stringify(json(index)),
  }));
const send = (destination: Destination, items: Item[]): ReturnType<Destination['send']> =>
  destination.send(items, new AbortController().signal);
const failure = async (sent: Promise<unknown>): Promise<string> => {
  const error = await sent.then(
    () => ({ failure: 'none', message: '' }),
    (cause: { failure: string; message: string }) => cause,
  );
  return `${error.failure}: ${error.message}`;
};
const delivered = { is: 'delivered' };
const duplicate = { is: 'delivered', duplicate: true };

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-es-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describeElasticsearch(() => {
  let server: TestElasticsearch;
  let proxy: EsProxy;
  let authority: Authority;
  let nodes: string[] = [];

  beforeAll(async () => {
    server = await startElasticsearch();
    authority = createAuthority(join(directory, 'authority'));
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    cluster = `test-${process.pid}-${Math.random().toString(36).slice(2)}`;
    said = [];
    opened = [];
    clock = 0;
    proxy = await startEsProxy(server.url);
    nodes = [proxy.url];
  });
  afterEach(async () => {
    await proxy.close();
    for (const destination of opened) await destination.close();
    await server.call('DELETE', `/${namesOf(cluster).index}`);
    await server.call('DELETE', `/_index_template/${namesOf(cluster).template}`);
  });

  const mapping = async (): Promise<unknown> =>
    Object.values((await server.call('GET', `/${namesOf(cluster).index}/_mapping`)) as object)[0] as unknown;

  test('the first send makes template, index and alias, and events are found by either name', async () => {
    const { index, alias, template } = namesOf(cluster);
    expect(await send(open({ nodes }), batch(3))).toEqual([delivered, delivered, delivered]);
    expect(await server.count(index)).toBe(3);
    expect(await server.count(alias)).toBe(3);
    expect(await server.call('GET', `/_index_template/${template}`)).toMatchObject({
      index_templates: [{ index_template: { priority: 500, index_patterns: [`${index}*`] } }],
    });
    expect(said.map(({ message }) => message)).toEqual(['index template is made', 'index is made']);
    expect(proxy.bulks()[0]?.headers['content-encoding']).toBe('gzip');
  });

  testOnOwnElasticsearch('a cluster without data streams gets nothing of them, and that is said', async () => {
    const sent = send(open({ nodes, dataStream: true, deleteAfter: 90 * 86_400_000 }), batch(1));
    expect(await failure(sent)).toMatch(
      /^server_error: the cluster has no data streams \(40[05]\): set the sink's dataStream/,
    );
    expect(said.map(({ message }) => message).join('\n')).toContain(
      'the cluster has no index lifecycle management (ILM)',
    );
    expect(proxy.bulks()).toEqual([]);
  });

  test('a second agent finds all as it should be, and so does each look after it', async () => {
    await send(open({ nodes }), batch(1));
    said = [];
    const second = open({ nodes });
    await send(second, batch(1));
    clock = 60_000;
    await send(second, batch(1));
    expect(said).toEqual([]);
    expect(proxy.requests.filter(({ method, path }) => method !== 'GET' && !path.includes('_bulk'))).toHaveLength(2);
  });

  test('template and alias that were deleted or changed are put back within a minute', async () => {
    const { index, alias, template } = namesOf(cluster);
    const destination = open({ nodes });
    await send(destination, batch(1));
    said = [];
    await server.call('PUT', `/_index_template/${template}`, { index_patterns: [`${index}*`], priority: 400 });
    await server.call('DELETE', `/${index}/_alias/${alias}`);
    clock = 59_999;
    await send(destination, batch(1));
    expect(said).toEqual([]);
    clock = 60_000;
    await send(destination, batch(1));
    expect(said).toMatchObject([
      { message: 'index template was changed: put back', changed: expect.arrayContaining(['priority']) },
      { message: 'alias was missing: put back' },
    ]);
    expect(await server.count(alias)).toBe(1);

    said = [];
    await server.call('DELETE', `/_index_template/${template}`);
    clock = 120_000;
    await send(destination, batch(1));
    expect(said).toMatchObject([{ message: 'index template is made' }]);
  });

  test("a newer agent's template is left alone", async () => {
    const { index, template } = namesOf(cluster);
    const newer = { index_patterns: [`${index}*`], priority: 600, _meta: { template_version: 1000 } };
    await server.call('PUT', `/_index_template/${template}`, newer);
    await send(open({ nodes }), batch(1));
    const found = await server.call('GET', `/_index_template/${template}`);
    expect(found).toMatchObject({ index_templates: [{ index_template: { priority: 600 } }] });
  });

  test('an index that is deleted is made again with the same mapping', async () => {
    const { index } = namesOf(cluster);
    const destination = open({ nodes });
    await send(destination, batch(1));
    const before = await mapping();
    await server.call('DELETE', `/${index}`);
    expect(await send(destination, batch(1))).toEqual([delivered]);
    expect(await mapping()).toEqual(before);
  });

  test('where a bulk makes no index, the event is tried again once there is one', async () => {
    const destination = open({ nodes });
    await send(destination, batch(1));
    await server.call('DELETE', `/${namesOf(cluster).index}`);
    proxy.fault = ({ path }) =>
      path.includes('_bulk')
        ? { type: 'items', status: () => ({ status: 404, type: 'index_not_found_exception' }) }
        : undefined;
    expect(await send(destination, batch(1))).toMatchObject([{ is: 'retry' }]);
    proxy.fault = undefined;
    said = [];
    expect(await send(destination, batch(1))).toEqual([delivered]);
    expect(said).toMatchObject([{ message: 'index is made' }]);
  });

  test('an index with too little mapping gets the rest; one with another mapping is told of once, and still used', async () => {
    const { index, alias } = namesOf(cluster);
    await server.call('PUT', `/${index}`, {
      mappings: { properties: { host: { type: 'keyword', ignore_above: 512 } } },
    });
    const destination = open({ nodes });
    expect(await send(destination, batch(1))).toEqual([delivered]);
    expect(await mapping()).toMatchObject({
      mappings: { dynamic: 'false', properties: { source_ip: { type: 'ip' } } },
    });
    expect(await server.count(alias)).toBe(1);

    await server.call('DELETE', `/${index}`);
    await server.call('PUT', `/${index}`, { mappings: { properties: { host: { type: 'text' } } } });
    said = [];
    for (clock of [60_000, 120_000]) await send(destination, batch(1));
    expect(said.filter(({ message }) => message.includes('_reindex'))).toMatchObject([
      { level: 'warn', reason: expect.stringContaining('host') },
    ]);
    expect(await server.count(index)).toBe(1);
  });

  test('with manageTemplate false nothing but bulks is asked', async () => {
    await server.call('PUT', `/${namesOf(cluster).index}`);
    await send(open({ nodes, manageTemplate: false }), batch(1));
    expect(proxy.requests).toHaveLength(1);
    expect(proxy.bulks()).toHaveLength(1);
  });

  test('hostile documents arrive byte for byte and leave the mapping as it is', async () => {
    const { index } = namesOf(cluster);
    const hostile = (number: number): object => ({
      source_ip: number % 2 === 0 ? '10.0.0.1' : 'no\naddress',
      source_port: 'x',
      time: 'never',
      host: 'h'.repeat(600),
      [`field-${number}`]: { deep: { er: number } },
      record: {
        message: `\u001b[31mred\u0000 "\\ \r\n {"create":{"_id":"x"}} ${number}`,
        payload: 'A'.repeat(number < 50 ? 60_000 : 4),
        timestamp: '2024-09-27T08:24:10.080704Z',
        last_timestamp: 'then',
        count: 'many',
        checkpoint: number,
        [`__proto__${number}`]: 1,
        engine: { [`x${number}`]: 1 },
        seen_at: [{ [`y${number}`]: 1 }],
      },
    });
    const destination = open({ nodes, batchEvents: 10_000, timeoutMillis: 300_000 });
    await send(destination, []).catch(() => {});
    await send(destination, batch(1, hostile));
    const before = await mapping();
    const items = batch(10_000, hostile);
    const outcomes = await send(destination, items);
    expect(new Set(outcomes.map(({ is }) => is))).toEqual(new Set(['delivered']));
    expect(await mapping()).toEqual(before);
    const found = await server.documents(index);
    expect(found.size).toBe(10_000);
    for (const item of items) expect(found.get(item.id)).toEqual(JSON.parse(item.json));
  });

  test('microseconds order events', async () => {
    const { index } = namesOf(cluster);
    const at = ['10.000002', '10.000003', '10.000001'];
    await send(
      open({ nodes }),
      batch(3, (number) => ({ record: { timestamp: `2024-09-27T08:24:${at[number]}Z` } })),
    );
    await server.refresh(index);
    const found = await server.call('POST', `/${index}/_search`, { sort: [{ 'record.timestamp': 'asc' }] });
    expect((found as { hits: { hits: { _id: string }[] } }).hits.hits.map(({ _id }) => _id)).toEqual([
      'id-2',
      'id-0',
      'id-1',
    ]);
  });

  test('what is sent again is a duplicate, and there once', async () => {
    const destination = open({ nodes });
    await send(destination, batch(2));
    expect(await send(destination, batch(3))).toEqual([duplicate, duplicate, delivered]);
    expect(await server.count(namesOf(cluster).index)).toBe(3);
  });

  /** With a capture file each. */
  const withPackets = (items: Item[], size: (index: number) => number): Item[] =>
    items.map((item, index) => ({
      ...item,
      packets: async (maxBytes) => ({ content: randomBytes(Math.min(maxBytes, size(index))), cut: false }),
    }));

  test('packets are in an index of their own, each once, also where a request has no room for all', async () => {
    const { index, template } = packetNamesOf(cluster);
    const destination = open({ nodes, packetsSize: 4 << 20 });
    const record = (number: number): object => ({
      origin: `dpi.shop/all`,
      host: 'n',
      record: { timestamp: `2026-11-30T00:00:00.00000${number}Z` },
    });
    // Six of 2.5 MiB, and three without.
    const items = [...withPackets(batch(6, record), () => 5 << 19), ...batch(9, record).slice(6)];
    expect(await send(destination, items)).toEqual(items.map(() => delivered));
    expect(proxy.bulks().map(({ ids }) => ids.length)).toEqual([4, 4, 7]);
    expect(destination.packets?.()).toEqual({ sent: 6, refused: 0 });
    const found = await server.documents(index);
    expect([...found.keys()].toSorted()).toEqual(items.slice(0, 6).map(({ id }) => id));
    const { pcapng, ...rest } = found.get('id-3') as { pcapng: string };
    expect(rest).toEqual({
      '@timestamp': '2026-11-30T00:00:00.000003Z',
      event_id: 'id-3',
      origin: 'dpi.shop/all',
      host: 'n',
      size: 5 << 19,
      cut: false,
    });
    expect(gunzipSync(Buffer.from(pcapng, 'base64'))).toHaveLength(5 << 19);
    const [made] = Object.values((await server.call('GET', `/${index}/_mapping`)) as object) as unknown[];
    expect(made).toMatchObject({
      mappings: { dynamic: 'false', properties: { '@timestamp': { type: 'date_nanos' }, pcapng: { type: 'binary' } } },
    });

    // An answer that is lost after the first request: what went through is there once.
    let requests = 0;
    proxy.fault = ({ path }) => (path.includes('_bulk') && ++requests === 2 ? { type: 'cut' } : undefined);
    expect((await send(destination, items)).map(({ is }) => is)).toEqual([
      ...Array<string>(2).fill('delivered'),
      ...Array<string>(7).fill('retry'),
    ]);
    proxy.fault = undefined;
    expect(await send(destination, items)).toEqual(items.map(() => duplicate));
    expect(await server.count(index)).toBe(6);
    expect(destination.packets?.()).toEqual({ sent: 6, refused: 0 });
    await server.call('DELETE', `/${index}`);
    await server.call('DELETE', `/_index_template/${template}`);
  });

  test('an event never fails for its packets', async () => {
    const destination = open({ nodes });
    const items = withPackets(batch(2), () => 100);
    /** Of the documents, the first and the third are packets. */
    const ofPackets = (error: ItemError): EsFault => ({
      type: 'items',
      status: (_, number) => (number % 2 === 0 ? error : undefined),
    });
    const packetsFail = (error: ItemError) => (): EsFault => ofPackets(error);
    await send(destination, batch(1));
    // Refused for good, or for want of rights: at once.
    proxy.fault = packetsFail({ status: 400, type: 'document_parsing_exception' });
    expect(await send(destination, items)).toEqual([duplicate, delivered]);
    proxy.fault = packetsFail({ status: 403, type: 'security_exception' });
    expect(await send(destination, items)).toEqual([duplicate, duplicate]);
    expect(destination.packets?.()).toEqual({ sent: 0, refused: 4 });
    // Otherwise in five tries.
    proxy.fault = packetsFail({ status: 503, type: 'unavailable_shards_exception' });
    for (let tries = 1; tries < 5; tries++)
      expect(await send(destination, items)).toMatchObject([
        { is: 'retry', throttled: true },
        { is: 'retry', throttled: true },
      ]);
    expect(await send(destination, items)).toEqual([duplicate, duplicate]);
    expect(destination.packets?.()).toEqual({ sent: 0, refused: 6 });
    // Of a whole request: it goes without them, and so do those of the next minute.
    proxy.fault = ({ ids }) =>
      ids.length === 4
        ? { type: 'answer', status: 400, body: '{"error":{"type":"x","reason":"explicit index"}}' }
        : undefined;
    expect(await send(destination, items)).toEqual([duplicate, duplicate]);
    const before = proxy.bulks().length;
    expect(await send(destination, items)).toEqual([duplicate, duplicate]);
    expect(proxy.bulks().length - before).toBe(1);
    expect(destination.packets?.()).toEqual({ sent: 0, refused: 8 });
    proxy.fault = undefined;
    clock = 60_000;
    expect(await send(destination, items)).toEqual([duplicate, duplicate]);
    expect(destination.packets?.()).toEqual({ sent: 2, refused: 8 });
    await server.call('DELETE', `/${packetNamesOf(cluster).index}`);
    await server.call('DELETE', `/_index_template/${packetNamesOf(cluster).template}`);
  });

  test('each item gets its own outcome', async () => {
    const destination = open({ nodes });
    await send(destination, batch(1));
    const errors = new Map([
      ['id-1', { status: 429, type: 'es_rejected_execution_exception' }],
      ['id-2', { status: 503, type: 'unavailable_shards_exception' }],
      ['id-3', { status: 400, type: 'document_parsing_exception' }],
    ]);
    proxy.fault = () => ({ type: 'items', status: (id) => errors.get(id) });
    const items = [...batch(5), { number: 5, id: 'id-5', json: '{"record":"no object"}' }];
    expect(await send(destination, items)).toMatchObject([
      duplicate,
      { is: 'retry', throttled: true },
      { is: 'retry' },
      { is: 'rejected', status: 400 },
      delivered,
      { is: 'rejected', status: 400, reason: expect.stringContaining('record') },
    ]);
    expect(await server.count(namesOf(cluster).index)).toBe(2);
  });

  test('an index that is read-only is not the fault of its events', async () => {
    const { index } = namesOf(cluster);
    const destination = open({ nodes });
    await send(destination, batch(1));
    await server.call('PUT', `/${index}/_settings`, { 'index.blocks.write': true });
    expect(await send(destination, batch(2))).toMatchObject([{ is: 'retry' }, { is: 'retry' }]);
    await server.call('PUT', `/${index}/_settings`, { 'index.blocks.write': null });
    await server.call('POST', `/${index}/_close`);
    expect(await send(destination, batch(2))).toMatchObject([{ is: 'retry' }, { is: 'retry' }]);
    await server.call('POST', `/${index}/_open`);
    await server.call('GET', `/_cluster/health/${index}?wait_for_status=yellow`);
    expect(await send(destination, batch(2))).toEqual([duplicate, delivered]);
  });

  test.each([
    [400, 'refused'],
    [413, 'too_large'],
    [429, 'throttled'],
    [503, 'server_error'],
    [500, 'server_error'],
  ])('status %d of a whole bulk is %s', async (status, is) => {
    const destination = open({ nodes });
    await send(destination, batch(1));
    proxy.fault = () => ({ type: 'answer', status, body: '{"error":{"type":"x","reason":"why"}}' });
    expect(await failure(send(destination, batch(1)))).toMatch(
      `${is}: Elasticsearch at ${proxy.url}/ answered ${status} (x: why)`,
    );
    proxy.fault = undefined;
    expect(await send(destination, batch(1))).toEqual([duplicate]);
  });

  test('an answer that is cut, is not JSON, is about other items or too large is incomplete', async () => {
    const destination = open({ nodes });
    proxy.fault = ({ path }) => (path.includes('_bulk') ? { type: 'cut' } : undefined);
    expect(await failure(send(destination, batch(100)))).toMatch(/^incomplete/);
    for (const change of [
      (text: string) => text.slice(0, text.length / 2),
      () => '{}',
      (text: string) => text.replace('id-3', 'id-4'),
      (text: string) => text.replace(/,\{"create":\{"_id":"id-99".*?\}\}/, ''),
      () => JSON.stringify({ items: 'x'.repeat(8 << 20) }),
    ]) {
      proxy.fault = () => ({ type: 'change', body: change });
      expect(await failure(send(destination, batch(100)))).toMatch(/^incomplete/);
    }
    proxy.fault = undefined;
    expect(await send(destination, batch(100))).toEqual(Array.from({ length: 100 }, () => duplicate));
  });

  test('what is not Elasticsearch is not sent to', async () => {
    proxy.fault = () => ({ type: 'answer', status: 200, body: '{"items":[]}', headers: { 'x-elastic-product': 'x' } });
    expect(await failure(send(open({ nodes }), batch(1)))).toMatch(/^server_error.*only Elasticsearch 7.17, 8 and 9/);
  });

  test('an answer that does not come, or whose body does not come, ends with the time limit', async () => {
    const destination = open({ nodes, timeoutMillis: HANGS_MILLIS });
    await send(destination, batch(1));
    for (const head of [false, true]) {
      proxy.fault = () => ({ type: 'hang', applied: true, head });
      expect(await failure(send(destination, batch(2)))).toMatch(/^timeout/);
    }
    proxy.fault = undefined;
    expect(await send(destination, batch(2))).toEqual([duplicate, duplicate]);
  });

  test('a signal ends a send with its reason', async () => {
    const destination = open({ nodes });
    await send(destination, batch(1));
    proxy.fault = () => ({ type: 'hang' });
    const controller = new AbortController();
    const sent = destination.send(batch(1), controller.signal);
    while (proxy.bulks().length < 2) await sleep(5);
    controller.abort(new Error('the agent ends'));
    await expect(sent).rejects.toThrow('the agent ends');
  });

  test('close ends a send that hangs', async () => {
    const destination = open({ nodes });
    await send(destination, batch(1));
    proxy.fault = () => ({ type: 'hang' });
    const sent = failure(send(destination, batch(1)));
    while (proxy.bulks().length < 2) await sleep(5);
    await destination.close();
    expect(await sent).toMatch(/^unreachable/);
  });

  test('a reset is unreachable, and the next send goes through', async () => {
    const destination = open({ nodes });
    proxy.fault = () => ({ type: 'reset' });
    expect(await failure(send(destination, batch(1)))).toMatch(/^unreachable/);
    proxy.fault = undefined;
    expect(await send(destination, batch(1))).toEqual([delivered]);
  });

  test('of two nodes, one that is dead, answers 503 or hangs is passed over', async () => {
    const other = await startEsProxy(server.url);
    for (const fault of [
      () => ({ type: 'reset' }) as const,
      () => ({ type: 'answer', status: 503 }) as const,
      () => ({ type: 'hang' }) as const,
    ]) {
      other.fault = fault;
      other.requests.length = 0;
      const destination = open({ nodes: [other.url, proxy.url], timeoutMillis: HANGS_MILLIS });
      const ends: string[] = [];
      for (let sends = 0; sends < 6; sends++)
        ends.push((await failure(send(destination, batch(1)))).split(':')[0] ?? '');
      expect(ends.filter((end) => end !== 'none')).toHaveLength(1);
      expect(other.requests).toHaveLength(1);
    }
    await other.close();
  });

  test('an API key is sent as Elasticsearch takes it', async () => {
    const apiKeyFile = join(directory, 'api-key');
    writeFileSync(apiKeyFile, 'id:key\n');
    await send(open({ nodes, apiKeyFile }), batch(1));
    expect(proxy.bulks()[0]?.headers.authorization).toBe('ApiKey aWQ6a2V5');
  });

  test('certificates are checked: authority, name and dates', async () => {
    const caFile = authority.file;
    const cases: [RegExp, ReturnType<Authority['issue']>, Partial<Sink>][] = [
      [/^none/, authority.issue('localhost'), { caFile }],
      [/^tls.*certificate/, authority.issue('localhost'), {}],
      [/^tls.*certificate/, authority.issue('localhost'), { caFile: createAuthority(join(directory, 'other')).file }],
      [/^tls.*altnames/, authority.issue('elsewhere', { loopback: false }), { caFile }],
      [/^tls.*expired/, authority.issue('localhost', { expired: true }), { caFile }],
      [/^none/, authority.issue('localhost', { expired: true }), { verifyTls: false }],
    ];
    for (const [end, certificate, config] of cases) {
      const tls = await startEsProxy(server.url, certificate);
      expect(await failure(send(open({ nodes: [tls.url], ...config }), batch(1)))).toMatch(end);
      await tls.close();
    }
    expect(said.filter(({ message }) => message.includes('verifyTls'))).toHaveLength(1);
    expect(await failure(send(open({ nodes: [proxy.url.replace('http', 'https')] }), batch(1)))).toMatch(/^tls/);
  });

  testOnOwnElasticsearch('a server that is killed and comes back has all that was delivered', async () => {
    const destination = open({ nodes: [server.url] });
    expect(await send(destination, batch(500))).toHaveLength(500);
    await server.kill();
    expect(await failure(send(destination, batch(500)))).toMatch(/^unreachable/);
    await server.restart();
    expect(await send(destination, batch(501))).toEqual([...Array.from({ length: 500 }, () => duplicate), delivered]);
  });
});

describeElasticsearch(() => {
  if (isElasticsearchGiven) return test.skip('needs its own server', () => {});
  let server: TestElasticsearch;
  const agent = { password: 'right password', roles: ['agent'] };
  const writer = { password: 'writer', roles: ['writer'] };

  beforeAll(async () => {
    const indices = [{ names: ['tigera_secure_ee_events.*'], privileges: ['all'] }];
    server = await startElasticsearch({
      tls: true,
      users: { agent, writer },
      roles: {
        agent: { cluster: ['manage_index_templates'], indices },
        writer: { indices: [{ names: ['tigera_secure_ee_events.*'], privileges: ['create_doc', 'auto_configure'] }] },
      },
    });
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    cluster = `secured-${Math.random().toString(36).slice(2)}`;
    said = [];
    opened = [];
    clock = 0;
  });
  afterEach(async () => {
    for (const destination of opened) await destination.close();
  });
  const secured = (more: Partial<Sink>): Destination => {
    const caFile = server.authority?.file ?? '';
    return open({ nodes: [server.url], caFile, ...more });
  };

  test('dpi-agent doctor says who is known, and what the user lacks', async () => {
    const passwordFile = join(directory, 'doctor-password');
    const found: Record<string, unknown> = {};
    for (const [username, password] of Object.entries({ agent, writer, wrong: { password: 'no' } })) {
      writeFileSync(passwordFile, password.password);
      const settings = { nodes: server.url, username, passwordFile, caFile: server.authority?.file ?? '' };
      const flags = Object.entries(settings).flatMap(([key, value]) => [`--sinks.elasticsearch.${key}`, value]);
      const folders = ['--stateDirectory', directory, '--journal.directory', directory];
      const evidence = username === 'writer' ? ['--evidence.keep', 'full'] : [];
      const { stdout } = await runCli([
        'doctor',
        '-o',
        'json',
        '--cluster',
        cluster,
        ...evidence,
        ...folders,
        ...flags,
      ]);
      found[username] = (JSON.parse(stdout) as Finding[])
        .filter(({ subject }) => subject === 'elasticsearch')
        .map(({ level, message }) => `${level}: ${message}`);
    }
    const { index, template } = namesOf(cluster);
    const missing = `info: template ${template} is not there: an agent makes it before it sends`;
    expect(found).toEqual({
      agent: [`ok: ${server.url} answers, as user agent`, `ok: agent has all rights on ${index}`, missing],
      writer: [
        `ok: ${server.url} answers, as user writer`,
        `error: writer lacks manage_index_templates, create_index on ${index}, manage on ${index}`,
        expect.stringMatching(
          /^warning: writer lacks create_doc on tigera_secure_dpi_packets\.\S+, .*: events are there without their packets$/,
        ),
      ],
      wrong: [expect.stringContaining(passwordFile)],
    });
  });

  test('a wrong password names its file; once the file is right, events are sent', async () => {
    const passwordFile = join(directory, 'password');
    writeFileSync(passwordFile, 'wrong secret\n');
    const destination = secured({ username: 'agent', passwordFile });
    const end = await failure(send(destination, batch(1)));
    expect(end).toMatch(/^unauthorized.*401.*password/);
    expect(end).not.toContain('wrong secret');
    writeFileSync(passwordFile, 'right password\n');
    expect(await send(destination, batch(1))).toEqual([delivered]);
    rmSync(passwordFile);
    clock = 1000;
    expect(await failure(send(destination, batch(1)))).toBe(`unauthorized: can't read ${passwordFile}: ENOENT`);
  });

  test('without credentials the message says which to set', async () => {
    expect(await failure(send(secured({}), batch(1)))).toMatch(/^unauthorized.*apiKeyFile/);
  });

  test('who may not write packets sends events without them', async () => {
    const passwordFile = join(directory, 'no-packets');
    writeFileSync(passwordFile, 'right password');
    const destination = secured({ username: 'agent', passwordFile });
    const packets: Item['packets'] = async () => ({ content: Buffer.from('x'), cut: false });
    const items = batch(2).map((item) => ({ ...item, packets }));
    expect(await send(destination, items)).toEqual([delivered, delivered]);
    expect(destination.packets?.()).toEqual({ sent: 0, refused: 2 });
    expect(said.filter(({ message }) => message.startsWith('packets of an event'))).toHaveLength(1);
  });

  test('who may only write is told once that template and index are not kept, and events are sent', async () => {
    const passwordFile = join(directory, 'writer');
    writeFileSync(passwordFile, 'writer');
    const { index } = namesOf(cluster);
    await server.call('PUT', `/${index}`, indexBody(namesOf(cluster)));
    const destination = secured({ username: 'writer', passwordFile });
    for (clock of [0, 60_000]) await send(destination, batch(1));
    expect(await server.count(index)).toBe(1);
    expect(said.map(({ status }) => status)).toEqual([403, 403]);
  });
});
