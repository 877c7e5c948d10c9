/**
 * A small network lab on real kernel parts: one namespace as the node, one for each pod, joined as Calico joins them: a
 * veth whose host side is called cali…, a /32 route to the pod on the node, and 169.254.1.1 by proxy ARP as the pod's
 * gateway. The machine's own network is not touched.
 *
 * Names of namespaces begin with `<prefix>-<pid>-<start time>-` of the process that opened the lab: labs of one prefix
 * stand side by side, and what a process left that was killed is known by that no such process runs. Not promised where
 * processes of several pid namespaces share /run/netns.
 */
import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { calicoInterface } from '../agent/endpoints/resolve/calico-name.ts';
import { startTimeOf } from '../agent/files/process.ts';

export interface Pod {
  name: string;
  /** Kubernetes namespace. */
  namespace: string;
  /** Network namespace. */
  netns: string;
  /** Host side of its veth, in the node's network namespace; where it has none, its own interface. */
  interface: string;
  address: string;
  address6?: string;
}

export interface PodOptions {
  name: string;
  namespace?: string;
  address: string;
  address6?: string;
}

export type UplinkKind = 'macvlan' | 'ipvlan';

export interface Lab {
  /** The node's network namespace. */
  node: string;
  addPod(options: PodOptions): Pod;
  /** A pod without a host side: its eth0 is on top of the node's uplink. Those of one kind meet in 10.0.0.0/8. */
  addUplinkPod(kind: UplinkKind, options: PodOptions): Pod;
  /**
   * A further network of a pod, as Multus makes it: a macvlan on top of the node's uplink.
   * @param prefix Of its addresses, such as 10.70.0.2/24.
   */
  addNetwork(pod: Pod, name: string, prefix: string): void;
  /** Deletes the pod's namespace, and its veth with it. */
  removePod(pod: Pod): void;
  /** Runs a command in a network namespace and gives its output. @throws Error with what it said when it fails. */
  exec(netns: string, command: string, ...args: string[]): string;
  /** Starts one there; close() ends it. */
  spawn(netns: string, command: string, args: string[], options?: SpawnOptions): ChildProcess;
  close(): void;
}

/** Why this machine or user can't have a lab; undefined when it can. */
export function whyNoLab(): string | undefined {
  const name = `dpi-probe-${process.pid}`;
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: ['ignore', 'ignore', 'pipe'] });
    execFileSync('ip', ['-n', name, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return undefined;
  } catch (error) {
    return `network namespaces with veths cannot be made here: ${reason(error)}`;
  } finally {
    try {
      execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    } catch {
      // It was not made.
    }
  }
}

/** Why the kernel has no devices of this kind; undefined: it has. */
export function whyNoDevice(kind: UplinkKind | 'netkit'): string | undefined {
  const name = `dpi-device-${process.pid}`;
  const link = ['link', 'add', 'device0', ...(kind === 'netkit' ? [] : ['link', 'probe0']), 'type', kind];
  try {
    ip('netns', 'add', name);
    ip('-n', name, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1');
    ip('-n', name, ...link);
    return undefined;
  } catch {
    return `no ${kind} can be made here`;
  } finally {
    execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  }
}

/**
 * @param prefix Of the namespaces' names. What labs of this prefix left is removed, unless the process that opened them
 * is another one and runs.
 */
export function openLab(prefix: string): Lab {
  const own = `${prefix}-${process.pid}-${startTimeOf(process.pid)}`;
  const node = `${own}-node`;
  const children = new Set<ChildProcess>();
  removeLeftovers(prefix);
  removeNamespaces(own);
  ip('netns', 'add', node);
  ip('-n', node, 'link', 'set', 'lo', 'up');
  exec(node, 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  // Proxy ARP answers only for what the node has a route to.
  ip('-n', node, 'route', 'add', '169.254.1.1/32', 'dev', 'lo');

  function exec(netns: string, command: string, ...args: string[]): string {
    try {
      return execFileSync('ip', ['netns', 'exec', netns, command, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    } catch (error) {
      throw new Error(`${command} ${args.join(' ')} in ${netns}: ${reason(error)}`, { cause: error });
    }
  }

  /** It sends nothing by itself any more: no neighbour discovery, no group reports. */
  function silence(netns: string, device: string): void {
    exec(netns, 'sysctl', '-qw', `net.ipv6.conf.${device}.disable_ipv6=1`);
  }

  function addPod({ name, namespace = 'default', address, address6 }: PodOptions): Pod {
    const netns = `${own}-${namespace}-${name}`;
    const hostSide = calicoInterface(namespace, name);
    ip('netns', 'add', netns);
    ip('-n', node, 'link', 'add', hostSide, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
    if (address6 === undefined) {
      silence(node, hostSide);
      silence(netns, 'eth0');
    }
    ip('-n', netns, 'link', 'set', 'lo', 'up');
    ip('-n', netns, 'addr', 'add', `${address}/32`, 'dev', 'eth0');
    ip('-n', netns, 'link', 'set', 'eth0', 'up');
    ip('-n', netns, 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
    ip('-n', netns, 'route', 'add', 'default', 'via', '169.254.1.1', 'dev', 'eth0');
    exec(node, 'sysctl', '-qw', `net.ipv4.conf.${hostSide}.proxy_arp=1`, `net.ipv4.neigh.${hostSide}.proxy_delay=0`);
    ip('-n', node, 'link', 'set', hostSide, 'up');
    // Overlapping addresses are for pods that only talk to the node.
    ip('-n', node, 'route', 'append', `${address}/32`, 'dev', hostSide, 'scope', 'link');
    if (address6 !== undefined) {
      exec(node, 'sysctl', '-qw', `net.ipv6.conf.${hostSide}.proxy_ndp=1`);
      ip('-n', node, '-6', 'addr', 'add', 'fe80::1/64', 'dev', hostSide, 'nodad');
      ip('-n', netns, '-6', 'addr', 'add', `${address6}/128`, 'dev', 'eth0', 'nodad');
      ip('-n', netns, '-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0');
      ip('-n', node, '-6', 'route', 'add', `${address6}/128`, 'dev', hostSide);
    }
    return { name, namespace, netns, interface: hostSide, address, ...(address6 === undefined ? {} : { address6 }) };
  }

  let hasUplink = false;

  function onUplink(kind: UplinkKind, netns: string, name: string, prefixed: string): void {
    if (!hasUplink) {
      ip('-n', node, 'link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'outside');
      for (const device of ['uplink', 'outside']) {
        silence(node, device);
        ip('-n', node, 'link', 'set', device, 'up');
      }
      hasUplink = true;
    }
    const mode = kind === 'macvlan' ? ['mode', 'bridge'] : [];
    // Its name may be taken on the node.
    ip('-n', node, 'link', 'add', 'link', 'uplink', 'name', 'moving', 'type', kind, ...mode);
    ip('-n', node, 'link', 'set', 'moving', 'netns', netns, 'name', name);
    silence(netns, name);
    ip('-n', netns, 'addr', 'add', prefixed, 'dev', name);
    ip('-n', netns, 'link', 'set', name, 'up');
  }

  return {
    node,
    addPod,
    addUplinkPod(kind, { name, namespace = 'default', address }) {
      const netns = `${own}-${namespace}-${name}`;
      ip('netns', 'add', netns);
      ip('-n', netns, 'link', 'set', 'lo', 'up');
      onUplink(kind, netns, 'eth0', `${address}/8`);
      return { name, namespace, netns, interface: 'eth0', address };
    },
    addNetwork: (pod, name, prefixed) => onUplink('macvlan', pod.netns, name, prefixed),
    removePod: (pod) => {
      if (pod.interface !== 'eth0') ip('-n', node, 'link', 'del', pod.interface);
      ip('netns', 'del', pod.netns);
    },
    exec,
    spawn(netns, command, args, options = {}) {
      const child = spawn('ip', ['netns', 'exec', netns, command, ...args], options);
      children.add(child);
      child.once('exit', () => children.delete(child));
      return child;
    },
    close() {
      for (const child of children) child.kill('SIGKILL');
      removeNamespaces(own);
    },
  };
}

function removeLeftovers(prefix: string): void {
  for (const name of namespacesOf(prefix)) {
    const [, pid, start] = /^(\d+)-(\d+)-/.exec(name.slice(prefix.length + 1)) ?? [];
    if (pid !== undefined && startTimeOf(Number(pid)) !== start) ip('netns', 'del', name);
  }
}

function removeNamespaces(prefix: string): void {
  for (const name of namespacesOf(prefix)) ip('netns', 'del', name);
}

function namespacesOf(prefix: string): string[] {
  const names = ip('netns', 'list')
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '');
  return names.filter((name) => name.startsWith(`${prefix}-`));
}

function ip(...args: string[]): string {
  try {
    return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    throw new Error(`ip ${args.join(' ')}: ${reason(error)}`, { cause: error });
  }
}

function reason(error: unknown): string {
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  return said || (error instanceof Error ? error.message : String(error));
}
