/**
 * What became of the settings, as a condition of the IntrusionDetection and as events. Conditions of other types are
 * others' and stay.
 */
import type { ApiClient, ApiObject } from '../kube/api.ts';
import { emit } from '../kube/emit.ts';
import { list, record, text } from '../kube/fields.ts';
import type { Verdict } from './desired.ts';
import { plain } from '../config/text.ts';

export const DETECTIONS = '/apis/operator.tigera.io/v1/intrusiondetections';
/** The only one that Calico Enterprise looks at, too. */
export const DETECTION = 'tigera-secure';
export const CONDITION = 'DeepPacketInspectionReady';

export const COMPONENT = 'dpi-agent-operator';
/** Of a message in a condition and in an event, in characters; the server takes 32768 and 1024. */
const MAX_MESSAGE = 1000;

export interface IntrusionDetection extends ApiObject {
  spec?: unknown;
  status?: unknown;
}

/** Writes it where it says something new. @returns whether it did. */
export async function report(
  client: ApiClient,
  detection: IntrusionDetection,
  { status, reason, message }: Verdict,
  signal: AbortSignal,
): Promise<boolean> {
  const { metadata } = detection;
  const conditions = list(record(detection.status)['conditions']);
  const index = conditions.findIndex((condition) => record(condition)['type'] === CONDITION);
  const before = record(conditions[index]);
  const now = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  const next = { status: status ? 'True' : 'False', reason, message: plain(message, MAX_MESSAGE) };
  const isSame = Object.entries(next).every(([key, value]) => before[key] === value);
  const observedGeneration = metadata.generation ?? 0;
  if (isSame && before['observedGeneration'] === observedGeneration) return false;
  const condition = {
    type: CONDITION,
    ...next,
    observedGeneration,
    lastTransitionTime: before['status'] === next.status ? text(before['lastTransitionTime']) : now,
  };
  const all = index === -1 ? [...conditions, condition] : conditions.with(index, condition);
  const patch = { metadata: { resourceVersion: metadata.resourceVersion }, status: { conditions: all } };
  await client.mergePatch(`${DETECTIONS}/${metadata.name}/status`, patch, signal);
  if (!isSame) {
    const about = {
      apiVersion: 'operator.tigera.io/v1',
      kind: 'IntrusionDetection',
      name: metadata.name,
      uid: metadata.uid,
    };
    const type = status ? 'Normal' : 'Warning';
    await emit(client, COMPONENT, about, { type, reason, message: next.message }, signal);
  }
  return true;
}
