/** Of the lanes: their engines, their child processes, and what the agent's own frames prove of them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { EngineCounters } from '../../engine/counters.ts';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import type { CanaryStatus } from '../canary.ts';
import { processUse } from '../processes.ts';
import { addEach, type MetricOf } from './each.ts';

export interface ObservedLanes {
  lanes(): LaneSeen[];
  /** Undefined until the agent has started. */
  laneChanges(): { wanted: number; failed: number } | undefined;
  /** Packets that the ledger finds no trace of, by lane. */
  unaccounted(): ReadonlyMap<string, number>;
}

interface LaneSeen {
  lane: string;
  engine: { pid?: number; since?: number; endings: Readonly<Record<string, number>> } & EngineCounters;
  capture: { pid?: number; library?: string };
  canary: CanaryStatus;
}

/** Of the way through a lane: at rest some 10 ms. */
const CANARY_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const CHANGES: MetricOf<NonNullable<ReturnType<ObservedLanes['laneChanges']>>>[] = [
  [Gauge, 'lanes_wanted', 'Lanes that there shall be, by the configuration or the limits.', ({ wanted }) => wanted],
  [
    Counter,
    'lane_changes_failed_total',
    'Attempts to start or to end a lane while the agent runs that failed.',
    ({ failed }) => failed,
  ],
];

const ENGINES: MetricOf<LaneSeen>[] = [
  [
    Gauge,
    'engine_up',
    "1 while the lane's engine reads packets.",
    ({ engine: { since } }) => (since === undefined ? 0 : 1),
  ],
  [
    Counter,
    'engine_packets_analysed_total',
    "Packets that the engine analysed, the agent's own among them, as it reported last.",
    ({ engine: { analysed } }) => analysed,
  ],
];

const CHILDREN: MetricOf<NonNullable<ReturnType<typeof processUse>>>[] = [
  [
    Gauge,
    'child_resident_memory_bytes',
    "Resident memory of a lane's child process.",
    ({ residentBytes }) => residentBytes,
  ],
  [
    Counter,
    'child_cpu_seconds_total',
    "CPU time of a lane's child process, user and system; from 0 with each new process.",
    ({ cpuSeconds }) => cpuSeconds,
  ],
];

const CANARIES: MetricOf<LaneSeen>[] = [
  [
    Gauge,
    'canary_last_success_timestamp_seconds',
    "When the lane's canary came back last, in seconds since the epoch; none before it did.",
    ({ canary: { lastSuccess } }) => (lastSuccess === undefined ? undefined : lastSuccess / 1000),
  ],
  [
    Counter,
    'canary_missed_total',
    'Canaries that did not come back before the next one was due.',
    ({ canary: { missed } }) => missed,
  ],
];

export function addLanes(add: AddSampled, observed: ObservedLanes): void {
  const lanes = () => observed.lanes().map((lane) => [{ lane: lane.lane }, lane] as const);
  addEach(add, [], CHANGES, () => [observed.laneChanges()].flatMap((one) => (one === undefined ? [] : [[{}, one]])));
  addEach(add, ['lane'], ENGINES, lanes);
  add(
    Counter,
    'engine_restarts_total',
    ['lane', 'reason'],
    'Ends of an engine by reason: it exited, a signal ended it, it was replaced on purpose, or it could not be started.',
    () => observed.lanes().flatMap(({ lane, engine }) => samplesBy('reason', lane, engine.endings)),
  );
  add(
    Counter,
    'encrypted_flows_total',
    ['lane', 'protocol'],
    'Flows whose content the engine cannot inspect because it is encrypted, as far as the engine counts them.',
    () => observed.lanes().flatMap(({ lane, engine }) => samplesBy('protocol', lane, engine.encrypted)),
  );
  add(Gauge, 'capture_library', ['lane', 'library'], 'What captures the packets of a lane; always 1.', () =>
    observed
      .lanes()
      .flatMap(({ lane, capture: { library } }): Sample[] => (library === undefined ? [] : [[{ lane, library }, 1]])),
  );
  addEach(add, ['lane', 'process'], CHILDREN, () => observed.lanes().flatMap(childrenOf));
  addEach(add, ['lane'], CANARIES, lanes);
  add(
    Gauge,
    'ledger_unaccounted_packets',
    ['lane'],
    'Packets that are neither inspected, nor counted as dropped, nor on their way; only what persists.',
    () => observed.lanes().map(({ lane }) => [{ lane }, observed.unaccounted().get(lane) ?? 0]),
  );
}

function samplesBy(label: string, lane: string, counts: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(counts).map(([name, count]) => [{ lane, [label]: name }, count]);
}

/** Those that run. */
function childrenOf({ lane, engine, capture }: LaneSeen) {
  const children = { engine: engine.pid, capture: capture.pid };
  return Object.entries(children).flatMap(([process, pid]) => {
    const use = pid === undefined ? undefined : processUse(pid);
    return use === undefined ? [] : [[{ lane, process }, use] as const];
  });
}

export function canaryTimes(registry: Registry): Histogram<'lane'> {
  return new Histogram({
    name: 'dpi_agent_canary_latency_seconds',
    help: "Time from sending a frame of the agent's own into a lane until its alert was read.",
    labelNames: ['lane'],
    buckets: CANARY_BUCKETS,
    registers: [registry],
  });
}
