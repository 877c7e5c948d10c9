/**
 * By the host routes (/32, /128) to the pod's addresses, as Calico, ptp and most cloud providers' CNI plugins make
 * them. IPv4 routes outside the main table are not seen.
 */
import { agree, type Resolver } from './resolver.ts';

export const hostRoute: Resolver = (pod, host) =>
  agree(
    host,
    pod.addresses.flatMap((address) =>
      host.routes(address).map((name) => ({ by: `the host route to ${address}`, name })),
    ),
    `no host route to ${pod.addresses.join(' or ')}`,
  );
