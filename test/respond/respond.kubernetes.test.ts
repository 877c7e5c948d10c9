/**
 * Isolating pods on a real API server: by hand with the rights of a person, and by the component with the rights that
 * deploy/components/response gives it. Nobody enforces the policies here: the objects are what counts.
 */
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { createClient } from '../../agent/kube/client.ts';
import { createAccess } from '../../agent/kube/token-access.ts';
import { isolate, listIsolations, release } from '../../agent/respond/isolate.ts';
import { startKeeper, type Keeper, type KeeperOptions } from '../../agent/respond/keeper.ts';
import { personOf } from '../../agent/respond/persons.ts';
import { createRespondServer } from '../../agent/respond/server.ts';
import { describeKubernetes, podObject, useControlPlane, type Identity } from '../support/kubernetes.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const NODE = 'n1';
const SETTINGS = {
  protectedNamespaces: ['tigera-dpi'],
  automatic: true,
  automaticPods: ['dpi-test-*/web-*'],
  automaticPerHour: 2,
  automaticAtOnce: 5,
  maxFor: 86_400_000,
};

interface Policy {
  metadata: { name: string; annotations: Record<string, string> };
  spec: object;
}

describeKubernetes(() => {
  const cluster = useControlPlane();
  const kubectl = (...args: string[]): string => cluster().kubectl(...args);
  let namespace = '';
  let component: Identity;
  let person: Identity;
  let agentToken = '';
  let address = '';
  let keeper: Keeper | undefined;
  let app: ReturnType<typeof createRespondServer> | undefined;

  beforeAll(async () => {
    const apply = (path: string): string => kubectl('apply', '-f', join(PROJECT, 'deploy', path));
    for (const path of ['namespace.yaml', 'rbac.yaml', 'components/response/rbac.yaml']) apply(path);
    apply('components/response/admission.yaml');
    apply('crds/projectcalico.org/deeppacketinspections.yaml');
    kubectl('wait', '--for=condition=Established', '--timeout=300s', 'crd', '--all');
    component = cluster().serviceAccount('tigera-dpi', 'dpi-agent-response');
    namespace = cluster().namespace();
    person = cluster().serviceAccount(namespace, 'anna');
    kubectl(
      'create',
      'rolebinding',
      'anna',
      '-n',
      namespace,
      '--clusterrole=dpi-agent-isolate',
      `--serviceaccount=${namespace}:anna`,
    );
    addPods();
    agentToken = tokenOfAgent('agent-1', NODE);
    // An admission policy is in use some moments after it was made.
    await poll(() => {
      try {
        kubectl(
          'label',
          'pod',
          'web-1',
          '-n',
          namespace,
          'probe=1',
          '--overwrite',
          '--kubeconfig',
          component.kubeconfig,
        );
        return false;
      } catch (error) {
        return /may change nothing of a pod/.test(String(error));
      }
    });
  });
  afterEach(async () => {
    await app?.close();
    await keeper?.stop();
    [app, keeper] = [undefined, undefined];
    kubectl('delete', 'networkpolicies.networking.k8s.io', '--all', '-n', namespace);
    kubectl('label', 'pods', '--all', '-n', namespace, 'dpi-agent.io/isolated-');
  });
  afterAll(async () => {
    await app?.close();
    await keeper?.stop();
  });

  function addPods(): void {
    for (const name of ['web-1', 'web-2', 'web-3', 'db-1']) {
      cluster().apply(podObject(namespace, name, NODE, { app: name.slice(0, -2) }));
      const ready = [{ type: 'Ready', status: 'True' }];
      const status = { phase: 'Running', podIP: '10.65.0.2', podIPs: [{ ip: '10.65.0.2' }], conditions: ready };
      kubectl('patch', 'pod', name, '-n', namespace, '--subresource=status', '-p', JSON.stringify({ status }));
    }
    const ports = [{ port: 80 }];
    const metadata = { name: 'shop', namespace };
    cluster().apply({ apiVersion: 'v1', kind: 'Service', metadata, spec: { selector: { app: 'web' }, ports } });
    cluster().apply({
      apiVersion: 'projectcalico.org/v3',
      kind: 'DeepPacketInspection',
      metadata: { name: 'web', namespace },
      spec: { selector: "app == 'web'" },
    });
  }

  /** As the kubelet gives it to the agent's pod of a node. */
  function tokenOfAgent(pod: string, node: string): string {
    const object = podObject('tigera-dpi', pod, node);
    cluster().apply({ ...object, spec: { ...object.spec, serviceAccountName: 'tigera-dpi' } });
    cluster().apply({ apiVersion: 'v1', kind: 'Node', metadata: { name: node } });
    const bound = ['--bound-object-kind=Pod', `--bound-object-name=${pod}`];
    return kubectl(
      'create',
      'token',
      'tigera-dpi',
      '-n',
      'tigera-dpi',
      '--audience=dpi-agent-response',
      ...bound,
    ).trim();
  }

  async function start(settings: Partial<KeeperOptions> = {}): Promise<void> {
    const client = await createClient({ kubeconfig: component.kubeconfig });
    const log = pino({ level: 'silent' });
    keeper = startKeeper({ ...SETTINGS, client, log, lookMillis: 100, ...settings });
    app = createRespondServer({
      keeper,
      agentOf: createAccess(client, { audience: 'dpi-agent-response', serviceAccounts: ['tigera-dpi/tigera-dpi'] }),
      personOf: (token) => personOf(client, token),
      log,
    });
    // However long kubectl takes meanwhile.
    app.server.keepAliveTimeout = 0;
    address = await app.listen({ host: '127.0.0.1', port: 0 });
  }

  async function ask(token: string, payload: object, path = '') {
    const url = `${address}/v1/isolations${path}`;
    const headers = { authorization: `Bearer ${token}` };
    const body = JSON.stringify(payload);
    const answer = await fetch(url, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body,
    });
    return { status: answer.status, ...((await answer.json()) as object) } as Record<string, unknown>;
  }
  const wish = (pod: string, more: object = {}): object => ({
    namespace,
    pod,
    forMillis: 3_600_000,
    reason: 'C2 beacon',
    dryRun: false,
    ...more,
  });
  const agents = (pod: string, more: object = {}): object => wish(pod, { alert: 'a1', entry: 'c2', ...more });

  /** `dpi-agent respond …` as the cluster's admin. */
  async function respond(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    const all = [join(PROJECT, 'bin/dpi-agent.js'), 'respond', ...args, '--kubeconfig', cluster().kubeconfig];
    try {
      return { status: 0, ...(await promisify(execFile)(process.execPath, all)) };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { status: code, stdout, stderr };
    }
  }

  const policies = (): Policy[] =>
    (
      JSON.parse(kubectl('get', 'networkpolicies.networking.k8s.io', '-n', namespace, '-o', 'json')) as {
        items: Policy[];
      }
    ).items;
  const labelOf = (pod: string): string =>
    kubectl('get', 'pod', pod, '-n', namespace, '-o', 'jsonpath={.metadata.labels.dpi-agent\\.io/isolated}');
  const eventsOf = (pod: string): string =>
    kubectl(
      'get',
      'events',
      '-n',
      namespace,
      `--field-selector=involvedObject.name=${pod}`,
      '-o',
      'jsonpath={.items[*].message}',
    );

  test('by hand: what would be cut is said first; then a label and a policy are there, and go again', async () => {
    const dry = await respond('isolate', `${namespace}/web-1`, '--dry-run', '-o', 'json');
    expect(JSON.parse(dry.stdout)).toMatchObject({
      cut: {
        engine: 'networking.k8s.io',
        node: NODE,
        addresses: ['10.65.0.2'],
        services: [{ name: 'shop', others: 2 }],
        open: [],
      },
    });
    expect([policies(), labelOf('web-1')]).toEqual([[], '']);

    expect(
      (await respond('isolate', `${namespace}/web-1`, '--allow', 'dns', '--reason', 'C2 beacon')).stdout,
    ).toContain('isolated');
    const [policy] = policies();
    const id = labelOf('web-1');
    expect(id).toMatch(/^[0-9a-f]{16}$/);
    expect(policy).toMatchObject({
      metadata: { name: `dpi-agent-isolate-${id}`, annotations: { 'dpi-agent.io/reason': 'C2 beacon' } },
      spec: {
        podSelector: { matchLabels: { 'dpi-agent.io/isolated': id } },
        policyTypes: ['Ingress', 'Egress'],
        egress: [
          {
            ports: [
              { port: 53, protocol: 'UDP' },
              { port: 53, protocol: 'TCP' },
            ],
          },
        ],
      },
    });
    expect(policy?.spec).not.toHaveProperty('ingress');
    expect(eventsOf('web-1')).toContain('C2 beacon');
    expect(await respond('isolate', `${namespace}/web-1`)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('isolated already'),
    });
    expect(JSON.parse((await respond('list', '-n', namespace, '-o', 'json')).stdout)).toMatchObject([
      { pod: 'web-1', allow: 'dns' },
    ]);

    expect((await respond('release', `${namespace}/web-1`)).status).toBe(0);
    expect([policies(), labelOf('web-1')]).toEqual([[], '']);
  });

  test('another policy that goes on letting traffic through is named, and keeps it from being isolated unless in part', async () => {
    cluster().apply({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'allow-web', namespace },
      spec: { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['web'] }] }, ingress: [{}] },
    });
    await start();
    expect(await ask(person.token, wish('web-1', { dryRun: true }))).toMatchObject({
      status: 200,
      cut: { open: [{ policy: 'allow-web', direction: 'ingress', labels: ['app'] }] },
    });
    expect(await ask(agentToken, agents('web-1'))).toMatchObject({ status: 409, reason: 'StaysOpen' });
    expect(await ask(person.token, wish('web-1'))).toMatchObject({ status: 409, reason: 'StaysOpen' });
    expect(labelOf('web-1')).toBe('');
    expect(await ask(person.token, wish('web-1', { partly: true }))).toMatchObject({ status: 200 });
    expect(labelOf('web-1')).not.toBe('');

    const warn = (message: string): void => expect(message).toBe('');
    const acting = { client: await createClient({ kubeconfig: cluster().kubeconfig }), isProtected: [], warn };
    const detach = { namespace, pod: 'web-2', allow: 'nothing', by: 'me', origin: 'person', reason: 'r' } as const;
    const more = { forMillis: 60_000, partly: false, dryRun: false, detach: true };
    const done = await isolate(acting, { ...detach, ...more });
    expect(done).toMatchObject({ cut: { open: [] }, isolation: { labels: { app: 'web' } } });
    const appOf = (): string =>
      kubectl('get', 'pod', 'web-2', '-n', namespace, '-o', 'jsonpath={.metadata.labels.app}');
    expect([appOf(), labelOf('web-2')]).toEqual(['', expect.stringMatching(/^[0-9a-f]{16}$/)]);
    for (const one of await listIsolations(acting.client, namespace)) await release(acting, one, 'by hand');
    expect([appOf(), labelOf('web-2')]).toEqual(['web', '']);

    // The component may not give them back, and lets the pod go all the same.
    await isolate(acting, { ...detach, ...more });
    expect(await ask(person.token, { namespace, pod: 'web-2' }, '/release')).toMatchObject({ status: 200 });
    expect(labelOf('web-2')).toBe('');
    expect(eventsOf('web-2')).toContain('not given back: app=web');
    kubectl('label', 'pod', 'web-2', '-n', namespace, 'app=web');
  });

  test('what is over is released, also by who started afterwards', async () => {
    await start();
    expect(await ask(person.token, wish('web-1'))).toMatchObject({
      status: 200,
      isolation: { by: `system:serviceaccount:${namespace}:anna`, origin: 'person' },
    });
    expect(policies()).toHaveLength(1);
    await app?.close();
    await keeper?.stop();
    await start({ now: () => Date.now() + 3_500_000 });
    await poll(() => keeper?.status().isolated === 1);
    expect(policies()).toHaveLength(1);
    await app?.close();
    await keeper?.stop();
    await start({ now: () => Date.now() + 3_601_000 });
    await poll(() => policies().length === 0);
    expect(labelOf('web-1')).toBe('');
    expect(eventsOf('web-1')).toContain('its time is over');
  });

  test('a pod that was made again under its name is not isolated, and what is left of it goes', async () => {
    await start();
    expect(await ask(person.token, wish('db-1'))).toMatchObject({ status: 200 });
    kubectl('delete', 'pod', 'db-1', '-n', namespace, '--force', '--grace-period=0');
    addPods();
    expect(labelOf('db-1')).toBe('');
    expect(await ask(person.token, { namespace, pod: 'db-1' }, '/release')).toMatchObject({ status: 200 });
    expect(policies()).toEqual([]);
  });

  test('persons: only with the right, only in their namespace, never where the cluster would end', async () => {
    await start();
    const other = cluster().serviceAccount(namespace, 'ben');
    expect(await ask('no-token', wish('web-1'))).toMatchObject({ status: 401 });
    expect(await ask(other.token, wish('web-1'))).toMatchObject({
      status: 403,
      error: expect.stringContaining('isolations'),
    });
    expect(await ask(other.token, wish('web-1', { dryRun: true }))).toMatchObject({ status: 403 });
    expect(await ask(person.token, wish('web-1', { namespace: 'default' }))).toMatchObject({ status: 403 });
    kubectl(
      'create',
      'clusterrolebinding',
      'anna',
      '--clusterrole=dpi-agent-isolate',
      `--serviceaccount=${namespace}:anna`,
    );
    for (const never of ['kube-system', 'tigera-dpi'])
      expect(await ask(person.token, wish('web-1', { namespace: never }))).toMatchObject({
        status: 403,
        reason: 'Protected',
      });
    kubectl('delete', 'clusterrolebinding', 'anna');
    expect(policies()).toEqual([]);
  });

  test('agents: pods of their node that are inspected and allowed, so many within an hour', async () => {
    await start();
    expect(await ask(agentToken, agents('db-1'))).toMatchObject({
      status: 429,
      error: expect.stringContaining('automaticPods'),
    });
    const elsewhere = tokenOfAgent('agent-2', 'n2');
    expect(await ask(elsewhere, agents('web-1'))).toMatchObject({
      status: 403,
      error: expect.stringContaining('node n2'),
    });
    const unbound = kubectl(
      'create',
      'token',
      'tigera-dpi',
      '-n',
      'tigera-dpi',
      '--audience=dpi-agent-response',
    ).trim();
    expect(await ask(unbound, agents('web-1'))).toMatchObject({
      status: 403,
      error: expect.stringContaining('no node'),
    });
    kubectl('label', 'pod', 'web-3', '-n', namespace, 'app=x', '--overwrite');
    expect(await ask(agentToken, agents('web-3'))).toMatchObject({
      status: 403,
      error: expect.stringContaining('selects'),
    });
    kubectl('label', 'pod', 'web-3', '-n', namespace, 'app=web', '--overwrite');
    expect(await ask(agentToken, agents('web-1', { dryRun: true }))).toMatchObject({
      status: 200,
      cut: { pod: 'web-1' },
    });
    expect(policies()).toEqual([]);

    expect(await ask(agentToken, agents('web-1'))).toMatchObject({
      status: 200,
      isolation: { by: 'policy c2 on n1', alert: 'a1' },
    });
    expect(await ask(agentToken, agents('web-2'))).toMatchObject({ status: 200 });
    // A release makes no room, nor does a start anew.
    expect(await ask(person.token, { namespace, pod: 'web-1' }, '/release')).toMatchObject({ status: 200 });
    expect(await ask(agentToken, agents('web-3'))).toMatchObject({ status: 429, reason: 'Bounded' });
    await app?.close();
    await keeper?.stop();
    await start({ automaticPerHour: 1 });
    expect(await ask(agentToken, agents('web-3'))).toMatchObject({ status: 429, reason: 'Bounded' });
    await app?.close();
    await keeper?.stop();
    await start({ automatic: false });
    expect(await ask(agentToken, agents('web-3'))).not.toHaveProperty('isolation');
    expect(labelOf('web-3')).toBe('');
  });

  test('the component can do nothing else, whoever has its token', () => {
    const as = (...args: string[]) => {
      try {
        kubectl(...args, '--kubeconfig', component.kubeconfig);
        return 'done';
      } catch (error) {
        return String(error);
      }
    };
    const patch = (object: object, pod = 'web-1', where = namespace): string =>
      as('patch', 'pod', pod, '-n', where, '-p', JSON.stringify(object));
    expect(patch({ spec: { containers: [{ name: 'main', image: 'evil' }] } })).toMatch(/may change nothing of a pod/);
    expect(patch({ metadata: { labels: { app: 'db' } } })).toMatch(/may change nothing of a pod/);
    expect(patch({ metadata: { annotations: { a: 'b' } } })).toMatch(/may change nothing of a pod/);
    expect(patch({ metadata: { labels: { 'dpi-agent.io/isolated': 'x' } } }, 'agent-1', 'tigera-dpi')).toMatch(
      /never isolated/,
    );
    expect(patch({ metadata: { labels: { 'dpi-agent.io/isolated': 'x' } } })).toBe('done');
    cluster().apply({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'theirs', namespace },
      spec: { podSelector: {} },
    });
    expect(as('delete', 'networkpolicy', 'theirs', '-n', namespace)).toMatch(/no policy but its own/);
    const open = '{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy"';
    const body = `${open},"metadata":{"name":"dpi-agent-isolate-0123456789abcdef","labels":{"dpi-agent.io/isolation":"pod"}},"spec":{"podSelector":{},"ingress":[{}]}}`;
    expect(
      as('create', '--raw', `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`, '-f', file(body)),
    ).toMatch(/isolated pods only/);
    expect(as('get', 'secrets', '-A')).toMatch(/forbidden/);
    expect(as('delete', 'pod', 'web-1', '-n', namespace)).toMatch(/forbidden/);
  });

  test('Calico’s policies are taken where they are served: one that comes before the others', async () => {
    const plural = 'networkpolicies.projectcalico.org';
    const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
    cluster().apply({
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: plural },
      spec: {
        group: 'projectcalico.org',
        scope: 'Namespaced',
        names: { plural: 'networkpolicies', singular: 'networkpolicy', kind: 'NetworkPolicy' },
        versions: [{ name: 'v3', served: true, storage: true, schema }],
      },
    });
    kubectl('wait', '--for=condition=Established', '--timeout=300s', 'crd', plural);
    await start();
    const theirs = { apiVersion: 'projectcalico.org/v3', kind: 'NetworkPolicy', spec: {} };
    await poll(() => {
      try {
        cluster().apply({ ...theirs, metadata: { name: 'theirs', namespace } });
        return true;
      } catch {
        return false;
      }
    });
    expect(await ask(person.token, wish('web-1', { allow: 'dns' }))).toMatchObject({ status: 200 });
    const id = labelOf('web-1');
    const name = `default.dpi-agent-isolate-${id}`;
    expect(JSON.parse(kubectl('get', plural, name, '-n', namespace, '-o', 'json'))).toMatchObject({
      spec: {
        tier: 'default',
        order: -1_000_000,
        selector: `dpi-agent.io/isolated == '${id}'`,
        ingress: [{ action: 'Deny' }],
        egress: [{ action: 'Allow', protocol: 'UDP' }, { action: 'Allow', protocol: 'TCP' }, { action: 'Deny' }],
      },
    });
    const own = ['--kubeconfig', component.kubeconfig];
    expect(() => kubectl('delete', plural, 'theirs', '-n', namespace, '--wait=false', ...own)).toThrow(/but its own/);
    expect(await ask(person.token, { namespace, pod: 'web-1' }, '/release')).toMatchObject({ status: 200 });
    expect(kubectl('get', plural, '-n', namespace, '-o', 'name')).not.toContain('isolate');
    expect(labelOf('web-1')).toBe('');
  });

  function file(text: string): string {
    const path = join(cluster().directory, 'object.json');
    writeFileSync(path, text);
    return path;
  }
});
