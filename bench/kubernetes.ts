/** An agent that follows a real API server: how soon a pod is captured, and what it costs when nothing happens. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { startControlPlane, type ControlPlane } from '../scripts/control-plane.ts';
import type { Lab } from '../scripts/lab.ts';
import { type RunningAgent, type Workspace } from '../test/support/agent.ts';
import type { ChurnedPod } from '../test/support/pod-churn.ts';
import { PROJECT } from '../test/support/project.ts';
import { RULE_SETS } from './alone.ts';
import {
  fixed,
  quantile,
  runAgent,
  watch,
  withLab,
  withWorkspace,
  within,
  type Result,
  type Setting,
} from './bench.ts';
import { cpuSeconds, memoryByName } from './processes.ts';

export const NODE = 'bench-node';
const RESOURCE = 'deeppacketinspections.projectcalico.org';
const PODS = { timed: 50, idle: 100 };
const REST_MILLIS = { full: 300_000, quick: 60_000 };
const SETTLE_MILLIS = 10_000;
const PATIENCE_MILLIS = 120_000;
const MEGABYTE = 2 ** 20;
const TARGET = { atLeast: 1000, aim: 200 };

/** One line of the API server's audit log for each request. */
const AUDIT_POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [{ level: 'Metadata' }],
};

interface AuditLine {
  auditID: string;
  verb: string;
  requestURI: string;
  requestReceivedTimestamp: string;
  user: { username: string };
}

export async function benchKubernetes(setting: Setting): Promise<Result[]> {
  return await withLab(
    async (lab) =>
      await withWorkspace(async (workspace) => {
        setting.say('kubernetes: API server');
        const policy = join(workspace.directory, 'audit-policy.json');
        const audit = join(workspace.directory, 'audit.log');
        writeFileSync(policy, JSON.stringify(AUDIT_POLICY));
        const cluster = await startControlPlane({
          directory: join(workspace.directory, 'control-plane'),
          binaries: await binaries(),
          wrap: (command, args) => ['ip', ['netns', 'exec', lab.node, command, ...args]],
          apiServerArgs: [`--audit-policy-file=${policy}`, `--audit-log-path=${audit}`],
          users: { agent: [] },
        });
        try {
          return await measure(setting, lab, workspace, cluster, audit);
        } finally {
          await cluster.close();
        }
      }),
  );
}

/** @throws Error when they are not built and can't be. */
export async function binaries(): Promise<string> {
  const programs = (await import(
    pathToFileURL(join(PROJECT, 'scripts/kubernetes.mjs')).href
  )) as typeof import('../scripts/kubernetes.mjs');
  const missing = programs.missingPrograms();
  if (missing.length > 0) throw new Error(`${missing.join(', ')} are not built: run node scripts/kubernetes.mjs`);
  return join(programs.kubernetesDirectory(), 'bin');
}

async function measure(
  setting: Setting,
  lab: Lab,
  workspace: Workspace,
  cluster: ControlPlane,
  audit: string,
): Promise<Result[]> {
  prepareCluster(cluster);
  setting.say('kubernetes: agent');
  const agent = await startFollowing(setting, lab, workspace, cluster);
  try {
    const timed = await makePods(setting, lab, cluster, { namespace: 'timed', count: PODS.timed });
    const millis = await capturedAfter(agent, 'timed', timed);
    await makePods(setting, lab, cluster, { namespace: 'idle', count: PODS.idle - PODS.timed });
    await sleep(SETTLE_MILLIS);
    const rest = setting.quick ? REST_MILLIS.quick : REST_MILLIS.full;
    setting.say(`kubernetes: ${rest / 1000} s at rest`);
    const from = new Date();
    const cpuBefore = cpuSeconds(agent.pid);
    await sleep(rest);
    const cpu = (cpuSeconds(agent.pid) - cpuBefore) / (rest / 1000);
    const memory = memoryByName(agent.pid);
    const requests = requestsSince(audit, from);
    return toResults(setting, millis, cpu, memory, requests, rest);
  } finally {
    await agent.stop();
  }
}

/** The resources, and an identity `agent` with the agents' rights. */
export function prepareCluster(cluster: ControlPlane): void {
  const deploy = (file: string): string => join(PROJECT, 'deploy', file);
  cluster.kubectl('apply', '-f', deploy('namespace.yaml'), '-f', deploy('rbac.yaml'));
  cluster.kubectl('apply', '-f', deploy('crds/projectcalico.org/deeppacketinspections.yaml'));
  cluster.kubectl('wait', '--for=condition=Established', `crd/${RESOURCE}`);
  cluster.apply({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: 'bench-agent' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'tigera-dpi' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'agent' }],
  });
}

/** An agent whose cluster has the identity `agent`; resolves when its engine reads packets. */
export function startFollowing(
  setting: Setting,
  lab: Lab,
  workspace: Workspace,
  cluster: ControlPlane,
): Promise<RunningAgent> {
  return within(
    PATIENCE_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      pods: [],
      ruleSets: RULE_SETS,
      config: {
        node: NODE,
        logLevel: 'info',
        kubernetes: { kubeconfig: cluster.user('agent') },
        rules: [workspace.rules, ...setting.rules],
      },
    }),
  );
}

export interface PodsToMake {
  namespace: string;
  count: number;
  /** So many a second are made anew, for so many seconds. Default: none. */
  renewed?: { perSecond: number; seconds: number };
}

/** Pods of a new namespace, with veths, one after the other, and a resource that selects them all. */
export async function makePods(
  setting: Setting,
  lab: Lab,
  cluster: ControlPlane,
  { namespace, count, renewed = { perSecond: 0, seconds: 0 } }: PodsToMake,
): Promise<ChurnedPod[]> {
  setting.say(`kubernetes: ${count} pods`);
  cluster.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace } },
    {
      apiVersion: 'projectcalico.org/v3',
      kind: 'DeepPacketInspection',
      metadata: { name: 'all', namespace },
      spec: { selector: 'all()' },
    },
  );
  const script = join(PROJECT, 'dist/test/support/pod-churn.js');
  const child = lab.spawn(
    lab.node,
    process.execPath,
    [script, cluster.kubeconfig, namespace, NODE, ...[count, renewed.perSecond, renewed.seconds].map(String)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = watch(child);
  const lines: string[] = [];
  if (child.stdout !== null) for await (const line of createInterface({ input: child.stdout })) lines.push(line);
  const { code } = await ended;
  if (code !== 0) throw new Error(`making pods ended with status ${code}`);
  return JSON.parse(lines.at(-1) ?? '[]') as ChurnedPod[];
}

/** Milliseconds from the status that says ready to the capture, by the agent's log. */
async function capturedAfter(agent: RunningAgent, namespace: string, pods: ChurnedPod[]): Promise<number[]> {
  const millis: number[] = [];
  for (const { name, readyAt } of pods) {
    const line = await within(
      PATIENCE_MILLIS,
      `the capture of ${namespace}/${name}`,
      agent.logged(({ msg, endpoint }) => msg === 'capturing' && endpoint === `${namespace}/${name}`),
    );
    millis.push(Number(line['time']) - readyAt);
  }
  return millis;
}

function requestsSince(audit: string, from: Date): AuditLine[] {
  const requests = new Map<string, AuditLine>();
  for (const text of readFileSync(audit, 'utf8').split('\n')) {
    if (text === '') continue;
    const line = JSON.parse(text) as AuditLine;
    if (line.user.username === 'agent' && new Date(line.requestReceivedTimestamp) >= from)
      requests.set(line.auditID, line);
  }
  return [...requests.values()];
}

function toResults(
  { engine }: Setting,
  millis: number[],
  cpu: number,
  memory: ReturnType<typeof memoryByName>,
  requests: AuditLine[],
  rest: number,
): Result[] {
  const base = { benchmark: 'kubernetes', engine: engine.name, alone: '' } as const;
  const pss = Object.values(memory).reduce((sum, one) => sum + one.pss, 0) / MEGABYTE;
  const rings = Object.values(memory).reduce((sum, one) => sum + one.rings, 0) / MEGABYTE;
  const perMinute = requests.length / (rest / 60_000);
  const p50 = quantile(millis, 0.5);
  const p99 = quantile(millis, 0.99);
  return [
    {
      ...base,
      what: `pod ready to captured, p99 of ${millis.length} pods`,
      agent: `${fixed(p99, 0)} ms`,
      value: p99,
      unit: 'ms',
      target: TARGET,
      details: { p50: `${fixed(p50, 0)} ms`, most: `${fixed(Math.max(...millis), 0)} ms` },
    },
    {
      ...base,
      what: `memory at rest with ${PODS.idle} pods`,
      agent: `${fixed(pss, 1)} MB`,
      value: pss,
      unit: 'MB',
      details: {
        PSS: Object.entries(memory)
          .map(([name, one]) => `${name} ${fixed(one.pss / MEGABYTE, 1)}`)
          .join(', '),
        'of it rings': fixed(rings, 1),
      },
    },
    {
      ...base,
      what: `CPU at rest with ${PODS.idle} pods`,
      agent: `${fixed(cpu * 100, 2)} %`,
      value: cpu * 100,
      unit: '%',
      details: {},
    },
    {
      ...base,
      what: 'requests to the API server at rest',
      agent: `${fixed(perMinute, 2)} a minute`,
      value: perMinute,
      unit: 'a minute',
      details: Object.fromEntries(
        [...new Set(requests.map(({ verb }) => verb))].map((verb) => [
          verb,
          requests.filter((request) => request.verb === verb).length,
        ]),
      ),
    },
  ];
}
