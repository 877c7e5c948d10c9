/**
 * Keeps what is captured equal to what the resources select: level-triggered, from the caches, in rounds.
 *
 * Invariants: a pod is captured once, however many resources select it; a pod that was deleted and made again under its
 * name gets its capture ended and a new one; a pod whose interface is not certain is not captured, and is looked for
 * again until it is. A pod that went over to its own side, because not all that it sends and receives passes the
 * node's, stays there for as long as it is captured; where it can't be captured there, it comes back once and stays on
 * the node's. What goes wrong is in the resource's status for as long as it is so.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { messageOf } from '../files/errors.ts';
import type { Pod } from '../kube/pods.ts';
import { NETWORKS_ANNOTATION } from '../kube/networks.ts';
import { ruleSetsOf, type DeepPacketInspection, type NodeStatus } from '../kube/resources.ts';
import { onNode, type Endpoint } from './endpoint.ts';
import { holdNamespace, isStillThere, type HeldNamespace } from './hold.ts';
import type { Namespace } from './resolve/namespace.ts';
import { findPlaces, type Place, type PlaceAnswer, type PlaceRequest, type SideWanted } from './resolve/place.ts';
import { createSelect, type Selection } from './select.ts';

/** Changes that come together are one round. */
const COALESCE_MILLIS = 20;
const RETRY_FIRST_MILLIS = 100;
const RETRY_LAST_MILLIS = 5_000;
/**
 * A pod that can't be captured so soon after it went over is looked for so often, over some seconds, and then comes
 * back.
 */
const INSIDE_MILLIS = 60_000;
const INSIDE_ATTEMPTS = 6;
/** What a captured pod lacks will hardly come. */
const RETRY_LACKING_MILLIS = 60_000;
/** Rounds come this often when nothing happens. */
const IDLE_MILLIS = 30_000;
/** A pod's network is often there a moment after the pod: only what lasts longer is in the status. */
const GRACE_MILLIS = 1_000;
/** Capture may open what it leaves once more, until it has gone over: its path must not lead elsewhere so soon. */
const RELEASE_MILLIS = 30_000;
const MAX_CONDITIONS = 10;

/** What capture tells of an endpoint. */
export interface CaptureState {
  endpoint: Endpoint;
  state: { is: 'starting' } | { is: 'capturing'; ifindex: number } | { is: 'waiting'; reason: string };
  /** `oneWay`: only what it sends, or receives, passes its interface. */
  coverage?: { oneWay?: 'sending' | 'receiving' };
}

export interface FollowOptions {
  /** Whether both caches were complete once: until then, what they lack may exist, and nothing is done. */
  synced(): boolean;
  resources(): DeepPacketInspection[];
  /** This node's pods. */
  pods(): Pod[];
  /** Where pods are captured, and whether their loopback is. */
  side: SideWanted;
  loopback: boolean;
  /** Finds the interfaces of pods, by their keys; by default, those of the machine. */
  resolve?: (requests: PlaceRequest[], barred?: string) => Map<string, PlaceAnswer>;
  /** By default, those of the machine. */
  namespaces?: { hold(namespace: Namespace): HeldNamespace; isStillThere(namespace: Namespace): boolean };
  capture: {
    attach(endpoint: Endpoint): void;
    detach(endpointId: string): Promise<unknown>;
    endpoints(): CaptureState[];
    /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
    barredFromPods(): string | undefined;
    /** What is wrong with inspection as a whole, such as an engine that does not run. */
    problems(): string[];
    /** What is wrong with the rules of a resource that names these sets; undefined: the default ones. */
    ruleConditions(named: readonly string[] | undefined): string[];
  };
  /** Takes this node's entry of a resource's status; undefined: it has none. Called each round, changed or not. */
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
  place: Place;
  /** What was asked for when the place was found. */
  asked: string;
  held: HeldNamespace | undefined;
  /** When it came from the node's side, on the clock of performance.now(). */
  wentOverAt: number | undefined;
  /** Why it can't be captured on its own side. */
  keptOut: string | undefined;
}

/** By endpoint id, as they were when the round began. */
type States = ReadonlyMap<string, CaptureState>;

/** A pod whose interface is looked for again. */
interface Unresolved {
  uid: string;
  /** Absent where it is capture that has a reason. */
  reason: string | undefined;
  attempts: number;
  /** On the clock of performance.now(). */
  retryAt: number;
}

/** When a condition began. */
interface Beginning {
  /** Milliseconds since the epoch, for who reads the status. */
  date: number;
  /** On the clock of performance.now(), which nobody sets. */
  at: number;
}

export function followPods(options: FollowOptions): Follower {
  const { capture, log, resolve = findPlaces, namespaces = { hold: holdNamespace, isStillThere } } = options;
  const select = createSelect();
  const attached = new Map<string, Attached>();
  /** Their captures are being ended. */
  const detaching = new Set<string>();
  const unresolved = new Map<string, Unresolved>();
  /** When each condition of a resource began. */
  let conditions = new Map<string, Beginning>();
  /** When it was last looked which of them last long enough to be told, on the clock of performance.now(). */
  let reportedAt = 0;
  const successes = new Map<string, { success: boolean; since: number }>();
  let selected = new Map<string, readonly string[]>();
  /** Of resources that name some, by their keys. */
  let ruleSets = new Map<string, string[]>();
  /** Of resources that choose some of their pods' further networks, by their keys. */
  let networks = new Map<string, string>();
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
    networks = new Map(
      resources.flatMap(({ key, annotations }) => {
        const chosen = annotations[NETWORKS_ANNOTATION];
        return chosen === undefined ? [] : [[key, chosen] as const];
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
      entry.held?.release();
      detaching.delete(key);
      changed();
    });
  }

  /**
   * Attaches what is wanted by the interfaces that it finds, and looks again for those that capture has lost, or should
   * have elsewhere.
   */
  function find(selection: Selection, known: CaptureState[], states: States): void {
    const now = performance.now();
    const lookFor: PlaceRequest[] = [];
    for (const [key, { pod, resources }] of selection.pods) {
      const entry = attached.get(key);
      const isDue = (unresolved.get(key)?.retryAt ?? 0) <= now;
      if (entry !== undefined) watchInside(entry, states.get(key), now);
      const request = requestOf(pod, resources, entry, states.get(key));
      if (entry === undefined) {
        if (detaching.has(key) || !isDue) continue;
        if (states.has(key)) retry(pod, 'the configuration has an endpoint of its name');
        else lookFor.push(request);
        continue;
      }
      if (!update(entry, pod, resources)) continue;
      if (!isOutdated(entry, states.get(key), request)) unresolved.delete(key);
      else if (isDue) lookFor.push(request);
    }
    if (lookFor.length === 0) return;
    const places = resolve(lookFor, capture.barredFromPods());
    const occupied = new Map(
      known.flatMap(({ endpoint }) => onNode(endpoint).map((name) => [name, endpoint.id] as const)),
    );
    for (const request of lookFor) {
      const { pod } = request;
      const place = places.get(pod.key);
      if (place === undefined) continue;
      const resources = selection.pods.get(pod.key)?.resources ?? [];
      const entry = attached.get(pod.key);
      if (place.kind !== 'found') retry(pod, place.reason);
      else if (entry !== undefined) compare(entry, resources, request, place);
      else attach(request, resources, place, occupied);
    }
  }

  /** Notes that a pod that went over can't be captured there. */
  function watchInside(entry: Attached, captured: CaptureState | undefined, now: number): void {
    const { state } = captured ?? {};
    const isNew = entry.wentOverAt !== undefined && now - entry.wentOverAt < INSIDE_MILLIS;
    const attempts = unresolved.get(entry.pod.key)?.attempts ?? 0;
    if (isNew && state?.is === 'waiting' && attempts >= INSIDE_ATTEMPTS) entry.keptOut = state.reason;
  }

  function requestOf(
    pod: Pod,
    resources: string[],
    entry: Attached | undefined,
    state: CaptureState | undefined,
  ): PlaceRequest {
    const isInside = entry?.place.by === 'pod' || state?.coverage?.oneWay !== undefined;
    const staysInside = entry !== undefined && entry.keptOut === undefined && isInside;
    return {
      pod,
      side: options.side === 'auto' && staysInside ? 'pod' : options.side,
      loopback: options.loopback,
      networks: resources.map((key) => networks.get(key) ?? pod.chosenNetworks),
    };
  }

  /** Tells capture what is new of a pod that stays where it is. @returns whether capture took it. */
  function update(entry: Attached, pod: Pod, resources: string[]): boolean {
    const endpoint = createEndpoint(pod, resources, ruleSets, entry.place, entry.held);
    if (!isDeepStrictEqual(endpoint, entry.endpoint) && !attachToCapture(endpoint, pod)) return false;
    Object.assign(entry, { pod, endpoint });
    return true;
  }

  function attachToCapture(endpoint: Endpoint, pod: Pod): boolean {
    try {
      capture.attach(endpoint);
      return true;
    } catch (error) {
      retry(pod, messageOf(error));
      return false;
    }
  }

  /** Whether its place may be another one by now. */
  function isOutdated({ place, asked }: Attached, captured: CaptureState | undefined, request: PlaceRequest): boolean {
    const { state } = captured ?? {};
    if (state?.is === 'waiting') return true;
    if (state?.is === 'capturing' && place.ifindex !== undefined && state.ifindex !== place.ifindex) return true;
    if (place.inside !== undefined && !namespaces.isStillThere(place.inside.namespace)) return true;
    return (request.side === 'pod' && place.by !== 'pod') || asked !== whatIsAsked(request) || place.lacking.length > 0;
  }

  /** @param occupied Who is captured by which interface of the node. */
  function attach(request: PlaceRequest, resources: string[], place: Place, occupied: Map<string, string>): void {
    const { pod } = request;
    const { interface: name, by } = place;
    const other = by === 'pod' ? undefined : occupied.get(name);
    if (other !== undefined) {
      // The configuration names it, or the other pod is gone and its deletion not known yet, or a stale route led here:
      // it will show.
      return retry(pod, `its interface ${name} (by ${by}) is inspected as ${other} already`);
    }
    if (!capturePlace(request, resources, place)) return;
    if (by !== 'pod') occupied.set(name, pod.key);
    log.info({ endpoint: pod.key, interface: name, by, ...insideOf(place), resources }, 'pod is selected');
  }

  /** Has the pod captured there. @returns whether capture took it. */
  function capturePlace(request: PlaceRequest, resources: string[], place: Place): boolean {
    const { pod } = request;
    const before = attached.get(pod.key);
    const held = openNamespace(pod, place, before);
    if (held === 'failed') return false;
    const endpoint = createEndpoint(pod, resources, ruleSets, place, held);
    if (!attachToCapture(endpoint, pod)) {
      if (held !== before?.held) held?.release();
      return false;
    }
    const left = before?.held;
    if (left !== undefined && left !== held) setTimeout(() => left.release(), RELEASE_MILLIS).unref();
    unresolved.delete(pod.key);
    const goesOver = before !== undefined && before.place.by !== 'pod' && place.by === 'pod';
    attached.set(pod.key, {
      pod,
      endpoint,
      place,
      asked: whatIsAsked(request),
      held,
      wentOverAt: goesOver ? performance.now() : before?.wentOverAt,
      keptOut: before?.keptOut,
    });
    return true;
  }

  function openNamespace(
    pod: Pod,
    { inside }: Place,
    before: Attached | undefined,
  ): HeldNamespace | undefined | 'failed' {
    if (inside === undefined) return undefined;
    if (before?.held !== undefined && before.place.inside?.namespace.link === inside.namespace.link) return before.held;
    try {
      return namespaces.hold(inside.namespace);
    } catch (error) {
      retry(pod, `its network namespace can not be opened: ${messageOf(error)}`);
      return 'failed';
    }
  }

  /** Its place was looked for again. */
  function compare(entry: Attached, resources: string[], request: PlaceRequest, place: Place): void {
    const { pod } = request;
    const before = entry.place;
    if (before.by !== 'pod' && place.by !== 'pod' && before.interface !== place.interface)
      return detach(pod.key, `its interface is ${place.interface} now`);
    if (isSameCapture(before, place)) {
      // Made again under its name: capture follows by itself.
      Object.assign(entry, { place, asked: whatIsAsked(request) });
      return retry(pod, undefined, place.lacking.length > 0 ? RETRY_LACKING_MILLIS : RETRY_LAST_MILLIS);
    }
    if (!capturePlace(request, resources, place)) return;
    const about = { endpoint: pod.key, from: before.interface, interface: place.interface, ...insideOf(place) };
    if (before.by !== 'pod' && place.by === 'pod')
      log.warn(about, "not all of its packets pass the node's side: it is captured in the pod from now on");
    else if (before.by === 'pod' && place.by !== 'pod')
      log.warn(
        { ...about, reason: entry.keptOut },
        "it can not be captured in the pod: it is captured on the node's side again",
      );
    else log.info(about, 'its interfaces are others now');
  }

  function retry(pod: Pod, reason: string | undefined, longest = RETRY_LAST_MILLIS): void {
    const before = unresolved.get(pod.key);
    const attempts = (before?.attempts ?? 0) + 1;
    const wait = Math.min(RETRY_FIRST_MILLIS * 2 ** Math.min(attempts - 1, 10), longest);
    unresolved.set(pod.key, { uid: pod.uid, reason, attempts, retryAt: performance.now() + wait });
    if (reason !== undefined && reason !== before?.reason) log.debug({ endpoint: pod.key, reason }, 'not attached');
  }

  /** Each resource's status, of what is so now. */
  function report(selection: Selection, states: States): void {
    const now: Beginning = { date: Date.now(), at: performance.now() };
    reportedAt = now.at;
    const problems = capture.problems();
    const lasting = new Map<string, Beginning>();
    for (const resource of options.resources()) {
      const chosen = selection.resources.get(resource.key);
      if (chosen === undefined) continue;
      const { pods, error } = chosen;
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
        const place = attached.get(key)?.place;
        messages.push(...(place?.lacking ?? []).map((what) => `pod ${key}: ${what}`));
        if (place !== undefined && state?.is === 'capturing') {
          captured++;
          resolvers[place.by] = (resolvers[place.by] ?? 0) + 1;
          if (coverage?.oneWay !== undefined) messages.push(oneWay(key, place, coverage.oneWay, whyNotInside(key)));
          continue;
        }
        // The network of a pod that ends goes before the pod does.
        if (selection.pods.get(key)?.pod.terminating === true) continue;
        const reason =
          unresolved.get(key)?.reason ?? (state?.is === 'waiting' ? state.reason : 'its capture is starting');
        messages.push(`pod ${key}: ${reason}`);
      }
      const shown: { message: string; since: Beginning }[] = [];
      for (const message of messages) {
        const id = `${resource.uid} ${message}`;
        const since = conditions.get(id) ?? now;
        lasting.set(id, since);
        if (message === error || now.at - since.at >= GRACE_MILLIS) shown.push({ message, since });
      }
      const errorConditions: NodeStatus['errorConditions'] = shown
        .toSorted((a, b) => b.since.at - a.since.at)
        .map(({ message, since: { date } }) => ({ message, timestamp: rfc3339(date) }));
      const success = error === undefined && problems.length === 0 && captured > 0;
      // It may be well in a moment.
      if (!success && errorConditions.length === 0) continue;
      const last = successes.get(resource.key);
      const since = last?.success === success ? last.since : now.date;
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

  /** Why a pod is not captured on its own side, where it had better be. */
  function whyNotInside(key: string): string | undefined {
    return options.side === 'host'
      ? 'capture.side is host'
      : (attached.get(key)?.keptOut ?? unresolved.get(key)?.reason);
  }

  /** Milliseconds until something is due by itself. */
  function nextDue(): number {
    const now = performance.now();
    const retries = [...unresolved.values()].map(({ retryAt }) => retryAt - now);
    const graces = [...conditions.values()].filter(({ at }) => reportedAt - at < GRACE_MILLIS);
    return Math.max(
      COALESCE_MILLIS,
      Math.min(IDLE_MILLIS, ...retries, ...graces.map(({ at }) => at + GRACE_MILLIS - now)),
    );
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

/**
 * @param resources In order.
 * @param ruleSets Of resources that name some.
 * @param held Where something inside the pod is captured.
 */
function createEndpoint(
  pod: Pod,
  resources: string[],
  ruleSets: ReadonlyMap<string, string[]>,
  place: Place,
  held: HeldNamespace | undefined,
): Endpoint {
  const named = resources.flatMap((key) => {
    const sets = ruleSets.get(key);
    return sets === undefined ? [] : [[key, sets] as const];
  });
  const inside =
    held === undefined ? [] : (place.inside?.interfaces ?? []).map((name) => ({ interface: name, netns: held.path }));
  return {
    ...(named.length === 0 ? {} : { ruleSets: Object.fromEntries(named) }),
    id: pod.key,
    namespace: pod.namespace,
    name: pod.name,
    nameAggr: pod.nameAggr,
    interface: place.interface,
    ...(inside.length === 0
      ? {}
      : { taps: [...(place.by === 'pod' ? [] : [{ interface: place.interface }]), ...inside] }),
    labels: pod.labels,
    addresses: [...new Set([...pod.addresses, ...place.addresses])],
    resources,
  };
}

function whatIsAsked({ pod, networks }: PlaceRequest): string {
  return JSON.stringify([networks, pod.networks]);
}

function insideOf({ inside }: Place): { inside?: string[] } {
  return inside === undefined ? {} : { inside: inside.interfaces };
}

/** Whether capture would do the same for both. */
function isSameCapture(one: Place, other: Place): boolean {
  const [a, b] = [one, other].map(({ by, interface: name, inside, addresses }) => [
    by === 'pod',
    name,
    inside?.namespace.link,
    inside?.interfaces,
    addresses,
  ]);
  return isDeepStrictEqual(a, b);
}

/** What is missing, why, and what to do. @param reason Why it is not captured in the pod instead. */
function oneWay(
  key: string,
  { interface: device, by }: Place,
  seen: 'sending' | 'receiving',
  reason: string | undefined,
): string {
  const [sees, misses] = seen === 'sending' ? ['sends', 'receives'] : ['receives', 'sends'];
  const where = by === 'pod' ? `${device} in the pod` : device;
  const what = `pod ${key}: only what it ${sees} passes ${where}, what it ${misses} is not inspected`;
  if (by === 'pod') return `${what}: it has another way out of its network namespace`;
  return (
    `${what}: an eBPF data plane moves packets past the host's interface` +
    `${reason === undefined ? '' : `, and it can not be captured in the pod (${reason})`}. ` +
    'Calico: set bpfRedirectToPeer to Disabled in the FelixConfiguration; Cilium: set bpf.hostLegacyRouting to true'
  );
}

/** RFC 3339, in seconds. */
function rfc3339(millis: number): string {
  return `${new Date(millis).toISOString().slice(0, 19)}Z`;
}
