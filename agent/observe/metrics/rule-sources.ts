/** Of the sources of rule sets. */
import { Counter, Gauge } from 'prom-client';
import type { RuleServerStatus } from '../../rulesets/rule-server.ts';
import type { SourceStatus } from '../../rulesets/schedule.ts';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import { addEach, secondsSince, type MetricOf } from './each.ts';

export interface ObservedSources {
  /** Empty while none is followed. */
  ruleSources(): SourceStatus[];
  /** Where one is followed. */
  ruleServer(): RuleServerStatus | undefined;
}

const SOURCES: MetricOf<SourceStatus>[] = [
  [
    Gauge,
    'rule_source_failing',
    "Whether a source's last look failed, or its newest version is refused; the version before stays.",
    ({ state }) => (state === 'failed' || state === 'refused' ? 1 : 0),
  ],
  [
    Gauge,
    'rule_source_pinned',
    'Whether its set was rolled back, and is not updated until it is released.',
    ({ state }) => (state === 'pinned' ? 1 : 0),
  ],
  [
    Gauge,
    'rule_source_current_age_seconds',
    'Time since the version in use was last known to be the newest.',
    ({ currentAt }) => (currentAt === undefined ? undefined : secondsSince(currentAt)),
  ],
];

export function addRuleSources(add: AddSampled, observed: ObservedSources): void {
  add(
    Counter,
    'rule_source_looks_total',
    ['source', 'outcome'],
    'Looks for a new version of a rule set, by how they ended.',
    () => observed.ruleSources().flatMap(looksOf),
  );
  addEach(add, ['source'], SOURCES, () => observed.ruleSources().map((status) => [{ source: status.name }, status]));
  add(Gauge, 'rule_source_info', ['source', 'set', 'version'], 'The version in use of a source; always 1.', () =>
    observed
      .ruleSources()
      .flatMap(({ name, set, version }): Sample[] =>
        version === undefined ? [] : [[{ source: name, set, version }, 1]],
      ),
  );
}

export function addRuleServer(add: AddSampled, observed: ObservedSources): void {
  const each = (value: (server: RuleServerStatus) => number | undefined) => (): Sample[] => {
    const server = observed.ruleServer();
    const number = server === undefined ? undefined : value(server);
    return number === undefined ? [] : [[{}, number]];
  };
  add(
    Gauge,
    'rule_server_up',
    [],
    'Whether the rule server answered when it was last asked; while it does not, rules stay as they are.',
    each(({ answers }) => Number(answers)),
  );
  add(
    Gauge,
    'rule_server_answer_age_seconds',
    [],
    "Time since the rule server's last answer.",
    each(({ answeredAt }) => (answeredAt === undefined ? undefined : secondsSince(answeredAt))),
  );
}

function looksOf({ name, looks }: SourceStatus): Sample[] {
  return Object.entries(looks).map(([outcome, count]) => [{ source: name, outcome }, count]);
}
