/** Of the rule sets, and of their changes. */
import { Counter, Gauge } from 'prom-client';
import type { RulesStatus } from '../../rulesets/live.ts';
import type { AddSampled } from '../../sampled-metrics.ts';
import { addEach, secondsSince, type MetricOf } from './each.ts';

export interface ObservedRules {
  rules(): RulesStatus;
}

const SETS: MetricOf<RulesStatus['sets'][number]>[] = [
  [Gauge, 'rules_loaded', 'Rules of a set that the engine has.', ({ loaded }) => loaded],
  [Gauge, 'rules_failed', 'Rules of a set that are left out.', ({ failed }) => failed],
  [
    Gauge,
    'rule_set_refused',
    'Whether the newest files of a set are refused; what was last good stays.',
    ({ problem }) => (problem === undefined ? 0 : 1),
  ],
  [
    Gauge,
    'rule_set_age_seconds',
    "Time since the newest of a set's files was changed.",
    ({ changedAt }) => secondsSince(changedAt),
  ],
];

export function addRules(add: AddSampled, observed: ObservedRules): void {
  addEach(add, ['set'], SETS, () => observed.rules().sets.map((set) => [{ set: set.name }, set]));
  add(Gauge, 'rule_set_info', ['set', 'version'], 'The version of a set: a hash of its files; always 1.', () =>
    observed.rules().sets.map(({ name, version }) => [{ set: name, version }, 1]),
  );
  add(Counter, 'rule_swaps_total', ['outcome'], 'Changes of the rules by how they ended.', () =>
    Object.entries(observed.rules().swaps).map(([outcome, count]) => [{ outcome }, count]),
  );
}
