/**
 * Holds the obligations of attaching pods. It knows which pods and resources there truly are, and what capture and
 * engines were told.
 *
 * 16. When the faults have ended, each pod that a resource selects is captured, by its own interface, and no other is.
 * 17. A VLAN id has one owner at a time, and an interface is captured for one pod.
 * 18. A pod is captured only once the engines have the rule sets of its resources.
 * 19. Whose packet it was that had an id is told rightly, or not at all, as long as it is remembered.
 * 20. In the end each resource's status has so many pods captured as there are.
 */
import type { AttachSpec } from '../../../agent/capture/protocol.ts';
import type { CapturedEndpoint } from '../../../agent/attachments.ts';
import type { Endpoint } from '../../../agent/endpoints/endpoint.ts';
import type { Leases } from '../../../agent/endpoints/leases.ts';
import { resourcePath, type NodeStatus } from '../../../agent/kube/resources.ts';
import { DEFAULTS, type ClusterNode } from './node.ts';

/** Of captures: shorter ones are left out of the question whose packet it was. */
const MIN_ASKED_MILLIS = 4000;

export interface ClusterOracle {
  broken(): string | undefined;
  /** Attachments are asked for it. @returns what takes that back. */
  asked(endpoint: Endpoint): () => void;
  /** A lane's capture is told. @param policies sets of VLAN ids, as the engine has them. */
  attached(spec: AttachSpec, policies: ReadonlyMap<number, string>): void;
  detached(id: string): void;
  /** The process has ended. */
  ended(): void;
  settled(end: {
    captured: readonly CapturedEndpoint[];
    policies: ReadonlyMap<number, string>;
    leases: Pick<Leases, 'idOf' | 'owner'>;
    statusOf: (path: string) => { nodes?: NodeStatus[] } | undefined;
  }): void;
  stuck(): void;
  facts(): { attached: number };
}

export const setsKey = (sets: readonly string[]): string => [...new Set(sets)].toSorted().join();

export function createClusterOracle(node: ClusterNode, wall: () => number): ClusterOracle {
  const wanted = new Map<string, string>();
  const captures = new Map<string, { spec: AttachSpec; since: number }>();
  const past: { vlan: number; id: string; middle: number }[] = [];
  let attached = 0;
  let broken: string | undefined;

  function fail(obligation: number, message: string): void {
    broken ??= `obligation ${obligation}: ${message}`;
  }

  function end(id: string): void {
    const capture = captures.get(id);
    captures.delete(id);
    if (capture === undefined || wall() - capture.since < MIN_ASKED_MILLIS) return;
    past.push({ vlan: capture.spec.vlan, id, middle: ((capture.since + wall()) / 2) * 1000 });
  }

  /** Of a pod, keys of resources, in order. */
  function resourcesOf(key: string): string[] {
    const pod = node.pods.get(key);
    if (node.api() === undefined || pod === undefined) return [];
    if (pod.hostNetwork || pod.isOver || pod.address === undefined) return [];
    return [...node.resources.values()]
      .filter(({ app }) => app === pod.app)
      .map((resource) => resource.key)
      .toSorted();
  }

  const setsOf = (resources: readonly string[]): string =>
    setsKey(resources.flatMap((key) => node.resources.get(key)?.ruleSets ?? DEFAULTS));

  return {
    broken: () => broken,
    asked({ id, resources, ruleSets }) {
      const before = wanted.get(id);
      wanted.set(id, setsKey(resources.flatMap((key) => ruleSets?.[key] ?? DEFAULTS)));
      return () => void (before === undefined ? wanted.delete(id) : wanted.set(id, before));
    },
    attached(spec, policies) {
      attached += 1;
      const { id, vlan, taps } = spec;
      for (const [other, { spec: its }] of captures) {
        if (other === id) continue;
        if (its.vlan === vlan) fail(17, `${id} has the VLAN id ${vlan} of ${other}`);
        if (its.taps[0]?.interface === taps[0]?.interface)
          fail(17, `${id} is captured by ${taps[0]?.interface}, as is ${other}`);
      }
      const known = captures.get(id);
      const sets = policies.get(vlan) ?? setsKey(DEFAULTS);
      if (known === undefined && sets !== wanted.get(id))
        fail(18, `${id} is captured and inspected by ${sets}; its resources ask for ${wanted.get(id)}`);
      captures.set(id, { spec, since: known?.since ?? wall() });
    },
    detached: end,
    ended() {
      for (const id of captures.keys()) end(id);
      wanted.clear();
    },
    settled({ captured, policies, leases, statusOf }) {
      const states = new Map(captured.map((entry) => [entry.endpoint.id, entry]));
      const inspected = [...node.pods.keys()].filter((key) => resourcesOf(key).length > 0);
      for (const key of inspected) {
        const uid = node.pods.get(key)?.uid ?? '';
        const { state, endpoint } = states.get(key) ?? {};
        const device = node.interfaces.get(uid);
        if (state?.is !== 'capturing' || state.ifindex !== device?.ifindex)
          fail(
            16,
            `${key} is selected and ${state === undefined ? 'not attached' : `${state.is} on ${endpoint?.interface}`}`,
          );
        const vlan = leases.idOf(key);
        const sets = vlan === undefined ? '' : (policies.get(vlan) ?? setsKey(DEFAULTS));
        if (sets !== setsOf(resourcesOf(key))) fail(18, `${key} is inspected by ${sets} in the end`);
      }
      for (const key of states.keys()) if (!inspected.includes(key)) fail(16, `${key} is not selected and attached`);
      for (const { vlan, id, middle } of past) {
        const owner = leases.owner(vlan, middle)?.id;
        if (owner !== undefined && owner !== id)
          fail(19, `a packet of ${id} with the id ${vlan} is told to be of ${owner}`);
      }
      const api = node.api();
      if (api === undefined) return;
      for (const { key, app } of node.resources.values()) {
        const [namespace, name] = key.split('/');
        const pods = inspected.filter((pod) => node.pods.get(pod)?.app === app).length;
        const said = statusOf(resourcePath(api, namespace, name))?.nodes?.[0]?.podsCaptured ?? 0;
        if (said !== pods) fail(20, `the status of ${key} has ${said} pods captured; there are ${pods}`);
      }
    },
    stuck: () => fail(16, 'it does not come to an end'),
    facts: () => ({ attached }),
  };
}
