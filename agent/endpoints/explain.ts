/** Which pods a resource's selector selects, and what would come of it. Nothing is inspected. */
import { selectorLabels, type Pod } from '../kube/pods.ts';
import type { DeepPacketInspection } from '../kube/resources.ts';
import { mismatch } from './mismatch.ts';
import { readHost } from './resolve/host.ts';
import { resolveInterface } from './resolve/resolve.ts';
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
  /** How the interface was found: calico, route, bridge, netns. */
  by?: string;
  /** Why it is not inspected, or what is not known here. */
  why?: string;
}

/**
 * @param node Interfaces are looked for where the pod is on this node, which has to be this machine; undefined: nowhere.
 * @returns those that are selected first, each group by name.
 * @throws SelectorError
 */
export function explain(
  resource: Pick<DeepPacketInspection, 'selector'>,
  pods: readonly Pod[],
  node: string | undefined,
): Explanation[] {
  const selector = selectorOf(resource);
  const host = node === undefined ? undefined : readHost();
  const explanations = pods.map((pod): Explanation => {
    const about = { namespace: pod.namespace, pod: pod.name, node: pod.node };
    const unmatched = mismatch(selector, selectorLabels(pod));
    if (unmatched !== undefined) return { ...about, selected: false, inspected: false, why: unmatched };
    const why = whyNotInspected(pod);
    if (why !== undefined) return { ...about, selected: true, inspected: false, why };
    if (host === undefined || pod.node !== node)
      return { ...about, selected: true, inspected: true, why: `by the agent on ${pod.node}` };
    const found = resolveInterface(pod, host);
    if (found.kind !== 'found') return { ...about, selected: true, inspected: false, why: found.reason };
    return { ...about, selected: true, inspected: true, interface: found.interface, by: found.by };
  });
  return explanations.sort((a, b) => Number(b.selected) - Number(a.selected) || a.pod.localeCompare(b.pod));
}
