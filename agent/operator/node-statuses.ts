/**
 * Keeps the status of each resource what the objects of all nodes say, and removes objects of nodes that are gone.
 *
 * Every write of a status reaches all agents, as the resource is theirs to watch: writes follow each other so slowly
 * that agents get 10,000 of them a second, all together, at most. A change of all nodes arrives within the 10 s in which
 * each of them has its turn to write, so a resource waits until nodes have said nothing new of it for a second, 10 s at
 * most: such a change is one or two writes of it, whatever the number of nodes. Whose turn it is: the one that waits
 * longest. Level-triggered: what is written is what is known then, and each resource is compared each minute.
 */
import type { Logger } from 'pino';
import { isDeepStrictEqual } from 'node:util';
import { ApiError, type ApiClient } from '../kube/api.ts';
import { record } from '../kube/fields.ts';
import { nodeObjectPath } from '../kube/node-object.ts';
import { pagesOf } from '../kube/pages.ts';
import { resourcePath, type ApiDeepPacketInspection, type ResourceApi } from '../kube/resources.ts';
import type { Reflector } from '../kube/reflector.ts';
import { changedResources, statusOf, type NodeEntries } from './sums.ts';

/** Events of all agents a second, together. */
const EVENTS_PER_SECOND = 10_000;
/** How long nodes must have said nothing new of a resource, and how long it waits for that at most. */
const QUIET_MILLIS = 1_000;
const PATIENCE_MILLIS = 10_000;
/** How often each resource is compared, for what the watches can't tell. */
const COMPARE_MILLIS = 60_000;
/** How often it is looked which nodes there are, and how long one must have been missing. */
const PRUNE_MILLIS = 600_000;

/** A resource, and what it is served by. */
export interface Summed {
  api: ResourceApi;
  resources: ApiDeepPacketInspection[];
}

export interface NodeStatuses {
  /** An object of a node is another one. */
  changed(before: NodeEntries | undefined, after: NodeEntries | undefined): void;
  /** Writes the next status that is due. @returns the milliseconds until the next one; undefined: nothing waits. */
  writeNext(summed: Summed, signal: AbortSignal): Promise<number | undefined>;
  /** Removes objects of nodes that have been gone for some time. */
  prune(signal: AbortSignal): Promise<void>;
  /** Statuses that were written. */
  written(): number;
}

export interface NodeStatusesOptions {
  client: ApiClient;
  nodes: Pick<Reflector<NodeEntries>, 'list'>;
  now: () => number;
  log: Pick<Logger, 'info' | 'warn'>;
}

interface Waiting {
  since: number;
  due: number;
}

interface State {
  readonly options: NodeStatusesOptions;
  /** When to compare which resource, by UID, the one that waits longest first. */
  readonly waiting: Map<string, Waiting>;
  /** Nodes that were not there the last time, by name, and since when. */
  missing: Map<string, number>;
  prunedAt: number;
  /** When all resources were compared last, and when the next status may be written. */
  comparedAt: number;
  nextAt: number;
  written: number;
}

export function createNodeStatuses(options: NodeStatusesOptions): NodeStatuses {
  const state: State = {
    options,
    waiting: new Map(),
    missing: new Map(),
    prunedAt: -Infinity,
    comparedAt: -Infinity,
    nextAt: -Infinity,
    written: 0,
  };
  return {
    changed(before, after) {
      for (const uid of changedResources(before, after)) defer(state, uid);
    },
    writeNext: (summed, signal) => writeNext(state, summed, signal),
    prune: (signal) => prune(state, signal),
    written: () => state.written,
  };
}

function defer({ options, waiting }: State, uid: string): void {
  const now = options.now();
  const since = waiting.get(uid)?.since ?? now;
  waiting.set(uid, { since, due: Math.min(now + QUIET_MILLIS, since + PATIENCE_MILLIS) });
}

async function writeNext(state: State, { api, resources }: Summed, signal: AbortSignal): Promise<number | undefined> {
  const { options, waiting } = state;
  const now = options.now();
  const byUid = new Map(resources.map((resource) => [resource.metadata.uid, resource]));
  const nodes = options.nodes.list();
  // Where no node has an object, agents write into the resources themselves.
  if (nodes.length > 0 && now >= state.comparedAt + COMPARE_MILLIS) compareAll(state, byUid, now);
  if (now < state.nextAt && waiting.size > 0) return state.nextAt - now;
  for (const [uid, { due }] of waiting) {
    if (due > now) continue;
    waiting.delete(uid);
    const resource = byUid.get(uid);
    if (resource === undefined || !(await write(state, api, resource, nodes, signal))) continue;
    state.nextAt = now + (nodes.length * 1_000) / EVENTS_PER_SECOND;
    break;
  }
  if (waiting.size === 0) return undefined;
  const soonest = [...waiting.values()].reduce((first, { due }) => Math.min(first, due), Infinity);
  return Math.max(0, state.nextAt - now, soonest - now);
}

function compareAll(state: State, resources: ReadonlyMap<string, unknown>, now: number): void {
  const { waiting } = state;
  state.comparedAt = now;
  for (const uid of resources.keys()) if (!waiting.has(uid)) waiting.set(uid, { since: now, due: now });
}

/** @returns whether it had to be written. */
async function write(
  state: State,
  api: ResourceApi,
  { metadata: { namespace, name, uid }, status: before }: ApiDeepPacketInspection,
  nodes: NodeEntries[],
  signal: AbortSignal,
): Promise<boolean> {
  const { options } = state;
  const status = statusOf(uid, nodes);
  const holds = Object.entries(status).every(([field, value]) => isDeepStrictEqual(record(before)[field], value));
  if (holds || (before === undefined && status.nodes?.length === 0)) return false;
  try {
    const patch = { metadata: { uid }, status };
    await options.client.mergePatch(`${resourcePath(api, namespace, name)}/status`, patch, signal);
  } catch (error) {
    // It is gone, or another one has its name, or it has no status of its own (a CRD that is not ours).
    if (error instanceof ApiError && (error.status === 404 || error.status === 409)) {
      options.log.warn({ resource: `${namespace}/${name}`, err: error }, 'status cannot be written');
      return false;
    }
    defer(state, uid);
    throw error;
  }
  state.written++;
  return true;
}

async function prune(state: State, signal: AbortSignal): Promise<void> {
  const { options, missing } = state;
  const { client, nodes, now, log } = options;
  if (now() < state.prunedAt + PRUNE_MILLIS) return;
  state.prunedAt = now();
  const there = new Set<string>();
  for await (const page of pagesOf(client, '/api/v1/nodes', { metadataOnly: true }, signal)) {
    for (const { metadata } of page) there.add(metadata.name);
  }
  const gone = nodes.list().filter(({ node }) => !there.has(node));
  state.missing = new Map(gone.map(({ node }) => [node, missing.get(node) ?? now()]));
  for (const { node, uid } of gone) {
    if (now() - (state.missing.get(node) ?? now()) < PRUNE_MILLIS) continue;
    await client.remove(nodeObjectPath(node), uid, signal).catch((error: unknown) => {
      if (!(error instanceof ApiError) || (error.status !== 404 && error.status !== 409)) throw error;
    });
    log.info({ node }, 'what a node that is gone said is removed');
  }
}
