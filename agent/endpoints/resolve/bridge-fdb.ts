/**
 * By the node's bridges: the pod's MAC from the ARP table, its port from the bridge's forwarding table. Both are
 * learned from what pods send, and a pod can lie. The kernel shows no IPv6 neighbours in /proc, so only IPv4 addresses
 * are looked up.
 */
import type { Host } from './host.ts';
import { agree, printable, type Answer, type Resolver } from './resolver.ts';

export const bridgeFdb: Resolver = (pod, host): Answer => {
  const addresses = pod.addresses.filter((address) => !address.includes(':'));
  if (addresses.length === 0) return { kind: 'missing', reason: 'no IPv4 address to look up in ARP and bridges' };
  const looks = addresses.map((address) => look(address, host));
  const nothing = looks.map(({ nothing: reason }) => reason).filter((reason) => reason !== undefined);
  return agree(
    host,
    looks.flatMap(({ seen }) => seen),
    nothing.join(', '),
  );
};

interface Look {
  seen: { by: string; name: string }[];
  /** Why there is nothing. */
  nothing?: string;
}

function look(address: string, host: Host): Look {
  const neighbours = host.neighbours(address);
  if (neighbours.length === 0) return { seen: [], nothing: `no ARP entry of ${address}` };
  const seen: Look['seen'] = [];
  const nothing: string[] = [];
  for (const { mac, device: name } of neighbours) {
    const device = host.device(name);
    if (device?.kind !== 'bridge') {
      nothing.push(
        `${address} is an ARP neighbour on ${printable(name)}, ${device?.what ?? 'which is gone'} and no bridge`,
      );
      continue;
    }
    const ports = host.ports(name, mac);
    if (ports.length === 0) nothing.push(`${printable(name)} has not learned ${mac} of ${address}`);
    for (const port of ports) seen.push({ by: `${mac} of ${address} on ${printable(name)}`, name: port });
  }
  return { seen, ...(seen.length === 0 ? { nothing: nothing.join(', ') } : {}) };
}
