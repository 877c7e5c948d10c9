/** Which pods of a node are inspected, for which resources, and why the others are not. Decides; does nothing. */
import { selectorLabels, type Pod } from '../kube/pods.ts';
import type { DeepPacketInspection } from '../kube/resources.ts';
import { matches, parseSelector, SelectorError, type Selector } from '../kube/selector/selector.ts';

export interface Selection {
  /** The pods to inspect by their keys, each with the keys of the resources that select it, in order; at least one. */
  pods: Map<string, { pod: Pod; resources: string[] }>;
  /** Of each resource: the keys of its pods that are to be inspected, and what is wrong with its selector. */
  resources: Map<string, { pods: string[]; error?: string }>;
}

/**
 * Why a pod that is selected is not inspected; undefined when it is to be. A pod that was asked to end is inspected
 * until it has.
 */
export function whyNotInspected(pod: Pod): string | undefined {
  if (pod.hostNetwork) return "uses the node's network and has no interface of its own";
  if (pod.phase === 'Succeeded' || pod.phase === 'Failed') return 'has ended';
  if (pod.node === '') return 'is not scheduled to a node';
  if (pod.addresses.length === 0) return 'has no address yet';
  return undefined;
}

/** A resource's selector. @throws SelectorError, for an empty one too: nobody means all pods by leaving it out. */
export function selectorOf(resource: Pick<DeepPacketInspection, 'selector'>): Selector {
  if (resource.selector.trim() === '')
    throw new SelectorError(0, "a selector, such as app == 'backend' or all()", 'nothing');
  return parseSelector(resource.selector);
}

export type Select = (resources: DeepPacketInspection[], pods: Pod[]) => Selection;

/** A function that selects; it keeps what it parsed for as long as a resource has that text. */
export function createSelect(): Select {
  let parsed = new Map<string, Selector | SelectorError>();
  return (resources, pods) => {
    const selection: Selection = { pods: new Map(), resources: new Map() };
    const used: typeof parsed = new Map();
    const candidates = new Map<string, Pod[]>();
    for (const pod of pods) {
      if (whyNotInspected(pod) !== undefined) continue;
      const others = candidates.get(pod.namespace);
      if (others === undefined) candidates.set(pod.namespace, [pod]);
      else others.push(pod);
    }
    for (const resource of resources.toSorted((a, b) => (a.key < b.key ? -1 : 1))) {
      const selector = parsed.get(resource.selector) ?? parse(resource);
      used.set(resource.selector, selector);
      if (selector instanceof SelectorError) {
        selection.resources.set(resource.key, { pods: [], error: `spec.selector: ${selector.message}` });
        continue;
      }
      const selected = (candidates.get(resource.namespace) ?? []).filter((pod) =>
        matches(selector, selectorLabels(pod)),
      );
      selection.resources.set(resource.key, { pods: selected.map((pod) => pod.key) });
      for (const pod of selected) {
        const entry = selection.pods.get(pod.key);
        if (entry === undefined) selection.pods.set(pod.key, { pod, resources: [resource.key] });
        else entry.resources.push(resource.key);
      }
    }
    parsed = used;
    return selection;
  };
}

function parse(resource: DeepPacketInspection): Selector | SelectorError {
  try {
    return selectorOf(resource);
  } catch (error) {
    if (error instanceof SelectorError) return error;
    throw error;
  }
}
