/**
 * The object of a node: what its agent says of each resource that has pods there, in one object of the cluster that
 * no other agent reads or writes. The operator makes the resources' status out of all of them.
 */
import type { ApiObject } from './api.ts';
import { list, record, text } from './fields.ts';
import type { ResourceApi } from './resources.ts';
import type { Entry } from './status-entry.ts';

const API = 'dpi-agent.io/v1';
export const NODE_OBJECTS = `/apis/${API}/deeppacketinspectionnodes`;
const KIND = { apiVersion: API, kind: 'DeepPacketInspectionNode' };

/** Of the JSON of all inspections of a node: etcd takes 1.5 MB. */
const MAX_BYTES = 512 << 10;
/** How many error conditions of each are kept, where all of them do not fit. */
const FEWER_ERRORS = [3, 1, 0] as const;

export interface Inspection extends Entry {
  /** Of the resource. */
  api: ResourceApi;
  namespace: string;
  name: string;
  uid: string;
}

export interface NodeObject extends ApiObject {
  inspections?: Inspection[];
}

/** @param node A node's name is a name for an object of the cluster, too. */
export function nodeObjectPath(node: string): string {
  return `${NODE_OBJECTS}/${encodeURIComponent(node)}`;
}

export function nodeObject(node: string, inspections: readonly Inspection[]): object {
  return { ...KIND, metadata: { name: node, labels: { 'app.kubernetes.io/name': 'dpi-agent' } }, inspections };
}

/** Those that fit into one object: with fewer error conditions where it has to be, and then fewer resources. */
export function fitting(inspections: Inspection[], bytes = MAX_BYTES): Inspection[] {
  if (bytesOf(inspections) <= bytes) return inspections;
  for (const errors of FEWER_ERRORS) {
    const shorter = inspections.map((one) => ({ ...one, errorConditions: one.errorConditions.slice(0, errors) }));
    if (bytesOf(shorter) <= bytes || errors === 0) return cutTo(shorter, bytes);
  }
  return [];
}

function cutTo(inspections: Inspection[], bytes: number): Inspection[] {
  let left = bytes;
  return inspections.filter((one) => (left -= bytesOf(one) + 1) >= 0);
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** What an object says, whoever wrote it: parts without a resource's UID count for nothing. */
export function inspectionsOf({ inspections }: NodeObject): Partial<Inspection>[] {
  return list(inspections)
    .map(record)
    .filter(({ uid }) => text(uid) !== '');
}
