/**
 * Where pods are captured: on the host sides of their veths (see resolve.ts), in their own network namespaces (see pod-side.ts), or both:
 * further networks, and the loopback, are only there.
 *
 * An answer is true for the moment of the reading: processes end, and namespaces with them.
 */
import { chooseNetworks } from '../../kube/networks.ts';
import type { Pod } from '../../kube/pods.ts';
import { readHost, type Host } from './host.ts';
import type { Namespace } from './namespace.ts';
import { networksIn, podSide, type PodSide } from './pod-side.ts';
import { resolveInterfaces, type Resolution, type ResolvedBy } from './resolve.ts';

export type SideWanted = 'auto' | 'host' | 'pod';

export interface PlaceRequest {
  pod: Pod;
  /** `auto`: in the pod only where there is no host side, or packets pass by it. */
  side: SideWanted;
  loopback: boolean;
  /** Of its resources: which further networks, see kube/networks.ts. */
  networks: readonly (string | undefined)[];
}

export interface Place {
  kind: 'found';
  /** The host side of its veth; its own interface where `by` is `pod`. */
  interface: string;
  by: PlacedBy;
  /** Of the host side, by which it is known. */
  ifindex?: number;
  /** What is captured in its network namespace; where `by` is `pod`, its own interface first. */
  inside?: Inside;
  /** Its own in further networks. */
  addresses: string[];
  /** What is asked for and not captured, and why: sentences without a full stop. */
  lacking: string[];
}

export interface Inside {
  namespace: Namespace;
  interfaces: string[];
}

export type PlacedBy = ResolvedBy | 'pod';

export type PlaceAnswer = Place | Exclude<Resolution, { kind: 'found' }>;

/** One look at the machine for all of the pods. @param barred Why no pod's namespace can be entered; undefined: they can. */
export function findPlaces(
  requests: readonly PlaceRequest[],
  barred?: string,
  host = readHost(),
): Map<string, PlaceAnswer> {
  const asked = requests.filter(({ side }) => side !== 'pod').map(({ pod }) => pod);
  const hostSides = resolveInterfaces(asked, host);
  return new Map(
    requests.map((request) => [request.pod.key, placeOf(request, hostSides.get(request.pod.key), host, barred)]),
  );
}

type Missing = Extract<Resolution, { kind: 'missing' }>;

function placeOf(
  request: PlaceRequest,
  hostSide: Resolution | undefined,
  host: Host,
  barred: string | undefined,
): PlaceAnswer {
  const { pod, side, loopback } = request;
  const { chosen, unknown } =
    side === 'host' ? { chosen: [], unknown: [] } : chooseNetworks(pod.networks?.further ?? [], request.networks);
  const prefersPod = hostSide?.kind !== 'found' || hostSide.netkit === true;
  const looksInside = loopback || chosen.length > 0 || (side !== 'host' && prefersPod);
  const inside = !looksInside
    ? undefined
    : barred === undefined
      ? podSide(pod, host, pod.networks?.own)
      : ({ kind: 'missing', reason: barred } satisfies Missing);
  const main = mainOf(side, hostSide, inside);
  if (main.kind !== 'found') return main;
  const networks = inside?.kind === 'found' ? networksIn(inside, chosen) : undefined;
  const names = new Set(main.by === 'pod' ? [main.interface] : []);
  for (const name of networks?.interfaces ?? []) names.add(name);
  if (loopback && inside?.kind === 'found') names.add('lo');
  const notInside =
    inside?.kind === 'missing' && (chosen.length > 0 || loopback)
      ? [whatIsInside(chosen, loopback, inside.reason)]
      : [];
  const notNamed = unknown.length === 0 ? [] : [`it has no further network ${unknown.slice(0, 4).join(', ')}`];
  const { problem } = side === 'host' ? {} : (pod.networks ?? {});
  return {
    ...main,
    ...(inside?.kind === 'found' && names.size > 0
      ? { inside: { namespace: inside.namespace, interfaces: [...names] } }
      : {}),
    addresses: networks?.addresses ?? [],
    lacking: [...(problem === undefined ? [] : [problem]), ...notInside, ...(networks?.lacking ?? []), ...notNamed],
  };
}

type Main = { kind: 'found'; interface: string; by: PlacedBy; ifindex?: number } | Exclude<PlaceAnswer, Place>;

/** By which interface the pod's own network is captured. */
function mainOf(side: SideWanted, hostSide: Resolution | undefined, inside: PodSide | Missing | undefined): Main {
  const onHost: Main | undefined =
    hostSide?.kind === 'found'
      ? { kind: 'found', interface: hostSide.interface, by: hostSide.by, ifindex: hostSide.ifindex }
      : hostSide;
  if (side === 'host') return onHost ?? missing('it is not looked for on the node');
  if (onHost?.kind === 'found' && (hostSide?.kind !== 'found' || hostSide.netkit !== true)) return onHost;
  if (inside?.kind === 'found' && inside.own !== undefined) return { kind: 'found', interface: inside.own, by: 'pod' };
  if (onHost?.kind === 'found') return onHost;
  const why =
    inside?.kind === 'missing' ? inside.reason : "any of several interfaces may be the pod's in its network namespace";
  if (onHost === undefined) return missing(why);
  return onHost.reason.includes(why) ? onHost : { ...onHost, reason: `${onHost.reason}; ${why}` };
}

function whatIsInside(chosen: readonly { name: string }[], loopback: boolean, reason: string): string {
  const what = [...(chosen.length > 0 ? ['its further networks'] : []), ...(loopback ? ['its loopback'] : [])];
  return `${what.join(' and ')} can not be inspected: ${reason}`;
}

function missing(reason: string): Missing {
  return { kind: 'missing', reason };
}
