/** Of the sinks. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import type { SinkStatus } from '../../ship/sink.ts';
import { addEach, secondsSince, type MetricOf } from './each.ts';

export interface ObservedSinks {
  sinks(): SinkStatus[];
}

const SEND_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const SINKS: MetricOf<SinkStatus>[] = [
  [Counter, 'sink_duplicates_total', 'Delivered events that the sink had already.', ({ duplicates }) => duplicates],
  [Counter, 'sink_retries_total', 'Events that were sent again since the agent started.', ({ retries }) => retries],
  [
    Counter,
    'sink_dead_letters_evicted_total',
    'Dead letters that were deleted since the agent started, because there were too many.',
    ({ deadLettersEvicted }) => deadLettersEvicted,
  ],
  [Gauge, 'sink_pending_events', 'Journaled events that the sink is not done with.', ({ pending }) => pending],
  [
    Gauge,
    'sink_circuit_open',
    '1 while the sink only probes, because nothing goes through.',
    ({ circuit }) => (circuit === 'open' ? 1 : 0),
  ],
  [
    Gauge,
    'sink_oldest_pending_seconds',
    'Age of the oldest event that was read for the sink and that it is not done with; 0 when there is none.',
    ({ pending, oldestPending }) => (pending === 0 || oldestPending === undefined ? 0 : secondsSince(oldestPending)),
  ],
];

export function addSinks(add: AddSampled, observed: ObservedSinks): void {
  add(
    Counter,
    'sink_events_total',
    ['sink', 'outcome'],
    'Events that a sink is done with since the journal began; with the pending ones, all that were journaled.',
    () => observed.sinks().flatMap(outcomeSamples),
  );
  add(Counter, 'sink_failures_total', ['sink', 'reason'], 'Sends that failed since the agent started, by reason.', () =>
    observed.sinks().flatMap(failureSamples),
  );
  add(
    Counter,
    'sink_evidence_events_total',
    ['sink', 'outcome'],
    'Events given on since the agent started, by whether what became known of their flows after they were journaled went with them.',
    () => observed.sinks().flatMap(evidenceSamples),
  );
  add(
    Counter,
    'sink_packets_total',
    ['sink', 'outcome'],
    'Events of which a sink was sent the packets since the agent started, by whether it took them.',
    () => observed.sinks().flatMap(packetSamples),
  );
  addEach(add, ['sink'], SINKS, () => observed.sinks().map((status) => [{ sink: status.name }, status]));
}

function outcomeSamples({ name, delivered, deadLettered, evicted, filtered, digested }: SinkStatus): Sample[] {
  return [
    [{ sink: name, outcome: 'delivered' }, delivered],
    [{ sink: name, outcome: 'dead_lettered' }, deadLettered],
    [{ sink: name, outcome: 'evicted' }, evicted],
    [{ sink: name, outcome: 'filtered' }, filtered],
    [{ sink: name, outcome: 'digested' }, digested],
  ];
}

function evidenceSamples({ name, evidence }: SinkStatus): Sample[] {
  return Object.entries(evidence).map(([outcome, count]) => [{ sink: name, outcome }, count]);
}

function packetSamples({ name, packets }: SinkStatus): Sample[] {
  return Object.entries(packets ?? {}).map(([outcome, count]) => [{ sink: name, outcome }, count]);
}

function failureSamples({ name, failures }: SinkStatus): Sample[] {
  return Object.entries(failures).map(([reason, count]) => [{ sink: name, reason }, count]);
}

export function sendTimes(registry: Registry): Histogram<'sink'> {
  return new Histogram({
    name: 'dpi_agent_sink_send_duration_seconds',
    help: 'How long the destination took to answer a send.',
    labelNames: ['sink'],
    buckets: SEND_BUCKETS,
    registers: [registry],
  });
}
