/**
 * What one node's agent knows of its cluster: the resources of all namespaces, and the pods of its own node.
 *
 * Caches only: when the API server is away they stay as they were, and come up to date when it is back. Neither memory
 * nor requests grow with the number of nodes or pods elsewhere.
 */
import type { Logger } from 'pino';
import type { ApiClient, ApiError } from './api.ts';
import { createPeerNames, type PeerNames } from './peers.ts';
import { toPod, type ApiPod, type Pod } from './pods.ts';
import { reflect, type Reflector } from './reflector.ts';
import {
  followResourceApi,
  isCopy,
  resourcePath,
  toResource,
  type ApiDeepPacketInspection,
  type DeepPacketInspection,
  type NodeStatus,
  type ResourceApi,
} from './resources.ts';
import { createStatusWriter } from './status.ts';

export interface ClusterOptions {
  client: ApiClient;
  /** This node's name. */
  node: string;
  /** The caches changed. */
  onChange: () => void;
  log: Logger;
}

export interface Cluster {
  resources(): DeepPacketInspection[];
  pods(): Pod[];
  /** Whether both caches were complete once: what is not in them is not there. */
  synced(): boolean;
  /** How often a watch had to begin again, by what is watched. */
  watchRestarts(): Record<string, number>;
  /** Names of addresses anywhere in the cluster. */
  names: PeerNames;
  /** This node's entry in a resource's status; undefined: none. */
  report(resource: DeepPacketInspection, status: Omit<NodeStatus, 'node'> | undefined): void;
  /** Ends the watches, and takes this node out of every status, for some seconds at most. */
  stop(): Promise<void>;
}

/** A resource, and whether its status has an entry of this node. */
type Known = DeepPacketInspection & { reported: boolean };

export function followCluster({ client, node, onChange, log }: ClusterOptions): Cluster {
  const status = createStatusWriter({ client, node, log });
  /** Keys of resources that this agent gave a status. */
  const reported = new Set<string>();

  /** Made when it is asked for, and again after a change. */
  let podsByAddress: Map<string, Pod[]> | undefined;
  const pods = reflect<ApiPod, Pod>({
    client,
    path: '/api/v1/pods',
    query: { fieldSelector: `spec.nodeName=${node}` },
    convert: toPod,
    onChange() {
      podsByAddress = undefined;
      onChange();
    },
    onState: logState('pods of this node'),
  });

  let api: ResourceApi | undefined;
  let resources: Reflector<Known> | undefined;
  /** Those of the API that was followed before, until the new one's are known. */
  let former: Known[] = [];
  /** Of watches of the API that was followed before. */
  let formerRestarts = 0;
  let isServed: boolean | undefined;

  const discovery = followResourceApi({
    client,
    log,
    onChange(served) {
      isServed = served !== undefined;
      if (served === undefined)
        log.warn({ server: client.server }, 'the cluster serves no DeepPacketInspection resources');
      else log.info({ api: served }, 'following DeepPacketInspection resources');
      former = served === undefined ? [] : (resources?.list() ?? former);
      formerRestarts += resources?.restarts() ?? 0;
      resources?.stop();
      api = served;
      resources = served === undefined ? undefined : followResources(served);
      onChange();
    },
  });

  function followResources(followed: ResourceApi): Reflector<Known> {
    const logChange = logState(`resources of ${followed}`);
    const reflector = reflect<ApiDeepPacketInspection, Known>({
      client,
      path: resourcePath(followed),
      query: {},
      convert: (object) =>
        isCopy(object)
          ? undefined
          : {
              ...toResource(object),
              reported:
                Array.isArray(object.status?.nodes) && object.status.nodes.some((entry) => entry?.node === node),
            },
      onChange(change) {
        if (change.type === 'deleted') {
          status.forget(change.object, followed);
          reported.delete(change.key);
        }
        onChange();
      },
      onState: (state) => {
        if (state.failure?.status === 404) discovery.recheck();
        logChange(state);
      },
    });
    void reflector.synced.then(() => {
      if (resources !== reflector) return;
      former = [];
      onChange();
    });
    return reflector;
  }

  /** Logs when a cache can't be kept up to date, and when it can again. */
  function logState(what: string): (state: { synced: boolean; failure?: ApiError }) => void {
    let failing = '';
    return ({ failure }) => {
      const message = failure?.message ?? '';
      if (message === failing) return;
      if (message === '') log.info({ what }, 'the API server answers again');
      else log.warn({ what, reason: message }, 'the API server does not answer; what is known stays');
      failing = message;
    };
  }

  const names = createPeerNames({
    log,
    client,
    local(address) {
      podsByAddress ??= byAddress(pods.list());
      const owners = podsByAddress.get(address);
      return owners?.length === 1 ? owners[0] : undefined;
    },
  });

  const listResources = (): Known[] => {
    const known = resources?.list() ?? [];
    return former.length > 0 && known.length === 0 ? former : known;
  };

  return {
    resources: listResources,
    pods: () => pods.list(),
    synced: () => pods.state().synced && (isServed === false || resources?.state().synced === true),
    watchRestarts: () => ({
      pods: pods.restarts(),
      deeppacketinspections: formerRestarts + (resources?.restarts() ?? 0),
    }),
    names,
    report(resource, entry) {
      if (api === undefined) return;
      if (entry !== undefined) reported.add(resource.key);
      else if (!reported.delete(resource.key) && !(resource as Known).reported) return;
      status.set(resource, api, entry);
    },
    async stop() {
      discovery.stop();
      names.close();
      const known = listResources();
      pods.stop();
      resources?.stop();
      for (const resource of known) {
        if (api !== undefined && reported.has(resource.key)) status.set(resource, api, undefined);
      }
      await status.close();
    },
  };
}

/** Pods in the node's network have its addresses, not their own. */
function byAddress(pods: Pod[]): Map<string, Pod[]> {
  const owners = new Map<string, Pod[]>();
  for (const pod of pods) {
    if (pod.hostNetwork) continue;
    for (const address of pod.addresses) owners.set(address, [...(owners.get(address) ?? []), pod]);
  }
  return owners;
}
