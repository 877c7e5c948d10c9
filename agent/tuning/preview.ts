/** What an entry would have left out of alerts that there were: judged as an agent judges them, by their own times. */
import { createPolicy, type Judged } from '../alerts/policy.ts';
import type { LoadedPolicy } from '../alerts/policy-file.ts';

/** An alert that became an event. */
export interface PastAlert {
  /** RFC 3339. */
  timestamp: string;
  severity: number;
  gid: string;
  sid: string;
  rev: string;
  message: string;
  classification?: string;
  protocol: string;
  source: { ip: string; port?: number };
  destination: { ip: string; port?: number };
  resource: string;
  /** `<namespace>/<name>` of the pods where it was seen. */
  seenAt: readonly string[];
  /** Alerts that it stands for. */
  count: number;
}

export interface Outcome {
  /** That were looked at, and those of them that would not be there. */
  events: number;
  leftOut: number;
  /** The same in alerts, as an event can stand for many. */
  alerts: number;
  alertsLeftOut: number;
  /** Of the most severe ones. */
  criticalLeftOut: number;
  /** The oldest that was looked at; RFC 3339. */
  since?: string;
  /** Kinds of what would be left out, the most frequent first. */
  kinds: { signature: string; message: string; leftOut: number }[];
}

const CRITICAL = 100;
const MOST_KINDS = 5;
const MAX_KINDS = 1000;

/** @param past In any order. */
export function tryPolicy(rules: LoadedPolicy, past: readonly PastAlert[]): Outcome {
  const policy = createPolicy(rules, 0);
  const none = (): boolean => false;
  /** An event of several pods is gone when it is at each of them. */
  const isLeftOut = (alert: PastAlert): boolean => {
    const copies = judgedOf(alert);
    return rules.threshold.length > 0
      ? copies[0] !== undefined && policy.judge(copies[0], none) !== undefined
      : copies.every((copy) => policy.judge(copy, none) !== undefined);
  };
  const inOrder = past.toSorted((a, b) => (a.timestamp < b.timestamp ? -1 : 1));
  const outcome = { events: 0, leftOut: 0, alerts: 0, alertsLeftOut: 0, criticalLeftOut: 0 };
  const kinds = new Map<string, Outcome['kinds'][number]>();
  for (const alert of inOrder) {
    outcome.events += 1;
    outcome.alerts += alert.count;
    if (!isLeftOut(alert)) continue;
    outcome.leftOut += 1;
    outcome.alertsLeftOut += alert.count;
    if (alert.severity >= CRITICAL) outcome.criticalLeftOut += 1;
    addKind(kinds, alert);
  }
  const since = inOrder[0]?.timestamp;
  return {
    ...outcome,
    ...(since === undefined ? {} : { since }),
    kinds: [...kinds.values()].toSorted((a, b) => b.leftOut - a.leftOut).slice(0, MOST_KINDS),
  };
}

function addKind(kinds: Map<string, Outcome['kinds'][number]>, { gid, sid, message }: PastAlert): void {
  const signature = `${gid}:${sid}`;
  const known = kinds.get(signature);
  if (known !== undefined) known.leftOut += 1;
  else if (kinds.size < MAX_KINDS) kinds.set(signature, { signature, message, leftOut: 1 });
}

/** A copy for each pod that saw it. */
function judgedOf(past: PastAlert): Judged[] {
  const { gid, sid, rev, message, classification = '', protocol, source, destination, resource } = past;
  const alert = {
    timeMicros: Date.parse(past.timestamp) * 1000,
    gid: Number(gid),
    sid: Number(sid),
    rev: Number(rev),
    message,
    classification,
    protocol,
    source,
    destination,
  };
  return past.seenAt.map((id) => {
    const [namespace = '', name = ''] = id.split('/');
    return { alert, resource, seenAt: [{ id, namespace, name, labels: {} }] };
  });
}
