/**
 * The agent's metrics in Prometheus' text format, read from it at each scrape; only times that something took are told
 * to it when they are known.
 *
 * The number of series is bounded: by the endpoints that are attached (4,093), the lanes, the sinks, `MAX_SIGNATURES`,
 * and lists of names.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { shuntedOf, type Counters } from '../capture/protocol.ts';
import { sideOf, tapsOf, type Endpoint } from '../endpoints/endpoint.ts';
import type { EngineCounters } from '../engine/counters.ts';
import type { JournalStatus } from '../journal/journal.ts';
import type { RulesStatus } from '../rulesets/live.ts';
import type { SinkStatus } from '../ship/sink.ts';
import type { ResourceCoverage } from './coverage.ts';
import type { CanaryStatus } from './canary.ts';
import { processUse } from './processes.ts';
import { addSampledTo, type Sample } from '../sampled-metrics.ts';
import type { SignatureCounts } from './signatures.ts';

export interface Observed {
  endpoints(): { endpoint: Endpoint; state: { is: string }; counters: Counters }[];
  lanes(): {
    lane: string;
    engine: { pid?: number; since?: number; endings: Readonly<Record<string, number>> } & EngineCounters;
    capture: { pid?: number; library?: string };
    canary: CanaryStatus;
  }[];
  /** Packets that the ledger finds no trace of, by lane. */
  unaccounted(): ReadonlyMap<string, number>;
  /** Alerts that the engines gave. */
  signatures(): SignatureCounts | undefined;
  /** How often a watch of the API server had to begin again, by what is watched; empty without a cluster. */
  watchRestarts(): Record<string, number>;
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
  ['shunted', 'shunted'],
  ['unsupported', 'unsupported'],
  ['droppedKernel', 'dropped_kernel'],
  ['droppedInterface', 'dropped_interface'],
  ['droppedQueue', 'dropped_queue'],
  ['droppedEngineDown', 'dropped_engine_down'],
  ['droppedDetached', 'dropped_detached'],
  ['droppedCaptureDied', 'dropped_capture_died'],
];

export interface Metrics {
  /** What a scrape gets. */
  text: () => Promise<string>;
  canaryReturned: (lane: string, seconds: number) => void;
  sinkSent: (sink: string, seconds: number) => void;
}

/** Of the way through a lane: at rest some 10 ms. */
const CANARY_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const SEND_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export function createMetrics(observed: Observed, { version, engine, node }: Facts): Metrics {
  const registry = new Registry();
  // Its default of 10 ms would wake up a process that is at rest 100 times a second.
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_', eventLoopMonitoringPrecision: 250 });

  const add = addSampledTo(registry, 'dpi_agent_');

  const info = { version, engine: engine.name, engine_version: engine.version, node };
  add(Gauge, 'info', Object.keys(info), 'The agent and its engine; always 1.', () => [[info, 1]]);
  add(Gauge, 'endpoints', ['state'], 'Endpoints by the state of their capture.', () => {
    const states = observed.endpoints().map((entry) => entry.state.is);
    return ['starting', 'capturing', 'waiting'].map((state) => [{ state }, states.filter((is) => is === state).length]);
  });
  add(
    Gauge,
    'endpoint_taps',
    ['namespace', 'endpoint', 'side'],
    "Interfaces by which an endpoint is captured: on the node (host), or in the pod's own network namespace (pod).",
    () =>
      observed
        .endpoints()
        .flatMap(({ endpoint }) =>
          (['host', 'pod'] as const).map((side): Sample => [
            { namespace: endpoint.namespace, endpoint: endpoint.name, side },
            tapsOf(endpoint).filter((tap) => sideOf(tap) === side).length,
          ]),
        ),
  );
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
  for (const [name, counter, help] of [
    ['received_bytes_total', 'receivedBytes', 'Bytes of the packets that an endpoint received or sent, as captured.'],
    ['forwarded_bytes_total', 'forwardedBytes', "Bytes of an endpoint's packets that were handed to the engine."],
  ] as const) {
    add(Counter, name, ['namespace', 'endpoint'], help, () =>
      observed
        .endpoints()
        .map(({ endpoint, counters }) => [
          { namespace: endpoint.namespace, endpoint: endpoint.name },
          counters[counter],
        ]),
    );
  }
  for (const [name, what, help] of [
    [
      'shunted_packets_total',
      'packets',
      'Packets of which something was kept from the engine because it is encrypted.',
    ],
    [
      'shunted_bytes_total',
      'bytes',
      "Bytes of an endpoint's packets that were kept from the engine because they are encrypted.",
    ],
  ] as const) {
    add(Counter, name, ['namespace', 'endpoint', 'protocol'], help, () =>
      observed
        .endpoints()
        .flatMap(({ endpoint: { namespace, name: endpoint }, counters }) =>
          shuntedOf(counters).map((shunted): Sample => [
            { namespace, endpoint, protocol: shunted.protocol },
            shunted[what],
          ]),
        ),
    );
  }
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
    'Pods of this node that a resource selects, and how many of them are captured, seen to send, to receive, and both lately, or in one direction only.',
    () =>
      observed.coverage().flatMap(({ resource, oneWay, ...states }) => {
        const [namespace = '', name = ''] = resource.split('/');
        return Object.entries({ ...states, one_way: oneWay }).map(([state, pods]): Sample => [
          { namespace, resource: name, state },
          pods,
        ]);
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
  const oldestPending = ({ pending, oldestPending: since }: SinkStatus): number =>
    pending === 0 || since === undefined ? 0 : Math.max(0, (Date.now() - since) / 1000);
  add(
    Gauge,
    'sink_oldest_pending_seconds',
    ['sink'],
    'Age of the oldest event that was read for the sink and that it is not done with; 0 when there is none.',
    ofSinks(oldestPending),
  );
  const sent = new Histogram({
    name: 'dpi_agent_sink_send_duration_seconds',
    help: 'How long the destination took to answer a send.',
    labelNames: ['sink'],
    buckets: SEND_BUCKETS,
    registers: [registry],
  });
  add(Gauge, 'journal_oldest_event_age_seconds', [], "Time since the first write of the journal's oldest file.", () => {
    const oldest = observed.journal()?.oldest;
    return oldest === undefined ? [] : [[{}, Math.max(0, (Date.now() - oldest) / 1000)]];
  });

  type LaneObserved = ReturnType<Observed['lanes']>[number];
  const ofLanes = (value: (lane: LaneObserved) => number | undefined) => (): Sample[] =>
    observed.lanes().flatMap((lane): Sample[] => {
      const number = value(lane);
      return number === undefined ? [] : [[{ lane: lane.lane }, number]];
    });
  add(
    Gauge,
    'engine_up',
    ['lane'],
    "1 while the lane's engine reads packets.",
    ofLanes(({ engine: { since } }) => (since === undefined ? 0 : 1)),
  );
  add(
    Counter,
    'engine_restarts_total',
    ['lane', 'reason'],
    'Ends of an engine by reason: it exited, a signal ended it, it was replaced on purpose, or it could not be started.',
    () =>
      observed
        .lanes()
        .flatMap(({ lane, engine: { endings } }) =>
          Object.entries(endings).map(([reason, count]): Sample => [{ lane, reason }, count]),
        ),
  );
  add(
    Counter,
    'engine_packets_analysed_total',
    ['lane'],
    "Packets that the engine analysed, the agent's own among them, as it reported last.",
    ofLanes(({ engine: { analysed } }) => analysed),
  );
  add(
    Counter,
    'encrypted_flows_total',
    ['lane', 'protocol'],
    'Flows whose content the engine cannot inspect because it is encrypted, as far as the engine counts them.',
    () =>
      observed
        .lanes()
        .flatMap(({ lane, engine: { encrypted } }) =>
          Object.entries(encrypted).map(([protocol, count]): Sample => [{ lane, protocol }, count]),
        ),
  );
  add(Gauge, 'capture_library', ['lane', 'library'], 'What captures the packets of a lane; always 1.', () =>
    observed
      .lanes()
      .flatMap(({ lane, capture: { library } }): Sample[] => (library === undefined ? [] : [[{ lane, library }, 1]])),
  );
  const ofChildren = (value: (use: NonNullable<ReturnType<typeof processUse>>) => number) => (): Sample[] =>
    observed.lanes().flatMap(({ lane, engine: { pid }, capture }) =>
      [
        { process: 'engine', pid },
        { process: 'capture', pid: capture.pid },
      ].flatMap(({ process, pid: id }): Sample[] => {
        const use = id === undefined ? undefined : processUse(id);
        return use === undefined ? [] : [[{ lane, process }, value(use)]];
      }),
    );
  add(
    Gauge,
    'child_resident_memory_bytes',
    ['lane', 'process'],
    "Resident memory of a lane's child process.",
    ofChildren(({ residentBytes }) => residentBytes),
  );
  add(
    Counter,
    'child_cpu_seconds_total',
    ['lane', 'process'],
    "CPU time of a lane's child process, user and system; from 0 with each new process.",
    ofChildren(({ cpuSeconds }) => cpuSeconds),
  );

  const returned = new Histogram({
    name: 'dpi_agent_canary_latency_seconds',
    help: "Time from sending a frame of the agent's own into a lane until its alert was read.",
    labelNames: ['lane'],
    buckets: CANARY_BUCKETS,
    registers: [registry],
  });
  add(
    Gauge,
    'canary_last_success_timestamp_seconds',
    ['lane'],
    "When the lane's canary came back last, in seconds since the epoch; none before it did.",
    ofLanes(({ canary: { lastSuccess } }) => (lastSuccess === undefined ? undefined : lastSuccess / 1000)),
  );
  add(
    Counter,
    'canary_missed_total',
    ['lane'],
    'Canaries that did not come back before the next one was due.',
    ofLanes(({ canary: { missed } }) => missed),
  );
  add(
    Gauge,
    'ledger_unaccounted_packets',
    ['lane'],
    'Packets that are neither inspected, nor counted as dropped, nor on their way; only what persists.',
    () => observed.lanes().map(({ lane }) => [{ lane }, observed.unaccounted().get(lane) ?? 0]),
  );

  add(
    Counter,
    'signature_alerts_total',
    ['gid', 'sid'],
    'Alerts of the engines by signature: of the first 256 that fired, and of all others together (gid and sid "other").',
    () => {
      const signatures = observed.signatures();
      if (signatures === undefined) return [];
      const own = [...signatures.bySignature()].map(([key, count]): Sample => {
        const [gid = '', sid = ''] = key.split(':');
        return [{ gid, sid }, count];
      });
      return [...own, [{ gid: 'other', sid: 'other' }, signatures.other()]];
    },
  );
  add(
    Counter,
    'alerts_by_priority_total',
    ['priority'],
    'Alerts of the engines by priority; 1 is the most severe.',
    () => [...(observed.signatures()?.byPriority() ?? [])].map(([priority, count]) => [{ priority }, count]),
  );
  add(
    Counter,
    'kube_watch_restarts_total',
    ['resource'],
    'Watches of the API server that had to begin again, by what is watched.',
    () => Object.entries(observed.watchRestarts()).map(([resource, count]) => [{ resource }, count]),
  );

  return {
    text: () => registry.metrics(),
    canaryReturned: (lane, seconds) => returned.observe({ lane }, seconds),
    sinkSent: (sink, seconds) => sent.observe({ sink }, seconds),
  };
}
