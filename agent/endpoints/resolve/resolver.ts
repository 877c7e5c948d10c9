/** What every resolver of this folder is: a look at one kind of evidence for where a pod's veth is. */
import type { Pod } from '../../kube/pods.ts';
import type { Device, Host } from './host.ts';

export type PodIdentity = Pick<Pod, 'namespace' | 'name' | 'uid' | 'addresses'>;

/** `reason` is a part of a sentence, without a full stop, such as `no host route to 10.0.0.5`. */
export type Answer =
  | { kind: 'found'; device: Device }
  | { kind: 'ambiguous'; candidates: string[]; reason: string }
  | { kind: 'missing'; reason: string };

/** Has no effects but reading, and never throws: what can't be read is a reason. */
export type Resolver = (pod: PodIdentity, host: Host) => Answer;

/**
 * One answer from what was seen of each address: all that lead anywhere must lead to the same interface, and it must be
 * the host side of a veth. Interfaces of other kinds count as well: an address that leads to a veth and to an uplink is
 * in doubt.
 * @param seen What leads to an interface (`the host route to 10.0.0.5`), and the interface's name.
 * @param nothing What to say when nothing was seen.
 */
export function agree(host: Host, seen: { by: string; name: string }[], nothing: string): Answer {
  const names = [...new Set(seen.map(({ name }) => name))];
  const [name] = names;
  if (name === undefined) return { kind: 'missing', reason: nothing };
  if (names.length > 1) {
    return {
      kind: 'ambiguous',
      candidates: names,
      reason: seen.map(({ by, name: to }) => `${by} leads to ${printable(to)}`).join(', '),
    };
  }
  const by = seen[0]?.by ?? '';
  const device = host.device(name);
  if (device === undefined) return { kind: 'missing', reason: `${by} leads to ${printable(name)}, which is gone` };
  if (device.kind !== 'veth') {
    return { kind: 'missing', reason: `${by} leads to ${printable(name)}, ${device.what} and no pod's veth` };
  }
  return { kind: 'found', device };
}

/** A name from the kernel, safe in a message: interfaces may be named with any bytes but spaces, `/` and `:`. */
export function printable(name: string): string {
  return name.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 15);
}
