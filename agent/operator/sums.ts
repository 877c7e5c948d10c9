/**
 * A resource's status, out of what the objects of all nodes say of it. Pure, but for what it remembers of each object.
 *
 * Kept of an entry are its counts and its text: thousands of nodes say something of each resource. The status is
 * bounded: for each agent that watches, the API server copies the whole object, whatever of it the agent gets. The sums
 * are of all nodes.
 */
import { record, text } from '../kube/fields.ts';
import { inspectionsOf, type Inspection, type NodeObject } from '../kube/node-object.ts';
import type { NodeStatus, ResourceStatus } from '../kube/resources.ts';
import { countsOf, sumsOf, type Counts } from '../kube/status-entry.ts';

/**
 * Of `status.nodes` in JSON, and of it for all agents together: 600 nodes without errors where there are 500 agents,
 * 75 where there are 5,000.
 */
const BYTES = { most: 128 << 10, least: 16 << 10, ofAll: 64 << 20 };

/** Fields of an inspection that the resource's own status does not repeat. */
const OF_THE_RESOURCE = ['api', 'namespace', 'name', 'uid', 'node'];

export interface NodeEntry extends Counts {
  /** JSON of the node's entry in the status. */
  json: string;
}

/** What a node says, by the UID of the resource. */
export interface NodeEntries {
  node: string;
  /** To remove the object by. */
  uid: string;
  entries: ReadonlyMap<string, NodeEntry>;
}

/** Never throws, whatever the object holds. */
export function toEntries(object: NodeObject): NodeEntries {
  const { name: node, uid } = object.metadata;
  const entries = inspectionsOf(object).map((one): [string, NodeEntry] => [text(one.uid), toEntry(node, one)]);
  return { node, uid, entries: new Map(entries) };
}

function toEntry(node: string, one: Partial<Inspection>): NodeEntry {
  const said = Object.fromEntries(Object.entries(one).filter(([field]) => !OF_THE_RESOURCE.includes(field)));
  return { ...countsOf(said), json: JSON.stringify({ node, ...said }) };
}

/** UIDs of resources of which the two do not say the same. */
export function changedResources(before: NodeEntries | undefined, after: NodeEntries | undefined): string[] {
  const uids = new Set([...(before?.entries.keys() ?? []), ...(after?.entries.keys() ?? [])]);
  return [...uids].filter((uid) => before?.entries.get(uid)?.json !== after?.entries.get(uid)?.json);
}

/**
 * The status of the resource with that UID. Where not all nodes fit, those with errors come first, with the newest
 * error of each only, and then as many others as fit, by name.
 */
export function statusOf(uid: string, nodes: readonly NodeEntries[], bytes = bytesFor(nodes.length)): ResourceStatus {
  const said = nodes.flatMap(({ node, entries }) => {
    const entry = entries.get(uid);
    return entry === undefined ? [] : [{ node, ...entry }];
  });
  said.sort((a, b) => (a.node < b.node ? -1 : 1));
  const listed = fitting(said, bytes);
  return {
    nodes: listed.map((json) => JSON.parse(json) as NodeStatus),
    ...sumsOf(said),
    nodesOmitted: said.length - listed.length,
  };
}

function bytesFor(agents: number): number {
  return Math.min(BYTES.most, Math.max(BYTES.least, BYTES.ofAll / agents));
}

function fitting(said: (NodeEntry & { node: string })[], bytes: number): string[] {
  const all = said.map(({ json }) => json);
  if (all.reduce((sum, { length }) => sum + length + 1, 0) <= bytes) return all;
  const isWrong = ({ success, errors }: NodeEntry): boolean => !success || errors > 0;
  let left = bytes;
  const taken = new Set<string>();
  const jsonOf = new Map<string, string>();
  for (const entry of [...said.filter(isWrong), ...said.filter((one) => !isWrong(one))]) {
    const json = entry.errors > 1 ? withNewestError(entry.json) : entry.json;
    left -= json.length + 1;
    if (left < 0) break;
    taken.add(entry.node);
    jsonOf.set(entry.node, json);
  }
  return said.flatMap(({ node }) => (taken.has(node) ? [jsonOf.get(node) ?? ''] : []));
}

function withNewestError(json: string): string {
  const said = record(JSON.parse(json)) as { errorConditions?: unknown[] };
  return JSON.stringify({ ...said, errorConditions: said.errorConditions?.slice(0, 1) });
}
