/** Leadership with a Lease that several hold on to over connections that fail. */
import { afterEach, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { holdLease, type Lease } from '../../agent/operator/lease.ts';
import { apiError, scriptedClient, type Request } from '../kube/scripted-client.ts';
import { poll } from '../support/poll.ts';

interface Stored {
  metadata: { name: string; namespace: string; uid: string; resourceVersion: string };
  spec: { holderIdentity: string; leaseTransitions?: number };
}

/** One Lease as a server keeps it: every write is of the version that was read. */
function leaseServer() {
  let stored: Stored | undefined;
  let version = 0;
  return {
    stored: () => stored,
    answer({ method, patch }: Request): unknown {
      const { metadata, spec } = patch as Partial<Stored>;
      if (method === 'GET') {
        if (stored === undefined) throw apiError(404);
        return structuredClone(stored);
      }
      if (method === 'POST' ? stored !== undefined : metadata?.resourceVersion !== stored?.metadata.resourceVersion) {
        throw apiError(409);
      }
      stored = {
        metadata: { name: 'l', namespace: 'n', uid: 'u', resourceVersion: String(++version) },
        spec: { holderIdentity: '', ...stored?.spec, ...spec },
      };
      return structuredClone(stored);
    },
  };
}

const open: Lease[] = [];
afterEach(() => Promise.all(open.splice(0).map((lease) => lease.stop())));

const TIMES = { durationMillis: 1_000, renewMillis: 600, retryMillis: 20 };
const log = { info: () => undefined, warn: () => undefined };

function candidate(server: ReturnType<typeof leaseServer>, identity: string) {
  const line = { isCut: false };
  const client = scriptedClient(async (request) => {
    await sleep(Math.random() * 20);
    if (line.isCut) throw apiError();
    const answer = server.answer(request);
    await sleep(Math.random() * 20);
    return answer;
  });
  let changes = 0;
  const lease = holdLease({ ...TIMES, client, namespace: 'n', name: 'l', identity, log, onChange: () => changes++ });
  open.push(lease);
  return { lease, line, identity, changes: () => changes };
}

test('of three one leads at any moment, and another does when it is cut off from the server', async () => {
  const server = leaseServer();
  const all = ['a', 'b', 'c'].map((identity) => candidate(server, identity));
  const leaders = () => all.filter(({ lease }) => lease.isLeader());
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, leaders().length);
  }, 1);
  const led: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const leader = await poll(() => leaders().find(({ line }) => !line.isCut));
    led.push(leader.identity);
    for (const { line } of all) line.isCut = false;
    leader.line.isCut = true;
    await poll(() => leader.lease.signal().aborted && leader.changes() >= 2);
  }
  clearInterval(watch);
  expect(most).toBe(1);
  expect(new Set(led).size).toBeGreaterThan(1);
  expect(server.stored()?.spec.leaseTransitions).toBeGreaterThanOrEqual(2);
});

test('who is asked to end releases it, and the next one takes it without waiting', async () => {
  const server = leaseServer();
  const first = candidate(server, 'a');
  await poll(() => first.lease.isLeader());
  await first.lease.stop();
  expect(server.stored()?.spec.holderIdentity).toBe('');
  expect(first.lease.isLeader()).toBe(false);
  const second = candidate(server, 'b');
  await poll(() => second.lease.isLeader());
  await first.lease.stop();
  expect(server.stored()?.spec.holderIdentity).toBe('b');
});

test('who was stopped for longer than it may rely on the Lease knows so before it writes', async () => {
  const server = leaseServer();
  let skipped = 0;
  const client = scriptedClient((request) => server.answer(request));
  const now = () => performance.now() + skipped;
  const lease = holdLease({
    ...TIMES,
    client,
    namespace: 'n',
    name: 'l',
    identity: 'a',
    log,
    now,
    onChange: () => undefined,
  });
  open.push(lease);
  await poll(() => lease.isLeader());
  skipped = 600;
  expect(lease.isLeader()).toBe(false);
});

test('a Lease whose holder says that it may be silent for longer is waited for', async () => {
  const server = leaseServer();
  let skipped = 0;
  const client = scriptedClient((request) => {
    const answer = server.answer(request);
    return request.method === 'GET'
      ? { ...(answer as object), spec: { holderIdentity: 'other', leaseDurationSeconds: 60 } }
      : answer;
  });
  server.answer({
    method: 'POST',
    path: '',
    query: {},
    patch: { spec: { holderIdentity: 'other' } },
    signal: undefined,
  });
  const now = () => performance.now() + skipped;
  const lease = holdLease({
    ...TIMES,
    client,
    namespace: 'n',
    name: 'l',
    identity: 'a',
    log,
    now,
    onChange: () => undefined,
  });
  open.push(lease);
  await poll(() => client.requests.length > 2);
  skipped = 10_000;
  const asked = client.requests.length;
  await poll(() => client.requests.length > asked + 2);
  expect(client.requests.every(({ method }) => method === 'GET')).toBe(true);
  skipped = 61_000;
  await poll(() => client.requests.some(({ method }) => method === 'PATCH'));
});
