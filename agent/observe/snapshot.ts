/** The agent at one moment, as JSON: what `/status` gives, and `dpi-agent status` shows. */
import { encryptedOf, type Counters, type LibraryName } from '../capture/protocol.ts';
import type { EndpointState } from '../capture/supervisor.ts';
import { sideOf, tapsOf, type Endpoint, type Side } from '../endpoints/endpoint.ts';
import type { EngineInstall } from '../engine/engine.ts';
import type { RulesStatus } from '../rulesets/live.ts';
import type { RuleServerStatus } from '../rulesets/rule-server.ts';
import type { SourceStatus } from '../rulesets/schedule.ts';
import type { PolicyStatus } from '../alerts/used-policy.ts';
import type { JournalStatus } from '../journal/journal.ts';
import type { SinkStatus } from '../ship/sink.ts';
import type { CanaryStatus } from './canary.ts';
import type { EndpointCoverage, ResourceCoverage } from './coverage.ts';

/** All times are milliseconds since the epoch. */
export interface Snapshot {
  time: number;
  agent: { version: string; pid: number; node: string; startedAt: number };
  /** `impaired`: something keeps packets from being inspected; `problems` says what. */
  state: 'starting' | 'inspecting' | 'impaired';
  problems: string[];
  engine: Pick<EngineInstall, 'name' | 'version' | 'binary' | 'searchMethods'>;
  rules: { files: string[]; loaded: number; sets: RulesStatus['sets'] };
  /** Where sets come from by themselves, if any do. */
  ruleSources?: SourceStatus[];
  /** Where one is followed. */
  ruleServer?: RuleServerStatus;
  /** Where there is a file. */
  configuration?: ConfigStatus;
  /** What suppresses alerts, where there is a policy. */
  policy?: PolicyStatus;
  lanes: LaneSnapshot[];
  endpoints: EndpointSnapshot[];
  /** Of each resource, how many of its pods on this node are captured, and seen. */
  resources: ResourceCoverage[];
  /** Alerts by what became of them. */
  alerts: Record<string, number>;
  journal?: JournalStatus & { directory: string };
  sinks: SinkStatus[];
  /** Where a cluster is followed. */
  cluster?: { server: string; synced: boolean; resources: number; pods: number };
}

/** Of the configuration's file, which is followed. */
export interface ConfigStatus {
  file: string;
  /** When what is in effect was read. */
  loadedAt: number;
  /** What is wrong with the file as it is now; then what is in effect is that of before. */
  errors: string[];
  /** Keys whose values wait for a restart. */
  needsRestart: string[];
}

export interface LaneSnapshot {
  lane: string;
  /** `since`: when it began to read packets; absent while it does not. */
  engine: { pid?: number; since?: number; restarts: number };
  /** `instead`: why packets are not captured by what `auto` takes first. `failure`: why none are. */
  capture: { pid?: number; library?: LibraryName; instead?: string; failure?: string };
  canary: CanaryStatus;
  /** When the counters of its endpoints were last reported. */
  countedAt?: number;
}

export interface EndpointSnapshot {
  id: string;
  namespace: string;
  name: string;
  /** The first of those that are captured. */
  interface: string;
  taps: { interface: string; side: Side }[];
  addresses: string[];
  resources: string[];
  lane: string;
  state: EndpointState;
  counters: Counters;
  /** What nobody can inspect of its traffic: bytes, and their part of all, 0 to 1. */
  encrypted: { bytes: number; share: number };
  coverage: EndpointCoverage;
}

/** What a running agent tells. */
export interface Inspecting {
  problems(): string[];
  lanes(): LaneSnapshot[];
  endpoints(): {
    endpoint: Endpoint;
    lane: string;
    state: EndpointState;
    counters: Counters;
    coverage: EndpointCoverage;
  }[];
  alerts(): object;
  policy(): PolicyStatus | undefined;
  journal(): JournalStatus;
  sinks(): SinkStatus[];
}

export interface SnapshotFacts {
  agent: Snapshot['agent'];
  engine: EngineInstall;
  rules: Snapshot['rules'];
  ruleSources: SourceStatus[];
  ruleServer?: RuleServerStatus | undefined;
  configuration?: ConfigStatus | undefined;
  journalDirectory: string;
}

/** @param agent The agent, or what its start waits for. */
export function takeSnapshot(
  { agent: about, engine, rules, ruleSources, ruleServer, configuration, journalDirectory }: SnapshotFacts,
  agent: Inspecting | string,
  resources: ResourceCoverage[],
  cluster: Snapshot['cluster'],
  now: number,
): Snapshot {
  const { name, version, binary, searchMethods } = engine;
  const facts = {
    time: now,
    agent: about,
    engine: { name, version, binary, searchMethods },
    rules,
    ...(ruleSources.length === 0 ? {} : { ruleSources }),
    ...(ruleServer === undefined ? {} : { ruleServer }),
    ...(configuration === undefined ? {} : { configuration }),
    resources,
    ...(cluster === undefined ? {} : { cluster }),
  };
  if (typeof agent === 'string') {
    return { ...facts, state: 'starting', problems: [agent], lanes: [], endpoints: [], alerts: {}, sinks: [] };
  }
  const problems = agent.problems();
  const policy = agent.policy();
  return {
    ...facts,
    state: problems.length === 0 ? 'inspecting' : 'impaired',
    problems,
    lanes: agent.lanes(),
    endpoints: agent.endpoints().map(({ endpoint, lane, state, counters, coverage }) => ({
      id: endpoint.id,
      namespace: endpoint.namespace,
      name: endpoint.name,
      interface: endpoint.interface,
      taps: tapsOf(endpoint).map((tap) => ({ interface: tap.interface, side: sideOf(tap) })),
      addresses: endpoint.addresses,
      resources: endpoint.resources,
      lane,
      state,
      counters,
      encrypted: encryptedOf(counters),
      coverage,
    })),
    alerts: { ...agent.alerts() },
    ...(policy === undefined ? {} : { policy }),
    journal: { ...agent.journal(), directory: journalDirectory },
    sinks: agent.sinks(),
  };
}
