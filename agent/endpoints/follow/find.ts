/**
 * Whose interfaces are looked for in a round: those of pods that are new, or that capture has lost, or should have
 * elsewhere.
 */
import type { Pod } from '../../kube/pods.ts';
import { onNode } from '../endpoint.ts';
import type { PlaceAnswer, PlaceRequest } from '../resolve/place.ts';
import { attach, compare, update, whatIsAsked } from './attach.ts';
import type { Attached, CaptureState, Following, Round } from './parts.ts';
import { retry } from './retry.ts';

/**
 * A pod that can't be captured so soon after it went over is looked for so often, over some seconds, and then comes
 * back.
 */
const INSIDE_MILLIS = 60_000;
const INSIDE_ATTEMPTS = 6;

/** Attaches what is wanted by the interfaces that it finds. */
export function findWanted(following: Following, round: Round): void {
  const requests = allRequests(following, round);
  if (requests.length === 0) return;
  const places = following.resolve(requests, following.capture.barredFromPods());
  const occupied = occupiedInterfaces(round);
  for (const request of requests) {
    const place = places.get(request.pod.key);
    if (place !== undefined) settle(following, round, request, place, occupied);
  }
}

function allRequests(following: Following, round: Round): PlaceRequest[] {
  return [...round.selection.pods.values()].flatMap(({ pod, resources }) => {
    const entry = following.attached.get(pod.key);
    const request =
      entry === undefined
        ? requestOfNew(following, round, pod, resources)
        : requestOfAttached(following, round, pod, resources, entry);
    return request ?? [];
  });
}

/** Who is captured by which interface of the node. */
function occupiedInterfaces({ states }: Round): Map<string, string> {
  return new Map(
    [...states.values()].flatMap(({ endpoint }) => onNode(endpoint).map((name) => [name, endpoint.id] as const)),
  );
}

function requestOfNew(following: Following, round: Round, pod: Pod, resources: string[]): PlaceRequest | undefined {
  if (following.detaching.has(pod.key) || !isDue(following, pod)) return undefined;
  const state = round.states.get(pod.key);
  if (state === undefined) return requestOf(following, round, pod, resources);
  retry(following, pod, 'the configuration has an endpoint of its name');
  return undefined;
}

function requestOfAttached(
  following: Following,
  round: Round,
  pod: Pod,
  resources: string[],
  entry: Attached,
): PlaceRequest | undefined {
  const captured = round.states.get(pod.key);
  watchInside(following, entry, captured);
  const request = requestOf(following, round, pod, resources, entry);
  if (!update(following, round, entry, pod, resources)) return undefined;
  if (isOutdated(following, entry, captured, request)) return isDue(following, pod) ? request : undefined;
  following.unresolved.delete(pod.key);
  return undefined;
}

function isDue({ unresolved, clock }: Following, pod: Pod): boolean {
  return (unresolved.get(pod.key)?.retryAt ?? 0) <= clock.now();
}

/** Notes that a pod that went over can't be captured there. */
function watchInside({ unresolved, clock }: Following, entry: Attached, captured: CaptureState | undefined): void {
  const { wentOverAt } = entry;
  const { state } = captured ?? {};
  const isNew = wentOverAt !== undefined && clock.now() - wentOverAt < INSIDE_MILLIS;
  const attempts = unresolved.get(entry.pod.key)?.attempts ?? 0;
  if (isNew && state?.is === 'waiting' && attempts >= INSIDE_ATTEMPTS) entry.keptOut = state.reason;
}

function requestOf(
  { side, loopback }: Following,
  { states, networks }: Round,
  pod: Pod,
  resources: string[],
  entry?: Attached,
): PlaceRequest {
  const isInside = entry?.place.by === 'pod' || states.get(pod.key)?.coverage?.oneWay !== undefined;
  const staysInside = entry !== undefined && entry.keptOut === undefined && isInside;
  return {
    pod,
    side: side === 'auto' && staysInside ? 'pod' : side,
    loopback,
    networks: resources.map((key) => networks.get(key) ?? pod.chosenNetworks),
  };
}

/** Whether its place may be another one by now. */
function isOutdated(
  { namespaces }: Following,
  { place, asked }: Attached,
  captured: CaptureState | undefined,
  request: PlaceRequest,
): boolean {
  const { state } = captured ?? {};
  if (state?.is === 'waiting') return true;
  if (state?.is === 'capturing' && place.ifindex !== undefined && state.ifindex !== place.ifindex) return true;
  if (place.inside !== undefined && !namespaces.isStillThere(place.inside.namespace)) return true;
  return (request.side === 'pod' && place.by !== 'pod') || asked !== whatIsAsked(request) || place.lacking.length > 0;
}

/** What was looked for was found, or not. */
function settle(
  following: Following,
  round: Round,
  request: PlaceRequest,
  place: PlaceAnswer,
  occupied: Map<string, string>,
): void {
  const { pod } = request;
  if (place.kind !== 'found') return retry(following, pod, place.reason);
  const entry = following.attached.get(pod.key);
  if (entry === undefined) attach(following, round, request, place, occupied);
  else compare(following, round, request, place, entry);
}
