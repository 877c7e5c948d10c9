/**
 * By the pod's network namespace (see namespace.ts): the pod's interface in it, and its peer on the node.
 *
 * Needs CAP_SYS_PTRACE for the processes' `root`. The pod has a say in what is under its root. So
 * /sys there must be a sysfs, and not the node's own; addresses and indices are compared with /proc/<pid>/net, which
 * only the kernel writes; and the interface on the node must name the pod's interface as its peer, as that one names
 * it. Not detected: a process with the right to mount that shows a namespace of its own making with the same indices,
 * in a pod without a sandbox process.
 */
import { statfsSync, statSync } from 'node:fs';
import { attempt, read, readDevice, type Device, type Host } from './host.ts';
import { canonical, parseDevices, parseIgmp, parseInet6 } from './kernel.ts';
import { findNamespace, LIMIT } from './namespace.ts';
import { printable, type Answer, type PodIdentity, type Resolver } from './resolver.ts';

/** Of linux/magic.h. */
const SYSFS_MAGIC = 0x6265_6572;

export const podNetns: Resolver = (pod, host): Answer => {
  const found = findNamespace(pod, host);
  if (found.kind === 'missing') return found;
  const { members } = found.namespace;
  for (const pid of members) {
    const answer = peerOf(pod, host, pid);
    if (answer !== undefined) return answer;
  }
  return missing(`no process of the pod has its own /sys (looked at ${members.join(', ')})`);
};

/** @returns undefined when this process doesn't show its network namespace in /sys. */
function peerOf(pod: PodIdentity, host: Host, pid: number): Answer | undefined {
  const classNet = `${host.proc}/${pid}/root/sys/class/net`;
  const net = `${host.proc}/${pid}/net`;
  const sysfs = attempt(() => statSync(classNet).dev);
  if (sysfs === undefined || sysfs === host.sysfs) return undefined;
  const names = parseDevices(read(`${net}/dev`, LIMIT)).slice(0, 256);
  const indices = parseIgmp(read(`${net}/igmp`, LIMIT));
  const devices = names.flatMap((name) => {
    if (attempt(() => statfsSync(`${classNet}/${name}`).type) !== SYSFS_MAGIC) return [];
    const device = readDevice(classNet, name);
    return device === undefined || (indices.get(name) ?? device.ifindex) !== device.ifindex ? [] : [device];
  });
  // Its /sys is another namespace's, or interfaces are coming and going.
  if (devices.length !== names.length) return undefined;
  const wanted = new Set(pod.addresses.map(canonical));
  const carriers = new Set(
    parseInet6(read(`${net}/if_inet6`, LIMIT)).flatMap(({ address, device }) => (wanted.has(address) ? [device] : [])),
  );
  const own = choose(devices, carriers, host);
  if (own.length > 1) {
    const list = own.map(({ name }) => printable(name)).join(', ');
    const candidates = own.flatMap((device) => peer(device, host)?.name ?? []);
    return {
      kind: 'ambiguous',
      candidates,
      reason: `any of ${list} may be the pod's interface in its network namespace`,
    };
  }
  const [device] = own;
  if (device === undefined) return missing('no interface in its network namespace has a peer on the node');
  const found = peer(device, host);
  if (found !== undefined) return { kind: 'found', device: found };
  const what = device.kind === 'veth' ? 'has no veth of the node as its peer (macvlan, ipvlan?)' : `is ${device.what}`;
  return missing(`the pod's ${printable(device.name)} ${what}: nothing on the node carries its packets alone`);
}

/**
 * Which of the namespace's interfaces is the pod's: the one with its IPv6 address, `eth0` (the name that runtimes ask
 * for), or the only one with a peer.
 */
function choose(devices: Device[], carriers: Set<string>, host: Host): Device[] {
  const carrying = devices.filter(({ name }) => carriers.has(name));
  if (carrying.length > 0) return carrying;
  const eth0 = devices.find(({ name }) => name === 'eth0');
  return eth0 === undefined ? devices.filter((device) => peer(device, host) !== undefined) : [eth0];
}

function peer(device: Device, host: Host): Device | undefined {
  if (device.kind !== 'veth') return undefined;
  const other = host.deviceOfIndex(device.iflink);
  return other?.kind === 'veth' && other.iflink === device.ifindex ? other : undefined;
}

function missing(reason: string): Answer {
  return { kind: 'missing', reason };
}
