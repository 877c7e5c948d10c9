/** Where packets of an endpoint are captured. */
export interface Tap {
  interface: string;
  /** Path of the network namespace that the interface is in, such as /proc/1234/ns/net; without it, the node's own. */
  netns?: string;
}

/** On which side of its veth a pod is captured: on the node's, or in its own network namespace. */
export type Side = 'host' | 'pod';

/** What is kept of packets for alerts: nothing, all up to the payload, or all. */
export type Keep = 'off' | 'headers' | 'full';

/** An inspected workload: a pod, or an interface that somebody named in the configuration. */
export interface Endpoint {
  /** Unique on the node: `<namespace>/<pod>`, or the interface's name. */
  id: string;
  namespace: string;
  /** The pod's name. */
  name: string;
  /** The owner's name with `-*` (`backend-7d4b-*`), `-` where unknown. */
  nameAggr: string;
  /** Host side of the pod's veth, or the pod's interface in its own network namespace. Events name it. */
  interface: string;
  /** Where it is captured, `interface` first, unless that is on the node and all there is. */
  taps?: readonly Tap[];
  labels: Record<string, string>;
  /** The workload's own addresses, where known. */
  addresses: string[];
  /** Resources that select it, each `<namespace>/<name>`; at least one. */
  resources: string[];
  /** Rule sets of resources that name some, by their keys; the others have the default sets. */
  ruleSets?: Record<string, string[]>;
  /** What is kept of its packets for alerts of resources that say so, by their keys. */
  evidence?: Record<string, Keep>;
}

/** For alerts of this resource. @param byDefault For resources that say nothing. */
export function keepFor({ evidence }: Endpoint, resource: string, byDefault: Keep): Keep {
  return evidence?.[resource] ?? byDefault;
}

const MORE: readonly Keep[] = ['off', 'headers', 'full'];

/** The most that one of its resources asks for. */
export function keepMost(endpoint: Endpoint, byDefault: Keep): Keep {
  const asked = endpoint.resources.map((resource) => MORE.indexOf(keepFor(endpoint, resource, byDefault)));
  return MORE[Math.max(0, ...asked)] ?? byDefault;
}

export function tapsOf({ interface: name, taps = [{ interface: name }] }: Endpoint): readonly Tap[] {
  return taps;
}

export function sideOf({ netns }: Tap): Side {
  return netns === undefined ? 'host' : 'pod';
}

/** The node's interfaces by which it is captured. */
export function onNode(endpoint: Endpoint): string[] {
  return tapsOf(endpoint).flatMap(({ interface: name, netns }) => (netns === undefined ? [name] : []));
}
