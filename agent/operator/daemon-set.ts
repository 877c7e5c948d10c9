/**
 * Makes the DaemonSet what it shall be, and puts back what others change in it.
 *
 * By server-side apply: the fields of the template and of the settings are the operator's; what others add beside them
 * stays (`kubectl rollout restart` is an annotation of theirs). Fields that `kubectl apply` set before, from the static
 * manifest, become the operator's too, so that they go when the template no longer has them.
 */
import type { Logger } from 'pino';
import type { ApiClient, ApiObject, FieldSet, ManagedFields } from '../kube/api.ts';
import { list, record, text } from '../kube/fields.ts';
import { NAME, type DaemonSet } from './desired.ts';
import { createPatience } from './patience.ts';

export const MANAGER = 'dpi-agent-operator';
export const DAEMON_SETS = `/apis/apps/v1/namespaces/${NAME}/daemonsets`;

/** Who sets fields for `kubectl apply`, on the client's side and on the server's. */
const KUBECTL = ['kubectl-client-side-apply', 'kubectl', 'kubectl-last-applied'];

export interface LiveDaemonSet {
  uid: string;
  version: string;
  generation: number;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** Names. */
  containers: string[];
  managedFields: ManagedFields[];
}

export function toLive({ metadata, ...object }: ApiObject & { spec?: unknown }): LiveDaemonSet {
  const containers = list(record(record(record(object.spec)['template'])['spec'])['containers']);
  return {
    uid: metadata.uid,
    version: metadata.resourceVersion,
    generation: metadata.generation ?? 0,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    containers: containers.map((container) => text(record(container)['name'])),
    managedFields: metadata.managedFields ?? [],
  };
}

export interface Keeper {
  /**
   * @returns milliseconds after which to call it again, as somebody else changed what was just put back; undefined: all
   * is as it shall be.
   */
  apply(desired: DaemonSet, live: LiveDaemonSet | undefined, signal: AbortSignal): Promise<number | undefined>;
  remove(live: LiveDaemonSet | undefined, signal: AbortSignal): Promise<void>;
  /** How often something was put back. */
  putBacks(): number;
}

interface KeeperOptions {
  client: ApiClient;
  log: Pick<Logger, 'info' | 'warn'>;
  now?: () => number;
}

export function createKeeper({ client, log, now = () => performance.now() }: KeeperOptions): Keeper {
  const path = `${DAEMON_SETS}/${NAME}`;
  /** What was applied last, and what the server made of it. */
  let applied: { text: string; uid: string; generation: number } | undefined;
  const patience = createPatience(now);

  return {
    async apply(desired, live, signal) {
      const wish = JSON.stringify(desired);
      const isNew = applied?.text !== wish;
      if (!isNew) {
        if (!wasChanged(desired, live)) return undefined;
        const pause = patience.wait();
        if (pause > 0) return pause;
      }
      if (live !== undefined) {
        const managedFields = adopt(live.managedFields);
        if (managedFields !== undefined) {
          await client.mergePatch(path, { metadata: { resourceVersion: live.version, managedFields } }, signal);
          log.info({ daemonSet: NAME }, 'fields that kubectl applied are taken over');
        }
      }
      const result = await client.apply<ApiObject>(path, desired, MANAGER, signal);
      if (!isNew && (live === undefined || live.generation !== result.metadata.generation)) {
        patience.used();
        log.warn({ daemonSet: NAME, by: live === undefined ? 'deleted' : lastManager(live) }, 'put back');
      } else if (isNew) {
        log.info({ daemonSet: NAME, created: live === undefined }, 'applied');
      }
      applied = { text: wish, uid: result.metadata.uid, generation: result.metadata.generation ?? 0 };
      return undefined;
    },
    async remove(live, signal) {
      applied = undefined;
      if (live === undefined) return;
      await client.remove(path, live.uid, signal);
      log.info({ daemonSet: NAME }, 'removed: there is no DeepPacketInspection');
    },
    putBacks: () => patience.count(),
  };

  /** The cache may be older than what was applied: an older generation says nothing. */
  function wasChanged({ metadata }: DaemonSet, live: LiveDaemonSet | undefined): boolean {
    if (live === undefined || applied === undefined || live.uid !== applied.uid) return true;
    if (live.generation !== applied.generation) return live.generation > applied.generation;
    const holds = (wanted: Record<string, string>, existing: Record<string, string>): boolean =>
      Object.entries(wanted).every(([key, value]) => existing[key] === value);
    return !holds(metadata.labels, live.labels) || !holds(metadata.annotations, live.annotations);
  }
}

/** Who wrote to it last. */
function lastManager({ managedFields }: LiveDaemonSet): string {
  const others = managedFields.filter(({ manager, subresource }) => manager !== MANAGER && subresource === undefined);
  others.sort((a, b) => Date.parse(b.time ?? '') - Date.parse(a.time ?? ''));
  return others[0]?.manager ?? 'somebody';
}

/** The same with what kubectl applied as the operator's own; undefined where there is no such thing. */
export function adopt(managed: ManagedFields[]): ManagedFields[] | undefined {
  const isKubectl = ({ manager = '', subresource }: ManagedFields): boolean =>
    KUBECTL.includes(manager) && subresource === undefined;
  const isOwn = ({ manager, operation }: ManagedFields): boolean => manager === MANAGER && operation === 'Apply';
  const adopted = managed.filter((entry) => isKubectl(entry) || isOwn(entry));
  if (!adopted.some(isKubectl)) return undefined;
  const own: ManagedFields = {
    manager: MANAGER,
    operation: 'Apply',
    apiVersion: 'apps/v1',
    time: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    fieldsType: 'FieldsV1',
    fieldsV1: adopted.map(({ fieldsV1 = {} }) => fieldsV1).reduce(union, {}),
  };
  return [...managed.filter((entry) => !adopted.includes(entry)), own];
}

function union(a: FieldSet, b: FieldSet): FieldSet {
  const sum: FieldSet = { ...a };
  for (const [field, below] of Object.entries(b)) sum[field] = union(sum[field] ?? {}, below);
  return sum;
}
