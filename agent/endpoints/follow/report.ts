/** What a round says in the status of each resource: how many of its pods are captured, and what is wrong. */
import { evidenceProblem, type DeepPacketInspection, type NodeStatus } from '../../kube/resources.ts';
import type { Place } from '../resolve/place.ts';
import type { Following, Round } from './parts.ts';

/** A pod's network is often there a moment after the pod: only what lasts longer is in the status. */
const GRACE_MILLIS = 1_000;
const MAX_CONDITIONS = 10;

/** Takes this node's entry of a resource's status; undefined: it has none. Called each round, changed or not. */
export type Report = (resource: DeepPacketInspection, status: Omit<NodeStatus, 'node'> | undefined) => void;

/** When a condition began. */
interface Beginning {
  /** Milliseconds since the epoch, for who reads the status. */
  date: number;
  /** On the rounds' clock, which nobody sets. */
  at: number;
}

/** What is remembered from one round's report to the next. */
export interface Reported {
  /** When it was last looked which conditions last long enough to be told, on the rounds' clock. */
  at: number;
  /** When each condition of a resource began, by its id. */
  conditions: ReadonlyMap<string, Beginning>;
  /** By the resource's key; `since` in milliseconds since the epoch. */
  readonly successes: Map<string, { success: boolean; since: number }>;
}

export function nothingReported(): Reported {
  return { at: 0, conditions: new Map(), successes: new Map() };
}

/** Each resource's status, of what is so now. */
export function reportRound(following: Following, round: Round, reported: Reported, report: Report): void {
  const { resources, selection, ruleSets } = round;
  const now: Beginning = { date: Date.now(), at: following.clock.now() };
  reported.at = now.at;
  const problems = following.capture.problems();
  const lasting = new Map<string, Beginning>();
  for (const resource of resources) {
    const chosen = selection.resources.get(resource.key);
    if (chosen === undefined) continue;
    const { pods, error } = chosen;
    if (pods.length === 0 && error === undefined) {
      reported.successes.delete(resource.key);
      report(resource, undefined);
      continue;
    }
    const { captured, resolvers, messages } = podsOf(following, round, pods);
    const errors = error === undefined ? [] : [error];
    const more = following.capture.conditions(ruleSets.get(resource.key));
    const ofEvidence = evidenceProblem(resource);
    const own = ofEvidence === undefined ? errors : [...errors, ofEvidence];
    const conditions = conditionsOf(reported, resource, [...own, ...problems, ...more, ...messages], now);
    for (const { id, since } of conditions) lasting.set(id, since);
    const shown = conditions.filter(({ message, since }) => message === error || now.at - since.at >= GRACE_MILLIS);
    const success = error === undefined && problems.length === 0 && captured > 0;
    // It may be well in a moment.
    if (!success && shown.length === 0) continue;
    const since = successSince(reported, resource, success, now);
    report(resource, {
      active: { success, lastUpdated: rfc3339(since) },
      podsSelected: pods.length,
      podsCaptured: captured,
      resolvers,
      ...versionsOf(following, ruleSets.get(resource.key)),
      errorConditions: newestOf(shown),
    });
  }
  reported.conditions = lasting;
  for (const key of reported.successes.keys()) if (!selection.resources.has(key)) reported.successes.delete(key);
}

/**
 * Milliseconds until conditions that were too young for the status are old enough, for each of them.
 * @param now On the clock of a round.
 */
export function untilTold({ at: reportedAt, conditions }: Reported, now: number): number[] {
  return [...conditions.values()]
    .filter(({ at }) => reportedAt - at < GRACE_MILLIS)
    .map(({ at }) => at + GRACE_MILLIS - now);
}

function versionsOf({ capture }: Following, named: readonly string[] | undefined): Pick<NodeStatus, 'ruleVersions'> {
  const ruleVersions = capture.ruleVersions?.(named) ?? {};
  return Object.keys(ruleVersions).length === 0 ? {} : { ruleVersions };
}

interface OfPods {
  captured: number;
  /** How many of them were found by each resolver. */
  resolvers: Record<string, number>;
  /** What is wrong. */
  messages: string[];
}

function podsOf(following: Following, { states, selection }: Round, keys: readonly string[]): OfPods {
  const { attached, unresolved } = following;
  const found: OfPods = { captured: 0, resolvers: {}, messages: [] };
  const { resolvers, messages } = found;
  for (const key of keys) {
    const { state, coverage } = states.get(key) ?? {};
    const place = attached.get(key)?.place;
    messages.push(...(place?.lacking ?? []).map((what) => `pod ${key}: ${what}`));
    if (place !== undefined && state?.is === 'capturing') {
      found.captured++;
      resolvers[place.by] = (resolvers[place.by] ?? 0) + 1;
      if (coverage?.oneWay !== undefined)
        messages.push(oneWay(key, place, coverage.oneWay, whyNotInside(following, key)));
      continue;
    }
    // The network of a pod that ends goes before the pod does.
    if (selection.pods.get(key)?.pod.terminating === true) continue;
    const reason = unresolved.get(key)?.reason ?? (state?.is === 'waiting' ? state.reason : 'its capture is starting');
    messages.push(`pod ${key}: ${reason}`);
  }
  return found;
}

/** Why a pod is not captured on its own side, where it had better be. */
function whyNotInside({ side, attached, unresolved }: Following, key: string): string | undefined {
  return side === 'host' ? 'capture.side is host' : (attached.get(key)?.keptOut ?? unresolved.get(key)?.reason);
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

interface Condition {
  /** Of the resource and the message. */
  id: string;
  message: string;
  since: Beginning;
}

function conditionsOf(
  reported: Reported,
  resource: DeepPacketInspection,
  messages: string[],
  now: Beginning,
): Condition[] {
  return messages.map((message) => {
    const id = `${resource.uid} ${message}`;
    return { id, message, since: reported.conditions.get(id) ?? now };
  });
}

function newestOf(conditions: Condition[]): NodeStatus['errorConditions'] {
  return conditions
    .toSorted((a, b) => b.since.at - a.since.at)
    .slice(0, MAX_CONDITIONS)
    .map(({ message, since: { date } }) => ({ message, timestamp: rfc3339(date) }));
}

/** Since when a resource has had this success, or has not; in milliseconds since the epoch. */
function successSince(
  { successes }: Reported,
  resource: DeepPacketInspection,
  success: boolean,
  now: Beginning,
): number {
  const last = successes.get(resource.key);
  const since = last?.success === success ? last.since : now.date;
  successes.set(resource.key, { success, since });
  return since;
}

/** RFC 3339, in seconds. */
function rfc3339(millis: number): string {
  return `${new Date(millis).toISOString().slice(0, 19)}Z`;
}
