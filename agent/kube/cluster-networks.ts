/**
 * The networks of a cluster's pods and Services, as the API server knows them, for `variables: { HOME_NET: pods }`.
 *
 *   pods       Calico's IPPools, where there are any; else the podCIDRs of all nodes
 *   Services   ServiceCIDRs, where they are served (Kubernetes 1.31); else the address of the Service `kubernetes`
 *
 * Asked again and again, not watched: they change rarely, and every node asks.
 */
import type { Logger } from 'pino';
import { messageOf } from '../files/errors.ts';
import { ApiError, type ApiClient, type ApiObject } from './api.ts';
import { list, record, text } from './fields.ts';
import { pagesOf } from './pages.ts';

const MAX_PAGES = 20;
const ASK_MILLIS = 10_000;
const POOLS_MILLIS = 60_000;
/** A list of nodes is large. */
const NODES_MILLIS = 600_000;
const NETWORK = /^[0-9A-Fa-f.:]{2,45}\/\d{1,3}$/;

const POOLS = ['/apis/crd.projectcalico.org/v1/ippools', '/apis/projectcalico.org/v3/ippools'];
const SERVICE_CIDRS = ['/apis/networking.k8s.io/v1/servicecidrs', '/apis/networking.k8s.io/v1beta1/servicecidrs'];
const NODES = '/api/v1/nodes';
const SERVICES = '/api/v1/namespaces/default/services';

type Client = Pick<ApiClient, 'get'>;

export interface ClusterNetworks {
  /** Sorted, each once. */
  networks: string[];
  from: 'pools' | 'nodes';
}

/** @throws ApiError where the API server can't be asked, or forbids it. */
export async function readClusterNetworks(client: Client, signal: AbortSignal): Promise<ClusterNetworks> {
  const pools = (await firstServed(client, POOLS, signal)).map((pool) => text(record(record(pool)['spec'])['cidr']));
  const pods = pools.length > 0 ? pools : (await items(client, NODES, {}, signal)).flatMap(podNetworks);
  const ranges = (await firstServed(client, SERVICE_CIDRS, signal)).flatMap((range) =>
    list(record(record(range)['spec'])['cidrs']).map(text),
  );
  const services = ranges.length > 0 ? ranges : await addressOfApi(client, signal);
  const networks = [...new Set([...pods, ...services])].filter((network) => NETWORK.test(network)).toSorted();
  return { networks, from: pools.length > 0 ? 'pools' : 'nodes' };
}

function podNetworks(node: unknown): string[] {
  const spec = record(record(node)['spec']);
  return [...list(spec['podCIDRs']), spec['podCIDR']].map(text);
}

async function addressOfApi(client: Client, signal: AbortSignal): Promise<string[]> {
  const found = await items(client, SERVICES, { fieldSelector: 'metadata.name=kubernetes' }, signal);
  const addresses = found.flatMap((service) => list(record(record(service)['spec'])['clusterIPs']).map(text));
  return addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`);
}

/** Of several versions or groups of one kind; none where none is served. */
async function firstServed(client: Client, paths: readonly string[], signal: AbortSignal): Promise<unknown[]> {
  for (const path of paths) {
    try {
      return await items(client, path, {}, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    }
  }
  return [];
}

async function items(
  client: Client,
  path: string,
  query: { fieldSelector?: string },
  signal: AbortSignal,
): Promise<unknown[]> {
  const found: unknown[] = [];
  let pages = 0;
  for await (const page of pagesOf<ApiObject>(client, path, query, signal)) {
    found.push(...page);
    if (++pages === MAX_PAGES) break;
  }
  return found;
}

export interface FollowedNetworks {
  /** As they were last known; none: they never were. */
  networks(): readonly string[];
  stop(): void;
}

/**
 * Resolves with the first answer, or without one that came in time.
 * @param onChange Called for each change from then on.
 */
export async function followClusterNetworks(
  client: Client,
  onChange: () => void,
  log: Pick<Logger, 'warn' | 'info'>,
): Promise<FollowedNetworks> {
  let known: readonly string[] = [];
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  async function ask(): Promise<void> {
    let wait = POOLS_MILLIS;
    try {
      const { networks, from } = await readClusterNetworks(client, AbortSignal.timeout(ASK_MILLIS));
      if (from === 'nodes') wait = NODES_MILLIS;
      const isChange = networks.join() !== known.join();
      known = networks;
      if (isChange) log.info({ networks: networks.slice(0, 20), from }, "networks of the cluster's pods and Services");
      if (isChange && timer !== undefined) onChange();
    } catch (error) {
      log.warn({ reason: messageOf(error) }, "networks of the cluster's pods are not known; those of before stay");
    }
    // Not all nodes at once.
    if (!stopped) timer = setTimeout(() => void ask(), wait * (1 + Math.random() / 4)).unref();
  }
  await ask();
  return {
    networks: () => known,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
