/**
 * Isolates pods, and releases them, with the rights of whose client it is.
 *
 * Invariants: the policy is made before the label is set, and taken away after it: what is half done cuts nothing, and
 * is listed. Only the pod of the UID that was looked at gets the label.
 */
import { ApiError, type ApiClient, type ApiObject } from '../kube/api.ts';
import { emit } from '../kube/emit.ts';
import { pagesOf } from '../kube/pages.ts';
import { messageOf } from '../files/errors.ts';
import { enginesOf, RespondError, whatIsCut, type Cut } from './cut.ts';
import {
  idOf,
  isolationOf,
  podPath,
  POD_LABEL,
  policiesPath,
  POLICY_LABEL,
  policyOf,
  type Engine,
  type Isolation,
  type KnownIsolation,
} from './isolation.ts';

/** Never isolated: without these there is no cluster to act on. */
export const NEVER = ['kube-system', 'kube-public', 'kube-node-lease', 'calico-system', 'tigera-operator'] as const;
const COMPONENT = 'dpi-agent-response';

export interface Wish extends Omit<Isolation, 'podUid' | 'since' | 'until' | 'labels'> {
  /** Until it is released, in milliseconds. */
  forMillis: number;
  /** Do it although other policies go on letting traffic through. */
  partly: boolean;
  /** Take the labels from it by which other policies select it. Services and its controller may know it no more. */
  detach?: boolean;
  /** Say what would be cut, and change nothing. */
  dryRun: boolean;
}

export interface Done {
  cut: Cut;
  /** Absent: it was a dry run. */
  isolation?: Isolation;
}

export interface Acting {
  client: Pick<ApiClient, 'get' | 'create' | 'mergePatch' | 'remove'>;
  /** Namespaces whose pods are left alone, beside those of `NEVER`. */
  isProtected: readonly string[];
  now?: () => number;
  /** What could not be done, and does not undo the rest. */
  warn: (message: string) => void;
}

/** @throws RespondError, ApiError */
export async function isolate(acting: Acting, wish: Wish): Promise<Done> {
  const { client, isProtected, now = Date.now } = acting;
  const { forMillis, partly, detach = false, dryRun, ...asked } = wish;
  const cut = await whatIsCut(client, wish.namespace, wish.pod, [...NEVER, ...isProtected]);
  if (dryRun) return { cut };
  const taken = detach ? labelsToTake(cut) : {};
  const open = cut.open.filter(({ labels }) => labels.every((key) => taken[key] === undefined));
  if (open.length > 0 && !partly) throw new RespondError('StaysOpen', openText({ ...cut, open }));
  const since = now();
  const times = { since: iso(since), until: iso(since + forMillis) };
  const detached = Object.keys(taken).length === 0 ? {} : { labels: taken };
  const isolation: Isolation = { ...asked, ...times, ...detached, podUid: cut.podUid };
  const made = await makePolicy(client, isolation, cut.engine);
  try {
    const gone = Object.fromEntries(Object.keys(taken).map((key) => [key, null]));
    await label(client, isolation, { ...gone, [POD_LABEL]: idOf(isolation.podUid) });
  } catch (error) {
    await client
      .remove(policiesPath(cut.engine, wish.namespace, made.metadata.name), made.metadata.uid)
      .catch((left: unknown) =>
        acting.warn(`the policy ${made.metadata.name} cuts nothing and could not be taken away: ${messageOf(left)}`),
      );
    throw error;
  }
  await tell(
    acting,
    isolation,
    'Isolated',
    `isolated until ${isolation.until} by ${isolation.by}: ${isolation.reason}`,
  );
  return { cut: { ...cut, open }, isolation };
}

/** Those by which policies select it that let something through. */
function labelsToTake({ open, labels }: Cut): Record<string, string> {
  const keys = new Set(open.flatMap((way) => way.labels));
  return Object.fromEntries(Object.entries(labels).filter(([key]) => keys.has(key)));
}

export function openText({ open, namespace, pod }: Cut): string {
  const names = open.map(({ policy, direction }) => `${policy} (${direction})`).join(', ');
  return (
    `${namespace}/${pod} would not be cut off: policies of Kubernetes add up, and these go on letting traffic through: ${names}. ` +
    'Take these labels from it (detach), or have the rest cut all the same (partly)'
  );
}

async function makePolicy(client: Acting['client'], isolation: Isolation, engine: Engine): Promise<ApiObject> {
  try {
    return await client.create<ApiObject>(policiesPath(engine, isolation.namespace), policyOf(isolation, engine));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
    throw new RespondError(
      'Isolated',
      `${isolation.namespace}/${isolation.pod} is isolated already: dpi-agent respond list -n ${isolation.namespace}`,
    );
  }
}

/** It did not end, and is none that was made again under its name. */
async function isStillThere(client: Acting['client'], { namespace, pod, podUid }: Isolation): Promise<boolean> {
  try {
    return (await client.get<ApiObject>(podPath(namespace, pod))).metadata.uid === podUid;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

/** @returns what could not be done, as an end of a sentence: the component may give no other labels back. */
async function unlabel(client: Acting['client'], isolation: Isolation): Promise<string> {
  const { labels = {} } = isolation;
  const taken = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  try {
    await label(client, isolation, { ...labels, [POD_LABEL]: null });
    return '';
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 422 || taken.length === 0) throw error;
    await label(client, isolation, { [POD_LABEL]: null });
    return `; labels that were taken from it are not given back: ${taken.join(' ')}`;
  }
}

/** @param labels null takes one away. */
async function label(
  client: Acting['client'],
  { namespace, pod, podUid }: Pick<Isolation, 'namespace' | 'pod' | 'podUid'>,
  labels: Readonly<Record<string, string | null>>,
): Promise<void> {
  await client.mergePatch(podPath(namespace, pod), { metadata: { uid: podUid, labels } });
}

/** @param why Such as `it is over`. @throws ApiError */
export async function release(acting: Acting, isolation: KnownIsolation, why: string): Promise<void> {
  const { client } = acting;
  const isThere = await isStillThere(client, isolation);
  const left = isThere ? await unlabel(client, isolation) : '';
  await client
    .remove(policiesPath(isolation.engine, isolation.namespace, isolation.name), isolation.uid)
    .catch((error: unknown) => {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
    });
  if (isThere) await tell(acting, isolation, 'Released', `released: ${why}${left}`);
}

async function tell(
  { client, warn }: Acting,
  { namespace, pod, podUid }: Isolation,
  reason: string,
  message: string,
): Promise<void> {
  const about = { apiVersion: 'v1', kind: 'Pod', name: pod, namespace, uid: podUid };
  const type = reason === 'Isolated' ? 'Warning' : 'Normal';
  await emit(client, COMPONENT, about, { type, reason, message }).catch((error: unknown) =>
    warn(`there is no event of it in the cluster: ${messageOf(error)}`),
  );
}

/** Of a namespace, or of all; the newest first. @throws ApiError */
export async function listIsolations(client: Pick<ApiClient, 'get'>, namespace?: string): Promise<KnownIsolation[]> {
  const found: KnownIsolation[] = [];
  for (const engine of await enginesOf(client)) {
    const pages = pagesOf<ApiObject>(client, policiesPath(engine, namespace), { labelSelector: POLICY_LABEL });
    for await (const items of pages) found.push(...items.flatMap((item) => isolationOf(item, engine) ?? []));
  }
  return found.sort((a, b) => b.since.localeCompare(a.since));
}

function iso(millis: number): string {
  return new Date(millis).toISOString();
}
