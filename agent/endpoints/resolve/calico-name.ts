/** By the name that Calico's CNI plugin gives to the host side of a pod's veth. */
import { createHash } from 'node:crypto';
import type { Resolver } from './resolver.ts';

/** Calico's name for the host side of a pod's veth (projectcalico/libcalico-go, VethNameForWorkload). */
export function calicoInterface(namespace: string, pod: string): string {
  return `cali${createHash('sha1').update(`${namespace}.${pod}`).digest('hex').slice(0, 11)}`;
}

export const calicoName: Resolver = (pod, host) => {
  const name = calicoInterface(pod.namespace, pod.name);
  const device = host.device(name);
  if (device === undefined) return { kind: 'missing', reason: `no interface ${name}` };
  if (device.kind !== 'veth') return { kind: 'missing', reason: `${name} is ${device.what}` };
  return { kind: 'found', device };
};
