import { beforeEach, expect, test } from '@jest/globals';
import type { NodeObject } from '../../agent/kube/node-object.ts';
import type { ApiDeepPacketInspection } from '../../agent/kube/resources.ts';
import { createNodeStatuses, type NodeStatuses } from '../../agent/operator/node-statuses.ts';
import { toEntries, type NodeEntries } from '../../agent/operator/sums.ts';
import { apiError, scriptedClient, type ScriptedClient } from '../kube/scripted-client.ts';

const api = 'projectcalico.org/v3';
const NEVER = new AbortController().signal;

let now: number;
let nodes: NodeEntries[];
let resources: ApiDeepPacketInspection[];
let there: string[];
let client: ScriptedClient;
let statuses: NodeStatuses;

const entries = (name: string, uids: string[], podsCaptured = 1): NodeEntries =>
  toEntries({
    metadata: { name, uid: `uid-${name}`, resourceVersion: '1' },
    inspections: uids.map((uid) => ({ uid, active: { success: true }, podsCaptured })),
  } as unknown as NodeObject);

beforeEach(() => {
  now = 0;
  nodes = [];
  there = [];
  resources = [...Array(50).keys()].map((index) => ({
    metadata: { name: `r${index}`, namespace: 'shop', uid: `u${index}`, resourceVersion: '1' },
  }));
  client = scriptedClient(({ method, path, patch }) => {
    if (method === 'GET') return { metadata: {}, items: there.map((name) => ({ metadata: { name } })) };
    const resource = resources.find(({ metadata }) => path.includes(`/${metadata.name}/`));
    if (method === 'PATCH' && resource === undefined) throw apiError(404);
    if (resource !== undefined) Object.assign(resource, { status: (patch as { status: object }).status });
    return {};
  });
  const log = { info: () => undefined, warn: () => undefined };
  statuses = createNodeStatuses({ client, nodes: { list: () => nodes }, now: () => now, log });
});

const uids = (): string[] => resources.map(({ metadata }) => metadata.uid);
const writes = (): string[] => client.requests.filter(({ method }) => method === 'PATCH').map(({ path }) => path);
const writeNext = (): Promise<number | undefined> => statuses.writeNext({ api, resources }, NEVER);

/** Until nothing waits. @returns the milliseconds that it took. */
async function settle(): Promise<number> {
  const since = now;
  for (let next = await writeNext(); next !== undefined; next = await writeNext()) now += next;
  return now - since;
}

test('a change on each of 5,000 nodes for 50 resources: two writes of each at most, done within 60 s', async () => {
  const [before, after] = [entries('n', uids(), 1), entries('n', uids(), 2)];
  nodes = [...Array(5_000).keys()].map((index) => ({ ...before, node: `n${index}` }));
  const first = await settle();
  expect(writes()).toHaveLength(50);
  // Agents get 10,000 of them a second at most.
  expect(first).toBeGreaterThanOrEqual((49 * 5_000 * 1_000) / 10_000);
  client.requests.length = 0;
  const since = now;
  let next = 0;
  // Each node has its turn within 10 s.
  for (const [index, node] of nodes.entries()) {
    now = since + index * 2;
    nodes[index] = { ...node, entries: after.entries };
    statuses.changed(node, nodes[index]);
    if (now >= next) next = now + ((await writeNext()) ?? 0);
  }
  await settle();
  expect(new Set(writes()).size).toBe(50);
  expect(writes().length).toBeLessThanOrEqual(100);
  expect(now - since).toBeLessThan(60_000);
  for (const { status } of resources) expect(status).toMatchObject({ nodesActive: 5_000, podsCaptured: 10_000 });
});

test('a change is written after a quiet second, one that goes on every 10 s, and neither keeps another waiting', async () => {
  nodes = [entries('a', ['u0', 'u1'])];
  await settle();
  expect(writes()).toHaveLength(2);
  const change = (captured: number, others: string[]): void => {
    const before = nodes[0];
    nodes = [entries('a', ['u0', ...others], captured)];
    statuses.changed(before, nodes[0]);
  };
  change(2, []);
  expect(await writeNext()).toBe(1_000);
  for (let captured = 3; captured <= 252; captured++) {
    now += 100;
    change(captured, []);
    await writeNext();
    if (captured === 13) expect(resources[1]?.status).toMatchObject({ nodes: [], podsCaptured: 0 });
  }
  await settle();
  expect(writes().filter((path) => path.includes('/r0/'))).toHaveLength(1 + 2 + 1);
  expect(resources[0]?.status).toMatchObject({ podsCaptured: 252 });
});

test('what others change is put back within a minute; where no node has an object, nothing is touched', async () => {
  Object.assign(resources[3] ?? {}, { status: { nodes: [{ node: 'z' }], podsCaptured: 4 } });
  await settle();
  expect(writes()).toEqual([]);
  nodes = [entries('a', ['u3'])];
  await settle();
  Object.assign(resources[3] ?? {}, { status: { nodes: [], podsCaptured: 9 } });
  now += 60_000;
  await settle();
  expect(resources[3]?.status).toMatchObject({ nodes: [{ node: 'a' }], podsCaptured: 1 });
});

test('a node that has been gone for ten minutes says nothing any more, one that came back does', async () => {
  nodes = [entries('a', []), entries('b', []), entries('c', [])];
  there = ['a'];
  await statuses.prune(NEVER);
  now += 600_000;
  there = ['a', 'b'];
  await statuses.prune(NEVER);
  const removed = client.requests.filter(({ method }) => method === 'DELETE').map(({ path }) => path);
  expect(removed).toEqual(['/apis/dpi-agent.io/v1/deeppacketinspectionnodes/c']);
});
