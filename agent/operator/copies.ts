/**
 * Read-only copies of the resources of projectcalico.org/v3 under crd.projectcalico.org/v1, as Calico stores them, for
 * those who look there.
 *
 * A copy bears the label and the annotation of agent/kube/resources.ts, with its source's UID. Agents pass it over.
 * What others change in one is put back, and one whose source is gone goes. An object there that is no copy is
 * somebody's own: it is left alone, and counted where a copy could not be made because of it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { ApiClient } from '../kube/api.ts';
import { emit } from '../kube/emit.ts';
import { record } from '../kube/fields.ts';
import { COPY_LABEL, COPY_OF, isCopy, resourcePath, type ApiDeepPacketInspection } from '../kube/resources.ts';
import { COMPONENT } from './condition.ts';
import { MANAGER } from './daemon-set.ts';

const V1 = 'crd.projectcalico.org/v1';
/** kubectl's memory of what it applied would be the copy's. */
const NOT_COPIED = 'kubectl.kubernetes.io/last-applied-configuration';

export type CopyStep =
  | {
      kind: 'write';
      key: string;
      object: object;
      /** Undefined: it is made. */ before: ApiDeepPacketInspection | undefined;
    }
  | { kind: 'status'; key: string; object: object }
  | { kind: 'remove'; key: string; uid: string }
  /** An object of that name is no copy. */
  | { kind: 'taken'; key: string };

/** What makes the copies those of the sources. Keys are `<namespace>/<name>`. */
export function planCopies(sources: ApiDeepPacketInspection[], existing: ApiDeepPacketInspection[]): CopyStep[] {
  const there = new Map(existing.map((object) => [keyOf(object), object]));
  const steps = sources.flatMap((source): CopyStep[] => {
    const key = keyOf(source);
    const before = there.get(key);
    if (before !== undefined && !isCopy(before)) return [{ kind: 'taken', key }];
    const object = copyOf(source);
    const { labels, annotations } = object.metadata;
    const holds =
      before !== undefined &&
      isDeepStrictEqual(before.spec, object.spec) &&
      includes(before.metadata.labels, labels) &&
      includes(before.metadata.annotations, annotations);
    if (!holds) return [{ kind: 'write', key, object, before }];
    if (isDeepStrictEqual(record(before.status), record(source.status))) return [];
    const { name, namespace } = source.metadata;
    const { apiVersion, kind } = object;
    return [
      {
        kind: 'status',
        key,
        object: { apiVersion, kind, metadata: { name, namespace }, status: record(source.status) },
      },
    ];
  });
  const wanted = new Set(sources.map(keyOf));
  for (const object of existing) {
    const key = keyOf(object);
    if (isCopy(object) && !wanted.has(key)) steps.push({ kind: 'remove', key, uid: object.metadata.uid });
  }
  return steps;
}

function copyOf({ metadata, spec }: ApiDeepPacketInspection) {
  const { name, namespace, uid } = metadata;
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([key]) => key !== NOT_COPIED);
  return {
    apiVersion: V1,
    kind: 'DeepPacketInspection',
    metadata: {
      name,
      namespace,
      labels: { ...metadata.labels, [COPY_LABEL]: 'true' },
      annotations: { ...Object.fromEntries(annotations), [COPY_OF]: uid },
    },
    spec: record(spec),
  };
}

function includes(existing: Record<string, string> = {}, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([key, value]) => existing[key] === value);
}

export function keyOf({ metadata: { namespace = '', name } }: ApiDeepPacketInspection): string {
  return `${namespace}/${name}`;
}

/** Carries out one step. @returns whether it put something back that another had changed. */
export async function carryOut(
  client: ApiClient,
  step: CopyStep,
  log: Pick<Logger, 'info' | 'warn'>,
  signal: AbortSignal,
): Promise<boolean> {
  const [namespace = '', name = ''] = step.key.split('/');
  const path = resourcePath(V1, namespace, name);
  switch (step.kind) {
    case 'write': {
      await client.apply(path, step.object, MANAGER, signal);
      const { before } = step;
      if (before === undefined || !wasEdited(before)) return false;
      log.warn({ copy: step.key }, 'a copy was changed and is put back');
      const about = { apiVersion: V1, kind: 'DeepPacketInspection', name, namespace, uid: before.metadata.uid };
      const message =
        'this is a copy, and what was changed is put back: change deeppacketinspections.projectcalico.org instead';
      await emit(client, COMPONENT, about, { type: 'Warning', reason: 'ReadOnlyCopy', message }, signal);
      return true;
    }
    case 'status':
      await client.apply(`${path}/status`, step.object, MANAGER, signal);
      return false;
    case 'remove':
      await client.remove(path, step.uid, signal);
      log.info({ copy: step.key }, 'a copy whose source is gone is removed');
      return false;
    case 'taken':
      return false;
  }
}

/** Whether somebody else than the operator set fields of it. */
function wasEdited({ metadata }: ApiDeepPacketInspection): boolean {
  return (metadata.managedFields ?? []).some(
    ({ manager, subresource }) => manager !== MANAGER && subresource === undefined,
  );
}
