/**
 * A pod's further networks, as Multus says of them in an annotation of the pod (Network Plumbing Working Group,
 * Kubernetes Network Custom Resource Definition De-facto Standard 1.3, 4.1.2.1). Whoever may change the pod may write
 * it, too: what it says of interfaces and addresses is compared with the pod's network namespace before it is used, and
 * of what is too much nothing is kept.
 */
import { canonicalAddress, list, record, text } from './fields.ts';

export const NETWORK_STATUS_ANNOTATION = 'k8s.v1.cni.cncf.io/network-status';
/**
 * Of a resource, or of a pod for resources that have none: which of a pod's further networks are inspected, by names of
 * networks or of interfaces, separated by commas. `*` is all of them, as without it; empty, none.
 */
export const NETWORKS_ANNOTATION = 'dpi-agent.io/networks';

export interface PodNetwork {
  /** `<namespace>/<name>`, or a name that the network plugin gave. */
  name: string;
  /** In the pod. */
  interface: string;
  /** IPv4 and IPv6, canonical. */
  addresses: string[];
}

export interface PodNetworks {
  /** The interface of the pod's own network, where it is said. */
  own?: string;
  further: PodNetwork[];
  /** Why not all of it is known. */
  problem?: string;
}

/** Characters of the annotation, networks, and addresses of one network. */
const MAX_TEXT = 65_536;
const MAX_NETWORKS = 16;
const MAX_ADDRESSES = 16;
const MAX_NAME = 253;

/** Never throws. */
export function parseNetworkStatus(annotation: string): PodNetworks {
  if (annotation.length > MAX_TEXT) return problem(`has more than ${MAX_TEXT} characters`);
  let entries: unknown;
  try {
    entries = JSON.parse(annotation);
  } catch {
    return problem('is not JSON');
  }
  if (!Array.isArray(entries)) return problem('is no list');
  if (entries.length > MAX_NETWORKS) return problem(`has more than ${MAX_NETWORKS} networks`);
  const networks: PodNetworks = { further: [] };
  for (const entry of entries.map(record)) {
    const name = text(entry['name']).slice(0, MAX_NAME);
    const device = text(entry['interface']);
    if (entry['default'] === true) {
      if (isInterfaceName(device)) networks.own = device;
    } else if (isInterfaceName(device)) {
      networks.further.push({ name, interface: device, addresses: addressesOf(entry['ips']) });
    } else {
      networks.problem ??= `annotation ${NETWORK_STATUS_ANNOTATION} names no interface for network ${JSON.stringify(name)}`;
    }
  }
  return networks;
}

function problem(what: string): PodNetworks {
  return {
    further: [],
    problem: `annotation ${NETWORK_STATUS_ANNOTATION} ${what}: further networks are not inspected`,
  };
}

/** One that a network namespace may have, but the loopback. */
function isInterfaceName(name: string): boolean {
  return /^[^\s/:\p{Cc}]+$/u.test(name) && Buffer.byteLength(name) <= 15 && !['.', '..', 'lo'].includes(name);
}

function addressesOf(ips: unknown): string[] {
  return list(ips)
    .slice(0, MAX_ADDRESSES)
    .flatMap((ip) => canonicalAddress(text(ip)) ?? []);
}

/** Names in one annotation; further ones are not looked at. */
const MAX_CHOSEN = 64;

/**
 * The networks that annotations choose, and the names that are none of the pod's.
 * @param annotations At least one; absent: all.
 */
export function chooseNetworks(
  further: readonly PodNetwork[],
  annotations: readonly (string | undefined)[],
): { chosen: PodNetwork[]; unknown: string[] } {
  const names = new Set(annotations.flatMap((value = '*') => namesOf(value)));
  const isNamed = ({ name, interface: device }: PodNetwork): boolean =>
    [name, name.slice(name.indexOf('/') + 1), device].some((each) => names.has(each));
  const chosen = names.has('*') ? [...further] : further.filter(isNamed);
  const known = new Set(
    further.flatMap(({ name, interface: device }) => [name, name.slice(name.indexOf('/') + 1), device]),
  );
  return { chosen, unknown: [...names].filter((name) => name !== '*' && !known.has(name)) };
}

function namesOf(value: string): string[] {
  return value
    .slice(0, MAX_TEXT)
    .split(',', MAX_CHOSEN)
    .map((name) => name.trim().slice(0, MAX_NAME))
    .filter((name) => name !== '');
}
