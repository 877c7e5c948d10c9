/**
 * Which interface of the node is the host side of a pod's veth. Resolvers are asked in order; a wrong answer is worse
 * than none, so one that other evidence contradicts is `ambiguous`, and the caller asks again later with a fresh Host.
 *
 * An answer is true for the moment of the reading: the interface is `ifindex`, and one of the same name with another
 * index is another one. Not promised: that no other pod has the same answer (see findConflicts).
 */
import { bridgeFdb } from './bridge-fdb.ts';
import { calicoName } from './calico-name.ts';
import type { Pod } from '../../kube/pods.ts';
import { readHost, type Device, type Host } from './host.ts';
import { hostRoute } from './host-route.ts';
import { podNetns } from './pod-netns.ts';
import { printable, type Answer, type PodIdentity, type Resolver } from './resolver.ts';

export type ResolvedBy = 'calico' | 'route' | 'bridge' | 'netns';

/** `reason` says in one sentence what each resolver saw. */
export type Resolution =
  | { kind: 'found'; interface: string; ifindex: number; by: ResolvedBy; netkit?: true }
  | { kind: 'ambiguous'; candidates: string[]; reason: string }
  | { kind: 'missing'; reason: string };

/** In the order in which they are asked; `witness` must not contradict. */
const RESOLVERS: { by: ResolvedBy; resolve: Resolver; witness?: Resolver }[] = [
  // A pod made again under its name could still find its predecessor's veth; Calico's routes are by address.
  { by: 'calico', resolve: calicoName, witness: hostRoute },
  { by: 'route', resolve: hostRoute },
  // Pods can forge what bridges and ARP learn.
  { by: 'bridge', resolve: bridgeFdb, witness: podNetns },
  { by: 'netns', resolve: podNetns },
];

/** One look at the machine for all of the pods; an interface that several of them have as their answer is nobody's. */
export function resolveInterfaces(pods: Pod[], host = readHost()): Map<string, Resolution> {
  const resolutions = new Map(pods.map((pod) => [pod.key, resolveInterface(pod, host)] as const));
  for (const keys of findConflicts(resolutions).values()) {
    for (const key of keys) {
      const resolution = resolutions.get(key);
      if (resolution?.kind !== 'found') continue;
      const reason = `${printable(resolution.interface)} would be the interface of ${keys.join(' and ')} (by ${resolution.by})`;
      resolutions.set(key, { kind: 'ambiguous', candidates: [resolution.interface], reason });
    }
  }
  return resolutions;
}

/** @param pod Not one in the node's own network namespace: it has no interface of its own. Never throws. */
export function resolveInterface(pod: PodIdentity, host: Host): Resolution {
  // A pod without one may be the successor of a pod whose veth is still there.
  if (pod.addresses.length === 0) return { kind: 'missing', reason: 'the pod has no address yet' };
  const reasons: string[] = [];
  for (const { by, resolve, witness } of RESOLVERS) {
    const answer = resolve(pod, host);
    if (answer.kind === 'missing') {
      reasons.push(answer.reason);
    } else if (answer.kind === 'ambiguous') {
      return settle(answer, podNetns(pod, host));
    } else {
      const other = contradiction(answer.device.name, witness?.(pod, host));
      const { name } = answer.device;
      if (other === undefined) return foundOn(answer.device, by);
      return {
        kind: 'ambiguous',
        candidates: [name, ...other.candidates],
        reason: `${NAMES[by]} ${printable(name)}, but ${other.reason}`,
      };
    }
  }
  return { kind: 'missing', reason: reasons.join('; ') };
}

function foundOn({ name, ifindex, netkit }: Device, by: ResolvedBy): Resolution {
  return { kind: 'found', interface: name, ifindex, by, ...(netkit === undefined ? {} : { netkit }) };
}

const NAMES: Record<ResolvedBy, string> = {
  calico: "Calico's name is that of",
  route: 'the host route leads to',
  bridge: 'the bridge leads to',
  netns: 'the network namespace leads to',
};

/** Of several candidates, the one that the pod's network namespace leads to. */
function settle(doubt: Answer & { kind: 'ambiguous' }, netns: Answer): Resolution {
  if (netns.kind === 'found' && doubt.candidates.includes(netns.device.name)) {
    return foundOn(netns.device, 'netns');
  }
  const reason =
    netns.kind === 'found' ? `the pod's network namespace leads to ${printable(netns.device.name)}` : netns.reason;
  return { ...doubt, reason: reason === doubt.reason ? reason : `${doubt.reason}; ${reason}` };
}

function contradiction(
  name: string,
  witness: Answer | undefined,
): { candidates: string[]; reason: string } | undefined {
  if (witness === undefined || witness.kind === 'missing') return undefined;
  if (witness.kind === 'ambiguous') return witness.candidates.includes(name) ? undefined : witness;
  const { name: other } = witness.device;
  return other === name ? undefined : { candidates: [other], reason: `other evidence leads to ${printable(other)}` };
}

/** Interfaces that are the answer of several pods, by ifindex, with the pods' keys: at most one can be right. */
export function findConflicts(
  resolutions: Iterable<readonly [pod: string, resolution: Resolution]>,
): Map<number, string[]> {
  const pods = new Map<number, string[]>();
  for (const [pod, resolution] of resolutions) {
    if (resolution.kind === 'found') pods.set(resolution.ifindex, [...(pods.get(resolution.ifindex) ?? []), pod]);
  }
  return new Map([...pods].filter(([, keys]) => keys.length > 1));
}
