/**
 * What isolating a pod would cut, and what would stay open, before anything is changed. Only what the API server knows:
 * which connections there are now, no policy engine tells.
 */
import { ApiError, type ApiClient, type ApiObject } from '../kube/api.ts';
import { list, record, text, texts } from '../kube/fields.ts';
import { pagesOf } from '../kube/pages.ts';
import { listPods, toPod, type ApiPod, type Pod } from '../kube/pods.ts';
import { ENGINES, idOf, NAME_PREFIX, podPath, policiesPath, type Engine } from './isolation.ts';

export interface Cut {
  namespace: string;
  pod: string;
  podUid: string;
  node: string;
  addresses: string[];
  /** Of the policy that cuts. */
  engine: Engine;
  /** Services that lead to it, and how many other ready pods each has. */
  services: { name: string; others: number }[];
  /** Its labels. */
  labels: Readonly<Record<string, string>>;
  /** Other policies that select it and go on letting traffic through, where they do. */
  open: OpenWay[];
  /** What whoever asks should know. */
  notes: string[];
}

/** What another policy lets through. */
export interface OpenWay {
  policy: string;
  direction: 'ingress' | 'egress';
  /** Labels of the pod by which the policy selects it; without one of them it does not. */
  labels: string[];
}

/** It can't be done. The message says why, and what to do. */
export class RespondError extends Error {
  /** For programs. */
  readonly reason: 'Protected' | 'NotFound' | 'HostNetwork' | 'StaysOpen' | 'Isolated' | 'Bounded';
  constructor(reason: RespondError['reason'], message: string) {
    super(message);
    this.reason = reason;
  }
}

const MAX_POLICIES = 2_000;

/** @throws RespondError, ApiError */
export async function whatIsCut(
  client: Pick<ApiClient, 'get'>,
  namespace: string,
  name: string,
  isProtected: readonly string[],
): Promise<Cut> {
  if (isProtected.includes(namespace))
    throw new RespondError('Protected', `pods of namespace ${namespace} are never isolated`);
  const pod = await podOf(client, namespace, name);
  const engine = await engineOf(client);
  const services = await servicesOf(client, pod);
  // Calico's policy is asked before these.
  const open = engine === 'networking.k8s.io' ? await stillOpen(client, pod) : [];
  return {
    namespace,
    pod: name,
    podUid: pod.uid,
    node: pod.node,
    addresses: pod.addresses,
    engine,
    services,
    labels: pod.labels,
    open,
    notes: notesOf(services),
  };
}

function notesOf(services: Cut['services']): string[] {
  const last = services.filter(({ others }) => others === 0).map(({ name }) => name);
  return [
    'connections that are there already go on where the policy engine lets them (Calico with iptables, kube-router): restart the pod to end them',
    ...(last.length === 0 ? [] : [`no other pod is ready behind: ${last.join(', ')}`]),
  ];
}

async function podOf(client: Pick<ApiClient, 'get'>, namespace: string, name: string): Promise<Pod> {
  const pod = await client.get<ApiPod>(podPath(namespace, name)).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404)
      throw new RespondError('NotFound', `there is no pod ${namespace}/${name}`);
    throw error;
  });
  const known = toPod(pod);
  if (known.hostNetwork)
    throw new RespondError(
      'HostNetwork',
      `${known.key} is in its node's network, where no NetworkPolicy of pods reaches it: end the pod instead`,
    );
  if (known.terminating || known.phase === 'Succeeded' || known.phase === 'Failed')
    throw new RespondError('NotFound', `${known.key} has ended, or is about to`);
  return known;
}

/** By which policies pods are isolated here: Calico's, where they are served. */
export async function engineOf(client: Pick<ApiClient, 'get'>): Promise<Engine> {
  return (await enginesOf(client))[0] ?? 'networking.k8s.io';
}

/** Those that are served, the one to take first. */
export async function enginesOf(client: Pick<ApiClient, 'get'>): Promise<Engine[]> {
  return (await hasCalico(client)) ? [...ENGINES] : ['networking.k8s.io'];
}

async function hasCalico(client: Pick<ApiClient, 'get'>): Promise<boolean> {
  try {
    const { resources } = record(await client.get('/apis/projectcalico.org/v3'));
    return list(resources).some((resource) => record(resource)['name'] === 'networkpolicies');
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

async function servicesOf(client: Pick<ApiClient, 'get'>, pod: Pod): Promise<Cut['services']> {
  const leading: { name: string; selector: Record<string, string> }[] = [];
  const path = `/api/v1/namespaces/${encodeURIComponent(pod.namespace)}/services`;
  for await (const items of pagesOf<ApiObject>(client, path)) {
    for (const item of items) {
      const selector = texts(record(record(item)['spec'])['selector']);
      if (Object.keys(selector).length > 0 && hasLabels(pod.labels, selector))
        leading.push({ name: item.metadata.name, selector });
    }
  }
  if (leading.length === 0) return [];
  const others = (await listPods(client, pod.namespace)).filter(({ uid, ready }) => uid !== pod.uid && ready);
  return leading.map(({ name, selector }) => ({
    name,
    others: others.filter(({ labels }) => hasLabels(labels, selector)).length,
  }));
}

function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}

/** Policies of Kubernetes add up: what one of them allows, none takes away. */
async function stillOpen(client: Pick<ApiClient, 'get'>, pod: Pod): Promise<Cut['open']> {
  const open: Cut['open'] = [];
  let seen = 0;
  for await (const items of pagesOf<ApiObject>(client, policiesPath('networking.k8s.io', pod.namespace))) {
    seen += items.length;
    if (seen > MAX_POLICIES)
      throw new RespondError('Bounded', `${pod.namespace} has more than ${MAX_POLICIES} policies`);
    for (const item of items) {
      if (item.metadata.name === `${NAME_PREFIX}${idOf(pod.uid)}`) continue;
      const spec = record(record(item)['spec']);
      if (!selects(record(spec['podSelector']), pod.labels)) continue;
      for (const direction of ['ingress', 'egress'] as const)
        if (list(spec[direction]).length > 0)
          open.push({ policy: item.metadata.name, direction, labels: selectedBy(record(spec['podSelector'])) });
    }
  }
  return open;
}

function selectedBy(selector: Record<string, unknown>): string[] {
  const expressions = list(selector['matchExpressions']).map(record);
  const asked = expressions.filter(({ operator }) => operator === 'In' || operator === 'Exists');
  return [...Object.keys(texts(selector['matchLabels'])), ...asked.map(({ key }) => text(key))];
}

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements */
export function selects(selector: Record<string, unknown>, labels: Readonly<Record<string, string>>): boolean {
  if (!hasLabels(labels, texts(selector['matchLabels']))) return false;
  return list(selector['matchExpressions'])
    .map(record)
    .every((expression) => {
      const value = labels[text(expression['key'])];
      const isOne = value !== undefined && list(expression['values']).includes(value);
      switch (expression['operator']) {
        case 'In':
          return isOne;
        case 'NotIn':
          return !isOne;
        case 'Exists':
          return value !== undefined;
        case 'DoesNotExist':
          return value === undefined;
        default:
          // Of one that is not understood, the worse is taken.
          return true;
      }
    });
}
