/** Has pods captured where they were found, tells capture what is new of them, and ends their captures. */
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../../files/errors.ts';
import type { Pod } from '../../kube/pods.ts';
import type { Endpoint } from '../endpoint.ts';
import type { HeldNamespace } from '../hold.ts';
import type { Place, PlaceRequest } from '../resolve/place.ts';
import type { Attached, Following, Round } from './parts.ts';
import { retry, RETRY_LAST_MILLIS } from './retry.ts';

/** What a captured pod lacks will hardly come. */
const RETRY_LACKING_MILLIS = 60_000;
/** Capture may open what it leaves once more, until it has gone over: its path must not lead elsewhere so soon. */
const RELEASE_MILLIS = 30_000;

/** @param occupied Who is captured by which interface of the node. */
export function attach(
  following: Following,
  round: Round,
  request: PlaceRequest,
  place: Place,
  occupied: Map<string, string>,
): void {
  const { pod } = request;
  const { interface: name, by } = place;
  const other = by === 'pod' ? undefined : occupied.get(name);
  if (other !== undefined) {
    // The configuration names it, or the other pod is gone and its deletion not known yet, or a stale route led here:
    // it will show.
    return retry(following, pod, `its interface ${name} (by ${by}) is inspected as ${other} already`);
  }
  if (!capturePlace(following, round, request, place)) return;
  if (by !== 'pod') occupied.set(name, pod.key);
  const resources = resourcesOf(round, pod);
  following.log.info({ endpoint: pod.key, interface: name, by, ...insideOf(place), resources }, 'pod is selected');
}

/** Its place was looked for again. */
export function compare(
  following: Following,
  round: Round,
  request: PlaceRequest,
  place: Place,
  entry: Attached,
): void {
  const { pod } = request;
  const before = entry.place;
  if (before.by !== 'pod' && place.by !== 'pod' && before.interface !== place.interface)
    return detach(following, pod.key, `its interface is ${place.interface} now`);
  if (isSameCapture(before, place)) {
    // Made again under its name: capture follows by itself.
    Object.assign(entry, { place, asked: whatIsAsked(request) });
    const longest = place.lacking.length > 0 ? RETRY_LACKING_MILLIS : RETRY_LAST_MILLIS;
    return retry(following, pod, undefined, longest);
  }
  if (capturePlace(following, round, request, place)) logMove(following, entry, place);
}

/** @param from What it was attached as. */
function logMove({ log }: Following, { pod, place: from, keptOut }: Attached, to: Place): void {
  const about = { endpoint: pod.key, from: from.interface, interface: to.interface, ...insideOf(to) };
  if (from.by !== 'pod' && to.by === 'pod')
    log.warn(about, "not all of its packets pass the node's side: it is captured in the pod from now on");
  else if (from.by === 'pod' && to.by !== 'pod')
    log.warn(
      { ...about, reason: keptOut },
      "it can not be captured in the pod: it is captured on the node's side again",
    );
  else log.info(about, 'its interfaces are others now');
}

/** Has the pod captured there. @returns whether capture took it. */
function capturePlace(following: Following, round: Round, request: PlaceRequest, place: Place): boolean {
  const { attached, unresolved, clock } = following;
  const { pod } = request;
  const before = attached.get(pod.key);
  const held = openNamespace(following, pod, place, before);
  if (held === 'failed') return false;
  const endpoint = createEndpoint(round, pod, resourcesOf(round, pod), place, held);
  if (!attachToCapture(following, endpoint, pod)) {
    if (held !== before?.held) held?.release();
    return false;
  }
  const left = before?.held;
  if (left !== undefined && left !== held) clock.after(RELEASE_MILLIS, () => left.release());
  unresolved.delete(pod.key);
  const goesOver = before !== undefined && before.place.by !== 'pod' && place.by === 'pod';
  attached.set(pod.key, {
    pod,
    endpoint,
    place,
    asked: whatIsAsked(request),
    held,
    wentOverAt: goesOver ? clock.now() : before?.wentOverAt,
    keptOut: before?.keptOut,
  });
  return true;
}

function openNamespace(
  following: Following,
  pod: Pod,
  { inside }: Place,
  before: Attached | undefined,
): HeldNamespace | undefined | 'failed' {
  if (inside === undefined) return undefined;
  if (before?.held !== undefined && before.place.inside?.namespace.link === inside.namespace.link) return before.held;
  try {
    return following.namespaces.hold(inside.namespace);
  } catch (error) {
    retry(following, pod, `its network namespace can not be opened: ${messageOf(error)}`);
    return 'failed';
  }
}

/** Tells capture what is new of a pod that stays where it is. @returns whether capture took it. */
export function update(following: Following, round: Round, entry: Attached, pod: Pod, resources: string[]): boolean {
  const endpoint = createEndpoint(round, pod, resources, entry.place, entry.held);
  if (!isDeepStrictEqual(endpoint, entry.endpoint) && !attachToCapture(following, endpoint, pod)) return false;
  Object.assign(entry, { pod, endpoint });
  return true;
}

function attachToCapture(following: Following, endpoint: Endpoint, pod: Pod): boolean {
  try {
    following.capture.attach(endpoint);
    return true;
  } catch (error) {
    retry(following, pod, messageOf(error));
    return false;
  }
}

export function detach({ attached, detaching, capture, log, changed }: Following, key: string, why: string): void {
  const entry = attached.get(key);
  if (entry === undefined) return;
  attached.delete(key);
  detaching.add(key);
  log.info({ endpoint: key, interface: entry.endpoint.interface, why }, 'capture ends');
  void capture.detach(key).finally(() => {
    entry.held?.release();
    detaching.delete(key);
    changed();
  });
}

/**
 * @param resources In order.
 * @param held Where something inside the pod is captured.
 */
function createEndpoint(
  { ruleSets, evidence }: Round,
  pod: Pod,
  resources: string[],
  place: Place,
  held: HeldNamespace | undefined,
): Endpoint {
  const named = resources.flatMap((key) => {
    const sets = ruleSets.get(key);
    return sets === undefined ? [] : [[key, sets] as const];
  });
  const kept = resources.flatMap((key) => {
    const keep = evidence.get(key);
    return keep === undefined ? [] : [[key, keep] as const];
  });
  const inside =
    held === undefined ? [] : (place.inside?.interfaces ?? []).map((name) => ({ interface: name, netns: held.path }));
  return {
    ...(named.length === 0 ? {} : { ruleSets: Object.fromEntries(named) }),
    ...(kept.length === 0 ? {} : { evidence: Object.fromEntries(kept) }),
    id: pod.key,
    namespace: pod.namespace,
    name: pod.name,
    nameAggr: pod.nameAggr,
    interface: place.interface,
    ...(inside.length === 0
      ? {}
      : { taps: [...(place.by === 'pod' ? [] : [{ interface: place.interface }]), ...inside] }),
    labels: pod.labels,
    addresses: [...new Set([...pod.addresses, ...place.addresses])],
    resources,
  };
}

function resourcesOf({ selection }: Round, pod: Pod): string[] {
  return selection.pods.get(pod.key)?.resources ?? [];
}

export function whatIsAsked({ pod, networks }: PlaceRequest): string {
  return JSON.stringify([networks, pod.networks]);
}

function insideOf({ inside }: Place): { inside?: string[] } {
  return inside === undefined ? {} : { inside: inside.interfaces };
}

/** Whether capture would do the same for both. */
function isSameCapture(one: Place, other: Place): boolean {
  const [a, b] = [one, other].map(({ by, interface: name, inside, addresses }) => [
    by === 'pod',
    name,
    inside?.namespace.link,
    inside?.interfaces,
    addresses,
  ]);
  return isDeepStrictEqual(a, b);
}
