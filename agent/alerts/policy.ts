/**
 * What becomes of an alert by the operator's policy: it passes, or is suppressed for a reason with a name and a count.
 *
 * After the engine and before the flood control, so that both engines behave alike, and a suppressed alert neither uses
 * up what others of its kind may do nor is folded with them. Each copy of an alert, for each resource that selects its
 * endpoint, is judged by itself.
 *
 * Of `suppress`, any entry that matches suppresses. Of `threshold`, the first one that matches counts: for each
 * resource and signature, and for each value of what it tracks, windows of `seconds` that begin with an alert, by the
 * packets' times.
 * - `limit`: the first `count` alerts of a window pass.
 * - `threshold`: each `count`th alert of a window passes.
 * - `both`: the `count`th alert of a window passes, and no other.
 *
 * Of `evidence`, the first one that matches says what is kept of the packets of the alert's flow; of `respond`, what is
 * done about the inspected pod at one end of it.
 *
 * A packet that is seen at its other end too counts once, and both of its alerts share one fate: so they are merged.
 *
 * Bounded: MAX_TRACKED windows, of which the one used least recently is forgotten, and MAX_TWINS alerts that may have
 * one. Windows are in memory: a restart of the agent begins new ones.
 */
import type { BlockList } from 'node:net';
import { isIP } from 'node:net';
import type { Endpoint, Keep } from '../endpoints/endpoint.ts';
import { PatternError, type Pattern } from '../pattern.ts';
import type { Alert } from '../engine/alert.ts';
import type { AttributedAlert, RuleFacts } from './attributed.ts';

export const MAX_TRACKED = 65_536;
const MAX_TWINS = 10_000;
const MEDIUM = 3;
/** Texts of rules that a pattern's answer is remembered for. */
const MAX_REMEMBERED = 10_000;

/** All that are given have to hold; of several values of one, any. */
export interface Match {
  /** Without `gid`: of any generator. */
  signatures?: readonly { gid?: number; sid: number }[];
  /** Short names (`misc-activity`) or the class's text ("Misc activity"), in lower case. */
  classes?: readonly string[];
  message?: Pattern;
  /** The pod at which it was seen. */
  pods?: readonly { namespace: (text: string) => boolean; name: (text: string) => boolean }[];
  labels?: (labels: Readonly<Record<string, string>>) => boolean;
  source?: BlockList;
  destination?: BlockList;
  /** Whether it applies at a time: milliseconds since the epoch. */
  when?: (millis: number) => boolean;
}

export type ThresholdType = 'limit' | 'threshold' | 'both';
export type Track = 'by_source' | 'by_pod' | 'by_rule';

export interface Suppression {
  /** The reason, in counts. */
  name: string;
  match: Match;
}

export interface Threshold extends Suppression {
  count: number;
  seconds: number;
  track: Track;
  type: ThresholdType;
}

/** What is kept of the packets of an alert's flow. */
export interface Keeping extends Suppression {
  keep: Keep;
}

/** What is done about an alert's pod, by whom the agent asks for it. */
export interface Response extends Suppression {
  respond: 'isolate';
  /** Of the alert, at most: 1 is the worst. */
  priority: number;
  /** Which end of the flow the pod has to be. */
  end: 'source' | 'destination' | 'either';
  /** What still goes through. */
  allow: 'nothing' | 'dns';
  /** Until it is released. */
  forMillis: number;
  /** Say what would be cut, and change nothing. */
  dryRun: boolean;
}

export interface PolicyRules {
  suppress: readonly Suppression[];
  threshold: readonly Threshold[];
  evidence?: readonly Keeping[];
  respond?: readonly Response[];
}

/** Of an alert, what a policy looks at. */
export interface Judged extends Pick<AttributedAlert, 'resource'> {
  alert: Pick<
    Alert,
    'gid' | 'sid' | 'rev' | 'message' | 'classification' | 'protocol' | 'source' | 'destination' | 'timeMicros'
  >;
  seenAt: readonly Pick<Endpoint, 'id' | 'namespace' | 'name' | 'labels'>[];
  rule?: Pick<RuleFacts, 'classtype'>;
}

export interface Policy {
  /**
   * Name of what suppresses it; undefined when it passes.
   * @param mayHaveTwin Whether another endpoint may have seen the same packet.
   */
  judge(attributed: Judged, mayHaveTwin: () => boolean): string | undefined;
  /** What the first entry of `evidence` that matches says; undefined: none does. */
  keep(attributed: Judged): Keep | undefined;
  /** The first entry of `respond` that matches, and the pod that it is about. */
  respond(attributed: AttributedAlert): { entry: Response; pod: Endpoint } | undefined;
}

interface Window {
  startMicros: number;
  seen: number;
}

interface Fate {
  endpoint: string;
  timeMicros: number;
  reason: string | undefined;
}

/**
 * @param twinMillis How far the two times of a packet that is seen twice may lie apart.
 * @param onProblem Called once for each pattern that takes too long: its entry no longer matches anything.
 */
export function createPolicy(
  rules: PolicyRules,
  twinMillis: number,
  onProblem: (name: string, reason: string) => void = () => undefined,
): Policy {
  const suppress = rules.suppress.map((entry) => ({ ...entry, matches: createMatcher(entry, onProblem) }));
  const threshold = rules.threshold.map((entry) => ({ ...entry, matches: createMatcher(entry, onProblem) }));
  const evidence = (rules.evidence ?? []).map((entry) => ({ ...entry, matches: createMatcher(entry, onProblem) }));
  const respond = (rules.respond ?? []).map((entry) => ({ entry, matches: createMatcher(entry, onProblem) }));
  /** Those used least recently are first. */
  const windows = new Map<string, Window>();
  const twins = new Map<string, Fate[]>();

  function count(entry: Threshold, attributed: Judged): boolean {
    const { alert, resource, seenAt } = attributed;
    const tracked = { by_source: alert.source.ip, by_pod: seenAt[0]?.id ?? '', by_rule: '' }[entry.track];
    const key = `${entry.name} ${resource} ${alert.gid}:${alert.sid} ${tracked}`;
    const length = entry.seconds * 1e6;
    let window = windows.get(key);
    windows.delete(key);
    // Also begins anew where a clock was set back.
    if (window === undefined || Math.abs(alert.timeMicros - window.startMicros) >= length) {
      window = { startMicros: alert.timeMicros, seen: 0 };
    }
    windows.set(key, window);
    if (windows.size > MAX_TRACKED) forgetFirst(windows);
    window.seen++;
    if (entry.type === 'limit') return window.seen <= entry.count;
    if (entry.type === 'both') return window.seen === entry.count;
    return window.seen % entry.count === 0;
  }

  function judgeThreshold(entry: Threshold, attributed: Judged, mayHaveTwin: () => boolean) {
    const decide = (): string | undefined => (count(entry, attributed) ? undefined : entry.name);
    if (twinMillis === 0 || !mayHaveTwin()) return decide();
    const { alert, resource, seenAt } = attributed;
    const { gid, sid, rev, protocol, source, destination, timeMicros } = alert;
    const endpoint = seenAt[0]?.id ?? '';
    const key = JSON.stringify([resource, gid, sid, rev, protocol, source, destination]);
    const fates = (twins.get(key) ?? []).filter((fate) => Math.abs(timeMicros - fate.timeMicros) <= twinMillis * 1000);
    const index = fates.findIndex((fate) => fate.endpoint !== endpoint);
    const [twin] = index === -1 ? [] : fates.splice(index, 1);
    const reason = twin === undefined ? decide() : twin.reason;
    if (twin === undefined && fates.length < MAX_FATES) fates.push({ endpoint, timeMicros, reason });
    twins.delete(key);
    if (fates.length > 0) twins.set(key, fates);
    if (twins.size > MAX_TWINS) forgetFirst(twins);
    return reason;
  }

  return {
    judge(attributed, mayHaveTwin) {
      const suppressed = suppress.find(({ matches }) => matches(attributed));
      if (suppressed !== undefined) return suppressed.name;
      const entry = threshold.find(({ matches }) => matches(attributed));
      return entry === undefined ? undefined : judgeThreshold(entry, attributed, mayHaveTwin);
    },
    keep: (attributed) => evidence.find(({ matches }) => matches(attributed))?.keep,
    respond: (attributed) => respondBy(respond, attributed),
  };
}

function respondBy(
  entries: readonly { entry: Response; matches: (attributed: AttributedAlert) => boolean }[],
  attributed: AttributedAlert,
): ReturnType<Policy['respond']> {
  for (const { entry, matches } of entries) {
    const pod = podAt(attributed, entry.end);
    if (pod !== undefined && isAsBad(attributed, entry) && matches(attributed)) return { entry, pod };
  }
  return undefined;
}

/** Without a priority an alert is of medium severity. */
function isAsBad({ alert }: AttributedAlert, { priority }: Response): boolean {
  return (alert.priority || MEDIUM) <= priority;
}

/** The inspected pod at that end of the flow. */
function podAt({ alert, seenAt }: AttributedAlert, end: Response['end']): Endpoint | undefined {
  const isAt = ({ addresses }: Endpoint, one: 'source' | 'destination'): boolean => addresses.includes(alert[one].ip);
  return seenAt.find((endpoint) =>
    end === 'either' ? isAt(endpoint, 'source') || isAt(endpoint, 'destination') : isAt(endpoint, end),
  );
}

/** Alerts of one flow and signature that wait for their twins. */
const MAX_FATES = 64;

function forgetFirst(map: Map<string, unknown>): void {
  for (const first of map.keys()) return void map.delete(first);
}

function createMatcher(
  { name, match }: Suppression,
  onProblem: (name: string, reason: string) => void,
): (attributed: Judged) => boolean {
  const { signatures, classes, pods, labels, source, destination, when } = match;
  const message = match.message === undefined ? undefined : remembered(match.message, name, onProblem);
  return ({ alert, rule, seenAt }) => {
    if (signatures?.some(({ gid = alert.gid, sid }) => sid === alert.sid && gid === alert.gid) === false) return false;
    if (
      classes !== undefined &&
      !classes.includes(alert.classification.toLowerCase()) &&
      !classes.includes((rule?.classtype ?? '').toLowerCase())
    ) {
      return false;
    }
    const [endpoint] = seenAt;
    if (
      pods !== undefined &&
      (endpoint === undefined || !pods.some((pod) => pod.namespace(endpoint.namespace) && pod.name(endpoint.name)))
    ) {
      return false;
    }
    if (labels !== undefined && (endpoint === undefined || !labels(endpoint.labels))) return false;
    if (source !== undefined && !contains(source, alert.source.ip)) return false;
    if (destination !== undefined && !contains(destination, alert.destination.ip)) return false;
    if (message?.(alert.message) === false) return false;
    return when?.(alert.timeMicros / 1000) !== false;
  };
}

function contains(list: BlockList, ip: string): boolean {
  const family = isIP(ip);
  return family !== 0 && list.check(ip, family === 4 ? 'ipv4' : 'ipv6');
}

/** Messages are those of the rules: the same ones again and again. */
function remembered(
  pattern: Pattern,
  name: string,
  onProblem: (name: string, reason: string) => void,
): (message: string) => boolean {
  const answers = new Map<string, boolean>();
  let broken = false;
  return (message) => {
    if (broken) return false;
    let answer = answers.get(message);
    if (answer === undefined) {
      try {
        answer = pattern.matching([message]).length > 0;
      } catch (error) {
        if (!(error instanceof PatternError)) throw error;
        broken = true;
        onProblem(name, `the expression ${error.message}`);
        return false;
      }
      if (answers.size >= MAX_REMEMBERED) answers.clear();
      answers.set(message, answer);
    }
    return answer;
  };
}
