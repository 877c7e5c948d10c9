/** What helps to understand alerts, and to have fewer of them: what each may see of it, and may do. On one journal. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { FastifyInstance } from 'fastify';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pino } from 'pino';
import { filesPlace } from '../../agent/tuning/place.ts';
import { createTuning, TuningError } from '../../agent/tuning/tuning.ts';
import type { Access } from '../../agent/ui/access.ts';
import type { AlertDetail, Flows, Related, Summary, TuneOutcome, Tuned } from '../../agent/ui/api.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import { createUiServer } from '../../agent/ui/server.ts';
import type { AlertSource } from '../../agent/ui/source.ts';
import { alertsUntil, makeJournal, type TestJournal } from './support.ts';

const events = alertsUntil(Date.now() - 60_000, 400, 120_000);
const namespaceOf = ({ origin }: (typeof events)[number]): string => origin.slice(4).split('/')[0] ?? '';

/** Anna sees and tunes all; Bob sees payments and marks there; Carl sees nothing. */
const access: Access = {
  mode: 'kubernetes',
  signIn(credentials) {
    const name = 'token' in credentials ? credentials.token : '';
    const yes = (): Promise<boolean> => Promise.resolve(name !== 'carl');
    return Promise.resolve({
      name,
      readable: () => Promise.resolve(name === 'anna' ? 'all' : new Set(name === 'bob' ? ['payments'] : [])),
      mayMark: yes,
      mayListPods: yes,
      mayTune: () => Promise.resolve(name === 'anna'),
    });
  },
  stillValid: () => Promise.resolve(true),
  wasValid: () => true,
};

let journal: TestJournal;
let source: AlertSource;
let server: FastifyInstance;
let address: string;
let policy: string;
beforeAll(async () => {
  journal = await makeJournal(...events);
  source = await openJournalSource({ ...journal });
  policy = join(dirname(journal.marksFile), 'policy.yaml');
  const tuning = createTuning(filesPlace({ policy, changes: `${policy}.changes` }));
  server = createUiServer({
    source,
    access,
    page: new Map(),
    version: '1.2.3',
    log: pino({ level: 'silent' }),
    secure: false,
    trustedProxies: [],
    rule: () => Promise.resolve(undefined),
    coverage: () => Promise.resolve({ nodes: [], resources: [], problems: [] }),
    tuning: { ...tuning, isRefusal: (error): error is Error => error instanceof TuningError },
  });
  address = await server.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(async () => {
  await server?.close();
  await source?.close();
  await journal?.remove();
});

async function ask(who: string, url: string, method: 'GET' | 'POST' | 'DELETE' = 'GET', payload?: object) {
  const headers = { authorization: `Bearer ${who}`, ...(payload && { 'content-type': 'application/json' }) };
  const answer = await fetch(new URL(url, address), {
    method,
    headers,
    ...(payload && { body: JSON.stringify(payload) }),
  });
  return { status: answer.status, body: await answer.json() };
}

describe('what one may not see', () => {
  test('is in no value, no pair, no source, and around no alert', async () => {
    const own = events.filter((event) => namespaceOf(event) === 'payments');
    const values = (await ask('bob', '/api/values?of=destination.pod')).body as { value: string; count: number }[];
    expect(new Set(values.map(({ value }) => value))).toEqual(
      new Set(own.map((event) => `${event.dest_namespace}/${event.dest_name}`)),
    );
    const summary = (await ask('bob', '/api/summary')).body as Summary;
    const flows = (await ask('bob', '/api/flows')).body as Flows;
    const sum = ({ counts }: Flows['pairs'][number]): number => Object.values(counts).reduce((a, b) => a + b, 0);
    expect(flows.pairs.reduce((total, pair) => total + sum(pair), 0)).toBe(summary.total);
    expect(flows.pairs.every(({ destination }) => destination === 'payments')).toBe(true);
    const addresses = new Set(own.map((event) => event.source_ip));
    expect(flows.talkers.every(({ ip }) => addresses.has(ip))).toBe(true);

    const one = own.at(-1)?.record.event_id ?? '';
    const around = (await ask('bob', `/api/alerts/${one}/related`)).body as Related;
    expect(around.all.count).toBe(own.length);
    expect(around.of.flatMap(({ rows }) => rows).every((row) => row.namespace === 'payments')).toBe(true);
    expect(around.of.find(({ by }) => by === 'pod')?.count).toBeGreaterThan(1);
    const other = events.find((event) => namespaceOf(event) !== 'payments')?.record.event_id ?? '';
    expect((await ask('bob', `/api/alerts/${other}/related`)).status).toBe(404);
  });

  test('is nothing for who sees nothing', async () => {
    expect((await ask('carl', '/api/values?of=service')).body).toEqual([]);
    expect((await ask('carl', '/api/flows')).body).toEqual({ pairs: [], edges: [], others: 0, talkers: [] });
  });
});

test('values are those that begin so, the most frequent first; what is no field is refused', async () => {
  const body = (await ask('anna', '/api/values?of=technique&prefix=t14')).body as { value: string; count: number }[];
  const count = events.filter((event) => event.mitre_ids?.includes('T1496')).length;
  expect(body).toEqual([{ value: 'T1496', count }]);
  expect((await ask('anna', '/api/values?of=payload')).body).toEqual({
    error: expect.stringContaining('of: expected one of'),
  });
});

describe('tuning', () => {
  const entry = { kind: 'suppress', signature: '1:408', pod: 'ci/*', reason: 'own scanner' };
  const hits = events.filter((event) => event.record.snort_signature_id === '408');

  test('says what it would have left out of what there was, before anything is kept', async () => {
    const body = (await ask('anna', '/api/tuning/attempt', 'POST', { entry })).body as TuneOutcome;
    const leftOut = hits.filter((event) => event.dest_namespace === 'ci').length;
    expect(leftOut).toBeGreaterThan(0);
    // The namespace of the resource narrows what is looked at.
    expect(body).toMatchObject({ leftOut, criticalLeftOut: 0, more: false });
    const all = (
      await ask('anna', '/api/tuning/attempt', 'POST', {
        entry: { kind: 'off', signature: '1:408', reason: '-' },
      })
    ).body as TuneOutcome;
    expect(all).toMatchObject({ events: hits.length, leftOut: hits.length });
  });

  test('is kept, listed, in the history of its alert, and undone', async () => {
    writeFileSync(policy, '# ours\n');
    const alert = hits[0]?.record.event_id ?? '';
    const added = (await ask('anna', '/api/tuning', 'POST', { entry, alert })).body as Tuned;
    expect(added).toMatchObject({ name: 'suppress-408', by: 'anna', reason: 'own scanner' });
    expect(readFileSync(policy, 'utf8')).toMatch(/^# ours\n[\s\S]*by: anna/);
    expect((await ask('anna', '/api/tuning')).body).toMatchObject({ entries: [{ name: 'suppress-408' }] });
    expect((await ask('anna', `/api/alerts/${alert}`)).body).toMatchObject({
      row: { state: 'open' },
      history: [{ by: 'anna', tuned: 'suppress-408' }],
    });
    expect((await ask('anna', '/api/tuning/suppress-408', 'DELETE')).status).toBe(200);
    expect(readFileSync(policy, 'utf8')).toBe('# ours\n');
    expect((await ask('anna', '/api/tuning/suppress-408', 'DELETE')).status).toBe(400);
  });

  test('is only for who has the right, and an entry that is none is refused with the reason', async () => {
    for (const [url, method, payload] of [
      ['/api/tuning', 'GET', undefined],
      ['/api/tuning', 'POST', { entry }],
      ['/api/tuning/attempt', 'POST', { entry }],
      ['/api/tuning/suppress-408', 'DELETE', undefined],
    ] as const)
      expect((await ask('bob', url, method, payload)).status).toBe(403);
    const wrong = await ask('anna', '/api/tuning', 'POST', { entry: { ...entry, pod: 'ci' } });
    expect(wrong).toEqual({ status: 400, body: { error: expect.stringContaining('expected namespace/name') } });
  });
});

describe('what is done with an alert', () => {
  const id = (): string => events.findLast((event) => namespaceOf(event) === 'payments')?.record.event_id ?? '';
  const detail = async () => (await ask('bob', `/api/alerts/${id()}`)).body as AlertDetail;

  test('is remembered with who, why and what was said, also by another start', async () => {
    const said = { ids: [id()], state: 'dismissed', reason: 'expected', comment: 'a test\u001B[2J of ours' };
    expect((await ask('bob', '/api/marks', 'POST', said)).status).toBe(200);
    await ask('anna', '/api/marks', 'POST', { ids: [id()], assignee: 'bob' });
    await ask('anna', '/api/marks', 'POST', { ids: [id()], comment: 'seen' });
    const after = await detail();
    expect(after.row).toMatchObject({ state: 'dismissed', handledBy: 'bob', reason: 'expected', assignee: 'bob' });
    expect(after.history).toMatchObject([
      { by: 'bob', state: 'dismissed', reason: 'expected', comment: 'a test of ours' },
      { by: 'anna', assignee: 'bob' },
      { by: 'anna', comment: 'seen' },
    ]);
    expect(after.advice.check.length).toBeGreaterThan(0);
    const again = await openJournalSource({ ...journal });
    const [found] = await again.get([id()], new AbortController().signal);
    await again.close();
    expect(found).toMatchObject({ row: after.row, history: after.history });
    expect((await ask('bob', '/api/alerts?q=assignee:bob+and+state:dismissed')).body).toMatchObject({
      rows: [{ id: id() }],
    });
  });

  test('says a reason that there is, for what it is a reason of', async () => {
    for (const wrong of [{ state: 'dismissed', reason: 'because' }, { state: 'open', reason: 'expected' }, {}])
      expect((await ask('bob', '/api/marks', 'POST', { ids: [id()], ...wrong })).status).toBe(400);
  });
});
