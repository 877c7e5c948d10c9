/**
 * A harmless request between two pods of its own, in a namespace of its own that goes again: it fires one rule of the
 * built-in set, and touches no workload. The agent that inspects it counts the alert; that is asked over the API
 * server, as nodes' own addresses need not be reachable.
 */
import { ApiError, type ApiClient, type ApiObject, type Diagnosable } from '../../kube/api.ts';
import { record, text } from '../../kube/fields.ts';
import { resourcePath, type ApiDeepPacketInspection, type ResourceApi } from '../../kube/resources.ts';
import { CommandError, EXIT } from '../exit.ts';
import { LABEL, NAMESPACE, pathOf, type Manifest } from './manifests.ts';
import { MANAGER } from './roll-out.ts';
import { until } from './wait.ts';

export type Client = ApiClient & Pick<Diagnosable, 'text'>;

export const TRIAL = 'dpi-agent-quickstart';
const WAIT_MILLIS = 120_000;
const PORT = 8080;
/** The rule of the request in rules/kubernetes. */
const COUNTED = /^dpi_agent_signature_alerts_total\{[^}]*sid="1000001"[^}]*\} (\d+)/gm;
const SERVER = `require('node:http').createServer((request, response) => request.resume().on('end', () => response.end('ok'))).listen(${PORT})`;
const CLIENT = `setTimeout(() => fetch('http://' + process.argv[1] + ':${PORT}/', { method: 'POST', body: 'smk=1234', headers: { 'user-agent': 'Mozilla/4.0' } }).then(() => process.exit(0)), 1000)`;

/** @returns milliseconds from the request's end until its alert was counted, at most. */
export async function tryOut(client: Client, api: ResourceApi, image: string): Promise<number> {
  try {
    for (const manifest of [namespace(), inspection(api), pod('server', image, ['-e', SERVER])])
      await apply(client, manifest);
    const { node, address } = await running(client);
    await captured(client, api);
    const before = await alerts(client, node);
    await apply(client, pod('client', image, ['-e', CLIENT, address.includes(':') ? `[${address}]` : address]));
    await finished(client);
    const since = performance.now();
    await until(
      WAIT_MILLIS,
      async () => ((await alerts(client, node)) > before ? true : undefined),
      () => `the test request raised no alert on node ${node}: dpi-agent status on that node says what it inspects`,
    );
    return performance.now() - since;
  } finally {
    await remove(client);
  }
}

const apply = (client: ApiClient, manifest: Manifest): Promise<unknown> =>
  client.apply(pathOf(manifest), manifest, MANAGER);

function namespace(): Manifest {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name: TRIAL, labels: LABEL } };
}

function inspection(apiVersion: ResourceApi): Manifest {
  const metadata = { name: TRIAL, namespace: TRIAL, labels: LABEL };
  return { apiVersion, kind: 'DeepPacketInspection', metadata, spec: { selector: 'app == "server"' } };
}

function pod(name: string, image: string, args: string[]): Manifest {
  const container = {
    name: 'main',
    image,
    command: ['node', ...args],
    securityContext: {
      allowPrivilegeEscalation: false,
      runAsNonRoot: true,
      runAsUser: 65534,
      capabilities: { drop: ['ALL'] },
    },
  };
  const spec = {
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    // The first process of a pod does not end by SIGTERM, if it does not ask for it.
    terminationGracePeriodSeconds: 0,
    containers: [container],
  };
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: TRIAL, labels: { ...LABEL, app: name } }, spec };
}

interface Running {
  node: string;
  address: string;
}

function running(client: ApiClient): Promise<Running> {
  return until(
    WAIT_MILLIS,
    async () => {
      const { spec, status } = await podOf(client, 'server');
      const address = text(record(status)['podIP']);
      const isRunning = text(record(status)['phase']) === 'Running' && address !== '';
      return isRunning ? { node: text(record(spec)['nodeName']), address } : undefined;
    },
    () => `the pod ${TRIAL}/server does not run: kubectl -n ${TRIAL} describe pod server`,
  );
}

async function captured(client: ApiClient, api: ResourceApi): Promise<void> {
  await until(
    WAIT_MILLIS,
    async () => {
      const { status } = await client.get<ApiDeepPacketInspection>(resourcePath(api, TRIAL, TRIAL));
      return (status?.podsCaptured ?? 0) > 0 ? true : undefined;
    },
    () => `the pod ${TRIAL}/server is not captured: kubectl -n ${TRIAL} describe dpi`,
  );
}

async function finished(client: ApiClient): Promise<void> {
  await until(
    WAIT_MILLIS,
    async () => {
      const phase = text(record((await podOf(client, 'client')).status)['phase']);
      if (phase === 'Failed')
        throw new CommandError('the test request got no answer: is there a NetworkPolicy?', EXIT.failed);
      return phase === 'Succeeded' ? true : undefined;
    },
    () => `the pod ${TRIAL}/client does not end: kubectl -n ${TRIAL} describe pod client`,
  );
}

type ApiPod = ApiObject & { spec?: unknown; status?: unknown };

const podOf = (client: ApiClient, name: string): Promise<ApiPod> =>
  client.get<ApiPod>(`/api/v1/namespaces/${TRIAL}/pods/${name}`);

/** Of the test request's rule, on that node, since its agent started. */
async function alerts(client: Client, node: string): Promise<number> {
  const query = { labelSelector: `k8s-app=${NAMESPACE}`, fieldSelector: `spec.nodeName=${node}` };
  const { items } = await client.get<{ items: ApiObject[] }>(`/api/v1/namespaces/${NAMESPACE}/pods`, query);
  const name = items[0]?.metadata.name;
  if (name === undefined) throw new CommandError(`there is no agent on node ${node}`, EXIT.failed);
  const metrics = await client.text(`/api/v1/namespaces/${NAMESPACE}/pods/${name}:9097/proxy/metrics`);
  const counts = [...metrics.matchAll(COUNTED)].map(([, count]) => Number(count));
  return counts.reduce((sum, count) => sum + count, 0);
}

export async function remove(client: ApiClient): Promise<void> {
  try {
    const { metadata } = await client.get<ApiObject>(pathOf(namespace()));
    await client.remove(pathOf(namespace()), metadata.uid);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
}
