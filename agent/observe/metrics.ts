/** The agent's metrics in Prometheus' text format, read from it at each scrape. Labels are bounded by the number of endpoints, 4,093. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Counters } from '../capture/protocol.ts';
import type { Endpoint } from '../endpoints/endpoint.ts';
import type { JournalStatus } from '../journal/journal.ts';
import type { RulesStatus } from '../rulesets/live.ts';
import type { SinkStatus } from '../ship/sink.ts';
import type { ResourceCoverage } from './coverage.ts';

export interface Observed {
  endpoints(): { endpoint: Endpoint; state: { is: string }; counters: Counters }[];
  /** Alerts by what became of them. */
  alerts(): Record<string, number>;
  /** Alerts that the flood control folded into others' events. */
  folded(): number;
  /** Alerts that the operator's policy suppressed, by the names of its entries; boundedly many. */
  suppressed(): ReadonlyMap<string, number>;
  /** Undefined without a policy file. */
  policy(): { errors: readonly string[] } | undefined;
  /** Undefined until it is open. */
  journal(): JournalStatus | undefined;
  sinks(): SinkStatus[];
  /** One for each resource. */
  coverage(): ResourceCoverage[];
  rules(): RulesStatus;
}

export interface Facts {
  version: string;
  engine: { name: string; version: string };
  node: string;
}

/** What became of a packet, by the counter that has it. */
const PACKETS: [keyof Counters, string][] = [
  ['received', 'received'],
  ['forwarded', 'forwarded'],
  ['truncated', 'truncated'],
  ['unsupported', 'unsupported'],
  ['droppedKernel', 'dropped_kernel'],
  ['droppedInterface', 'dropped_interface'],
  ['droppedQueue', 'dropped_queue'],
  ['droppedEngineDown', 'dropped_engine_down'],
  ['droppedDetached', 'dropped_detached'],
];

type Sample = [labels: Record<string, string>, value: number];

/** @returns a function that gives the text of a scrape. */
export function createMetrics(observed: Observed, { version, engine, node }: Facts): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_' });

  /** Its samples are read at each scrape; those that are no longer given are gone. */
  function add(
    Metric: typeof Counter | typeof Gauge,
    name: string,
    labelNames: string[],
    help: string,
    samples: () => Sample[],
  ): void {
    const metric = new Metric({
      name: `dpi_agent_${name}`,
      help,
      labelNames,
      registers: [],
      collect() {
        this.reset();
        for (const [labels, value] of samples()) this.inc(labels, value);
      },
    });
    registry.registerMetric(metric);
  }

  const info = { version, engine: engine.name, engine_version: engine.version, node };
  add(Gauge, 'info', Object.keys(info), 'The agent and its engine; always 1.', () => [[info, 1]]);
  add(Gauge, 'endpoints', ['state'], 'Endpoints by the state of their capture.', () => {
    const states = observed.endpoints().map((entry) => entry.state.is);
    return ['starting', 'capturing', 'waiting'].map((state) => [{ state }, states.filter((is) => is === state).length]);
  });
  add(
    Counter,
    'packets_total',
    ['namespace', 'endpoint', 'outcome'],
    "Packets of an endpoint by what became of them; gone with the endpoint's capture.",
    () =>
      observed
        .endpoints()
        .flatMap(({ endpoint, counters }) =>
          PACKETS.map(([name, outcome]): Sample => [
            { namespace: endpoint.namespace, endpoint: endpoint.name, outcome },
            counters[name],
          ]),
        ),
  );
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
  add(
    Gauge,
    'coverage_pods',
    ['namespace', 'resource', 'state'],
    'Pods of this node that a resource selects, and how many of them are captured, seen to send, to receive, and both lately.',
    () =>
      observed.coverage().flatMap(({ resource, ...states }) => {
        const [namespace = '', name = ''] = resource.split('/');
        return Object.entries(states).map(([state, pods]): Sample => [{ namespace, resource: name, state }, pods]);
      }),
  );
  const ofSets = (value: (set: RulesStatus['sets'][number]) => number) => (): Sample[] =>
    observed.rules().sets.map((set) => [{ set: set.name }, value(set)]);
  add(
    Gauge,
    'rules_loaded',
    ['set'],
    'Rules of a set that the engine has.',
    ofSets(({ loaded }) => loaded),
  );
  add(
    Gauge,
    'rules_failed',
    ['set'],
    'Rules of a set that are left out.',
    ofSets(({ failed }) => failed),
  );
  add(
    Gauge,
    'rule_set_refused',
    ['set'],
    'Whether the newest files of a set are refused; what was last good stays.',
    ofSets(({ problem }) => (problem === undefined ? 0 : 1)),
  );
  add(
    Gauge,
    'rule_set_age_seconds',
    ['set'],
    "Time since the newest of a set's files was changed.",
    ofSets(({ changedAt }) => Math.max(0, (Date.now() - changedAt) / 1000)),
  );
  add(Gauge, 'rule_set_info', ['set', 'version'], 'The version of a set: a hash of its files; always 1.', () =>
    observed.rules().sets.map(({ name, version: hash }) => [{ set: name, version: hash }, 1]),
  );
  add(Counter, 'rule_swaps_total', ['outcome'], 'Changes of the rules by how they ended.', () =>
    Object.entries(observed.rules().swaps).map(([outcome, count]) => [{ outcome }, count]),
  );

  const ofJournal = (value: (status: JournalStatus) => number) => (): Sample[] => {
    const status = observed.journal();
    return status === undefined ? [] : [[{}, value(status)]];
  };
  add(
    Counter,
    'journal_events_total',
    [],
    'Events journaled since the journal began, by earlier agents too.',
    ofJournal(({ total }) => total),
  );
  add(
    Counter,
    'journal_evicted_events_total',
    [],
    'Events that retention deleted since the agent started.',
    ofJournal(({ evicted }) => evicted),
  );
  add(
    Gauge,
    'journal_size_bytes',
    [],
    "The journal's files together.",
    ofJournal(({ bytes }) => bytes),
  );
  add(
    Gauge,
    'journal_segments',
    [],
    "Number of the journal's files.",
    ofJournal(({ segments }) => segments),
  );

  add(
    Counter,
    'sink_events_total',
    ['sink', 'outcome'],
    'Events that a sink is done with since the journal began; with the pending ones, all that were journaled.',
    () =>
      observed.sinks().flatMap(({ name, delivered, deadLettered, evicted }): Sample[] => [
        [{ sink: name, outcome: 'delivered' }, delivered],
        [{ sink: name, outcome: 'dead_lettered' }, deadLettered],
        [{ sink: name, outcome: 'evicted' }, evicted],
      ]),
  );
  add(Counter, 'sink_failures_total', ['sink', 'reason'], 'Sends that failed since the agent started, by reason.', () =>
    observed
      .sinks()
      .flatMap(({ name, failures }) =>
        Object.entries(failures).map(([reason, count]): Sample => [{ sink: name, reason }, count]),
      ),
  );
  const ofSinks = (value: (status: SinkStatus) => number) => (): Sample[] =>
    observed.sinks().map((status) => [{ sink: status.name }, value(status)]);
  add(
    Counter,
    'sink_duplicates_total',
    ['sink'],
    'Delivered events that the sink had already.',
    ofSinks(({ duplicates }) => duplicates),
  );
  add(
    Counter,
    'sink_retries_total',
    ['sink'],
    'Events that were sent again since the agent started.',
    ofSinks(({ retries }) => retries),
  );
  add(
    Counter,
    'sink_dead_letters_evicted_total',
    ['sink'],
    'Dead letters that were deleted since the agent started, because there were too many.',
    ofSinks(({ deadLettersEvicted }) => deadLettersEvicted),
  );
  add(
    Gauge,
    'sink_pending_events',
    ['sink'],
    'Journaled events that the sink is not done with.',
    ofSinks(({ pending }) => pending),
  );
  add(
    Gauge,
    'sink_circuit_open',
    ['sink'],
    '1 while the sink only probes, because nothing goes through.',
    ofSinks(({ circuit }) => (circuit === 'open' ? 1 : 0)),
  );
  return () => registry.metrics();
}
