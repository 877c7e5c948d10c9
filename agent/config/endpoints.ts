/** The endpoints that the configuration names, as the rest of the agent sees endpoints. */
import { isIP } from 'node:net';
import { DEFAULT_RESOURCE } from './schema/endpoints.ts';
import type { ConfigEndpoint } from './schema.ts';

/** The same fields as the agent's `Endpoint`, which this folder may not import. */
export interface StaticEndpoint {
  id: string;
  namespace: string;
  name: string;
  nameAggr: string;
  interface: string;
  taps?: { interface: string; netns?: string }[];
  labels: Record<string, string>;
  addresses: string[];
  resources: string[];
  ruleSets?: Record<string, string[]>;
  evidence?: Record<string, 'off' | 'headers' | 'full'>;
}

/**
 * Maps `endpoints:`. A pod's id is `<namespace>/<pod>`, that of an interface without a pod its own name. IPv6 addresses
 * come out in their canonical form (RFC 5952); resources without repetitions. The loopback is inspected where its
 * namespace is known.
 */
export function staticEndpoints(config: {
  endpoints: ConfigEndpoint[];
  capture: { loopback: boolean };
}): StaticEndpoint[] {
  return config.endpoints.map((entry) => {
    const { netns } = entry;
    const names = config.capture.loopback && entry.interface !== 'lo' ? [entry.interface, 'lo'] : [entry.interface];
    const resources = [...new Set(entry.resources ?? [entry.resource ?? DEFAULT_RESOURCE])];
    const { ruleSets, evidence } = entry;
    const ofEach = <Value>(value: Value): Record<string, Value> =>
      Object.fromEntries(resources.map((key) => [key, value]));
    return {
      id: entry.pod === undefined ? entry.interface : `${entry.namespace}/${entry.pod}`,
      namespace: entry.namespace,
      name: entry.pod ?? entry.interface,
      nameAggr: entry.owner === undefined ? '-' : `${entry.owner}-*`,
      interface: entry.interface,
      ...(netns === undefined ? {} : { taps: names.map((name) => ({ interface: name, netns })) }),
      labels: { ...entry.labels },
      addresses: entry.addresses.map(canonical),
      resources,
      ...(ruleSets === undefined ? {} : { ruleSets: ofEach(ruleSets) }),
      ...(evidence === undefined ? {} : { evidence: ofEach(evidence) }),
    };
  });
}

function canonical(address: string): string {
  return isIP(address) === 6 ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}
