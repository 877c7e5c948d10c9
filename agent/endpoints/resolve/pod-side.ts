/**
 * The pod's own side: its network namespace (see namespace.ts), and the interfaces in it to capture. All interfaces
 * there are the pod's, so a wrong choice shows no other pod's packets.
 *
 * Not promised: that all of the pod's packets pass the interface that was chosen. A pod that may configure its network
 * (NET_ADMIN) can send them by another one; by the host side of a veth, it can't.
 */
import type { PodNetwork } from '../../kube/networks.ts';
import { read, type Host } from './host.ts';
import { canonical, parseDefaultRoutes, parseDevices, parseInet6 } from './kernel.ts';
import { findNamespace, LIMIT, type Namespace } from './namespace.ts';
import { printable, type PodIdentity } from './resolver.ts';

/** More than that, and the rest is not known. */
const MAX_INTERFACES = 256;

export interface PodSide {
  kind: 'found';
  namespace: Namespace;
  /** That of the pod's own network; undefined: any of several may be. */
  own: string | undefined;
  interfaces: Set<string>;
  /** Its own addresses, canonical. */
  addresses: Set<string>;
}

/** @param named What the pod's own interface is called, where something says so. */
export function podSide(
  pod: PodIdentity,
  host: Host,
  named: string | undefined,
): PodSide | { kind: 'missing'; reason: string } {
  const found = findNamespace(pod, host);
  if (found.kind === 'missing') return found;
  const { namespace, addresses } = found;
  const net = `${host.proc}/${namespace.members[0]}/net`;
  const interfaces = new Set(parseDevices(read(`${net}/dev`, LIMIT)).slice(0, MAX_INTERFACES));
  return { kind: 'found', namespace, own: ownOf(pod, net, interfaces, named), interfaces, addresses };
}

/**
 * The one with the pod's IPv6 address, else the one that is named, `eth0` (the name that runtimes ask for), that of the
 * default route, or the only one.
 */
function ownOf(
  pod: PodIdentity,
  net: string,
  interfaces: ReadonlySet<string>,
  named: string | undefined,
): string | undefined {
  const wanted = new Set(pod.addresses.map(canonical));
  const carriers = parseInet6(read(`${net}/if_inet6`, LIMIT)).filter(({ address }) => wanted.has(address));
  const others = [...interfaces].filter((name) => name !== 'lo');
  const candidates = [
    ...carriers.map(({ device }) => device),
    ...(named === undefined ? [] : [named]),
    'eth0',
    ...parseDefaultRoutes(read(`${net}/route`, LIMIT)),
    ...(others.length === 1 ? others : []),
  ];
  return candidates.find((name) => name !== 'lo' && interfaces.has(name));
}

/** Those of the networks that the namespace has, and why it is not captured, of each that it has not. */
export function networksIn(
  side: PodSide,
  networks: readonly PodNetwork[],
): { interfaces: string[]; addresses: string[]; lacking: string[] } {
  // Its own is captured in any case, and perhaps on the node.
  const there = networks.filter(({ interface: device }) => side.interfaces.has(device) && device !== side.own);
  return {
    interfaces: [...new Set(there.map((network) => network.interface))],
    // What the namespace does not have may be another pod's.
    addresses: [...new Set(there.flatMap(({ addresses }) => addresses.filter((each) => side.addresses.has(each))))],
    lacking: networks
      .filter((network) => !side.interfaces.has(network.interface))
      .map(
        ({ name, interface: device }) =>
          `network ${printableName(name)} is not inspected: there is no ${printable(device)} in the pod`,
      ),
  };
}

export function printableName(name: string): string {
  return name.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 100);
}
