/** Events of a cluster: what `kubectl describe` and `kubectl events` show of an object. */
import type { ApiClient } from './api.ts';

/** Whom it is about. */
export interface About {
  apiVersion: string;
  kind: string;
  name: string;
  namespace?: string;
  uid: string;
}

export interface ClusterEvent {
  type: 'Normal' | 'Warning';
  /** One word in capitals: `Isolated`. */
  reason: string;
  message: string;
}

/** The server takes no longer ones. */
const MAX_MESSAGE = 1024;

/**
 * Those of what is in no namespace are in `default`.
 * @param component Who says so.
 */
export async function emit(
  client: Pick<ApiClient, 'create'>,
  component: string,
  involvedObject: About,
  { type, reason, message }: ClusterEvent,
  signal?: AbortSignal,
): Promise<void> {
  const namespace = involvedObject.namespace ?? 'default';
  const time = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  await client.create(
    `/api/v1/namespaces/${namespace}/events`,
    {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { generateName: `${involvedObject.name.slice(0, 200)}.`, namespace },
      involvedObject,
      type,
      reason,
      message: message.slice(0, MAX_MESSAGE),
      source: { component },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    },
    signal,
  );
}
