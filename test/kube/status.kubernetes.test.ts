import { afterEach, beforeAll, expect } from '@jest/globals';
import * as fc from 'fast-check';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiClient, ApiObject } from '../../agent/kube/api.ts';
import { createClient } from '../../agent/kube/client.ts';
import { discoverResourceApi, resourcePath, type NodeStatus, type ResourceApi } from '../../agent/kube/resources.ts';
import { createStatusWriter, type StatusResource, type StatusWriter } from '../../agent/kube/status.ts';
import { describeKubernetes, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import { PROJECT } from '../support/project.ts';

const V3 = 'projectcalico.org/v3';
const V1 = 'crd.projectcalico.org/v1';
const TIME = '2026-01-01T00:00:00Z';

/** Somebody else's: no subresource, no schema. */
const FOREIGN_CRD = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'deeppacketinspections.crd.projectcalico.org' },
  spec: {
    group: 'crd.projectcalico.org',
    scope: 'Namespaced',
    names: { kind: 'DeepPacketInspection', plural: 'deeppacketinspections' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
      },
    ],
  },
};

type Status = Omit<NodeStatus, 'node'>;

const status = (podsCaptured: number, success = true, errors: string[] = []): Status => ({
  active: { success, lastUpdated: TIME },
  podsSelected: 9,
  podsCaptured,
  resolvers: { route: podsCaptured },
  errorConditions: errors.map((message) => ({ message, timestamp: TIME })),
});

describeKubernetes(() => {
  const cluster = useControlPlane();
  let client: ApiClient;
  let namespace: string;
  let number = 0;
  let writers: StatusWriter[] = [];

  beforeAll(async () => {
    client = await createClient({ kubeconfig: cluster().kubeconfig });
    namespace = cluster().namespace();
    cluster().apply(FOREIGN_CRD);
    while ((await discoverResourceApi(client)) !== V1) await sleep(50);
    cluster().kubectl('apply', '-f', join(PROJECT, 'deploy/crds/projectcalico.org/deeppacketinspections.yaml'));
    while ((await discoverResourceApi(client)) !== V3) await sleep(50);
  });

  afterEach(async () => {
    await Promise.all(writers.map((one) => one.close()));
    writers = [];
  });

  function writer(node: string, minIntervalMillis = 0): StatusWriter {
    const created = createStatusWriter({ client, node, minIntervalMillis });
    writers.push(created);
    return created;
  }

  async function resource(api: ResourceApi = V3, name = `r${number++}`): Promise<StatusResource> {
    cluster().apply({
      apiVersion: api,
      kind: 'DeepPacketInspection',
      metadata: { name, namespace },
      spec: { selector: 'all()' },
    });
    const { metadata } = await client.get<ApiObject>(resourcePath(api, namespace, name));
    return { namespace, name, uid: metadata.uid };
  }

  type Read = ApiObject & {
    status?: { nodes: Record<string, unknown>[]; nodesActive: number; podsCaptured: number; errors: number };
  };

  async function read({ name }: StatusResource, api: ResourceApi = V3) {
    const object = await client.get<Read>(resourcePath(api, namespace, name));
    return { nodes: [], ...object.status, version: object.metadata.resourceVersion };
  }

  /** Somebody who writes the whole array, as an agent of another kind might. */
  async function setForeign(
    { name }: StatusResource,
    api: ResourceApi,
    change: (nodes: unknown[]) => unknown,
  ): Promise<void> {
    const path = resourcePath(api, namespace, name);
    for (;;) {
      const { metadata, ...rest } = await client.get<Read>(path);
      const patch = {
        metadata: { resourceVersion: metadata.resourceVersion },
        status: { nodes: change(rest.status?.nodes ?? []) },
      };
      try {
        await client.mergePatch(api === V3 ? `${path}/status` : path, patch);
        return;
      } catch (error) {
        if ((error as { status?: number }).status !== 409) throw error;
      }
    }
  }

  testOnOwnServer('the schema keeps what is written, and kubectl shows the sums', async () => {
    const web = await resource();
    const [a, b] = [writer('a'), writer('b')];
    a.set(web, V3, status(2, true, ['pod x has no interface']));
    b.set(web, V3, status(3, false));
    await Promise.all([a.flush(), b.flush()]);
    const { nodes, nodesActive, podsCaptured, errors } = await read(web);
    expect({ nodesActive, podsCaptured, errors }).toEqual({ nodesActive: 1, podsCaptured: 5, errors: 1 });
    expect(nodes.toSorted((x, y) => (String(x['node']) < String(y['node']) ? -1 : 1))).toEqual([
      {
        node: 'a',
        ...status(2),
        errorConditions: [{ message: 'pod x has no interface', timestamp: TIME, lastUpdated: TIME }],
      },
      { node: 'b', ...status(3, false) },
    ]);
    expect(cluster().kubectl('get', 'deeppacketinspections.v3.projectcalico.org', '-n', namespace, web.name)).toMatch(
      /all\(\) +1 +5 +1 /,
    );
  });

  testOnOwnServer(
    'two writers and a stranger, interleaved in any way, lose and change nothing of one another',
    async () => {
      const foreign = fc.dictionary(
        fc
          .stringMatching(/^[a-z]{1,8}$/)
          .filter(
            (key) => !['node', 'active', 'podsSelected', 'podsCaptured', 'resolvers', 'errorConditions'].includes(key),
          ),
        fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.integer())),
      );
      const value = fc.option(
        fc.record({ captured: fc.nat(9), success: fc.boolean(), errors: fc.array(fc.string(), { maxLength: 12 }) }),
        { nil: undefined },
      );
      const step = fc.oneof(
        { weight: 6, arbitrary: fc.record({ by: fc.constantFrom(0, 1), value, flush: fc.boolean() }) },
        { weight: 1, arbitrary: fc.record({ by: fc.constant(2), foreign }) },
        { weight: 1, arbitrary: fc.record({ by: fc.constant(3), millis: fc.nat(30) }) },
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
          const web = await resource();
          const pair = [writer('a'), writer('b')];
          const last: (Status | undefined)[] = [];
          const strange: Record<string, unknown>[] = [];
          const flushes: Promise<void>[] = [];
          for (const taken of steps) {
            if ('millis' in taken) await sleep(taken.millis);
            if ('foreign' in taken) {
              const entry = { node: `c${strange.length}`, ...taken.foreign };
              await setForeign(web, V3, (nodes) => [...nodes, entry]);
              strange.push(entry);
            }
            if ('flush' in taken) {
              const entry = taken.value && status(taken.value.captured, taken.value.success, taken.value.errors);
              last[taken.by] = entry;
              pair[taken.by]?.set(web, V3, entry);
              const flushed = taken.flush ? pair[taken.by]?.flush() : undefined;
              if (flushed !== undefined) flushes.push(flushed);
            }
          }
          await Promise.all([...flushes, ...pair.map((one) => one.flush())]);
          const { nodes, nodesActive, podsCaptured, errors } = await read(web);
          const own = (node: string): unknown[] => nodes.filter((entry) => entry['node'] === node);
          for (const [index, node] of ['a', 'b'].entries()) {
            const wanted = last[index];
            expect(own(node)).toHaveLength(wanted === undefined ? 0 : 1);
            if (wanted === undefined) continue;
            const { active, podsCaptured: captured, errorConditions } = wanted;
            expect(own(node)).toMatchObject([{ active: { success: active.success }, podsCaptured: captured }]);
            expect(own(node)).toHaveProperty('[0].errorConditions.length', Math.min(10, errorConditions.length));
          }
          expect(nodes.filter((entry) => String(entry['node']).startsWith('c'))).toEqual(strange);
          if (last.length > 0 && nodesActive !== undefined) {
            const both = last.filter((entry) => entry !== undefined);
            expect(nodesActive).toBe(both.filter((entry) => entry.active.success).length);
            expect(podsCaptured).toBe(both.reduce((sum, entry) => sum + entry.podsCaptured, 0));
            expect(errors).toBe(both.reduce((sum, entry) => sum + Math.min(10, entry.errorConditions.length), 0));
          }
          for (const one of pair) one.set(web, V3, undefined);
          await Promise.all(pair.map((one) => one.close()));
          expect((await read(web)).nodes).toEqual(strange);
        }),
        { numRuns: 12 },
      );
    },
  );

  testOnOwnServer(
    '30 agents that write at once end with 30 entries, and with none when they leave at once',
    async () => {
      const web = await resource();
      const agents = Array.from({ length: 30 }, (_, i) => writer(`n${i}`));
      for (const agent of agents) agent.set(web, V3, status(1));
      await Promise.all(agents.map((agent) => agent.flush()));
      const { nodes, nodesActive, podsCaptured } = await read(web);
      expect(new Set(nodes.map((entry) => entry['node'])).size).toBe(30);
      expect({ entries: nodes.length, nodesActive, podsCaptured }).toEqual({
        entries: 30,
        nodesActive: 30,
        podsCaptured: 30,
      });
      for (const agent of agents) agent.set(web, V3, undefined);
      await Promise.all(agents.map((agent) => agent.flush()));
      expect(await read(web)).toMatchObject({ nodes: [], nodesActive: 0, podsCaptured: 0 });
    },
  );

  testOnOwnServer(
    'an agent that starts again writes nothing, where nothing changed, and removes what no longer holds',
    async () => {
      const [web, former] = [await resource(), await resource()];
      const first = writer('a');
      first.set(web, V3, status(2, true, ['wrong']));
      first.set(former, V3, status(1));
      await first.flush();
      const before = await read(web);
      const second = writer('a');
      second.set(web, V3, {
        ...status(2, true, ['wrong']),
        active: { success: true, lastUpdated: '2026-02-02T00:00:00Z' },
      });
      second.set(former, V3, undefined);
      await second.flush();
      expect(await read(web)).toEqual(before);
      const left = await read(former);
      expect(left).toMatchObject({ nodes: [], podsCaptured: 0 });
      const third = writer('a');
      third.set(former, V3, undefined);
      await third.flush();
      expect((await read(former)).version).toBe(left.version);
    },
  );

  testOnOwnServer(
    'a CRD without status subresource gets the status, and malformed entries of others survive',
    async () => {
      const web = await resource(V1);
      const strange = ['text', 7, { active: 'yes' }, { node: 'b', podsCaptured: 'many', errorConditions: { a: 1 } }];
      for (const nodes of [strange, null, 'none', { a: 1 }]) {
        await setForeign(web, V1, () => nodes);
        const agent = writer('a');
        agent.set(web, V1, status(2));
        await agent.flush();
        const found = await read(web, V1);
        expect(found.nodes).toEqual([...(Array.isArray(nodes) ? nodes : []), { node: 'a', ...status(2) }]);
        expect(found).toMatchObject({ nodesActive: 1, podsCaptured: 2, errors: 0 });
        agent.set(web, V1, undefined);
        await agent.flush();
        expect((await read(web, V1)).nodes).toEqual(Array.isArray(nodes) ? nodes : []);
      }
      const { spec } = await client.get<ApiObject & { spec: object }>(resourcePath(V1, namespace, web.name));
      expect(spec).toEqual({ selector: 'all()' });
    },
  );

  testOnOwnServer(
    'a resource that was made again under its name is left alone until its new UID is known',
    async () => {
      const former = await resource();
      const agent = writer('a');
      agent.set(former, V3, status(1));
      await agent.flush();
      cluster().kubectl('delete', 'deeppacketinspections.v3.projectcalico.org', '-n', namespace, former.name);
      agent.set(former, V3, status(2));
      await agent.flush();
      const successor = await resource(V3, former.name);
      agent.set(former, V3, status(3));
      await agent.flush();
      expect((await read(successor)).nodes).toEqual([]);
      agent.set(successor, V3, status(4));
      await agent.flush();
      expect(await read(successor)).toMatchObject({ podsCaptured: 4 });
    },
  );

  testOnOwnServer(
    'with no right but to the status, a resource that goes while it is written is no failure',
    async () => {
      const { kubeconfig, name } = cluster().serviceAccount(namespace, 'agent');
      const apiGroups = ['projectcalico.org'];
      cluster().apply(
        {
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'ClusterRole',
          metadata: { name: 'status-only' },
          rules: [
            { apiGroups, resources: ['deeppacketinspections'], verbs: ['get'] },
            { apiGroups, resources: ['deeppacketinspections/status'], verbs: ['patch'] },
          ],
        },
        {
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'ClusterRoleBinding',
          metadata: { name: 'status-only' },
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'status-only' },
          subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name }],
        },
      );
      const limited = await createClient({ kubeconfig });
      const web = await resource();
      const warnings: unknown[] = [];
      const agent = createStatusWriter({
        client: {
          ...limited,
          async mergePatch(path, patch, signal) {
            if (warnings.length === 0 && isLast)
              cluster().kubectl('delete', 'deeppacketinspections.v3.projectcalico.org', '-n', namespace, web.name);
            return limited.mergePatch(path, patch, signal);
          },
        },
        node: 'a',
        minIntervalMillis: 0,
        log: { warn: (...args: unknown[]) => void warnings.push(args), info: () => undefined },
      });
      let isLast = false;
      agent.set(web, V3, status(1));
      await agent.flush();
      expect(await read(web)).toMatchObject({ podsCaptured: 1 });
      isLast = true;
      agent.set(web, V3, status(2));
      await agent.close();
      expect(warnings).toEqual([]);
    },
  );
});
