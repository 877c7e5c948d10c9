/**
 * What is inspected and by whom, for the page: agents that are named or found as pods, and the resources' status. Asked
 * when the page asks, at most each 5 s; an agent that does not answer in 2 s is `unknown`.
 */
import pLimit from 'p-limit';
import { messageOf } from '../files/errors.ts';
import { askStatus, type Address } from '../observe/ask.ts';
import type { EndpointSnapshot } from '../observe/snapshot.ts';
import type { ApiClient } from '../kube/api.ts';
import { discoverResourceApi, resourcePath, type ApiDeepPacketInspection } from '../kube/resources.ts';
import type { Coverage } from './api.ts';
import { inScope, type Scope } from './query.ts';
import { fields, text } from './row.ts';

const KEEP_MILLIS = 5000;
const TIMEOUT_MILLIS = 2000;
const AT_ONCE = 32;
const MAX_ERRORS = 20;
const MAX_TEXT = 4096;
/** Pods of a node that are listed. */
const MAX_ENCRYPTED = 10;
const MAX_PODS = 200;

type Node = Coverage['nodes'][number];
type Resource = Coverage['resources'][number];

export interface CoverageOptions {
  /** Agents to ask for their status. */
  agents: readonly Address[];
  /** Where agents are pods: those with this label are asked whether they are ready. */
  cluster?: { client: ApiClient; namespace: string; labelSelector: string; port: number };
  now?: () => number;
}

export function createCoverage(options: CoverageOptions): (scope: Scope) => Promise<Coverage> {
  const { now = () => performance.now() } = options;
  let known: { until: number; answer: Promise<Coverage> } | undefined;
  return async (scope) => {
    if (known === undefined || known.until < now()) known = { until: now() + KEEP_MILLIS, answer: look(options) };
    const { nodes, resources, problems } = await known.answer;
    // Nodes and what is wrong with them tell of all namespaces.
    return {
      nodes: scope === 'all' ? nodes : [],
      resources: resources.filter(({ key }) => inScope(scope, key.split('/')[0] ?? '')),
      problems,
    };
  };
}

async function look({ agents, cluster }: CoverageOptions): Promise<Coverage> {
  const problems: string[] = [];
  const attempt = async <T>(what: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await what;
    } catch (error) {
      problems.push(messageOf(error));
      return otherwise;
    }
  };
  const [named, pods, resources] = await Promise.all([
    pLimit(AT_ONCE).map(agents, askAgent),
    cluster === undefined ? [] : attempt(askPods(cluster), []),
    cluster === undefined ? [] : attempt(readResources(cluster.client), []),
  ]);
  return { nodes: [...named, ...pods].toSorted((a, b) => a.name.localeCompare(b.name)), resources, problems };
}

async function askAgent(address: Address): Promise<Node> {
  try {
    const { agent, state, problems, engine, endpoints, rules } = await askStatus(address, TIMEOUT_MILLIS);
    return {
      name: agent.node,
      state: state === 'inspecting' ? 'ready' : state,
      problems: problems.map(String),
      engine: `${engine.name} ${engine.version}`,
      pods: endpoints.length,
      podNames: endpoints
        .map(({ id }) => id)
        .sort()
        .slice(0, MAX_PODS),
      rules: rules.loaded,
      version: agent.version,
      encrypted: mostEncrypted(endpoints),
    };
  } catch (error) {
    const where = 'socket' in address ? address.socket : address.url;
    return { name: where, state: 'unknown', problems: [`it does not answer: ${reasonOf(error)}`] };
  }
}

function mostEncrypted(endpoints: readonly EndpointSnapshot[]): NonNullable<Node['encrypted']> {
  return endpoints
    .map(({ id, encrypted }) => ({ pod: id, ...encrypted }))
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, MAX_ENCRYPTED);
}

async function askPods({
  client,
  namespace,
  labelSelector,
  port,
}: NonNullable<CoverageOptions['cluster']>): Promise<Node[]> {
  const { items } = await client.get<{ items: unknown[] }>(`/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`, {
    labelSelector,
    limit: 5000,
  });
  return pLimit(AT_ONCE).map(items, async (item): Promise<Node> => {
    const { metadata, spec, status } = fields(item);
    const name = text(fields(spec)['nodeName']) || text(fields(metadata)['name']);
    const ip = text(fields(status)['podIP']);
    if (ip === '') return { name, state: 'unknown', problems: ['its agent has no address yet'] };
    try {
      const url = `http://${ip.includes(':') ? `[${ip}]` : ip}:${port}/readiness`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MILLIS), redirect: 'error' });
      const problems = answer.ok ? [] : (await answer.text()).slice(0, MAX_TEXT).split('\n').filter(Boolean);
      return { name, state: answer.ok ? 'ready' : 'impaired', problems };
    } catch (error) {
      return { name, state: 'unknown', problems: [`its agent does not answer: ${reasonOf(error)}`] };
    }
  });
}

async function readResources(client: ApiClient): Promise<Resource[]> {
  const api = await discoverResourceApi(client);
  if (api === undefined)
    throw new Error(`${client.server} serves no DeepPacketInspection resources: apply deploy/crds`);
  const { items } = await client.get<{ items: ApiDeepPacketInspection[] }>(resourcePath(api));
  return items.map(({ metadata, spec, status }) => {
    const nodes = status?.nodes ?? [];
    const total = (key: 'podsSelected' | 'podsCaptured'): number => nodes.reduce((sum, node) => sum + node[key], 0);
    return {
      key: `${metadata.namespace ?? ''}/${metadata.name}`,
      selector: text(spec?.selector),
      // Not all nodes need be listed: the sums are of all.
      nodes: status?.nodesActive ?? nodes.filter(({ active }) => active?.success).length,
      podsSelected: status?.podsSelected ?? total('podsSelected'),
      podsCaptured: status?.podsCaptured ?? total('podsCaptured'),
      errors: nodes
        .flatMap(({ node, errorConditions }) => errorConditions.map((condition) => ({ node, ...condition })))
        .toSorted((a, b) => (a.timestamp < b.timestamp ? 1 : -1))
        .slice(0, MAX_ERRORS),
    };
  });
}

/** The system's own reason is the cause of what fetch says. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `not within ${TIMEOUT_MILLIS / 1000} s`;
  return error.cause instanceof Error ? error.cause.message : error.message;
}
