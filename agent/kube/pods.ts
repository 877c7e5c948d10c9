/** A pod, as far as the agent looks at it: what is not here is not kept in memory. */
import type { ApiClient, ApiObject } from './api.ts';
import { canonicalAddress, list, record, text, texts } from './fields.ts';
import { NETWORK_STATUS_ANNOTATION, NETWORKS_ANNOTATION, parseNetworkStatus, type PodNetworks } from './networks.ts';
import { pagesOf } from './pages.ts';

export interface Pod {
  /** `<namespace>/<name>` */
  key: string;
  namespace: string;
  name: string;
  /** Another one after a pod was deleted and made again under its name. */
  uid: string;
  /** `<generateName>*`, as Calico writes it (`backend-7d4b-*`); `-` for a pod that nothing generated. */
  nameAggr: string;
  /** Its own labels, without those that Calico adds. */
  labels: Record<string, string>;
  serviceAccount: string;
  /** Empty while it is not scheduled. */
  node: string;
  hostNetwork: boolean;
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  ready: boolean;
  /** It was asked to end. */
  terminating: boolean;
  /** IPv4 and IPv6, canonical (RFC 5952); none before the network is set up. */
  addresses: string[];
  /** Its further networks, where Multus says that it has some. */
  networks?: PodNetworks;
  /** Which of them it asks to have inspected, where it does. */
  chosenNetworks?: string;
}

/** The fields that the API server sends. */
export interface ApiPod extends ApiObject {
  spec?: { nodeName?: string; hostNetwork?: boolean; serviceAccountName?: string };
  status?: {
    phase?: string;
    podIP?: string;
    podIPs?: { ip?: string }[];
    conditions?: { type: string; status: string }[];
  };
}

const PHASES: readonly string[] = ['Pending', 'Running', 'Succeeded', 'Failed'];

/** What the agent keeps of a pod. Never throws: fields that are missing or of another type are empty. */
export function toPod(api: ApiPod): Pod {
  const metadata = record(api.metadata);
  const spec = record(api.spec);
  const status = record(api.status);
  const namespace = text(metadata['namespace']);
  const name = text(metadata['name']);
  const phase = text(status['phase']);
  const addresses = [...list(status['podIPs']).map((entry) => record(entry)['ip']), status['podIP']];
  const annotations = record(metadata['annotations']);
  const networks = text(annotations[NETWORK_STATUS_ANNOTATION]);
  const chosen = annotations[NETWORKS_ANNOTATION];
  return {
    key: `${namespace}/${name}`,
    namespace,
    name,
    uid: text(metadata['uid']),
    nameAggr: nameAggr(metadata),
    labels: texts(metadata['labels']),
    serviceAccount: text(spec['serviceAccountName']),
    node: text(spec['nodeName']),
    hostNetwork: spec['hostNetwork'] === true,
    phase: PHASES.includes(phase) ? (phase as Pod['phase']) : 'Unknown',
    ready: list(status['conditions']).some((c) => record(c)['type'] === 'Ready' && record(c)['status'] === 'True'),
    terminating: text(metadata['deletionTimestamp']) !== '',
    addresses: [...new Set(addresses.flatMap((address) => canonicalAddress(text(address)) ?? []))],
    ...(networks === '' ? {} : { networks: parseNetworkStatus(networks) }),
    ...(typeof chosen === 'string' ? { chosenNetworks: chosen.slice(0, 1024) } : {}),
  };
}

/**
 * `<generateName>*`, as Calico writes it. Where a controller names its pods itself, its name is what they share. The
 * owner of a static pod is its node, which says nothing about it.
 */
function nameAggr(metadata: Record<string, unknown>): string {
  const generateName = text(metadata['generateName']);
  if (generateName !== '') return `${generateName}*`;
  const owner = list(metadata['ownerReferences'])
    .map(record)
    .find((reference) => reference['controller'] === true && reference['kind'] !== 'Node');
  const name = text(owner?.['name']);
  return name === '' ? '-' : `${name}-*`;
}

/**
 * A pod's labels as Calico's selectors see them: its own, and three that Calico sets over them. Labels that Calico
 * takes from the namespace (`pcns.`) and the service account (`pcsa.`) are absent, also when the pod itself has some:
 * there, it could only be pretending.
 */
export function selectorLabels(
  pod: Pick<Pod, 'namespace' | 'labels' | 'serviceAccount'>,
): (name: string) => string | undefined {
  return (name) => {
    switch (name) {
      case 'projectcalico.org/namespace':
        return pod.namespace;
      case 'projectcalico.org/orchestrator':
        return 'k8s';
      case 'projectcalico.org/serviceaccount':
        if (pod.serviceAccount !== '') return pod.serviceAccount;
    }
    if (name.startsWith('pcns.') || name.startsWith('pcsa.')) return undefined;
    return Object.hasOwn(pod.labels, name) ? pod.labels[name] : undefined;
  };
}

/** All pods of a namespace, page by page. @throws ApiError */
export async function listPods(client: Pick<ApiClient, 'get'>, namespace: string): Promise<Pod[]> {
  const pods: Pod[] = [];
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  for await (const items of pagesOf<ApiPod>(client, path)) pods.push(...items.map(toPod));
  return pods;
}
