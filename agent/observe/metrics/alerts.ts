/** Of alerts: what became of them, and by which signatures they are. */
import { Counter, Gauge } from 'prom-client';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import type { SignatureCounts } from '../signatures.ts';

export interface ObservedAlerts {
  /** Alerts by what became of them. */
  alerts(): Record<string, number>;
  /** Alerts that the flood control folded into others' events. */
  folded(): number;
  /** Alerts that the operator's policy suppressed, by the names of its entries; boundedly many. */
  suppressed(): ReadonlyMap<string, number>;
  /** Undefined without a policy file. */
  policy(): { errors: readonly string[] } | undefined;
  /** Alerts that the engines gave. */
  signatures(): SignatureCounts | undefined;
}

export function addAlerts(add: AddSampled, observed: ObservedAlerts): void {
  add(Counter, 'alerts_total', ['outcome'], 'Alerts of the engine by what became of them.', () =>
    Object.entries(observed.alerts()).map(([outcome, count]) => [{ outcome }, count]),
  );
  add(
    Counter,
    'alerts_folded_total',
    [],
    "Alerts that the flood control folded into another alert's event; they are among the merged ones.",
    () => [[{}, observed.folded()]],
  );
  add(
    Counter,
    'alerts_suppressed_total',
    ['reason'],
    "Alerts that the policy suppressed, by the name of the policy's entry.",
    () => [...observed.suppressed()].map(([reason, count]): Sample => [{ reason }, count]),
  );
  add(Gauge, 'alert_policy_valid', [], '1 where the policy file is in use as it is, 0 where an earlier one is.', () => {
    const policy = observed.policy();
    return policy === undefined ? [] : [[{}, policy.errors.length === 0 ? 1 : 0]];
  });
}

export function addSignatures(add: AddSampled, observed: ObservedAlerts): void {
  add(
    Counter,
    'signature_alerts_total',
    ['gid', 'sid'],
    'Alerts of the engines by signature: of the first 256 that fired, and of all others together (gid and sid "other").',
    () => signatureSamples(observed.signatures()),
  );
  add(
    Counter,
    'alerts_by_priority_total',
    ['priority'],
    'Alerts of the engines by priority; 1 is the most severe.',
    () => [...(observed.signatures()?.byPriority() ?? [])].map(([priority, count]) => [{ priority }, count]),
  );
}

function signatureSamples(signatures: SignatureCounts | undefined): Sample[] {
  if (signatures === undefined) return [];
  const own = [...signatures.bySignature()].map(([key, count]): Sample => {
    const [gid = '', sid = ''] = key.split(':');
    return [{ gid, sid }, count];
  });
  return [...own, [{ gid: 'other', sid: 'other' }, signatures.other()]];
}
