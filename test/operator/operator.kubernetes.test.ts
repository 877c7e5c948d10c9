/**
 * The operator on a real API server, with the rights that deploy/components/operator and copies give its service
 * account, and nothing else. Nobody runs the pods of its DaemonSet: the object is what counts.
 */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { createClient } from '../../agent/kube/client.ts';
import { followCluster } from '../../agent/kube/cluster.ts';
import type { ApiClient, ApiObject } from '../../agent/kube/api.ts';
import { nodeObject, nodeObjectPath, NODE_OBJECTS } from '../../agent/kube/node-object.ts';
import { createNodeStatusWriter } from '../../agent/kube/node-status.ts';
import { resourcePath, type ResourceStatus } from '../../agent/kube/resources.ts';
import { startOperator, type Operator } from '../../agent/operator/operator.ts';
import { COMPONENTS, overlay, type DaemonSet } from '../deploy/support.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const V3 = 'projectcalico.org/v3';
const LEASE = { durationMillis: 4_000, renewMillis: 3_000, retryMillis: 200 };
const RULES = '/usr/etc/snort/rules';

interface Detection {
  metadata: { generation: number };
  status?: { conditions?: { type: string; status: string; reason: string; message: string }[] };
}

interface Inspected {
  status?: ResourceStatus;
}

describeKubernetes(() => {
  const cluster = useControlPlane();
  const kubectl = (...args: string[]): string => cluster().kubectl(...args);
  let kubeconfig = '';
  let namespace = '';
  let operator: Operator | undefined;
  const children: ChildProcess[] = [];
  const folders: string[] = [];

  /** kubectl apply of deploy/ with these components, as a user does it. */
  function deploy(...components: (typeof COMPONENTS)[number][]): void {
    const { folder, parent } = overlay(components);
    folders.push(parent);
    kubectl('apply', '--server-side', '--force-conflicts', '-k', folder);
  }

  beforeAll(() => {
    deploy('operator', 'copies');
    kubectl('wait', '--for=condition=Established', '--timeout=300s', 'crd', '--all');
    const token = kubectl('create', 'token', 'dpi-agent-operator', '-n', 'tigera-dpi', '--duration=2h').trim();
    kubeconfig = cluster().variant(cluster().kubeconfig, { user: { token } });
  });
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(() => {
    namespace = cluster().namespace();
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await operator?.stop();
    operator = undefined;
    kubectl('delete', 'deeppacketinspections.projectcalico.org', '--all', '-A');
    kubectl('delete', 'deeppacketinspections.crd.projectcalico.org', '--all', '-A');
    kubectl('delete', 'intrusiondetections', '--all');
    kubectl('delete', 'daemonset', '--all', '-n', 'tigera-dpi');
  });

  async function start(lease = LEASE): Promise<Operator> {
    const client = await createClient({ kubeconfig });
    const log = pino({ level: 'silent' });
    operator = startOperator({ client, identity: `test-${Date.now()}`, log, lease, ownershipMillis: 500 });
    return operator;
  }

  /** Undefined: it is not there. */
  const json = (...args: string[]): unknown => {
    const text = kubectl('get', '--ignore-not-found', '-o', 'json', ...args);
    return text === '' ? undefined : JSON.parse(text);
  };
  const daemonSet = (): DaemonSet | undefined =>
    json('daemonset', 'tigera-dpi', '-n', 'tigera-dpi') as DaemonSet | undefined;
  const agent = () => daemonSet()?.spec.template.spec.containers[0];
  const variable = (name: string): string | undefined => agent()?.env.find((one) => one.name === name)?.value;
  const condition = () =>
    (json('intrusiondetection', 'tigera-secure') as Detection | undefined)?.status?.conditions?.find(
      ({ type }) => type === 'DeepPacketInspectionReady',
    );

  function inspect(name = 'sample-dpi', selector = 'app == "backend"', metadata: object = {}): void {
    const kind = { apiVersion: V3, kind: 'DeepPacketInspection' };
    cluster().apply({ ...kind, metadata: { name, namespace, ...metadata }, spec: { selector } });
  }

  /** The example of Calico Enterprise's documentation, with other numbers. */
  function configure(resourceRequirements: object, initContainers?: object[]): void {
    cluster().apply({
      apiVersion: 'operator.tigera.io/v1',
      kind: 'IntrusionDetection',
      metadata: { name: 'tigera-secure' },
      spec: {
        componentResources: [{ componentName: 'DeepPacketInspection', resourceRequirements }],
        ...(initContainers === undefined
          ? {}
          : { deepPacketInspectionDaemonset: { spec: { template: { spec: { initContainers } } } } }),
      },
    });
  }

  testOnOwnServer('the DaemonSet is there while a resource is, and is that of deploy/', async () => {
    await start();
    await poll(() => operator?.status().inspections === 0 && operator.status().leader);
    expect(daemonSet()).toBeUndefined();
    inspect();
    const made = await poll(daemonSet);
    const template = json('podtemplate', 'tigera-dpi', '-n', 'tigera-dpi');
    const { containers: _, ...spec } = made.spec.template.spec;
    expect(spec).toMatchObject({ hostNetwork: true, hostPID: true, serviceAccountName: 'tigera-dpi' });
    expect(template).toMatchObject({ template: { spec } });
    expect(agent()).toMatchObject({
      image: 'registry.example/dpi-agent:test',
      resources: { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '1Gi' } },
    });
    expect(variable('DPI_AGENT_ENGINE_MEMORY_LIMIT')).toBe('768MiB');
    expect(variable('DPI_AGENT_LANES')).toBeUndefined();

    kubectl('delete', 'deeppacketinspections.projectcalico.org', 'sample-dpi', '-n', namespace);
    await poll(() => daemonSet() === undefined);
  });

  testOnOwnServer(
    'CPU, memory and init containers of the IntrusionDetection are applied, changed and taken back',
    async () => {
      await start();
      inspect();
      configure({ limits: { cpu: '2500m', memory: '2Gi' }, requests: { cpu: '100m', memory: '100Mi' } }, [
        { name: 'snort-rules', image: 'registry.example/snort-rules:1', resources: { limits: { memory: '64Mi' } } },
      ]);
      await poll(() => variable('DPI_AGENT_LANES') === '2');
      expect(variable('DPI_AGENT_ENGINE_MEMORY_LIMIT')).toBe('864MiB');
      expect(agent()?.resources).toEqual({
        limits: { cpu: '2500m', memory: '2Gi' },
        requests: { cpu: '100m', memory: '100Mi' },
      });
      expect(daemonSet()?.spec.template.spec).toMatchObject({
        initContainers: [
          {
            name: 'snort-rules',
            image: 'registry.example/snort-rules:1',
            resources: { limits: { memory: '64Mi' } },
            volumeMounts: [{ name: 'snort-cache', mountPath: RULES }],
          },
        ],
      });
      expect(agent()?.volumeMounts).toContainEqual({ name: 'snort-cache', mountPath: RULES, readOnly: true });
      await poll(() => condition()?.status === 'True');
      expect(condition()).toMatchObject({
        reason: 'Applied',
        message: 'limits cpu 2500m, memory 2Gi: 2 lanes, 864Mi for each engine',
      });

      configure({ limits: { cpu: 1, memory: '1Gi' } });
      await poll(() => variable('DPI_AGENT_LANES') === '1');
      const { spec } = daemonSet()?.spec.template ?? { spec: undefined };
      expect(spec).not.toHaveProperty('initContainers');
      expect(spec?.volumes.map(({ name }) => name)).not.toContain('snort-cache');
      expect(agent()?.resources.requests).toBeUndefined();

      kubectl('delete', 'intrusiondetection', 'tigera-secure');
      await poll(() => variable('DPI_AGENT_LANES') === undefined);
      expect(agent()?.resources.limits).toEqual({ memory: '1Gi' });
    },
  );

  testOnOwnServer('a value that would break every agent is a condition and an event, and changes nothing', async () => {
    await start();
    inspect();
    configure({ limits: { cpu: '1', memory: '1Gi' } });
    await poll(() => condition()?.status === 'True' && daemonSet() !== undefined);
    const before = daemonSet();

    configure({ limits: { cpu: '1', memory: '64Mi' } });
    await poll(() => condition()?.status === 'False');
    expect(condition()).toMatchObject({
      reason: 'InvalidSettings',
      message: expect.stringContaining('limits.memory: "64Mi": agent, capture and engine need at least 384Mi'),
    });
    const events = await poll(() => {
      const found = kubectl(
        'get',
        'events',
        '-n',
        'default',
        '-o',
        'jsonpath={range .items[*]}{.type} {.message}{"\\n"}{end}',
      );
      return found.includes('64Mi') && found;
    });
    expect(events).toContain('Warning not applied, the DaemonSet stays as it was');
    // Changes of others are put back all the same, to what was taken last.
    kubectl('set', 'image', 'daemonset/tigera-dpi', 'dpi-agent=other:1', '-n', 'tigera-dpi');
    await poll(() => agent()?.image === 'registry.example/dpi-agent:test');
    expect(daemonSet()?.spec).toEqual(before?.spec);

    configure({ limits: { cpu: '3', memory: '1Gi' } });
    await poll(() => condition()?.status === 'True');
    expect(variable('DPI_AGENT_LANES')).toBe('3');
  });

  testOnOwnServer(
    'what is no quantity, or bears another name, is refused by the API server, which says what to write',
    () => {
      for (const cpu of ['1 GB', '-1', '2 cores', 'Gi']) {
        expect(() => configure({ limits: { cpu } })).toThrow(
          'write for example 500m or 2 for cpu, 512Mi or 2Gi for memory',
        );
      }
      for (const memory of ['1Gi', '512M', '1e9', '0.5Gi', 1073741824]) {
        expect(() => configure({ limits: { memory } })).not.toThrow();
      }
      const other = { apiVersion: 'operator.tigera.io/v1', kind: 'IntrusionDetection', metadata: { name: 'other' } };
      expect(() => cluster().apply(other)).toThrow('its name is tigera-secure');
    },
  );

  testOnOwnServer(
    "changes of others are put back, a deleted DaemonSet is made again, and kubectl's restart stays",
    async () => {
      // One leader counts from first to last: kubectl keeps this process busy for longer than a short lease lasts on a
      // slow machine.
      await start({ ...LEASE, durationMillis: 600_000, renewMillis: 500_000 });
      inspect();
      await poll(daemonSet);
      kubectl('rollout', 'restart', 'daemonset/tigera-dpi', '-n', 'tigera-dpi');
      const restarted = (): boolean =>
        daemonSet()?.spec.template.metadata.annotations['kubectl.kubernetes.io/restartedAt'] !== undefined;
      kubectl('set', 'env', 'daemonset/tigera-dpi', '-n', 'tigera-dpi', 'DPI_AGENT_ENGINE_MEMORY_LIMIT=1Mi');
      await poll(() => variable('DPI_AGENT_ENGINE_MEMORY_LIMIT') === '768MiB');
      expect(restarted()).toBe(true);
      kubectl('delete', 'daemonset', 'tigera-dpi', '-n', 'tigera-dpi');
      await poll(daemonSet);
      // The server has it before the operator knows.
      await poll(() => (operator?.status().putBack.daemonSet ?? 0) >= 2);
    },
  );

  testOnOwnServer(
    'a static DaemonSet is taken over with all that its overlay set, which then follows the template',
    async () => {
      deploy('elasticsearch');
      inspect();
      deploy('elasticsearch', 'operator', 'copies');
      await start();
      await poll(() => variable('DPI_AGENT_ENGINE_MEMORY_LIMIT') === '768MiB');
      expect(variable('DPI_AGENT_SINKS_ELASTICSEARCH_API_KEY_FILE')).toBe('/etc/dpi-agent-elasticsearch/apiKey');
      deploy('operator', 'copies');
      await poll(() => variable('DPI_AGENT_SINKS_ELASTICSEARCH_API_KEY_FILE') === undefined);
      expect(daemonSet()?.spec.template.spec.volumes.map(({ name }) => name)).not.toContain('elasticsearch');
    },
  );

  testOnOwnServer("a DaemonSet of that name which is another's is left alone", async () => {
    const metadata = { name: 'tigera-dpi', namespace: 'tigera-dpi' };
    const labels = { 'k8s-app': 'tigera-dpi' };
    const spec = { containers: [{ name: 'tigera-dpi', image: 'other:1' }] };
    cluster().apply({
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata,
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
    });
    configure({ limits: { memory: '1Gi' } });
    await start();
    inspect();
    await poll(() => condition()?.reason === 'ForeignDaemonSet');
    expect(agent()?.image).toBe('other:1');
  });

  testOnOwnServer(
    'copies stand in the other group, follow their sources, are put back, and no agent follows them',
    async () => {
      await start();
      inspect('sample-dpi', 'app == "backend"', { annotations: { 'dpi-agent.io/rule-sets': 'kubernetes' } });
      type Copy = {
        metadata: { uid: string; labels: Record<string, string>; annotations: Record<string, string> };
        spec: { selector: string };
        status?: { errors: number };
      };
      const copy = (): Copy | undefined =>
        json('deeppacketinspections.crd.projectcalico.org', 'sample-dpi', '-n', namespace) as Copy | undefined;
      const source = json('deeppacketinspections.projectcalico.org', 'sample-dpi', '-n', namespace) as Copy | undefined;
      const made = await poll(copy);
      expect(made.spec).toEqual({ selector: 'app == "backend"' });
      expect(made.metadata.labels).toEqual({ 'dpi-agent.io/copy': 'true' });
      expect(made.metadata.annotations).toEqual({
        'dpi-agent.io/copy-of': source?.metadata.uid,
        'dpi-agent.io/rule-sets': 'kubernetes',
      });

      inspect('sample-dpi', 'app == "frontend"');
      await poll(() => copy()?.spec.selector === 'app == "frontend"');
      const patch = (group: string, value: object, ...args: string[]): string =>
        kubectl(
          'patch',
          `deeppacketinspections.${group}`,
          'sample-dpi',
          '-n',
          namespace,
          '--type=merge',
          '-p',
          JSON.stringify(value),
          ...args,
        );
      patch('projectcalico.org', { status: { errors: 7 } }, '--subresource=status');
      await poll(() => copy()?.status?.errors === 7);
      patch('crd.projectcalico.org', { spec: { selector: 'all()' } });
      await poll(() => copy()?.spec.selector === 'app == "frontend"');
      await poll(() =>
        kubectl('get', 'events', '-n', namespace, '-o', 'jsonpath={.items[*].message}').includes('this is a copy'),
      );
      kubectl('delete', 'deeppacketinspections.crd.projectcalico.org', 'sample-dpi', '-n', namespace);
      await poll(() => copy() !== undefined && copy()?.metadata.uid !== made.metadata.uid);

      // Somebody's own object stays, with and without a source of its name.
      const own = {
        apiVersion: 'crd.projectcalico.org/v1',
        kind: 'DeepPacketInspection',
        spec: { selector: 'has(own)' },
      };
      cluster().apply({ ...own, metadata: { name: 'own', namespace } });
      inspect('own', 'all()');
      await poll(() => operator?.status().copiesTaken === 1);

      // An agent that only sees that group: another API server owns the first one.
      const client = await createClient({ kubeconfig: cluster().kubeconfig });
      const blind: typeof client = {
        ...client,
        get: (path, query, signal) =>
          client.get(path === `/apis/${V3}` ? '/apis/none.example/v1' : path, query, signal),
      };
      const log = pino({ level: 'silent' });
      const follower = followCluster({ client: blind, node: 'node-1', onChange: () => undefined, log });
      try {
        await poll(() => follower.synced());
        expect(follower.resources().map(({ key }) => key)).toEqual([`${namespace}/own`]);
      } finally {
        await follower.stop();
      }

      kubectl('delete', 'deeppacketinspections.projectcalico.org', '--all', '-n', namespace);
      await poll(() => copy() === undefined);
      expect(json('deeppacketinspections.crd.projectcalico.org', 'own', '-n', namespace)).toMatchObject({
        spec: own.spec,
      });
    },
  );

  /** As the agent of a node: with the token that the kubelet gives its pod. */
  async function agentOf(node: string): Promise<ApiClient> {
    const pod = podObject('tigera-dpi', `agent-${node}`, node);
    cluster().apply({ ...pod, spec: { ...pod.spec, serviceAccountName: 'tigera-dpi' } });
    const bound = ['--bound-object-kind', 'Pod', '--bound-object-name', `agent-${node}`];
    const token = kubectl('create', 'token', 'tigera-dpi', '-n', 'tigera-dpi', ...bound).trim();
    return createClient({ kubeconfig: cluster().variant(cluster().kubeconfig, { user: { token } }) });
  }

  const captured = (podsCaptured: number, errors: string[] = []) => ({
    active: { success: errors.length === 0, lastUpdated: '2026-01-01T00:00:00Z' },
    podsSelected: 4,
    podsCaptured,
    resolvers: { route: podsCaptured },
    errorConditions: errors.map((message) => ({ message, timestamp: '2026-01-01T00:00:00Z' })),
  });

  testOnOwnServer(
    'a resource has the status that all nodes say, each in an object that no other agent may write or has to read',
    async () => {
      await start();
      inspect();
      const path = resourcePath(V3, namespace, 'sample-dpi');
      const admin = await createClient({ kubeconfig: cluster().kubeconfig });
      const { metadata } = await admin.get<ApiObject>(path);
      const resource = { namespace, name: 'sample-dpi', uid: metadata.uid };
      const status = () =>
        (json('deeppacketinspections.projectcalico.org', '-n', namespace, 'sample-dpi') as Inspected).status;
      const clients = { a: await agentOf('node-a'), b: await agentOf('node-b') };
      const writerOf = (node: 'a' | 'b') =>
        createNodeStatusWriter({ client: clients[node], node: `node-${node}`, intervalMillis: 0 });
      const [a, b] = [writerOf('a'), writerOf('b')];

      let whole = 0;
      let changes = 0;
      const counting: ApiClient = {
        ...clients.a,
        get: (asked, query, signal) => {
          const isResource = asked === path || asked === resourcePath(V3);
          if (isResource && query?.rows !== true) whole++;
          return clients.a.get(asked, query, signal);
        },
      };
      const log = pino({ level: 'silent' });
      const onChange = (): void => void changes++;
      const follower = followCluster({ client: counting, node: 'node-a', onChange, statusIn: 'node', log });
      try {
        await poll(() => follower.synced() && follower.resources().length === 1);
        const before = changes;
        a.set(resource, V3, captured(3));
        b.set(resource, V3, captured(1, ['pod x has no interface']));
        await Promise.all([a.flush(), b.flush()]);
        await poll(() => status()?.nodes?.length === 2);
        expect(status()).toMatchObject({
          nodesActive: 1,
          podsSelected: 8,
          podsCaptured: 4,
          errors: 1,
          nodesOmitted: 0,
        });
        expect(status()?.nodes?.[0]).toMatchObject({ node: 'node-a', resolvers: { route: 3 } });

        // Another selector does arrive, and neither it nor the statuses before it were anything to read.
        inspect('sample-dpi', 'app == "other"');
        await poll(() => follower.resources()[0]?.selector === 'app == "other"');
        expect({ whole, changes: changes - before }).toEqual({ whole: 0, changes: 1 });
        inspect('sample-dpi', 'app == "other"', { annotations: { 'dpi-agent.io/rule-sets': 'custom' } });
        await poll(() => follower.resources()[0]?.annotations['dpi-agent.io/rule-sets'] === 'custom');
        inspect('made-later', 'app == "third"');
        await poll(() => follower.resources().some(({ selector }) => selector === 'app == "third"'));
        cluster().kubectl('delete', 'deeppacketinspections.projectcalico.org', 'made-later', '-n', namespace);
        await poll(() => follower.resources().length === 1);
        expect(whole).toBe(0);
      } finally {
        await follower.stop();
      }

      const other = nodeObjectPath('node-b');
      const { metadata: theirs } = await admin.get<ApiObject>(other);
      const forbidden = { status: 403, message: expect.stringContaining('its own node only') };
      await expect(clients.a.mergePatch(other, { inspections: [] })).rejects.toMatchObject(forbidden);
      await expect(clients.a.remove(other, theirs.uid)).rejects.toMatchObject(forbidden);
      await expect(clients.a.create(NODE_OBJECTS, nodeObject('node-c', []))).rejects.toMatchObject(forbidden);

      // An agent that ends takes its entry along; one that was killed finds what it said, and since when.
      a.set(resource, V3, undefined);
      await a.close();
      await poll(() => status()?.nodes?.length === 1);
      const again = writerOf('b');
      const later = { success: true, lastUpdated: '2026-02-02T00:00:00Z' };
      again.set(resource, V3, { ...captured(2), active: later });
      await again.flush();
      await poll(() => status()?.podsCaptured === 2);
      again.set(resource, V3, { ...captured(4), active: { ...later, lastUpdated: '2026-03-03T00:00:00Z' } });
      await again.close();
      await poll(() => status()?.podsCaptured === 4);
      expect(status()?.nodes).toMatchObject([{ node: 'node-b', active: later }]);
    },
  );

  function spawnOperator(): { child: ChildProcess; output: () => string } {
    const program = [join(PROJECT, 'bin/dpi-agent.js'), 'operator', '--kubeconfig', kubeconfig, '--http.port', '0'];
    const child = spawn(process.execPath, program, { stdio: ['ignore', 'ignore', 'pipe'] });
    children.push(child);
    let output = '';
    child.stderr?.on('data', (chunk) => (output += String(chunk)));
    return { child, output: () => output };
  }

  testOnOwnServer(
    'of two replicas one acts; the other goes on when it is killed, and at once when it is asked to end',
    async () => {
      const replicas = [spawnOperator(), spawnOperator()];
      const leading = (): typeof replicas => replicas.filter(({ output }) => output().includes('"msg":"leading"'));
      await poll(() => leading().length > 0);
      inspect();
      await poll(daemonSet);
      const [first] = leading();
      expect(leading()).toHaveLength(1);
      first?.child.kill('SIGKILL');
      await poll(() => leading().length === 2);
      kubectl('delete', 'daemonset', 'tigera-dpi', '-n', 'tigera-dpi');
      await poll(daemonSet);

      const third = spawnOperator();
      await poll(() => third.output().includes('"msg":"operator"'));
      const second = replicas.find((replica) => replica !== first);
      second?.child.kill('SIGTERM');
      await poll(() => third.output().includes('"msg":"leading"'));
      await poll(() => second?.child.exitCode === 0 && second.output().includes('lease released'));
    },
  );

  testOnOwnServer('while the API server is away nothing is forgotten, and it goes on when it is back', async () => {
    await start();
    inspect();
    await poll(daemonSet);
    await cluster().controlPlane().apiServer.kill();
    await poll(() => operator?.status().leader === false);
    await cluster().controlPlane().apiServer.start();
    await poll(() => operator?.status().leader === true);
    expect(daemonSet()).toBeDefined();
    configure({ limits: { cpu: '2', memory: '1Gi' } });
    await poll(() => variable('DPI_AGENT_LANES') === '2');
  });
});
