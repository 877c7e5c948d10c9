/** Applies what is to be there, and waits until the agents inspect: a pod is ready once a canary came through. */
import { ApiError, type ApiClient, type ApiList, type ApiObject } from '../../kube/api.ts';
import { list, record, text } from '../../kube/fields.ts';
import { discoverResourceApi, type ResourceApi } from '../../kube/resources.ts';
import { stripControls } from '../../text.ts';
import { NAMESPACE, nameOf, pathOf, type Manifest } from './manifests.ts';
import { until } from './wait.ts';

export const MANAGER = 'dpi-agent-quickstart';
const SERVED_MILLIS = 60_000;
const DAEMON_SET = `/apis/apps/v1/namespaces/${NAMESPACE}/daemonsets/${NAMESPACE}`;
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods`;

/** @returns those that are there. */
export async function existing(client: ApiClient, wanted: readonly Manifest[]): Promise<Manifest[]> {
  const there = await Promise.all(wanted.map((manifest) => isThere(client, pathOf(manifest))));
  return wanted.filter((_, index) => there[index]);
}

export async function isThere(client: ApiClient, path: string): Promise<boolean> {
  try {
    await client.get(path);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

/** One after the other: each may need those before it. */
export async function applyAll(
  client: ApiClient,
  wanted: readonly Manifest[],
  say: (line: string) => void,
): Promise<void> {
  for (const manifest of wanted) {
    await client.apply(pathOf(manifest), manifest, MANAGER);
    say(`applied ${nameOf(manifest)}`);
  }
}

export function untilServed(client: ApiClient): Promise<ResourceApi> {
  return until(
    SERVED_MILLIS,
    () => discoverResourceApi(client),
    () =>
      `${client.server} does not serve DeepPacketInspection resources: kubectl describe crd deeppacketinspections.projectcalico.org`,
  );
}

/** @returns on how many nodes the agent is ready. */
export function untilReady(client: ApiClient, millis: number): Promise<number> {
  return until(
    millis,
    async () => {
      const { metadata, status } = await client.get<ApiObject & { status?: unknown }>(DAEMON_SET);
      const said = record(status);
      const [observed, desired, ready, updated] = [
        'observedGeneration',
        'desiredNumberScheduled',
        'numberReady',
        'updatedNumberScheduled',
      ].map((field) => Number(said[field] ?? 0));
      const isCurrent = observed === metadata.generation && desired === updated;
      return isCurrent && desired !== undefined && desired > 0 && desired === ready ? ready : undefined;
    },
    () => whyNotReady(client, millis),
  );
}

async function whyNotReady(client: ApiClient, millis: number): Promise<string> {
  const pods = await client.get<ApiList<ApiObject & { status?: unknown }>>(PODS, {
    labelSelector: `k8s-app=${NAMESPACE}`,
    limit: 50,
  });
  const reasons = pods.items.flatMap(({ metadata, status }) => {
    const containers = list(record(status)['containerStatuses']).map(record);
    if (containers.length > 0 && containers.every(({ ready }) => ready === true)) return [];
    const waiting = record(record(containers[0]?.['state'])['waiting']);
    const reason = text(waiting['reason']) || 'not ready yet';
    return [`  ${metadata.name}: ${stripControls(`${reason} ${text(waiting['message'])}`.slice(0, 300))}`];
  });
  const listed = reasons.length === 0 ? ['  there is no pod of it: kubectl -n tigera-dpi describe daemonset'] : reasons;
  return [
    `agents are not ready after ${millis / 1_000} s:`,
    ...listed.slice(0, 5),
    'an image that nodes cannot get is named by --image; all else is in kubectl -n tigera-dpi logs daemonset/tigera-dpi',
  ].join('\n');
}
