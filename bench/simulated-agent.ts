/**
 * An agent of a node that there is not: the real client, caches, rounds, leases of ids and status; in place of
 * interfaces and captures, a word that all is well.
 */
import { join } from 'node:path';
import { pino } from 'pino';
import type { Endpoint } from '../agent/endpoints/endpoint.ts';
import { followPods } from '../agent/endpoints/follow.ts';
import type { FollowedCapture, Resolve } from '../agent/endpoints/follow/parts.ts';
import { openLeases } from '../agent/endpoints/leases.ts';
import type { ApiClient } from '../agent/kube/api.ts';
import { createClient } from '../agent/kube/client.ts';
import { followCluster, type Cluster } from '../agent/kube/cluster.ts';

const LOG = pino({ level: 'silent' });

/** Of all agents together. */
export interface Traffic {
  requests: Record<string, number>;
  events: number;
}

export interface SimulatedAgent {
  cluster: Cluster;
  stop(): Promise<void>;
}

export interface SimulatedOptions {
  node: string;
  /** Folder of the leases, of all agents. */
  directory: string;
  server: URL;
  /** Folder of a service account's token and certificate. */
  serviceAccount: string;
  statusIn: 'resource' | 'node';
  traffic: Traffic;
  onChange: () => void;
}

export async function startSimulatedAgent(options: SimulatedOptions): Promise<SimulatedAgent> {
  const { node, server, serviceAccount, statusIn, traffic } = options;
  const environment = { KUBERNETES_SERVICE_HOST: server.hostname, KUBERNETES_SERVICE_PORT: server.port };
  const client = counted(await createClient({ environment, serviceAccount }), traffic);
  let changed = (): void => undefined;
  const onChange = (): void => {
    changed();
    options.onChange();
  };
  const cluster = followCluster({ client, node, statusIn, onChange, log: LOG });
  const follower = followPods({
    ...cluster,
    side: 'host',
    loopback: false,
    resolve: everywhere,
    namespaces: { hold: () => ({ path: '', release: () => undefined }), isStillThere: () => true },
    capture: captureOf(join(options.directory, `${node}.ndjson`)),
    log: LOG,
  });
  ({ changed } = follower);
  return {
    cluster,
    async stop() {
      follower.stop();
      await cluster.stop();
    },
  };
}

function counted(client: ApiClient, traffic: Traffic): ApiClient {
  const count = (verb: string): void => {
    traffic.requests[verb] = (traffic.requests[verb] ?? 0) + 1;
  };
  return {
    ...client,
    get: (...args) => (count('get'), client.get(...args)),
    create: (...args) => (count('create'), client.create(...args)),
    mergePatch: (...args) => (count('patch'), client.mergePatch(...args)),
    remove: (...args) => (count('delete'), client.remove(...args)),
    watch(path, query, onEvent, signal, onOpen) {
      count('watch');
      const onCounted: typeof onEvent = (event) => {
        if (event.type !== 'BOOKMARK') traffic.events++;
        onEvent(event);
      };
      return client.watch(path, query, onCounted, signal, onOpen);
    },
  };
}

const everywhere: Resolve = (requests) =>
  new Map(
    requests.map(({ pod }) => [
      pod.key,
      {
        kind: 'found' as const,
        interface: `cali${pod.uid.slice(0, 11)}`,
        by: 'calico' as const,
        ifindex: 1,
        addresses: [],
        lacking: [],
      },
    ]),
  );

function captureOf(file: string): FollowedCapture {
  const leases = openLeases(file);
  const captured = new Map<string, Endpoint>();
  return {
    attach(endpoint) {
      leases.acquire(endpoint);
      captured.set(endpoint.id, endpoint);
    },
    async detach(id) {
      captured.delete(id);
      leases.free(id);
    },
    endpoints: () =>
      [...captured.values()].map((endpoint) => ({
        endpoint,
        state: { is: 'capturing' as const, ifindex: 1, linkType: 'EN10MB' },
      })),
    barredFromPods: () => undefined,
    problems: () => [],
    conditions: () => [],
  };
}
