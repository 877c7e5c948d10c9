/** Alerts are acknowledged from outside, and nothing else is possible that way. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { FastifyInstance } from 'fastify';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { followHandled, type Handled } from '../../agent/cli/ui/handled.ts';
import { loadConfig, type Config } from '../../agent/config/load.ts';
import { acknowledgeUrl } from '../../agent/events/acknowledgement.ts';
import { toAlert } from '../../agent/ship/formats/alert.ts';
import { dedupKey } from '../../agent/ship/formats/pagerduty.ts';
import { openAccess, type Access } from '../../agent/ui/access.ts';
import { openKeys, openTokens } from '../../agent/ui/acknowledge.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import { createUiServer } from '../../agent/ui/server.ts';
import type { AlertSource } from '../../agent/ui/source.ts';
import { alertEvent } from '../support/alerts.ts';
import { poll } from '../support/poll.ts';
import { makeJournal, type TestJournal } from './support.ts';

const KEY = 'k'.repeat(32);
const TOKEN = 't'.repeat(40);
const PAGE = 'https://dpi.example.com/alerts/';
const nobody: Access = { ...openAccess, mode: 'password', signIn: () => Promise.resolve(undefined) };
const HOSTILE = alertEvent(1, Date.now(), { record: { message: '<script>alert(1)</script>"\'\u001B[31m' } });
const OTHER = alertEvent(2, Date.now());

let folder: string;
let journal: TestJournal;
let source: AlertSource;
let server: FastifyInstance;
let handled: Handled | undefined;
let incidents: Server | undefined;
let logged: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-acknowledge-'));
  writeFileSync(join(folder, 'keys'), `${KEY}\n`);
  writeFileSync(join(folder, 'tokens'), `# programs\npager:${TOKEN}\n`);
  journal = await makeJournal(HOSTILE, OTHER);
  source = await openJournalSource(journal);
  logged = '';
});
afterEach(async () => {
  await server.close();
  await handled?.close();
  incidents?.close();
  await source.close();
  await journal.remove();
  rmSync(folder, { recursive: true });
  handled = undefined;
  incidents = undefined;
});

async function start(config?: Config): Promise<void> {
  const log = pino({}, { write: (line: string) => (logged += line) });
  handled = config === undefined ? undefined : await followHandled(config, source, log);
  server = createUiServer({
    source,
    access: nobody,
    page: new Map(),
    version: '1.2.3',
    log,
    secure: true,
    trustedProxies: [],
    rule: () => Promise.resolve(undefined),
    coverage: () => Promise.resolve({ nodes: [], resources: [], problems: [] }),
    keys: await openKeys(join(folder, 'keys')),
    tokens: await openTokens(join(folder, 'tokens')),
    ...(handled === undefined ? {} : { onHandled: handled.note }),
  });
}

function configOf(flags: Record<string, unknown>): Config {
  const loaded = loadConfig({ env: {}, flags });
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return loaded.config;
}

const idOf = (event: typeof HOSTILE): string => event.record.event_id;
const inAnHour = (): number => Math.floor(Date.now() / 1000) + 3600;

/** As a proxy gives it on that has the page under /alerts/. */
function linkOf(event: typeof HOSTILE, until = inAnHour(), key = KEY): string {
  const link = new URL(acknowledgeUrl(PAGE, { alert: idOf(event), until, via: 'soc-chat' }, key));
  expect(link.href.startsWith('https://dpi.example.com/alerts/acknowledge?')).toBe(true);
  return `/acknowledge${link.search}`;
}

async function stateOf(event: typeof HOSTILE) {
  const [found] = await source.get([idOf(event)], new AbortController().signal);
  return [found?.row.state, found?.row.handledBy];
}

interface Asked {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string;
  /** One of this machine's loopback addresses. */
  from?: string;
}

async function ask({ method = 'GET', path, headers = {}, body, from = '127.0.0.1' }: Asked) {
  if (!server.server.listening) await server.listen({ host: '127.0.0.1', port: 0 });
  const { port } = server.server.address() as AddressInfo;
  const sent = request({ host: '127.0.0.1', port, path, method, headers, localAddress: from, agent: false });
  sent.end(body);
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of answer) text += String(chunk);
  return { status: answer.statusCode, headers: answer.headers, body: text };
}

/** As a browser sends the form: without an origin that is known, as the page forbids to tell one. */
function submit(link: string) {
  const headers = { 'content-type': 'application/x-www-form-urlencoded', origin: 'null' };
  return ask({ method: 'POST', path: '/acknowledge', headers, body: link.slice(link.indexOf('?') + 1) });
}

test('a link shows its alert and asks; only its form acknowledges, once, and says in whose name', async () => {
  await start();
  const link = linkOf(HOSTILE);
  for (const method of ['GET', 'HEAD'] as const) {
    expect((await ask({ method, path: link })).status).toBe(200);
  }
  expect(await stateOf(HOSTILE)).toEqual(['open', undefined]);
  const { body, headers } = await ask({ path: link });
  expect(body).toContain('&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;');
  expect(body.includes('<script') || body.includes('\u001B')).toBe(false);
  expect(headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
  });
  // What the form has is what the link had.
  const fields = [...body.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(
    ([, name = '', value = '']) => [name, value] as [string, string],
  );
  expect(`?${new URLSearchParams(fields).toString()}`).toBe(link.slice(link.indexOf('?')));

  expect((await submit(link)).body).toContain('The alert is acknowledged');
  expect(await stateOf(HOSTILE)).toEqual(['acknowledged', 'link of soc-chat']);
  expect((await submit(link)).body).toContain('acknowledged by link of soc-chat');
  expect(logged.match(/acknowledged from outside/g)).toHaveLength(1);
  expect(logged).toContain(idOf(HOSTILE));
  expect(logged).not.toMatch(/signature|kkkk/);
  expect(logged).not.toContain(new URLSearchParams(link.slice(link.indexOf('?'))).get('signature'));
});

test('what somebody decided stays', async () => {
  await start();
  await source.mark([idOf(OTHER)], { state: 'dismissed', by: 'anna', at: new Date().toISOString() });
  expect((await submit(linkOf(OTHER))).body).toContain('dismissed by anna');
  expect(await stateOf(OTHER)).toEqual(['dismissed', 'anna']);
});

test('a link that is changed in any part, of another key, or too old does nothing', async () => {
  await start();
  const link = linkOf(HOSTILE);
  const forged = [
    link.replace(idOf(HOSTILE), idOf(OTHER)),
    link.replace(/until=\d+/, `until=${inAnHour() + 60}`),
    link.replace('via=soc-chat', 'via=on-call'),
    link.replace(/signature=./, 'signature=*'),
    link.replace(/&signature=.*/, ''),
    `${link}&signature=${'A'.repeat(43)}`,
    linkOf(HOSTILE, inAnHour(), 'x'.repeat(32)),
  ];
  for (const each of forged) {
    // Each from an address of its own: none waits for the others.
    expect((await ask({ path: each, from: `127.0.0.${10 + forged.indexOf(each)}` })).status).toBe(403);
  }
  expect((await submit(forged[0] ?? '')).status).toBe(403);
  expect((await submit(linkOf(HOSTILE, 1_700_000_000))).status).toBe(410);
  expect((await submit(linkOf(alertEvent(9, 0)))).status).toBe(404);
  expect([await stateOf(HOSTILE), await stateOf(OTHER)]).toEqual([
    ['open', undefined],
    ['open', undefined],
  ]);
});

test('who sends wrong signatures has to wait, and a right one does not help', async () => {
  await start();
  const wrong = linkOf(HOSTILE, inAnHour(), 'x'.repeat(32));
  for (let sent = 0; sent < 10; sent++) expect((await submit(wrong)).status).toBe(403);
  const answer = await submit(linkOf(HOSTILE));
  expect([answer.status, Number(answer.headers['retry-after']) > 0]).toEqual([429, true]);
  expect(await stateOf(HOSTILE)).toEqual(['open', undefined]);
});

test('a key is replaced: the old one is right as long as it is in the file', async () => {
  await start();
  const link = linkOf(HOSTILE);
  writeFileSync(join(folder, 'keys'), `${'n'.repeat(32)}\n${KEY}\n`);
  expect((await ask({ path: link })).status).toBe(200);
  writeFileSync(join(folder, 'keys'), `${'n'.repeat(33)}\n`);
  expect((await ask({ path: link })).status).toBe(403);
  writeFileSync(join(folder, 'keys'), 'short\n');
  await expect(openKeys(join(folder, 'keys'))).rejects.toThrow('a key has 32 to 1024 characters');
});

test('a program acknowledges by its token, and is told what was not open', async () => {
  await start();
  const acknowledge = (token: string, payload: object) =>
    ask({
      method: 'POST',
      path: '/api/acknowledge',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(payload),
    });
  expect((await acknowledge(`${TOKEN}x`, { ids: [idOf(OTHER)] })).status).toBe(401);
  expect((await acknowledge(TOKEN, { ids: ['../x'] })).status).toBe(400);
  await source.mark([idOf(HOSTILE)], { state: 'dismissed', by: 'anna', at: new Date().toISOString() });
  const { status, body } = await acknowledge(TOKEN, { ids: [idOf(OTHER), idOf(HOSTILE), 'gone'] });
  expect([status, JSON.parse(body)]).toEqual([
    200,
    { acknowledged: [idOf(OTHER)], before: [idOf(HOSTILE)], unknown: ['gone'] },
  ]);
  expect(await stateOf(OTHER)).toEqual(['acknowledged', 'token pager']);
  expect(logged).not.toContain(TOKEN);
  // A token of a program is none of a person.
  const list = await ask({ path: '/api/alerts', headers: { authorization: `Bearer ${TOKEN}` } });
  expect(list.status).toBe(401);
});

test('the incident of an alert ends when it is acknowledged, also where the server is busy at first', async () => {
  const asked: unknown[] = [];
  incidents = createServer((asking, response) => {
    let body = '';
    asking.on('data', (chunk: Buffer) => (body += String(chunk)));
    asking.on('end', () => {
      asked.push(JSON.parse(body));
      if (asked.length === 1) response.setHeader('retry-after', '0');
      response.writeHead(asked.length === 1 ? 429 : 202).end();
    });
  });
  await new Promise<void>((resolve) => incidents?.listen(0, '127.0.0.1', resolve));
  const { port } = incidents.address() as AddressInfo;
  writeFileSync(join(folder, 'routing'), `${'R'.repeat(32)}\n`);
  const http = { url: `http://127.0.0.1:${port}/`, format: 'pagerduty', secretFile: join(folder, 'routing') };
  const config = configOf({
    sinks: [
      { name: 'on-call', http },
      { name: 'others', http: { ...http, url: 'http://127.0.0.1:1/' }, when: { signature: '1:999' } },
    ],
  });
  await start(config);
  await submit(linkOf(OTHER));
  await poll(() => (logged.includes('the incident is resolved') ? true : undefined));
  const incident = dedupKey(toAlert(JSON.stringify(OTHER), { cluster: config.cluster }));
  const resolved = { routing_key: 'R'.repeat(32), event_action: 'resolve', dedup_key: incident };
  expect(asked).toEqual([resolved, resolved]);
});
