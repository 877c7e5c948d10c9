/**
 * Keeps what is captured equal to what the resources select: level-triggered, from the caches, in rounds.
 *
 * Invariants: a pod is captured once, however many resources select it; a pod that was deleted and made again under its name
 * gets its capture ended and a new one; a pod whose interface is not certain is not captured, and is looked for again until it is.
 * What goes wrong is in the resource's status for as long as it is so.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Pod } from '../kube/pods.ts';
import { ruleSetsOf, type DeepPacketInspection, type NodeStatus } from '../kube/resources.ts';
import type { Endpoint } from './endpoint.ts';
import { resolveInterfaces, type Resolution } from './resolve/resolve.ts';
import { createSelect, type Selection } from './select.ts';

/** Changes that come together are one round. */
const COALESCE_MILLIS = 20;
const RETRY_FIRST_MILLIS = 100;
const RETRY_LAST_MILLIS = 5_000;
/** Rounds come this often when nothing happens. */
const IDLE_MILLIS = 30_000;
/** A pod's network is often there a moment after the pod: only what lasts longer is in the status. */
const GRACE_MILLIS = 1_000;
const MAX_CONDITIONS = 10;

/** What capture tells of an endpoint. */
export interface CaptureState {
  endpoint: Endpoint;
  state: { is: 'starting' } | { is: 'capturing'; ifindex: number } | { is: 'waiting'; reason: string };
  /** `oneWay`: only what it sends, or receives, passes its interface. */
  coverage?: { oneWay?: 'sending' | 'receiving' };
}

export interface FollowOptions {
  /** Whether both caches were complete once: until then nothing is done, as what they lack is not known to be absent. */
  synced(): boolean;
  resources(): DeepPacketInspection[];
  /** This node's pods. */
  pods(): Pod[];
  /** Finds the interfaces of pods, by their keys; by default, those of the machine. */
  resolve?: (pods: Pod[]) => Map<string, Resolution>;
  capture: {
    attach(endpoint: Endpoint): void;
    detach(endpointId: string): Promise<unknown>;
    endpoints(): CaptureState[];
    /** What is wrong with inspection as a whole, such as an engine that does not run. */
    problems(): string[];
    /** What is wrong with the rules of a resource that names these sets; undefined: the default ones. */
    ruleConditions(named: readonly string[] | undefined): string[];
  };
  /** Takes this node's entry of a resource's status; undefined: it has none. Called each round, also when nothing changed. */
  report(resource: DeepPacketInspection, status: Omit<NodeStatus, 'node'> | undefined): void;
  log: Logger;
}

export interface Follower {
  /** Something may have changed: resources, pods, an endpoint's state. */
  changed: () => void;
  /** The pods that each resource selects on this node, by its key, as of the last round. */
  selected: () => ReadonlyMap<string, readonly string[]>;
  /** Ends rounds, and leaves what is attached. */
  stop: () => void;
}

interface Attached {
  pod: Pod;
  endpoint: Endpoint;
  ifindex: number;
  by: string;
}

/** By endpoint id, as they were when the round began. */
type States = ReadonlyMap<string, CaptureState>;

type Found = Extract<Resolution, { kind: 'found' }>;

/** A pod whose interface is looked for again. */
interface Unresolved {
  uid: string;
  /** Absent where it is capture that has a reason. */
  reason: string | undefined;
  attempts: number;
  /** Milliseconds since the epoch. */
  retryAt: number;
}

export function followPods(options: FollowOptions): Follower {
  const { capture, log, resolve = resolveInterfaces } = options;
  const select = createSelect();
  const attached = new Map<string, Attached>();
  /** Their captures are being ended. */
  const detaching = new Set<string>();
  const unresolved = new Map<string, Unresolved>();
  /** When each condition of a resource began, milliseconds since the epoch. */
  let conditions = new Map<string, number>();
  const successes = new Map<string, { success: boolean; since: number }>();
  let selected = new Map<string, readonly string[]>();
  /** Of resources that name some, by their keys. */
  let ruleSets = new Map<string, string[]>();
  let timer: NodeJS.Timeout | undefined;
  let dueAt = 0;
  let stopped = false;

  function schedule(millis: number): void {
    const at = performance.now() + millis;
    if (stopped || (timer !== undefined && at >= dueAt)) return;
    clearTimeout(timer);
    dueAt = at;
    timer = setTimeout(() => {
      timer = undefined;
      try {
        reconcile();
      } catch (error) {
        log.error({ err: error }, 'pods could not be followed; trying again');
      }
      schedule(nextDue());
    }, millis);
  }

  function reconcile(): void {
    if (!options.synced()) return;
    const resources = options.resources();
    ruleSets = new Map(
      resources.flatMap((resource) => {
        const named = ruleSetsOf(resource);
        return named === undefined ? [] : [[resource.key, named]];
      }),
    );
    const selection = select(resources, options.pods());
    for (const [key, { pod }] of attached) {
      const wanted = selection.pods.get(key);
      if (wanted === undefined) detach(key, 'no resource selects it');
      else if (wanted.pod.uid !== pod.uid) detach(key, 'it was made again');
    }
    for (const [key, { uid }] of unresolved) {
      if (selection.pods.get(key)?.pod.uid !== uid) unresolved.delete(key);
    }
    selected = new Map([...selection.resources].map(([key, { pods }]) => [key, pods]));
    const known = capture.endpoints();
    const states: States = new Map(known.map((entry) => [entry.endpoint.id, entry]));
    find(selection, known, states);
    report(selection, states);
  }

  function detach(key: string, why: string): void {
    const entry = attached.get(key);
    if (entry === undefined) return;
    attached.delete(key);
    detaching.add(key);
    log.info({ endpoint: key, interface: entry.endpoint.interface, why }, 'capture ends');
    void capture.detach(key).finally(() => {
      detaching.delete(key);
      changed();
    });
  }

  /** Attaches what is wanted by the interfaces that it finds, and looks again for those that capture has lost. */
  function find(selection: Selection, known: CaptureState[], states: States): void {
    const now = performance.now();
    const lookFor: Pod[] = [];
    for (const [key, { pod, resources }] of selection.pods) {
      const entry = attached.get(key);
      const isDue = (unresolved.get(key)?.retryAt ?? 0) <= now;
      if (entry === undefined) {
        if (detaching.has(key) || !isDue) continue;
        if (states.has(key)) retry(pod, 'the configuration has an endpoint of its name');
        else lookFor.push(pod);
        continue;
      }
      const endpoint = createEndpoint(pod, resources, ruleSets, entry.endpoint.interface);
      if (!isDeepStrictEqual(endpoint, entry.endpoint)) {
        try {
          capture.attach(endpoint);
        } catch (error) {
          retry(pod, error instanceof Error ? error.message : String(error));
          continue;
        }
      }
      attached.set(key, { ...entry, pod, endpoint });
      const state = states.get(key)?.state;
      if (state?.is === 'waiting' || (state?.is === 'capturing' && state.ifindex !== entry.ifindex)) {
        if (isDue) lookFor.push(pod);
      } else {
        unresolved.delete(key);
      }
    }
    if (lookFor.length === 0) return;
    const found = resolve(lookFor);
    const taken = new Map(known.map(({ endpoint }) => [endpoint.interface, endpoint.id]));
    for (const pod of lookFor) {
      const resolution = found.get(pod.key);
      if (resolution === undefined) continue;
      if (resolution.kind !== 'found') retry(pod, resolution.reason);
      else if (attached.has(pod.key)) compare(pod, resolution);
      else attach(pod, selection.pods.get(pod.key)?.resources ?? [], resolution, taken);
    }
  }

  /** @param taken Who is captured by which interface. */
  function attach(
    pod: Pod,
    resources: string[],
    { interface: name, ifindex, by }: Found,
    taken: Map<string, string>,
  ): void {
    const other = taken.get(name);
    if (other !== undefined) {
      // The configuration names it, or the other pod is gone and its deletion not known yet, or a stale route led here: it will show.
      return retry(pod, `its interface ${name} (by ${by}) is inspected as ${other} already`);
    }
    const endpoint = createEndpoint(pod, resources, ruleSets, name);
    try {
      capture.attach(endpoint);
    } catch (error) {
      return retry(pod, error instanceof Error ? error.message : String(error));
    }
    unresolved.delete(pod.key);
    taken.set(name, pod.key);
    attached.set(pod.key, { pod, endpoint, ifindex, by });
    log.info({ endpoint: pod.key, interface: name, by, resources }, 'pod is selected');
  }

  /** Capture waits for a pod's interface, or has another one of its name than was meant. */
  function compare(pod: Pod, { interface: name, ifindex }: Found): void {
    const entry = attached.get(pod.key);
    if (entry === undefined) return;
    if (entry.endpoint.interface !== name) return detach(pod.key, `its interface is ${name} now`);
    // Made again under its name: capture follows by itself.
    if (entry.ifindex !== ifindex) attached.set(pod.key, { ...entry, ifindex });
    retry(pod, undefined);
  }

  function retry(pod: Pod, reason: string | undefined): void {
    const before = unresolved.get(pod.key);
    const attempts = (before?.attempts ?? 0) + 1;
    const wait = Math.min(RETRY_FIRST_MILLIS * 2 ** Math.min(attempts - 1, 10), RETRY_LAST_MILLIS);
    unresolved.set(pod.key, { uid: pod.uid, reason, attempts, retryAt: performance.now() + wait });
    if (reason !== undefined && reason !== before?.reason) log.debug({ endpoint: pod.key, reason }, 'not attached');
  }

  /** Each resource's status, of what is so now. */
  function report(selection: Selection, states: States): void {
    const now = Date.now();
    const problems = capture.problems();
    const lasting = new Map<string, number>();
    for (const resource of options.resources()) {
      const found = selection.resources.get(resource.key);
      if (found === undefined) continue;
      const { pods, error } = found;
      if (pods.length === 0 && error === undefined) {
        successes.delete(resource.key);
        options.report(resource, undefined);
        continue;
      }
      const messages = [
        ...(error === undefined ? [] : [error]),
        ...problems,
        ...capture.ruleConditions(ruleSets.get(resource.key)),
      ];
      const resolvers: Record<string, number> = {};
      let captured = 0;
      for (const key of pods) {
        const { state, coverage } = states.get(key) ?? {};
        const { by, endpoint } = attached.get(key) ?? {};
        if (by !== undefined && state?.is === 'capturing') {
          captured++;
          resolvers[by] = (resolvers[by] ?? 0) + 1;
          if (coverage?.oneWay !== undefined) messages.push(oneWay(key, endpoint?.interface, coverage.oneWay));
          continue;
        }
        // The network of a pod that ends goes before the pod does.
        if (selection.pods.get(key)?.pod.terminating === true) continue;
        const reason =
          unresolved.get(key)?.reason ?? (state?.is === 'waiting' ? state.reason : 'its capture is starting');
        messages.push(`pod ${key}: ${reason}`);
      }
      const errorConditions: NodeStatus['errorConditions'] = [];
      for (const message of messages) {
        const id = `${resource.uid} ${message}`;
        const since = conditions.get(id) ?? now;
        lasting.set(id, since);
        if (message === error || now - since >= GRACE_MILLIS) {
          errorConditions.push({ message, timestamp: rfc3339(since) });
        }
      }
      errorConditions.sort((a, b) => b.timestamp.localeCompare(a.timestamp));
      const success = error === undefined && problems.length === 0 && captured > 0;
      // It may be well in a moment.
      if (!success && errorConditions.length === 0) continue;
      const last = successes.get(resource.key);
      const since = last?.success === success ? last.since : now;
      successes.set(resource.key, { success, since });
      options.report(resource, {
        active: { success, lastUpdated: rfc3339(since) },
        podsSelected: pods.length,
        podsCaptured: captured,
        resolvers,
        errorConditions: errorConditions.slice(0, MAX_CONDITIONS),
      });
    }
    conditions = lasting;
    for (const key of successes.keys()) if (!selection.resources.has(key)) successes.delete(key);
  }

  /** Milliseconds until something is due by itself. */
  function nextDue(): number {
    const now = Date.now();
    const retries = [...unresolved.values()].map(({ retryAt }) => retryAt - performance.now());
    const graces = [...conditions.values()].map((since) => since + GRACE_MILLIS - now).filter((millis) => millis > 0);
    return Math.max(COALESCE_MILLIS, Math.min(IDLE_MILLIS, ...retries, ...graces));
  }

  function changed(): void {
    schedule(COALESCE_MILLIS);
  }

  changed();
  return {
    changed,
    selected: () => selected,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** @param resources In order. @param ruleSets Of resources that name some. */
function createEndpoint(
  pod: Pod,
  resources: string[],
  ruleSets: ReadonlyMap<string, string[]>,
  name: string,
): Endpoint {
  const named = resources.flatMap((key) => {
    const sets = ruleSets.get(key);
    return sets === undefined ? [] : [[key, sets] as const];
  });
  return {
    ...(named.length === 0 ? {} : { ruleSets: Object.fromEntries(named) }),
    id: pod.key,
    namespace: pod.namespace,
    name: pod.name,
    nameAggr: pod.nameAggr,
    interface: name,
    labels: pod.labels,
    addresses: pod.addresses,
    resources,
  };
}

/** What is missing, why, and what to do. */
function oneWay(key: string, device = 'its interface', seen: 'sending' | 'receiving'): string {
  const [sees, misses] = seen === 'sending' ? ['sends', 'receives'] : ['receives', 'sends'];
  return (
    `pod ${key}: only what it ${sees} passes ${device}, what it ${misses} is not inspected: an eBPF data plane moves packets past ` +
    "the host's interface. Calico: set bpfRedirectToPeer to Disabled in the FelixConfiguration; Cilium: set bpf.hostLegacyRouting to true"
  );
}

/** RFC 3339, in seconds. */
function rfc3339(millis: number): string {
  return `${new Date(millis).toISOString().slice(0, 19)}Z`;
}
