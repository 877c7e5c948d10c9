/** Which pods a resource's selector selects, and what would come of it. Nothing is inspected. */
import { selectorLabels, type Pod } from '../kube/pods.ts';
import type { DeepPacketInspection } from '../kube/resources.ts';
import { mismatch } from './mismatch.ts';
import { NETWORKS_ANNOTATION } from '../kube/networks.ts';
import type { Side } from './endpoint.ts';
import { findPlaces, type Place, type SideWanted } from './resolve/place.ts';
import { selectorOf, whyNotInspected } from './select.ts';

/** What would become of one pod. */
export interface Explanation {
  namespace: string;
  pod: string;
  /** Empty while it is not scheduled. */
  node: string;
  selected: boolean;
  inspected: boolean;
  /** Only on this node. */
  interface?: string;
  /** Where that is. */
  side?: Side;
  /** Interfaces in the pod's own network namespace that are captured in addition. */
  inside?: string[];
  /** How the interface was found: calico, route, bridge, netns, pod. */
  by?: string;
  /** Why it is not inspected, what of it is not, or what is not known here. */
  why?: string;
}

/** On which side pods are captured. */
export interface Sides {
  side: SideWanted;
  loopback: boolean;
  /** Why no pod's network namespace can be entered; undefined: they can. */
  barred?: string | undefined;
}

/**
 * @param node Interfaces are looked for where the pod is on this node, which has to be this machine; undefined:
 * nowhere.
 * @returns those that are selected first, each group by name.
 * @throws SelectorError
 */
export function explain(
  resource: Pick<DeepPacketInspection, 'selector'> & Partial<Pick<DeepPacketInspection, 'annotations'>>,
  pods: readonly Pod[],
  node: string | undefined,
  { side, loopback, barred }: Sides = { side: 'auto', loopback: false },
): Explanation[] {
  const selector = selectorOf(resource);
  const isCaptured = (pod: Pod): boolean =>
    pod.node === node && mismatch(selector, selectorLabels(pod)) === undefined && whyNotInspected(pod) === undefined;
  const places = findPlaces(
    pods.filter(isCaptured).map((pod) => ({
      pod,
      side,
      loopback,
      networks: [resource.annotations?.[NETWORKS_ANNOTATION] ?? pod.chosenNetworks],
    })),
    barred,
  );
  const explanations = pods.map((pod): Explanation => {
    const about = { namespace: pod.namespace, pod: pod.name, node: pod.node };
    const unmatched = mismatch(selector, selectorLabels(pod));
    if (unmatched !== undefined) return { ...about, selected: false, inspected: false, why: unmatched };
    const why = whyNotInspected(pod);
    if (why !== undefined) return { ...about, selected: true, inspected: false, why };
    const place = places.get(pod.key);
    if (place === undefined) return { ...about, selected: true, inspected: true, why: `by the agent on ${pod.node}` };
    if (place.kind !== 'found') return { ...about, selected: true, inspected: false, why: place.reason };
    return { ...about, selected: true, inspected: true, ...explainPlace(place) };
  });
  return explanations.sort((a, b) => Number(b.selected) - Number(a.selected) || a.pod.localeCompare(b.pod));
}

function explainPlace({ interface: name, by, inside, lacking }: Place): Partial<Explanation> {
  const further = (inside?.interfaces ?? []).filter((each) => by !== 'pod' || each !== name);
  return {
    interface: name,
    side: by === 'pod' ? 'pod' : 'host',
    by,
    ...(further.length === 0 ? {} : { inside: further }),
    ...(lacking.length === 0 ? {} : { why: lacking.join('; ') }),
  };
}
