/**
 * What a cluster of thousands of nodes asks of its API server: simulated agents, and with them the real operator, on a
 * real kube-apiserver and etcd. All of it shares this machine: seconds of CPU say more than times.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { copyFileSync, mkdirSync, writeFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import pLimit from 'p-limit';
import type { ApiClient, ApiList, ApiObject } from '../agent/kube/api.ts';
import { createClient } from '../agent/kube/client.ts';
import { reflect } from '../agent/kube/reflector.ts';
import { resourcePath, type ApiDeepPacketInspection } from '../agent/kube/resources.ts';
import { startControlPlane, type ControlPlane } from '../scripts/control-plane.ts';
import { PROJECT } from '../test/support/project.ts';
import { fixed, grouped, quantile, watch, withWorkspace, type Figure, type Setting } from './bench.ts';
import { cpuByName, memoryByName } from './processes.ts';
import { startSimulatedAgent, type SimulatedAgent, type Traffic } from './simulated-agent.ts';

const V3 = 'projectcalico.org/v3';
const NAMESPACE = 'default';
const RESOURCES = 50;
/** Agents, and pods of each; many pods take long to make. */
const SIZES = {
  full: [
    { agents: 1_000, pods: 30 },
    { agents: 5_000, pods: 6 },
  ],
  quick: [{ agents: 100, pods: 30 }],
};
const REST_MILLIS = { full: 60_000, quick: 10_000 };
const CHURN_MILLIS = { full: 60_000, quick: 10_000 };
/** Of the pods are renewed in a minute. */
const CHURN_PART = 0.01;
const PATIENCE_MILLIS = 600_000;
/** Objects of one transaction; etcd takes 128. */
const TRANSACTION = 100;
const MEBIBYTE = 2 ** 20;

interface Run {
  readonly setting: Setting;
  readonly agents: number;
  readonly pods: number;
  readonly plane: ControlPlane;
  readonly admin: ApiClient;
  readonly traffic: Traffic;
  readonly figures: Figure[];
}

export async function benchControlPlane(setting: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const size of sizes(setting)) {
    await withWorkspace(async ({ directory }) => {
      const plane = await startControlPlane({
        directory: join(directory, 'control-plane'),
        binaries: await binaries(),
      });
      try {
        const admin = await createClient({ kubeconfig: plane.kubeconfig });
        const traffic: Traffic = { requests: {}, events: 0 };
        await measure({ setting, ...size, plane, admin, traffic, figures }, directory);
      } finally {
        await plane.close();
      }
    });
  }
  return figures;
}

/** @throws Error when they are not built. */
async function binaries(): Promise<string> {
  const { CONTROL_PLANE, kubernetesDirectory, missingPrograms } = (await import(
    pathToFileURL(join(PROJECT, 'scripts/kubernetes.mjs')).href
  )) as typeof import('../scripts/kubernetes.mjs');
  const missing = missingPrograms(CONTROL_PLANE);
  if (missing.length > 0) throw new Error(`${missing.join(', ')} are not built: run node scripts/kubernetes.mjs`);
  return join(kubernetesDirectory(), 'bin');
}

/** `$DPI_BENCH_AGENTS=1000x30` is another size than those of the table. */
function sizes({ quick }: Setting): { agents: number; pods: number }[] {
  const [agents, pods] = (process.env['DPI_BENCH_AGENTS'] ?? '').split('x').map(Number);
  return agents && pods ? [{ agents, pods }] : SIZES[quick ? 'quick' : 'full'];
}

async function measure(run: Run, directory: string): Promise<void> {
  const { setting, agents, plane, admin } = run;
  const how = setting.quick ? 'quick' : 'full';
  await prepare(run);
  // Statuses of a roll-out that goes on for minutes would be most of what this machine has to do.
  const { started, operator } = await phase(run, 'start', async () => {
    const all = await startAgents(run, directory);
    const begun = { started: all, operator: startOperator(plane) };
    await converged(run, () => 1);
    return begun;
  });
  await phase(run, 'at rest', () => sleep(REST_MILLIS[how]));
  await phase(run, 'pods renewed, 1 % a minute', () => churn(run, CHURN_MILLIS[how]));
  await converged(run, () => 1);
  await phase(run, 'each resource selects other pods', async () => {
    // By a process of its own: this one is all the agents, and busy with the first changes when it makes the last ones.
    plane.apply(...[...Array(RESOURCES).keys()].map((index) => resourceObject(index, 2)));
    const times = await converged(run, () => 2);
    note(
      run,
      'status converged, p50 and p99',
      `${seconds(quantile(times, 0.5))}, ${seconds(quantile(times, 0.99))}`,
      '',
    );
  });
  noteLargest(run, await admin.get(resourcePath(V3)));
  operator.child.kill('SIGTERM');
  await operator.ended;
  const limit = pLimit(200);
  await phase(run, 'all end', () => limit.map(started, (agent) => agent.stop()));
  note(run, 'agents', grouped(agents), '');
}

/** What the agents of this version are deployed with, and their nodes and pods. */
async function prepare(run: Run): Promise<void> {
  const { setting, plane, admin, agents, pods } = run;
  for (const folder of ['crds/projectcalico.org', 'crds/operator.tigera.io', 'crds/dpi-agent.io'])
    plane.kubectl('apply', '-k', join(PROJECT, 'deploy', folder));
  plane.kubectl('wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all');
  plane.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'tigera-dpi' } });
  plane.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: NAMESPACE } });
  const limit = pLimit(16);
  const resources = [...Array(RESOURCES).keys()];
  await limit.map(resources, (index) => admin.create(resourcePath(V3, NAMESPACE), resourceObject(index, 1)));
  const nodes = [...Array(agents).keys()].map((index) => stored('minions', nodeObject(nodeName(index))));
  const made = [...Array(agents * pods).keys()].map((index) => stored(`pods/${NAMESPACE}`, podObject(run, index)));
  setting.say(`control-plane: ${made.length} pods`);
  await putIntoEtcd(plane, [...nodes, ...made]);
  await untilServed(run);
}

interface Stored {
  key: string;
  value: string;
}

/** As kube-apiserver finds it in etcd. */
function stored(place: string, object: { metadata: { name: string } }): Stored {
  const uid = randomUUID();
  const metadata = { ...object.metadata, uid, creationTimestamp: new Date().toISOString().replace(/\.\d+/, '') };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const value = base64(JSON.stringify({ ...object, metadata }));
  return { key: base64(`/registry/${place}/${object.metadata.name}`), value };
}

/** Tens of thousands of objects take the API server minutes to make, and etcd seconds. */
async function putIntoEtcd({ etcd }: ControlPlane, objects: Stored[]): Promise<void> {
  for (let from = 0; from < objects.length; from += TRANSACTION) {
    const success = objects.slice(from, from + TRANSACTION).map((requestPut) => ({ requestPut }));
    const answer = await fetch(`${etcd}/v3/kv/txn`, { method: 'POST', body: JSON.stringify({ success }) });
    if (!answer.ok) throw new Error(`etcd: ${await answer.text()}`);
  }
}

/**
 * Objects of one transaction have one version: who lists while the server has half of them, and watches from that
 * version on, is never told of the others. Real objects are made one by one.
 */
async function untilServed(run: Run): Promise<void> {
  const pod = podObject(run, 0, 'last');
  const last = { ...pod, spec: { ...pod.spec, nodeName: 'last' }, metadata: { ...pod.metadata, labels: {} } };
  await putIntoEtcd(run.plane, [stored(`pods/${NAMESPACE}`, last)]);
  const query = { fieldSelector: 'spec.nodeName=last', resourceVersion: '0' };
  while ((await run.admin.get<ApiList<ApiObject>>('/api/v1/pods', query)).items.length === 0) await sleep(100);
}

function resourceObject(index: number, apps: number): object {
  return {
    apiVersion: V3,
    kind: 'DeepPacketInspection',
    metadata: { name: `dpi-${index}`, namespace: NAMESPACE },
    spec: { selector: selector(index, apps) },
  };
}

/** Pods of so many of the apps, from this one on. */
function selector(index: number, apps: number): string {
  const names = [...Array(apps).keys()].map((more) => `"app-${(index + more) % RESOURCES}"`);
  return `app in {${names.join(', ')}}`;
}

const nodeName = (index: number): string => `node-${String(index).padStart(5, '0')}.example.internal`;

function nodeObject(name: string) {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name } };
}

/** The pods of a node are of different apps, from another one on for each node. */
function podObject({ agents }: Run, index: number, name = `pod-${index}`) {
  const app = `app-${((index % agents) + Math.floor(index / agents)) % RESOURCES}`;
  const podIP = `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE, labels: { app } },
    spec: {
      nodeName: nodeName(index % agents),
      terminationGracePeriodSeconds: 0,
      restartPolicy: 'Always',
      dnsPolicy: 'ClusterFirst',
      containers: [{ name: 'main', image: 'none' }],
    },
    status: { phase: 'Running', podIP, podIPs: [{ ip: podIP }] },
  };
}

function startOperator(plane: ControlPlane) {
  const program = [join(PROJECT, 'bin/dpi-agent.js'), 'operator', '--kubeconfig', plane.kubeconfig, '--http.port', '0'];
  const child = spawn(process.execPath, program, { stdio: 'ignore' });
  return { child, ended: watch(child) };
}

async function startAgents({ setting, agents, plane, traffic }: Run, directory: string): Promise<SimulatedAgent[]> {
  const serviceAccount = join(directory, 'service-account');
  mkdirSync(serviceAccount);
  copyFileSync(plane.ca, join(serviceAccount, 'ca.crt'));
  const [token = ''] = readFileSync(join(plane.directory, 'tokens.csv'), 'utf8').split(',');
  writeFileSync(join(serviceAccount, 'token'), token);
  const server = new URL(plane.server);
  const shared = { directory, server, serviceAccount, statusIn: 'node' as const, traffic, onChange: () => undefined };
  // As many at once as a machine of two cores shakes hands with.
  const limit = pLimit(50);
  let begun = 0;
  return limit.map([...Array(agents).keys()], async (index) => {
    const agent = await startSimulatedAgent({ ...shared, node: nodeName(index) });
    while (!agent.cluster.synced()) await sleep(50);
    if (++begun % 100 === 0) setting.say(`control-plane: ${begun} agents`);
    return agent;
  });
}

/** Waits until each resource has the sums that it shall have. @returns milliseconds from now on, of each. */
async function converged({ setting, admin, agents, pods }: Run, apps: () => number): Promise<number[]> {
  const since = performance.now();
  const wanted = (apps() * agents * pods) / RESOURCES;
  const times = new Map<string, number>();
  const compare = ({ metadata, status }: ApiDeepPacketInspection): void => {
    const { podsCaptured: captured = 0, podsSelected: selected = captured } = status ?? {};
    const isRight = selected === wanted && captured === wanted;
    if (isRight && !times.has(metadata.name)) times.set(metadata.name, performance.now() - since);
  };
  // One more watch costs the server less than asking it again and again.
  const statuses = reflect<ApiDeepPacketInspection, ApiDeepPacketInspection>({
    client: admin,
    path: resourcePath(V3),
    convert: (object) => object,
    onChange: ({ object }) => compare(object),
  });
  try {
    while (times.size < RESOURCES) {
      if (performance.now() - since > PATIENCE_MILLIS)
        throw new Error(`${times.size} of ${RESOURCES} statuses are right`);
      setting.say(`control-plane: ${times.size} of ${RESOURCES} statuses are right`);
      await sleep(100);
    }
  } finally {
    statuses.stop();
  }
  return [...times.values()];
}

/** Pods end, and others come in their place. */
async function churn(run: Run, millis: number): Promise<void> {
  const { admin, agents, pods } = run;
  const renewals = Math.max(1, Math.round((agents * pods * CHURN_PART * millis) / 60_000));
  const since = performance.now();
  for (let done = 0; done < renewals; done++) {
    // No pod twice.
    const index = Math.floor(((done + 0.5) * agents * pods) / renewals);
    const path = `/api/v1/namespaces/${NAMESPACE}/pods/pod-${index}`;
    const { metadata } = await admin.get<ApiObject>(path);
    await admin.remove(path, metadata.uid);
    const { status, ...pod } = podObject(run, index, `pod-${index}-renewed`);
    const made = `/api/v1/namespaces/${NAMESPACE}/pods`;
    await admin.create(made, pod);
    await admin.mergePatch(`${made}/${pod.metadata.name}/status`, { status });
    await sleep(Math.max(0, since + (millis * (done + 1)) / renewals - performance.now()));
  }
}

/** Does something, and notes what it cost. */
async function phase<T>(run: Run, what: string, act: () => Promise<T>): Promise<T> {
  const { traffic, plane, figures } = run;
  run.setting.say(`control-plane: ${run.agents} agents, ${what}`);
  const before = {
    requests: { ...traffic.requests },
    events: traffic.events,
    ...served(plane),
    cpu: cpuByName(process.pid),
    own: process.cpuUsage(),
  };
  const since = performance.now();
  const result = await act();
  const span = (performance.now() - since) / 1_000;
  const after = served(plane);
  const requests = Object.entries(traffic.requests).map(
    ([verb, count]) => [verb, count - (before.requests[verb] ?? 0)] as const,
  );
  const total = requests.reduce((sum, [, count]) => sum + count, 0);
  const cpu = cpuByName(process.pid);
  const cpuOf = (name: string): string => fixed(((cpu[name] ?? 0) - (before.cpu[name] ?? 0)) / span);
  const own = process.cpuUsage(before.own);
  const memory = memoryByName(process.pid);
  const memoryOf = (name: string): string => `${grouped((memory[name]?.rss ?? 0) / MEBIBYTE)} MiB`;
  figures.push({
    engine: `${run.agents} nodes`,
    what,
    value: `${fixed(total / span, 1)} requests/s, ${fixed((traffic.events - before.events) / span, 1)} events/s`,
    details: [
      seconds(span * 1_000),
      requests
        .filter(([, count]) => count > 0)
        .map(([verb, count]) => `${verb} ${count}`)
        .join(' '),
      `${after.statuses - before.statuses} statuses written`,
      `${fixed((after.bytes - before.bytes) / span / 1_000, 1)} kB/s`,
      `cores: API server ${cpuOf('kube-apiserver')}, etcd ${cpuOf('etcd')}, operator ${cpuOf('agent')}, all agents ${fixed((own.user + own.system) / 1e6 / span)}`,
      `memory: API server ${memoryOf('kube-apiserver')}, operator ${memoryOf('agent')}, all agents ${grouped(process.memoryUsage.rss() / MEBIBYTE)} MiB`,
    ].join('; '),
  });
  run.setting.say(`control-plane: ${Object.values(figures.at(-1) ?? {}).join(' | ')}`);
  return result;
}

/** Bytes of answers and of events that the API server sent, to everybody, and statuses of resources that it was given. */
function served(plane: ControlPlane): { bytes: number; statuses: number } {
  const text = plane.kubectl('get', '--raw', '/metrics');
  const sum = (series: string): number =>
    [...text.matchAll(new RegExp(`^${series} (\\S+)$`, 'gm'))].reduce((all, [, one]) => all + Number(one), 0);
  return {
    bytes:
      sum(String.raw`apiserver_response_sizes_sum\{[^}]*\}`) +
      sum(String.raw`apiserver_watch_events_sizes_sum\{[^}]*\}`),
    statuses: sum(
      String.raw`apiserver_request_total\{[^}]*resource="deeppacketinspections",[^}]*subresource="status",[^}]*verb="PATCH"[^}]*\}`,
    ),
  };
}

function noteLargest(run: Run, { items }: ApiList<ApiDeepPacketInspection>): void {
  const bytes = items.map((object) => JSON.stringify(object).length);
  const listed = items.map(({ status }) => status?.nodes?.length ?? 0);
  note(
    run,
    'largest resource',
    `${grouped(Math.max(...bytes) / 1_000)} kB`,
    `${Math.max(...listed)} nodes listed in it`,
  );
}

function note(run: Run, what: string, value: string, details: string): void {
  run.figures.push({ engine: `${run.agents} nodes`, what, value, details });
}

function seconds(millis: number): string {
  return `${fixed(millis / 1_000, 1)} s`;
}
