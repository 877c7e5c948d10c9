/**
 * What one node's agent knows of its cluster: the resources of all namespaces, and the pods of its own node.
 *
 * Caches only: when the API server is away they stay as they were, and come up to date when it is back. Neither memory
 * nor requests grow with the number of nodes or pods elsewhere.
 */
import type { Logger } from 'pino';
import { holdingClock, type Clock } from '../files/clock.ts';
import { isDeepStrictEqual } from 'node:util';
import type { ApiClient, ApiError, Metadata } from './api.ts';
import { texts } from './fields.ts';
import { createPeerNames, type PeerNames } from './peers.ts';
import { toPod, type ApiPod, type Pod } from './pods.ts';
import { reflect, type Reflector } from './reflector.ts';
import {
  followResourceApi,
  isCopy,
  resourceFromRow,
  resourcePath,
  toResource,
  type ApiDeepPacketInspection,
  type DeepPacketInspection,
  type NodeStatus,
  type ResourceApi,
} from './resources.ts';
import { createNodeStatusWriter } from './node-status.ts';
import { createStatusWriter, type StatusWriter } from './status.ts';

export interface ClusterOptions {
  client: ApiClient;
  /** This node's name. */
  node: string;
  /** The caches changed. */
  onChange: () => void;
  /** Where it writes its status: into each resource, or into the object of its node, which the operator reads. */
  statusIn?: 'resource' | 'node';
  log: Logger;
  clock?: Clock;
  /** From 0 to 1. */
  random?: () => number;
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

/** A resource, and whether its status had an entry of this node when it was read. */
type Known = DeepPacketInspection & { reported: boolean; generation: number | undefined };

interface State {
  readonly options: Required<ClusterOptions>;
  readonly status: StatusWriter;
  /** Keys of resources that this agent gave a status. */
  readonly reported: Set<string>;
  readonly pods: Reflector<Pod>;
  /** The resources' API, as it is served now, and those who follow it. */
  api: ResourceApi | undefined;
  resources: Reflector<Known> | undefined;
  /** Those of the API that was followed before, until the new one's are known. */
  former: Known[];
  /** Of watches of the API that was followed before. */
  formerRestarts: number;
  /** Undefined: not known yet. */
  isServed: boolean | undefined;
}

export function followCluster(given: ClusterOptions): Cluster {
  const options = { clock: holdingClock, random: Math.random, statusIn: 'resource' as const, ...given };
  const { client, node, onChange, log, clock, random, statusIn } = options;
  const createWriter = statusIn === 'node' ? createNodeStatusWriter : createStatusWriter;
  const { pods, ownerOf } = followPods(options);
  const state: State = {
    options,
    status: createWriter({ client, node, log, clock, random }),
    reported: new Set(),
    pods,
    api: undefined,
    resources: undefined,
    former: [],
    formerRestarts: 0,
    isServed: undefined,
  };
  const discovery = followResourceApi({
    client,
    log,
    clock,
    random,
    onChange(served) {
      goOver(state, served, () => discovery.recheck());
      onChange();
    },
  });
  const names = createPeerNames({ log, client, local: ownerOf });
  return {
    resources: () => resourcesOf(state),
    pods: () => pods.list(),
    synced: () => pods.state().synced && (state.isServed === false || state.resources?.state().synced === true),
    watchRestarts: () => ({
      pods: pods.restarts(),
      deeppacketinspections: state.formerRestarts + (state.resources?.restarts() ?? 0),
    }),
    names,
    report: (resource, entry) => report(state, resource, entry),
    async stop() {
      discovery.stop();
      names.close();
      await stop(state);
    },
  };
}

/** @returns the pods of this node, and whose of them an address is; undefined where that is not sure. */
function followPods({ client, node, onChange, log, clock, random }: Required<ClusterOptions>): {
  pods: Reflector<Pod>;
  ownerOf: (address: string) => Pod | undefined;
} {
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
    onState: logState(log, 'pods of this node'),
    clock,
    random,
  });
  return {
    pods,
    ownerOf(address) {
      podsByAddress ??= byAddress(pods.list());
      const owners = podsByAddress.get(address);
      return owners?.length === 1 ? owners[0] : undefined;
    },
  };
}

/** To the API that is served by now. */
function goOver(state: State, served: ResourceApi | undefined, recheck: () => void): void {
  const { client, log } = state.options;
  state.isServed = served !== undefined;
  if (served === undefined) log.warn({ server: client.server }, 'the cluster serves no DeepPacketInspection resources');
  else log.info({ api: served }, 'following DeepPacketInspection resources');
  state.former = served === undefined ? [] : (state.resources?.list() ?? state.former);
  state.formerRestarts += state.resources?.restarts() ?? 0;
  state.resources?.stop();
  state.api = served;
  state.resources = served === undefined ? undefined : followResources(state, served, recheck);
}

/** @param recheck Called when the API may be gone. */
function followResources(state: State, followed: ResourceApi, recheck: () => void): Reflector<Known> {
  const { options, status, reported } = state;
  const { client, node, onChange, log, clock, random, statusIn } = options;
  const logChange = logState(log, `resources of ${followed}`);
  const reflector = reflect<ApiDeepPacketInspection, Known>({
    client,
    path: resourcePath(followed),
    query: {},
    convert: (object) => (isCopy(object) ? undefined : toKnown(node, object)),
    byMetadata: {
      pathOf: ({ namespace, name }) => resourcePath(followed, namespace, name),
      update: updated,
    },
    // Who writes into the resources has to see what their status says of its node.
    ...(statusIn === 'node' ? { fromRow: resourceFromRow } : {}),
    onChange(change) {
      if (change.type === 'deleted') {
        status.forget(change.object, followed);
        reported.delete(change.key);
      }
      onChange();
    },
    onState(next) {
      if (next.failure?.status === 404) recheck();
      logChange(next);
    },
    clock,
    random,
  });
  void reflector.synced.then(() => {
    if (state.resources !== reflector) return;
    state.former = [];
    onChange();
  });
  return reflector;
}

function toKnown(node: string, object: ApiDeepPacketInspection): Known {
  return { ...toResource(object), reported: hasEntryOf(node, object), generation: object.metadata.generation };
}

/** A status that is written changes the version only: thousands of agents need not read it. */
function updated(metadata: Metadata, before: Known): Known | undefined {
  const { generation } = metadata;
  if (generation === undefined || generation !== before.generation || isCopy({ metadata })) return undefined;
  const annotations = texts(metadata.annotations);
  return isDeepStrictEqual(annotations, before.annotations) ? before : { ...before, annotations };
}

function hasEntryOf(node: string, { status }: ApiDeepPacketInspection): boolean {
  return Array.isArray(status?.nodes) && status.nodes.some((entry) => entry?.node === node);
}

/** Logs when a cache can't be kept up to date, and when it can again. */
function logState(log: Logger, what: string): (state: { synced: boolean; failure?: ApiError }) => void {
  let failing = '';
  return ({ failure }) => {
    const message = failure?.message ?? '';
    if (message === failing) return;
    if (message === '') log.info({ what }, 'the API server answers again');
    else log.warn({ what, reason: message }, 'the API server does not answer; what is known stays');
    failing = message;
  };
}

function resourcesOf({ resources, former }: State): Known[] {
  const known = resources?.list() ?? [];
  return former.length > 0 && known.length === 0 ? former : known;
}

function report(
  { api, reported, status, options }: State,
  resource: DeepPacketInspection,
  entry: Omit<NodeStatus, 'node'> | undefined,
): void {
  if (api === undefined) return;
  if (entry !== undefined) reported.add(resource.key);
  // What an earlier agent left in the node's object is known to the writer alone.
  else if (!reported.delete(resource.key) && !(resource as Known).reported && options.statusIn === 'resource') return;
  status.set(resource, api, entry);
}

async function stop(state: State): Promise<void> {
  const { api, pods, resources, reported, status } = state;
  const known = resourcesOf(state);
  pods.stop();
  resources?.stop();
  for (const resource of known) {
    if (api !== undefined && reported.has(resource.key)) status.set(resource, api, undefined);
  }
  await status.close();
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
