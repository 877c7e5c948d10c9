import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { FastifyInstance } from 'fastify';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { pcapng } from '../../agent/evidence/pcapng.ts';
import { openAccess, passwordAccess, type Access, type User } from '../../agent/ui/access.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import { openPasswordFile, passwordLine } from '../../agent/ui/passwords.ts';
import { Refused } from '../../agent/ui/refused.ts';
import { createUiServer, type ServerOptions } from '../../agent/ui/server.ts';
import { SourceError, type AlertSource } from '../../agent/ui/source.ts';
import { poll } from '../support/poll.ts';
import { alertsUntil, makeJournal, type TestJournal } from './support.ts';
import { alertEvent } from '../support/alerts.ts';

const events = alertsUntil(Date.now(), 120);
const log = pino({ level: 'silent' });
const page = new Map([
  [
    '/',
    {
      body: Buffer.from('<p>'),
      gzip: Buffer.from('gz'),
      type: 'text/html; charset=utf-8',
      etag: '"1"',
      lasting: false,
    },
  ],
]);
let journal: TestJournal;
let source: AlertSource;
const servers: FastifyInstance[] = [];

beforeAll(async () => {
  journal = await makeJournal(...events);
  source = await openJournalSource({ ...journal });
});
afterAll(async () => {
  await Promise.all(servers.map((server) => server.close()));
  await source?.close();
  await journal?.remove();
});

function serverOf(access: Access, more: Partial<ServerOptions> = {}): FastifyInstance {
  const server = createUiServer({
    source,
    access,
    page,
    version: '1.2.3',
    log,
    secure: false,
    trustedProxies: [],
    rule: () => Promise.resolve(undefined),
    coverage: () => Promise.resolve({ nodes: [], resources: [], problems: [] }),
    ...more,
  });
  servers.push(server);
  return server;
}

interface Asked {
  method?: string;
  /** Objects as JSON. */
  payload?: object | string;
  headers?: Record<string, string>;
}

/** Over a real connection, as a browser on this machine asks. */
async function ask(server: FastifyInstance, path: string, { method = 'GET', payload, headers = {} }: Asked = {}) {
  if (!server.server.listening) await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const body = typeof payload === 'object' ? JSON.stringify(payload) : payload;
  const type = typeof payload === 'object' ? { 'content-type': 'application/json' } : {};
  const sent = request({ port, path, method, headers: { host: 'localhost:9098', ...type, ...headers } });
  sent.end(body);
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of answer) text += String(chunk);
  return {
    status: answer.statusCode ?? 0,
    headers: answer.headers,
    body: text,
    json: () => JSON.parse(text) as Record<string, unknown>,
  };
}

/** Who may see, and mark, what; by token. */
function tokens(users: Record<string, Partial<User> & { sees: 'all' | string[] }>): Access {
  const right = new Set<string>();
  return {
    mode: 'kubernetes',
    signIn(credentials) {
      const user = 'token' in credentials ? users[credentials.token] : undefined;
      if (user === undefined || !('token' in credentials)) return Promise.resolve(undefined);
      right.add(credentials.token);
      return Promise.resolve({
        name: credentials.token,
        readable: () => Promise.resolve(user.sees === 'all' ? user.sees : new Set(user.sees)),
        mayMark: () => Promise.resolve(false),
        mayListPods: () => Promise.resolve(false),
        mayTune: () => Promise.resolve(false),
        ...user,
      });
    },
    stillValid: (credentials) => Promise.resolve('token' in credentials && credentials.token in users),
    wasValid: (credentials) => 'token' in credentials && right.has(credentials.token),
  };
}

describe('without access control', () => {
  const server = () => serverOf(openAccess);

  test('every answer forbids inline scripts, other sites and frames', async () => {
    const all = server();
    for (const url of ['/', '/api/session', '/api/alerts?range=nonsense', '/nothing']) {
      const { headers } = await ask(all, url);
      expect(headers['content-security-policy']).toContain("default-src 'none'; script-src 'self'; style-src 'self'");
      expect(headers['content-security-policy']).toContain("require-trusted-types-for 'script'");
      expect(headers['content-security-policy']).not.toMatch(/unsafe|\*/);
      expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' });
    }
    expect((await ask(all, '/api/session')).headers['cache-control']).toBe('no-store');
  });

  test.each(['127.0.0.1:9098', 'localhost', '[::1]:9098'])('answers for %s', async (host) => {
    expect((await ask(server(), '/api/session', { headers: { host } })).status).toBe(200);
  });

  test.each(['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:9098', '192.0.2.1'])(
    'does not answer for %s, as a site that points its name here would ask',
    async (host) => {
      for (const url of ['/', '/api/alerts'])
        expect((await ask(server(), url, { headers: { host } })).status).toBe(421);
    },
  );

  test('the page is given as it is, packed, or not again', async () => {
    const all = server();
    expect(await ask(all, '/')).toMatchObject({ status: 200, body: '<p>' });
    const packed = await ask(all, '/', { headers: { 'accept-encoding': 'gzip' } });
    expect(packed).toMatchObject({ body: 'gz', headers: { 'content-encoding': 'gzip', etag: '"1"' } });
    expect((await ask(all, '/', { headers: { 'if-none-match': '"1"' } })).status).toBe(304);
  });

  test.each([
    ['range=2h', 'range: expected one of'],
    ['from=yesterday', 'from: expected a time'],
    ['from=2026-01-02&to=2026-01-01', 'to: expected a time after from'],
    ['namespace=A', 'namespace: expected the name of a namespace'],
    ['pod=x', 'pod: expected <namespace>/<pod>'],
    ['signature=1', 'signature: expected <gid>:<sid>'],
    ['level=worst', 'level: expected one of'],
    ['tactic=T1', 'tactic: expected a MITRE'],
    ['state=gone', 'state: expected one of'],
    ['size=0', 'size: expected a number from 1 to 200'],
    ['size=201', 'size: expected a number from 1 to 200'],
    ['sort=name', 'sort: expected one of time, severity'],
    ['after=x', 'after: expected'],
    ['q=a&q=b', 'q: expected one value'],
  ])('refuses %s, and says why', async (parameters, why) => {
    const { status, json } = await ask(server(), `/api/alerts?${parameters}`);
    expect({ status, ...json() }).toEqual({ status: 400, error: expect.stringContaining(why) });
  });

  test('a query that can’t be read is refused with its place', async () => {
    const { status, json } = await ask(server(), `/api/alerts?q=${encodeURIComponent('pods: shop/*')}`);
    expect({ status, ...json() }).toMatchObject({
      status: 400,
      position: 0,
      error: expect.stringContaining('did you mean pod?'),
    });
  });

  const found = async (query: string): Promise<number> =>
    Number((await ask(server(), `/api/summary?range=all&q=${encodeURIComponent(query)}`)).json()['total']);

  test.each<[string, (event: (typeof events)[number]) => boolean]>([
    ['1:21562', ({ record }) => record.snort_signature_id === '21562'],
    ['payments/ledger-0', ({ source_name, dest_name }) => source_name === 'ledger-0' || dest_name === 'ledger-0'],
    ['Command and Control', ({ mitre_tactic }) => mitre_tactic === 'TA0011'],
    [
      'ip: 10.65.0.0/24 and not pod: shop/cart-*',
      (event) => {
        const isCart = [event.source_name, event.dest_name].some((name) => name.startsWith('cart-'));
        return !isCart && [event.source_ip, event.dest_ip].some((ip) => ip.startsWith('10.65.0.'));
      },
    ],
  ])('%s finds what the page shows so', async (query, selects) => {
    const wanted = events.filter(selects).length;
    expect(wanted).toBeGreaterThan(0);
    expect(await found(query)).toBe(wanted);
  });

  test('an end is found by its address and port', async () => {
    const [event] = events;
    expect(await found(`${event?.source_ip}:${event?.source_port}`)).toBeGreaterThan(0);
    expect(await found(`${event?.source_ip}:1`)).toBe(0);
  });

  test('a detail is the document with its row', async () => {
    const [event] = events;
    const { json } = await ask(server(), `/api/alerts/${event?.record.event_id}`);
    expect(json()).toMatchObject({ row: { id: event?.record.event_id, state: 'open' }, event });
    expect((await ask(server(), '/api/alerts/nothing')).status).toBe(404);
    expect((await ask(server(), '/api/alerts/..%2f..%2fetc')).status).toBe(404);
  });

  test('marks are stored, and what is wrong changes nothing', async () => {
    const all = server();
    const id = events[1]?.record.event_id ?? '';
    const mark = (payload: object) => ask(all, '/api/marks', { method: 'POST', payload });
    const marked = await mark({ ids: [id], state: 'acknowledged' });
    expect({ status: marked.status, ...marked.json() }).toEqual({
      status: 200,
      marked: 1,
      more: false,
      before: [{ state: 'open', ids: [id] }],
    });
    const { json } = await ask(all, `/api/alerts/${id}`);
    expect(json()).toMatchObject({ row: { state: 'acknowledged', handledBy: 'local' } });
    expect((await mark({ ids: [id, 'missing'], state: 'dismissed' })).status).toBe(404);
    expect((await mark({ ids: [], state: 'dismissed' })).status).toBe(400);
    expect((await mark({ ids: [id], state: 'gone' })).status).toBe(400);
    expect((await mark({ ids: ['<b>'], state: 'open' })).status).toBe(400);
    expect((await ask(all, `/api/alerts/${id}`)).json()).toMatchObject({ row: { state: 'acknowledged' } });
  });

  test('all that match are marked, but not what came later than was seen, and it can be undone', async () => {
    const all = server();
    const query = `range=all&q=${encodeURIComponent('signature: 1000104')}`;
    const matching = events.filter(({ record }) => record.snort_signature_id === '1000104');
    const until = matching.at(-2)?.record.timestamp;
    const mark = async (payload: object) => (await ask(all, '/api/marks', { method: 'POST', payload })).json();
    const answer = await mark({ query, until, state: 'dismissed' });
    expect(answer).toMatchObject({ marked: matching.length - 1, more: false });
    const total = async () => (await ask(all, `/api/summary?${query}`)).json()['total'];
    expect(await total()).toBe(1);
    for (const before of answer['before'] as object[]) await mark(before);
    expect(await total()).toBe(matching.length);
    for (const wrong of [{ query: 'level=worst' }, { query: 7 }, { query, until: 'soon' }])
      expect((await ask(all, '/api/marks', { method: 'POST', payload: { ...wrong, state: 'open' } })).status).toBe(400);
  });

  test('a list can be taken away as a table, in which nothing is a formula, and as documents', async () => {
    const formula = alertEvent(7000, Date.now() - 60_000, { record: { message: '=cmd|"/c calc"!A1, "quoted"\nline' } });
    await journal.append(formula);
    events.push(formula);
    const all = server();
    await poll(async () => (await found('calc')) === 1);
    const table = await ask(all, '/api/export?as=csv&range=all&q=calc');
    expect(table.headers).toMatchObject({
      'content-type': 'text/csv; charset=utf-8',
      'content-disposition': expect.stringMatching(/^attachment; filename="alerts-.*\.csv"$/),
    });
    const [head, ...lines] = table.body.split('\r\n');
    expect(head).toMatch(/^time,severity,level,state,/);
    expect(lines.join('\r\n')).toContain(`,"'=cmd|""/c calc""!A1, ""quoted""\nline",`);
    const documents = await ask(all, '/api/export?as=ndjson&range=all');
    const wanted = events.map((event) => JSON.stringify(event)).toReversed();
    expect(documents.body.trim().split('\n')).toEqual(wanted);
    expect((await ask(all, '/api/export?as=exe')).status).toBe(400);
  });

  test.each([
    ['another site', { origin: 'https://evil.example' }, 403],
    ['another port of this machine', { origin: 'http://localhost:1234' }, 403],
    ['what a browser says is cross-site', { 'sec-fetch-site': 'cross-site' }, 403],
    ['a sandbox', { origin: 'null' }, 403],
    ['a form', { 'content-type': 'text/plain' }, 415],
  ])('no change is taken from %s', async (_, headers, status) => {
    const payload = JSON.stringify({ ids: [events[2]?.record.event_id], state: 'dismissed' });
    const all = server();
    const sent = { 'content-type': 'application/json', ...headers };
    expect((await ask(all, '/api/marks', { method: 'POST', payload, headers: sent })).status).toBe(status);
    expect((await ask(all, `/api/alerts/${events[2]?.record.event_id}`)).json()).toMatchObject({
      row: { state: 'open' },
    });
  });

  test('a selector that is wrong is refused with its place; without an API server there is no dry run', async () => {
    const refusing = serverOf(openAccess, {
      dryRun: () => Promise.reject(new Refused(400, 'column 3: no', { position: 2 })),
    });
    const { status, json } = await ask(refusing, '/api/dry-run?namespace=a&selector=x');
    expect({ status, ...json() }).toEqual({ status: 400, error: 'column 3: no', position: 2 });
    expect((await ask(server(), '/api/dry-run?selector=x')).status).toBe(404);
  });

  test('a source that fails says what is wrong; a fault of the server does not', async () => {
    const failing = (error: Error) =>
      serverOf(openAccess, {
        source: {
          ...source,
          list() {
            throw error;
          },
        },
      });
    const known = await ask(failing(new SourceError('Elasticsearch is away')), '/api/alerts');
    expect({ status: known.status, ...known.json() }).toEqual({ status: 502, error: 'Elasticsearch is away' });
    const unknown = await ask(failing(new Error('secret')), '/api/alerts');
    expect({ status: unknown.status, ...unknown.json() }).toEqual({
      status: 500,
      error: expect.not.stringContaining('secret'),
    });
  });
});

describe('with tokens', () => {
  const access = tokens({
    all: { sees: 'all', mayMark: () => Promise.resolve(true) },
    shop: { sees: ['shop'], mayMark: (namespace) => Promise.resolve(namespace === 'shop') },
    reader: { sees: ['shop'] },
    nobody: { sees: [] },
  });
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

  test('nothing but the page itself is given to who has none, or a wrong one', async () => {
    const server = serverOf(access);
    const paths = [
      'session',
      'alerts',
      'summary',
      'groups?by=pod',
      'export?as=csv',
      'live',
      'coverage',
      'dry-run',
      `alerts/${events[0]?.record.event_id}`,
    ];
    for (const path of paths) {
      expect((await ask(server, `/api/${path}`)).status).toBe(401);
      expect((await ask(server, `/api/${path}`, bearer('wrong'))).status).not.toBe(200);
    }
    const marking = { method: 'POST', payload: { ids: [events[0]?.record.event_id], state: 'dismissed' } } as const;
    expect((await ask(server, '/api/marks', marking)).status).toBe(401);
    expect((await ask(server, '/')).status).toBe(200);
    expect((await ask(server, '/api/session')).json()).toMatchObject({ access: 'kubernetes' });
  });

  test('each sees the alerts of its namespaces only: in list, counts, groups and one by one', async () => {
    const server = serverOf(access);
    const wanted = (namespace: string): number =>
      events.filter(({ origin }) => origin.startsWith(`dpi.${namespace}/`)).length;
    const total = async (token: string) => (await ask(server, '/api/summary?range=all', bearer(token))).json()['total'];
    expect(await total('all')).toBe(events.length);
    expect(await total('shop')).toBe(wanted('shop'));
    expect(await total('nobody')).toBe(0);
    const { json } = await ask(server, '/api/alerts?range=all', bearer('shop'));
    expect(new Set((json()['rows'] as { namespace: string }[]).map(({ namespace }) => namespace))).toEqual(
      new Set(['shop']),
    );
    const facets = (await ask(server, '/api/summary?range=all', bearer('shop'))).json()['facets'] as {
      namespace: object[];
    };
    expect(facets.namespace).toEqual([{ value: 'shop', count: wanted('shop') }]);
    const foreign = events.find(({ origin }) => origin.startsWith('dpi.ci/'))?.record.event_id ?? '';
    const [hidden, missing] = [
      await ask(server, `/api/alerts/${foreign}`, bearer('shop')),
      await ask(server, '/api/alerts/x', bearer('shop')),
    ];
    expect([hidden.status, missing.status]).toEqual([404, 404]);
  });

  test.each(['this machine', 'Elasticsearch'])(
    'packets of %s are for who may see the alert, and nobody else',
    async (at) => {
      const asked: string[] = [];
      const packets = [{ time: 1_700_000_000_000_001, frame: Buffer.from('not of IP'), length: 90, linkType: 1 }];
      const content = pcapng(packets, { interface: 'eth0', namespace: 'ci', pod: 'p', node: 'n' }, []);
      const give = (id: string): Promise<Buffer> => {
        asked.push(id);
        return Promise.resolve(content);
      };
      const isHere = at === 'this machine';
      const server = serverOf(access, {
        packets: (id) => (isHere ? give(id) : Promise.resolve(undefined)),
        ...(isHere ? {} : { source: { ...source, packets: ({ id }) => give(id) } }),
        evidence: () => Promise.resolve({ packets: { count: 1 } }),
      });
      const id = events.find(({ origin }) => origin.startsWith('dpi.ci/'))?.record.event_id ?? '';
      for (const what of ['packets', 'pcap'])
        expect((await ask(server, `/api/alerts/${id}/${what}`, bearer('shop'))).status).toBe(404);
      expect((await ask(server, `/api/alerts/${id}/packets`)).status).toBe(401);
      expect(asked).toEqual([]);
      expect((await ask(server, `/api/alerts/${id}/packets`, bearer('all'))).json()).toEqual({
        packets: [
          {
            time: '2023-11-14T22:13:20.000001Z',
            fromSource: false,
            protocol: '',
            length: 90,
            captured: 9,
            payloadBytes: 9,
            payload: Buffer.from('not of IP').toString('base64'),
          },
        ],
        left: 0,
      });
      const file = await ask(server, `/api/alerts/${id}/pcap`, bearer('all'));
      expect(file.headers).toMatchObject({
        'content-disposition': `attachment; filename="${id}.pcapng"`,
        'content-length': String(content.length),
      });
      const { event } = (await ask(server, `/api/alerts/${id}`, bearer('all'))).json() as { event: object };
      expect(event).toMatchObject({ record: { event_id: id, packets: { count: 1 } } });
    },
  );

  test('what a query selects is marked where it may be seen, and only with the right to', async () => {
    const server = serverOf(access);
    const mark = async (token: string, state: string) =>
      await ask(server, '/api/marks', {
        method: 'POST',
        payload: { query: 'range=all&q=echo', state },
        ...bearer(token),
      });
    const wanted = events.filter(
      ({ record, origin }) => /echo/i.test(record.message) && origin.startsWith('dpi.shop/'),
    );
    expect((await mark('reader', 'dismissed')).status).toBe(403);
    expect((await mark('shop', 'acknowledged')).json()).toMatchObject({ marked: wanted.length });
    await mark('shop', 'open');
    const csv = (await ask(server, '/api/export?as=csv&range=all', bearer('shop'))).body;
    expect(csv).toContain(',shop/');
    expect(csv).not.toContain(',payments/default,');
  });

  test('marking takes the right to, in each namespace', async () => {
    const server = serverOf(access);
    const of = (namespace: string, index: number): string =>
      events.filter(({ origin }) => origin.startsWith(`dpi.${namespace}/`))[index]?.record.event_id ?? '';
    const mark = async (token: string, ids: string[]) =>
      (await ask(server, '/api/marks', { method: 'POST', payload: { ids, state: 'dismissed' }, ...bearer(token) }))
        .status;
    expect(await mark('reader', [of('shop', 4)])).toBe(403);
    expect(await mark('shop', [of('shop', 4), of('ci', 4)])).toBe(404);
    expect(await mark('shop', [of('shop', 4)])).toBe(200);
    expect((await ask(server, `/api/alerts/${of('ci', 4)}`, bearer('all'))).json()).toMatchObject({
      row: { state: 'open' },
    });
  });

  test('signing in gives a cookie that scripts and other sites do not get; signing out ends it', async () => {
    const server = serverOf(access, { secure: true });
    const answer = await ask(server, '/api/session', { method: 'POST', payload: { token: 'shop' } });
    const cookie = String(answer.headers['set-cookie']);
    expect(cookie).toMatch(/^__Host-dpi-agent=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/);
    const headers = { cookie: cookie.split(';')[0] ?? '' };
    expect((await ask(server, '/api/session', { headers })).json()).toMatchObject({ user: 'shop' });
    expect(await ask(server, '/api/session', { method: 'DELETE', headers })).toMatchObject({ status: 200 });
    expect((await ask(server, '/api/session', { headers })).status).toBe(401);
    expect((await ask(server, '/api/session', { headers: { cookie: '__Host-dpi-agent=guess' } })).status).toBe(401);
  });

  test('who tries too often has to wait', async () => {
    const server = serverOf(access);
    const attempt = () => ask(server, '/api/session', { method: 'POST', payload: { token: 'wrong' } });
    for (let number = 0; number < 10; number += 1) expect((await attempt()).status).toBe(401);
    const answer = await attempt();
    expect(answer.status).toBe(429);
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  });

  const from = (address: string, token: string) => ({
    headers: { 'x-forwarded-for': address, authorization: `Bearer ${token}` },
  });
  const behindProxy = { trustedProxies: ['127.0.0.1', '10.0.0.0/8'] };

  test('those who fail keep nobody out but themselves', async () => {
    const server = serverOf(tokens({ late: { sees: [] } }), behindProxy);
    for (let sender = 0; sender < 12; sender += 1) {
      for (let number = 0; number < 10; number += 1)
        expect((await ask(server, '/api/session', from(`192.0.2.${sender}`, 'wrong'))).status).toBe(401);
    }
    expect((await ask(server, '/api/session', from('192.0.2.0', 'late'))).status).toBe(429);
    expect((await ask(server, '/api/session', from('198.51.100.1', 'late'))).status).toBe(200);
  });

  test('a token that was right before is looked at whatever else its sender sends', async () => {
    const server = serverOf(access, behindProxy);
    expect((await ask(server, '/api/session', from('192.0.2.1', 'reader'))).status).toBe(200);
    for (let number = 0; number < 10; number += 1) await ask(server, '/api/session', from('192.0.2.1', 'wrong'));
    expect((await ask(server, '/api/session', from('192.0.2.1', 'wrong'))).status).toBe(429);
    expect((await ask(server, '/api/session', from('192.0.2.1', 'reader'))).status).toBe(200);
  });

  test('who signs in often does not have to wait', async () => {
    const server = serverOf({ ...access, wasValid: () => false });
    for (let number = 0; number < 15; number += 1) {
      expect((await ask(server, '/api/session', { method: 'POST', payload: { token: 'shop' } })).status).toBe(200);
    }
  });

  test('nor does anybody where the API server did not answer', async () => {
    const signIn = () => Promise.reject(new Error('it is away'));
    const server = serverOf({ ...access, signIn, wasValid: () => false });
    for (let number = 0; number < 15; number += 1) {
      expect((await ask(server, '/api/session', { method: 'POST', payload: { token: 'shop' } })).status).toBe(500);
    }
  });

  test.each<[string, string[]]>([
    ['no proxy', []],
    ['another proxy', ['192.0.2.7', 'fd00::/8']],
  ])('where %s is named, nobody is believed to send for others', async (_what, trustedProxies) => {
    const server = serverOf(access, { trustedProxies });
    for (let sender = 0; sender < 10; sender += 1)
      expect((await ask(server, '/api/session', from(`192.0.2.${sender}`, 'wrong'))).status).toBe(401);
    expect((await ask(server, '/api/session', from('198.51.100.1', 'wrong'))).status).toBe(429);
  });
});

describe('with passwords', () => {
  let directory: string;
  let file: string;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dpi-passwords-'));
    file = join(directory, 'users');
    writeFileSync(file, `# who\n${await passwordLine('anna', 'correct horse battery')}\n`);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test('the right one opens, others and unknown users do not; a user who is removed is out', async () => {
    const server = serverOf(passwordAccess(await openPasswordFile(file)));
    const signIn = (username: string, password: string) =>
      ask(server, '/api/session', { method: 'POST', payload: { username, password } });
    expect((await signIn('anna', 'correct horse')).status).toBe(401);
    expect((await signIn('bert', 'correct horse battery')).status).toBe(401);
    const answer = await signIn('anna', 'correct horse battery');
    expect(answer.status).toBe(200);
    const headers = { cookie: String(answer.headers['set-cookie']).split(';')[0] ?? '' };
    expect((await ask(server, '/api/alerts', { headers })).status).toBe(200);
    writeFileSync(file, `${await passwordLine('bert', 'another long password')}\n`);
    expect((await ask(server, '/api/alerts', { headers })).status).toBe(401);
  });

  test.each([
    ['anna:secret', /users:1: expected <user>:scrypt/],
    ['anna:scrypt$1000000$99$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', /users:1/],
    ['# nobody', /has no users/],
  ])('a file with %s is refused', async (text, why) => {
    writeFileSync(file, text);
    await expect(openPasswordFile(file)).rejects.toThrow(why);
  });
});

interface Streamed {
  name: string;
  data: Record<string, unknown>;
}

/** Messages of a stream, as they come. */
async function openStream(address: string, query: string, token: string) {
  const stop = new AbortController();
  const answer = await fetch(`${address}/api/live?${query}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: stop.signal,
  });
  const messages: Streamed[] = [];
  const reading = (async () => {
    let text = '';
    for await (const chunk of answer.body ?? []) {
      text += Buffer.from(chunk).toString();
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const [, name = ''] = /^event: (.*)$/m.exec(text.slice(0, end)) ?? [];
        const [, data = ''] = /^data: (.+)$/m.exec(text.slice(0, end)) ?? [];
        text = text.slice(end + 2);
        if (name !== '') messages.push({ name, data: data === '' ? {} : (JSON.parse(data) as Streamed['data']) });
      }
    }
  })().catch(() => undefined);
  return {
    type: answer.headers.get('content-type'),
    messages,
    async close() {
      stop.abort();
      await reading;
    },
  };
}

test('the stream says when it begins, and gives what is new and passes the filters and the rights, as it comes', async () => {
  const server = serverOf(tokens({ shop: { sees: ['shop'] } }));
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  const stream = await openStream(address, 'range=all&level=critical', 'shop');
  expect(stream.type).toBe('text/event-stream');
  await poll(() => stream.messages.length > 0);
  expect(stream.messages[0]).toEqual({ name: 'ready', data: {} });
  const rows = () =>
    stream.messages
      .filter(({ name }) => name === 'alerts')
      .flatMap(({ data }) => data['rows'] as { namespace: string; level: string }[]);
  const added = Array.from({ length: 60 }, (_, number) => alertEvent(5000 + number, Date.now()));
  const wanted = added.filter(({ origin, severity }) => origin.startsWith('dpi.shop/') && severity === 100);
  await journal.append(...added);
  await poll(() => rows().length >= wanted.length);
  expect(rows()).toHaveLength(wanted.length);
  expect(rows().every(({ namespace, level }) => namespace === 'shop' && level === 'critical')).toBe(true);
  await stream.close();
});

test('the stream tells what others made of alerts, those that its user may see', async () => {
  const server = serverOf(
    tokens({ shop: { sees: ['shop'] }, all: { sees: 'all', mayMark: () => Promise.resolve(true) } }),
  );
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  const stream = await openStream(address, 'range=all', 'shop');
  await poll(() => stream.messages.length > 0);
  const idOf = (namespace: string): string =>
    events.find(({ origin }) => origin.startsWith(`dpi.${namespace}/`))?.record.event_id ?? '';
  const payload = { ids: [idOf('shop'), idOf('ci')], state: 'acknowledged' };
  await ask(server, '/api/marks', { method: 'POST', payload, headers: { authorization: 'Bearer all' } });
  await poll(() => stream.messages.some(({ name }) => name === 'marks'));
  expect(stream.messages.find(({ name }) => name === 'marks')?.data).toMatchObject({
    ids: [idOf('shop')],
    state: 'acknowledged',
    by: 'all',
  });
  await ask(server, '/api/marks', {
    method: 'POST',
    payload: { ...payload, state: 'open' },
    headers: { authorization: 'Bearer all' },
  });
  await stream.close();
});

/** The source, and how many follow it. */
function watchSubscriptions(): { watched: AlertSource; subscriptions: () => number } {
  let subscriptions = 0;
  const watched: AlertSource = {
    ...source,
    subscribe(listener) {
      subscriptions += 1;
      const end = source.subscribe(listener);
      return () => {
        subscriptions -= 1;
        end();
      };
    },
  };
  return { watched, subscriptions: () => subscriptions };
}

test('a page that goes while its rights are looked up leaves no stream behind', async () => {
  const { watched, subscriptions } = watchSubscriptions();
  const asked: (() => void)[] = [];
  const readable = async () => {
    await new Promise<void>((resolve) => asked.push(resolve));
    return 'all' as const;
  };
  const server = serverOf(tokens({ slow: { sees: 'all', readable } }), { source: watched });
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  const connections = () =>
    new Promise<number>((resolve) => server.server.getConnections((_error, count) => resolve(count)));
  for (let number = 0; number < 3; number += 1) {
    const stop = new AbortController();
    const headers = { authorization: 'Bearer slow' };
    const answer = fetch(`${address}/api/live`, { headers, signal: stop.signal }).catch(() => undefined);
    await poll(() => asked.length > number);
    stop.abort();
    await answer;
    await poll(async () => (await connections()) === 0);
    asked[number]?.();
  }
  await server.close();
  expect(subscriptions()).toBe(0);
});

test('pages that have gone count no longer: streams are for those that are open', async () => {
  const { watched, subscriptions } = watchSubscriptions();
  const server = serverOf(tokens({ all: { sees: 'all' } }), { source: watched });
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  // More than may be open at a time.
  for (let number = 0; number < 205; number += 1) {
    const stop = new AbortController();
    const headers = { authorization: 'Bearer all' };
    const answer = await fetch(`${address}/api/live`, { headers, signal: stop.signal });
    expect(answer.status).toBe(200);
    expect(subscriptions()).toBe(1);
    stop.abort();
    await poll(() => subscriptions() === 0);
  }
});

describe('the API’s document', () => {
  interface Described {
    parameters?: { name: string; in: string; schema: { enum?: string[] } }[];
    responses: Record<string, { content: Record<string, { schema?: { required?: string[]; type?: string } }> }>;
  }

  test('is given to everybody, and holds for what the server answers', async () => {
    const file = tokens({});
    expect((await ask(serverOf(file), '/api/alerts')).status).toBe(401);
    expect((await ask(serverOf(file), '/api/openapi.json')).json()).toMatchObject({ openapi: '3.1.0' });
    const server = serverOf(openAccess);
    const { paths } = (await ask(server, '/api/openapi.json')).json() as {
      paths: Record<string, { get?: Described }>;
    };
    const asked: Record<string, string> = {
      '/api/groups': '?by=pod',
      '/api/export': '?as=csv',
      '/api/values': '?of=source.ip',
    };
    const left = ['/api/live', '/api/dry-run', '/api/isolations', '/api/tuning', '/api/openapi.json'];
    const gets = Object.entries(paths).filter(([path, { get }]) => get && !path.includes('{') && !left.includes(path));
    expect(gets.length).toBeGreaterThan(5);
    for (const [path, { get }] of gets) {
      const answer = await ask(server, `${path}${asked[path] ?? ''}`);
      const [[type, content] = ['', {}]] = Object.entries(get?.responses['200']?.content ?? {});
      expect([path, answer.status, answer.headers['content-type']]).toEqual([path, 200, expect.stringContaining(type)]);
      const { required = [] } = content.schema ?? {};
      for (const key of required)
        expect([path, answer.json()]).toEqual([path, expect.objectContaining({ [key]: expect.anything() })]);
    }
  });

  test('names the values that are taken, and no others are', async () => {
    const server = serverOf(openAccess);
    const { paths } = (await ask(server, '/api/openapi.json')).json() as { paths: Record<string, { get: Described }> };
    const choices = (paths['/api/alerts']?.get.parameters ?? []).flatMap(({ name, schema }) =>
      schema.enum === undefined ? [] : [{ name, values: schema.enum }],
    );
    expect(choices.map(({ name }) => name)).toEqual(['range', 'sort']);
    for (const { name, values } of choices) {
      for (const value of values) expect((await ask(server, `/api/alerts?${name}=${value}`)).status).toBe(200);
      expect((await ask(server, `/api/alerts?${name}=nonsense`)).status).toBe(400);
    }
  });
});

describe('alerts of further clusters', () => {
  const access = tokens({
    all: { sees: 'all', mayMark: (namespace) => Promise.resolve(namespace === undefined) },
    reader: { sees: 'all', mayMark: (namespace) => Promise.resolve(namespace !== undefined) },
    shop: { sees: ['shop'], mayMark: () => Promise.resolve(true) },
  });
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const theirs = alertsUntil(Date.now(), 5);
  const [first] = theirs;
  const id = first?.record.event_id ?? '';
  let west: TestJournal;
  let westSource: AlertSource;
  let server: FastifyInstance;
  const handled: (readonly string[])[] = [];
  beforeAll(async () => {
    west = await makeJournal(...theirs);
    westSource = await openJournalSource({ ...west });
    const further = [{ name: 'west', source: westSource }];
    // Both have alerts of these ids: nothing that is known here may be taken for theirs.
    const evidence = () => Promise.resolve({ outcome: 'of this cluster' });
    const onHandled = (ids: readonly string[]) => void handled.push(ids);
    server = serverOf(access, { clusters: { own: 'east', further }, evidence, onHandled });
  });
  afterAll(async () => {
    await westSource?.close();
    await west?.remove();
  });
  const of = async (token: string, path: string) => ask(server, `/clusters/west/api/${path}`, bearer(token));

  test('are told apart from those of this one, for who sees all namespaces', async () => {
    expect((await ask(server, '/api/session', bearer('all'))).json()).toMatchObject({
      clusters: { own: 'east', further: [{ name: 'west', source: { directory: west.directory } }] },
    });
    expect((await of('all', 'summary?range=all')).json()).toMatchObject({ total: 5 });
    // Other tests add to it.
    const { total } = (await ask(server, '/api/summary?range=all', bearer('all'))).json();
    expect(total).toBeGreaterThanOrEqual(events.length);
    expect((await of('all', `alerts/${id}`)).body).not.toContain('of this cluster');
    expect((await of('all', 'flows?range=all')).status).toBe(200);
    expect((await ask(server, '/clusters/north/api/alerts', bearer('all'))).status).toBe(404);
  });

  test('are for nobody else', async () => {
    expect((await ask(server, '/api/session', bearer('shop'))).json()).not.toHaveProperty('clusters');
    for (const path of ['alerts', 'summary', 'groups?by=pod', 'export?as=csv', 'live', 'flows', `alerts/${id}`])
      expect((await of('shop', path)).status).toBe(403);
    expect((await ask(server, '/clusters/west/api/alerts')).status).toBe(401);
  });

  test('are marked by who may mark those of all namespaces', async () => {
    const marking = (token: string) => ({
      method: 'POST',
      payload: { ids: [id], state: 'acknowledged' },
      ...bearer(token),
    });
    const path = '/clusters/west/api/marks';
    for (const token of ['reader', 'shop']) expect((await ask(server, path, marking(token))).status).toBe(403);
    expect((await ask(server, path, marking('all'))).json()).toMatchObject({ marked: 1 });
    expect((await of('all', 'summary?range=all&state=acknowledged')).json()).toMatchObject({ total: 1 });
    // Sinks of this cluster's agents know nothing of it.
    expect(handled).toEqual([]);
  });
});

describe('isolating pods', () => {
  const wish = { namespace: 'shop', pod: 'web-1', forMillis: 60_000, reason: 'r' };

  test('is asked for with the token of who signed in, and what is answered goes back', async () => {
    const asked: { token: string; method: string; path: string }[] = [];
    let answer = { status: 200, body: { cut: {} } as Record<string, unknown> };
    const server = serverOf(tokens({ anna: { sees: 'all' } }), {
      response: (token, { method, path }) => {
        asked.push({ token, method, path });
        return Promise.resolve(answer);
      },
    });
    const sent = { method: 'POST', payload: wish };
    expect((await ask(server, '/api/isolations', sent)).status).toBe(401);
    const headers = { authorization: 'Bearer anna' };
    expect(
      (await ask(server, '/api/isolations', { ...sent, headers: { ...headers, origin: 'https://evil.example' } }))
        .status,
    ).toBe(403);
    expect(asked).toEqual([]);
    expect((await ask(server, '/api/isolations', { ...sent, headers })).json()).toEqual({ cut: {} });
    const signedIn = await ask(server, '/api/session', { method: 'POST', payload: { token: 'anna' } });
    expect(signedIn.json()).toMatchObject({ isolates: true });
    const cookie = signedIn.headers['set-cookie']?.[0]?.split(';')[0] ?? '';
    answer = { status: 409, body: { error: 'open', reason: 'StaysOpen' } };
    const refused = await ask(server, '/api/isolations/release', { ...sent, headers: { cookie } });
    expect([refused.status, refused.json()]).toEqual([409, { error: 'open', reason: 'StaysOpen' }]);
    await ask(server, '/api/isolations?namespace=a%26b', { headers: { cookie } });
    expect(asked).toEqual([
      { token: 'anna', method: 'POST', path: '/v1/isolations' },
      { token: 'anna', method: 'POST', path: '/v1/isolations/release' },
      { token: 'anna', method: 'GET', path: '/v1/isolations?namespace=a%26b' },
    ]);
  });

  test('is for tokens only, and not there where nobody does it', async () => {
    const response = () => Promise.reject(new Error('not asked'));
    const open = serverOf(openAccess, { response });
    expect((await ask(open, '/api/isolations', { method: 'POST', payload: wish })).status).toBe(403);
    expect((await ask(open, '/api/session')).json()).toMatchObject({ isolates: false });
    expect((await ask(serverOf(openAccess), '/api/isolations')).status).toBe(404);
  });
});
