/**
 * A node's pods and their interfaces, and the resources of the cluster: they come, change, go, and come again under
 * their names. The API server is told of it, and the kernel has what the pods have.
 */
import type { ApiPod } from '../../../agent/kube/pods.ts';
import { resourcePath, RULE_SETS_ANNOTATION, type ResourceApi } from '../../../agent/kube/resources.ts';
import type { VirtualClock } from '../clock.ts';
import { pick } from '../plan.ts';
import type { ApiServer } from './api-server.ts';

export const NODE = 'here';
const NAMESPACE = 'shop';
/** Rule sets of resources that name none. */
export const DEFAULTS = ['base'];
const PODS = '/api/v1/pods';
const APPS = ['a', 'b', 'c'] as const;

export interface SimulatedPod {
  key: string;
  uid: string;
  app: string;
  hostNetwork: boolean;
  /** It ended, and is still there. */
  isOver: boolean;
  /** Absent while its network is not set up. */
  address: string | undefined;
}

export interface SimulatedResource {
  key: string;
  uid: string;
  app: string;
  ruleSets: string[] | undefined;
}

export interface Interface {
  name: string;
  ifindex: number;
}

export interface ClusterNode {
  /** By key, as they truly are. */
  pods: ReadonlyMap<string, SimulatedPod>;
  resources: ReadonlyMap<string, SimulatedResource>;
  /** By the pod's UID. */
  interfaces: ReadonlyMap<string, Interface>;
  api(): ResourceApi | undefined;
  /** Interfaces came or went. */
  onInterfaces: () => void;
  /** Something changes. */
  act(): void;
  /** The resources' API is served from now on, whatever it was. */
  serve(api: ResourceApi | undefined): void;
}

export function createClusterNode(clock: VirtualClock, random: () => number, server: ApiServer): ClusterNode {
  const pods = new Map<string, SimulatedPod>();
  const resources = new Map<string, SimulatedResource>();
  const interfaces = new Map<string, Interface>();
  let api: ResourceApi | undefined;
  let made = 0;

  const node: ClusterNode = {
    pods,
    resources,
    interfaces,
    api: () => api,
    onInterfaces: () => undefined,
    act() {
      if (random() < 0.65) actOnPod(`${NAMESPACE}/pod-${Math.floor(random() * 6)}`);
      else actOnResource(`${NAMESPACE}/r${Math.floor(random() * 3)}`);
    },
    serve(next) {
      if (api !== undefined) server.serves(`/apis/${api}`, false);
      api = next;
      if (next === undefined) return;
      server.serves(`/apis/${next}`, true);
      for (const key of server.keys(resourcePath(next)))
        if (!resources.has(key)) server.remove(resourcePath(next), key);
      for (const resource of resources.values()) server.put(resourcePath(next), toApi(resource));
    },
  };

  function actOnPod(key: string): void {
    const pod = pods.get(key);
    if (pod === undefined) return begin(key);
    const what = random();
    if (what < 0.3) tell({ ...pod, app: pick(random, APPS) });
    else if (what < 0.4) tell({ ...pod, isOver: true });
    else {
      end(pod);
      // A StatefulSet's: under its name, at once.
      if (random() < 0.5) begin(key);
    }
  }

  function begin(key: string): void {
    const uid = `uid-${++made}`;
    const pod = { key, uid, app: pick(random, APPS), hostNetwork: random() < 0.1, isOver: false, address: undefined };
    tell(pod);
    clock.outside(random() * 3000, () => {
      const current = pods.get(key);
      if (current?.uid !== uid) return;
      const number = ++made;
      // The API server may know of a network before it is there, and after.
      const before = random() < 0.5;
      if (before) setUp(uid, number);
      else clock.outside(random() * 2000, () => pods.get(key)?.uid === uid && setUp(uid, number));
      tell({ ...current, address: `10.0.0.${1 + (number % 200)}` });
    });
  }

  function setUp(uid: string, number: number): void {
    interfaces.set(uid, { name: `cali${number}`, ifindex: 10 + number });
    node.onInterfaces();
  }

  function end({ key, uid }: SimulatedPod): void {
    pods.delete(key);
    server.remove(PODS, key);
    clock.outside(random() * 500, () => {
      interfaces.delete(uid);
      node.onInterfaces();
    });
  }

  function tell(pod: SimulatedPod): void {
    pods.set(pod.key, pod);
    server.put(PODS, podOf(pod));
  }

  function actOnResource(key: string): void {
    const known = resources.get(key);
    if (known !== undefined && random() < 0.3) {
      resources.delete(key);
      if (api !== undefined) server.remove(resourcePath(api), key);
      return;
    }
    const uid = known?.uid ?? `uid-${++made}`;
    const ruleSets = pick(random, [undefined, undefined, ['web'], ['web', 'dns']]);
    const resource = { key, uid, app: pick(random, APPS), ruleSets };
    resources.set(key, resource);
    if (api !== undefined) server.put(resourcePath(api), toApi(resource));
  }

  return node;
}

function metadataOf(key: string, uid: string) {
  const [namespace = '', name = ''] = key.split('/');
  return { namespace, name, uid, resourceVersion: '' };
}

function podOf({ key, uid, app, hostNetwork, isOver, address }: SimulatedPod): ApiPod {
  return {
    metadata: { ...metadataOf(key, uid), labels: { app } },
    spec: { nodeName: NODE, hostNetwork },
    status: {
      phase: isOver ? 'Succeeded' : address === undefined ? 'Pending' : 'Running',
      ...(address === undefined ? {} : { podIPs: [{ ip: address }] }),
    },
  };
}

function toApi({ key, uid, app, ruleSets }: SimulatedResource) {
  const annotations = ruleSets === undefined ? {} : { [RULE_SETS_ANNOTATION]: ruleSets.join(',') };
  return { metadata: { ...metadataOf(key, uid), annotations }, spec: { selector: `app == '${app}'` } };
}
