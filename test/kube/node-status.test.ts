import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { createNodeStatusWriter } from '../../agent/kube/node-status.ts';
import type { StatusWriter } from '../../agent/kube/status.ts';
import type { Entry } from '../../agent/kube/status-entry.ts';
import { apiError, scriptedClient, type Request, type ScriptedClient } from './scripted-client.ts';

const V3 = 'projectcalico.org/v3';
const COLLECTION = '/apis/dpi-agent.io/v1/deeppacketinspectionnodes';

/** As a server keeps it. */
let object: { uid: string; inspections: Record<string, unknown>[] } | undefined;
let fault: (() => never) | undefined;
let client: ScriptedClient;
let writer: StatusWriter;
let warnings: string[];

const resource = (name: string) => ({ namespace: 'shop', name, uid: `u-${name}` });
const status = (podsCaptured: number, lastUpdated = '2026-01-01T00:00:00Z'): Entry => ({
  active: { success: true, lastUpdated },
  podsSelected: 3,
  podsCaptured,
  resolvers: {},
  errorConditions: [],
});
const pass = (millis: number): Promise<void> => jest.advanceTimersByTimeAsync(millis);
const methods = (): string[] => client.requests.map(({ method }) => method);

function serve({ method, path, patch }: Request): unknown {
  fault?.();
  if (method === 'POST' && object !== undefined) throw apiError(409);
  if (method === 'POST') object = { uid: 'o1', inspections: [] };
  if (object === undefined) throw apiError(404);
  if (method !== 'POST') expect(path).toBe(`${COLLECTION}/n1`);
  if (method === 'DELETE') object = undefined;
  else if (method !== 'GET') Object.assign(object, { inspections: (patch as typeof object).inspections });
  return { metadata: { name: 'n1', uid: object?.uid ?? 'o1' }, inspections: object?.inspections };
}

beforeEach(() => {
  jest.useFakeTimers();
  object = undefined;
  fault = undefined;
  warnings = [];
  client = scriptedClient(serve);
  const log = { warn: (_: unknown, text: string) => warnings.push(text), info: () => undefined };
  writer = createNodeStatusWriter({ client, node: 'n1', log: log as never, random: () => 1 });
});
afterEach(() => {
  jest.useRealTimers();
});

test('all resources are one request, some seconds later, and none when nothing changed', async () => {
  for (let index = 0; index < 50; index++) writer.set(resource(`r${index}`), V3, status(1));
  await pass(9_999);
  expect(methods()).toEqual([]);
  await pass(1);
  expect(methods()).toEqual(['POST']);
  expect(object?.inspections).toHaveLength(50);
  writer.set(resource('r7'), V3, status(1, '2026-05-05T00:00:00Z'));
  await pass(60_000);
  expect(methods()).toHaveLength(1);
  writer.set(resource('r7'), V3, status(2));
  writer.set(resource('r7'), V3, status(1));
  await pass(60_000);
  expect(methods()).toHaveLength(1);
  writer.set(resource('r7'), V3, status(2));
  writer.forget(resource('r8'), V3);
  await pass(10_000);
  expect(methods().slice(1)).toEqual(['PATCH']);
  expect(object?.inspections).toHaveLength(49);
});

test('what changes all the time costs one request in 10 s, and each change is written within them', async () => {
  const written: [number, number][] = [];
  for (let second = 0; second < 60; second++) {
    writer.set(resource('web'), V3, status(second));
    const before = client.requests.length;
    await pass(1_000);
    if (client.requests.length > before) written.push([second, Number(object?.inspections[0]?.['podsCaptured'])]);
  }
  expect(methods()).toEqual(['POST', 'PATCH', 'PATCH', 'PATCH', 'PATCH', 'PATCH']);
  expect(written).toEqual([9, 19, 29, 39, 49, 59].map((second) => [second, second]));
});

test('a node without anything to say has no object, and what an earlier agent left is taken back', async () => {
  writer.set(resource('web'), V3, undefined);
  await pass(60_000);
  expect(methods()).toEqual(['GET']);
  object = { uid: 'o1', inspections: [{ uid: 'u-old' }] };
  const next = createNodeStatusWriter({ client, node: 'n1' });
  next.set(resource('web'), V3, undefined);
  await pass(60_000);
  expect(object.inspections).toEqual([]);
  await next.close();
  expect(object).toBeUndefined();
});

test('since when it is so is kept over restarts', async () => {
  const active = { success: true, lastUpdated: '2025-12-12T00:00:00Z' };
  object = { uid: 'o1', inspections: [{ api: V3, uid: 'u-web', active }] };
  writer.set(resource('web'), V3, status(1));
  await pass(10_000);
  expect(object.inspections).toMatchObject([{ active, podsCaptured: 1 }]);
  expect(methods()).toEqual(['POST', 'GET', 'PATCH']);
});

test('what fails is tried again, later and later, with one warning, and written in the end', async () => {
  fault = () => {
    throw apiError(403);
  };
  writer.set(resource('web'), V3, status(1));
  await pass(300_000);
  expect(warnings).toEqual(['status of this node cannot be written']);
  expect(methods().length).toBeLessThan(15);
  fault = undefined;
  await pass(80_000);
  expect(object?.inspections).toMatchObject([{ podsCaptured: 1 }]);
});

test('close writes what waits at once, and nothing after that; it ends when the server does not answer', async () => {
  writer.set(resource('web'), V3, status(4));
  await writer.close();
  expect(object?.inspections).toMatchObject([{ podsCaptured: 4 }]);
  writer.set(resource('web'), V3, status(5));
  await pass(60_000);
  expect(object?.inspections).toMatchObject([{ podsCaptured: 4 }]);

  const other = createNodeStatusWriter({ client, node: 'n1' });
  fault = () => {
    throw apiError();
  };
  other.set(resource('web'), V3, undefined);
  let closed = false;
  void other.close().then(() => (closed = true));
  await pass(4_000);
  expect(closed).toBe(false);
  await pass(1_500);
  expect(closed).toBe(true);
});
