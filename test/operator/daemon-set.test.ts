import { expect, test } from '@jest/globals';
import type { ManagedFields } from '../../agent/kube/api.ts';
import { adopt, createKeeper, toLive, type LiveDaemonSet } from '../../agent/operator/daemon-set.ts';
import { buildDaemonSet, type DaemonSet } from '../../agent/operator/desired.ts';
import { createPatience } from '../../agent/operator/patience.ts';
import { scriptedClient } from '../kube/scripted-client.ts';

const { signal } = new AbortController();

function desired(): DaemonSet {
  const built = buildDaemonSet(
    { metadata: { labels: {}, annotations: {} }, spec: { containers: [{ name: 'dpi-agent', image: 'a' }] } },
    {},
  );
  if ('problems' in built) throw new Error(built.problems.join());
  return built.daemonSet;
}

/** A server whose DaemonSet has a generation that a write of others, or of a put-back, raises. */
function rig() {
  let clock = 0;
  let generation = 1;
  const client = scriptedClient(({ method, path }) => {
    if (method === 'APPLY' && live !== undefined) generation++;
    return { metadata: { name: path, uid: 'u', resourceVersion: '1', generation } };
  });
  const keeper = createKeeper({ client, log: { info: () => undefined, warn: () => undefined }, now: () => clock });
  let live: LiveDaemonSet | undefined;
  return {
    client,
    keeper,
    wait: (millis: number) => (clock += millis),
    /** The cache sees it, and somebody changed it or not. */
    see: (changed = false): LiveDaemonSet => {
      if (changed) generation++;
      const { labels, annotations } = desired().metadata;
      const metadata = { name: 'tigera-dpi', uid: 'u', resourceVersion: '1', generation, labels, annotations };
      live = toLive({ metadata });
      return live;
    },
    writes: () => client.requests.filter(({ method }) => method === 'APPLY').length,
  };
}

test('what is as it shall be is not written again, nor is what the cache does not show yet', async () => {
  const { keeper, see, writes } = rig();
  await keeper.apply(desired(), undefined, signal);
  expect(writes()).toBe(1);
  const old = see();
  await keeper.apply(desired(), old, signal);
  await keeper.apply(desired(), { ...old, generation: 0 }, signal);
  expect(writes()).toBe(1);
  expect(keeper.putBacks()).toBe(0);
});

test.each([
  ['its label', { labels: {} }],
  ['its annotation', { annotations: { 'dpi-agent.io/settings': '{"x":1}' } }],
  ['another object of its name', { uid: 'another' }],
])('%s is put back', async (_, change) => {
  const { keeper, see, writes } = rig();
  await keeper.apply(desired(), undefined, signal);
  await keeper.apply(desired(), { ...see(), ...change }, signal);
  expect(writes()).toBe(2);
});

test('two who want different things write ever more rarely, and new wishes are written at once', async () => {
  const { keeper, see, writes, wait } = rig();
  await keeper.apply(desired(), undefined, signal);
  const pauses: number[] = [];
  for (let round = 0; round < 12; round++) {
    const pause = await keeper.apply(desired(), see(true), signal);
    pauses.push(pause ?? 0);
    wait(pause ?? 0);
    if (pause !== undefined) expect(await keeper.apply(desired(), see(true), signal)).toBeUndefined();
  }
  expect(pauses).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map((seconds) => seconds * 1000));
  expect(keeper.putBacks()).toBe(12);

  const before = writes();
  const other = desired();
  other.metadata.labels['new'] = 'wish';
  expect(await keeper.apply(other, see(true), signal)).toBeUndefined();
  expect(writes()).toBe(before + 1);
});

test('ten quiet minutes make it prompt again', () => {
  let clock = 0;
  const patience = createPatience(() => clock);
  for (let times = 0; times < 5; times++) patience.used();
  expect(patience.wait()).toBe(16_000);
  clock += 600_001;
  expect(patience.wait()).toBe(0);
});

test('what is removed is the object that was seen', async () => {
  const { keeper, see, client } = rig();
  await keeper.remove(undefined, signal);
  expect(client.requests).toEqual([]);
  await keeper.remove(see(), signal);
  expect(client.requests).toMatchObject([{ method: 'DELETE', patch: { uid: 'u' } }]);
});

test('fields that kubectl applied become the operator’s, those of others stay theirs', () => {
  const entry = (
    manager: string,
    operation: 'Apply' | 'Update',
    fieldsV1: ManagedFields['fieldsV1'] = {},
  ): ManagedFields => ({
    manager,
    operation,
    fieldsV1,
  });
  const own = entry('dpi-agent-operator', 'Apply', { 'f:spec': { 'f:a': {} } });
  const restart = entry('kubectl-rollout', 'Update', { 'f:spec': { 'f:r': {} } });
  const status = { ...entry('kubectl', 'Apply', { 'f:status': {} }), subresource: 'status' };
  expect(adopt([own, restart, status])).toBeUndefined();
  const adopted = adopt([
    entry('kubectl-client-side-apply', 'Update', { 'f:spec': { 'f:b': {}, 'f:c': { '.': {}, 'f:d': {} } } }),
    restart,
    own,
    entry('kubectl', 'Apply', { 'f:spec': { 'f:c': { 'f:e': {} } } }),
    status,
  ]);
  expect(adopted).toMatchObject([restart, status, { manager: 'dpi-agent-operator', operation: 'Apply' }]);
  expect(adopted?.[2]?.fieldsV1).toEqual({
    'f:spec': { 'f:a': {}, 'f:b': {}, 'f:c': { '.': {}, 'f:d': {}, 'f:e': {} } },
  });
});
