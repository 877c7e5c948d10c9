/**
 * Where pods are captured: on the host sides of their veths (see resolve.ts), in their own network namespaces (see
 * pod-side.ts), or both: further networks, and the loopback, are only there.
 *
 * An answer is true for the moment of the reading: processes end, and namespaces with them.
 */
import { chooseNetworks, type PodNetwork } from '../../kube/networks.ts';
import type { Pod } from '../../kube/pods.ts';
import { readHost, type Host } from './host.ts';
import type { Namespace } from './namespace.ts';
import { networksIn, podSide, printableName, type PodSide } from './pod-side.ts';
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

/** One look at the machine for all pods. @param barred Why no pod's namespace can be entered; undefined: they can. */
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
type Inner = PodSide | Missing;

function placeOf(
  request: PlaceRequest,
  hostSide: Resolution | undefined,
  host: Host,
  barred: string | undefined,
): PlaceAnswer {
  const { pod, side, loopback } = request;
  const wanted = wantedNetworks(request);
  const isShown = hostSide?.kind === 'found' && hostSide.netkit !== true;
  let inner: Inner | undefined;
  if (loopback || wanted.chosen.length > 0 || (side !== 'host' && !isShown))
    inner = barred === undefined ? podSide(pod, host, pod.networks?.own) : missing(barred);
  const main = mainOf(side, hostSide, inner);
  if (main.kind !== 'found') return main;
  const { addresses, lacking, interfaces } = furtherOf(inner, wanted, loopback);
  const captured = [...new Set(main.by === 'pod' ? [main.interface, ...interfaces] : interfaces)];
  return {
    ...main,
    ...(inner?.kind === 'found' && captured.length > 0
      ? { inside: { namespace: inner.namespace, interfaces: captured } }
      : {}),
    addresses,
    lacking,
  };
}

interface Wanted {
  chosen: PodNetwork[];
  /** What of them is not known. */
  problems: string[];
}

function wantedNetworks({ pod, side, networks }: PlaceRequest): Wanted {
  if (side === 'host' || pod.networks === undefined) return { chosen: [], problems: [] };
  const { further, problem } = pod.networks;
  const { chosen, unknown } = chooseNetworks(further, networks);
  // A resource may select pods that do not have what it names for others.
  const isMistake = further.length > 0 && chosen.length === 0 && unknown.length > 0;
  return {
    chosen,
    problems: [
      ...(problem === undefined ? [] : [problem]),
      ...(isMistake ? [`it has no further network ${unknown.slice(0, 4).map(printableName).join(', ')}`] : []),
    ],
  };
}

/** What is captured beside the pod's own interface. */
function furtherOf(
  inner: Inner | undefined,
  { chosen, problems }: Wanted,
  loopback: boolean,
): { interfaces: string[]; addresses: string[]; lacking: string[] } {
  if (inner?.kind === 'found') {
    const { interfaces, addresses, lacking } = networksIn(inner, chosen);
    return { interfaces: loopback ? [...interfaces, 'lo'] : interfaces, addresses, lacking: [...problems, ...lacking] };
  }
  const what = [...(chosen.length > 0 ? ['its further networks'] : []), ...(loopback ? ['its loopback'] : [])];
  const lacking =
    inner === undefined || what.length === 0 ? [] : [`${what.join(' and ')} can not be inspected: ${inner.reason}`];
  return { interfaces: [], addresses: [], lacking: [...problems, ...lacking] };
}

type Main = { kind: 'found'; interface: string; by: PlacedBy; ifindex?: number } | Exclude<PlaceAnswer, Place>;

/** By which interface the pod's own network is captured. @param inner undefined: it was not looked for. */
function mainOf(side: SideWanted, hostSide: Resolution | undefined, inner: Inner | undefined): Main {
  if (hostSide?.kind === 'found') {
    const { netkit, ...onHost } = hostSide;
    const goesPast = netkit === true && side !== 'host' && inner?.kind === 'found' && inner.own !== undefined;
    if (!goesPast) return onHost;
  }
  if (side === 'host') return hostSide ?? missing('it is not looked for on the node');
  if (inner?.kind === 'found' && inner.own !== undefined) return { kind: 'found', interface: inner.own, by: 'pod' };
  const why =
    inner?.kind === 'missing' ? inner.reason : "any of several interfaces may be the pod's in its network namespace";
  if (hostSide === undefined || hostSide.kind === 'found') return missing(why);
  return hostSide.reason.includes(why) ? hostSide : { ...hostSide, reason: `${hostSide.reason}; ${why}` };
}

function missing(reason: string): Missing {
  return { kind: 'missing', reason };
}
