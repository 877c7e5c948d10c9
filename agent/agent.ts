/**
 * Composes the pipeline; read top to bottom, it is the way of a packet and of its alert: endpoints → leases → lanes
 * (capture → engine → reader) → alerting (attribution → policy → flood control → merging → naming → events → journal) →
 * sinks. What is looked at beside it (clock, coverage, ledger, limits) feeds nothing back but the leases' clock.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { startAlerting, type AskedResponse } from './alerting.ts';
import type { AlertCounts } from './alerts/books.ts';
import type { Names } from './alerts/name.ts';
import type { PolicyStatus } from './alerts/used-policy.ts';
import { openAttachments, type CapturedEndpoint } from './attachments.ts';
import { receivedOf, type Counters } from './capture/protocol.ts';
import type { Config } from './config/load.ts';
import type { Endpoint } from './endpoints/endpoint.ts';
import { openLeases, type Leases } from './endpoints/leases.ts';
import type { EngineDriver, EngineInstall } from './engine/engine.ts';
import type { Sandbox } from './engine/sandbox.ts';
import type { EeEvent } from './events/event.ts';
import { createEvidence, type Evidence, type EvidenceStatus } from './evidence/collect.ts';
import { evidenceDirectory } from './evidence/place.ts';
import { openEvidenceStore } from './evidence/store.ts';
import { onceDiskAllows } from './files/disk.ts';
import { messageOf } from './files/errors.ts';
import { openJournal, scanConsumed, type Journal, type JournalStatus } from './journal/journal.ts';
import type { Lane } from './lane.ts';
import type { LaneStatus } from './lane/status.ts';
import { followLaneCount, lanesFor } from './lane-count.ts';
import { generationsLeft, startLanes, type LaneChanges } from './lanes.ts';
import { readGranted } from './observe/limits.ts';
import { watchClock, watchCoverage, watchLedger, watchLimits, type Limited } from './observe/checks.ts';
import type { EndpointCoverage } from './observe/coverage.ts';
import type { SignatureCounts } from './observe/signatures.ts';
import type { RuleVocabulary } from './rulesets/classes.ts';
import type { LiveRules, RulesStatus } from './rulesets/live.ts';
import type { SinkStatus } from './ship/sink.ts';
import { startSinks } from './sinks.ts';

/** How long an agent that ends still tries to write its journal. Kubernetes lets it 30 s for that and the sinks. */
const JOURNAL_GRACE_MILLIS = 5_000;

export interface AgentOptions {
  config: Config;
  install: EngineInstall;
  driver: EngineDriver;
  sandbox: Sandbox;
  rules: LiveRules;
  /** What classes and types of references mean. */
  vocabulary: RuleVocabulary;
  log: Logger;
  /** Names the ends of flows that are no endpoints. */
  names?: Names;
  /** Ends the start: an engine that can't be started is tried again and again. */
  signal?: AbortSignal;
  /** Called for each event once it is on disk. */
  onEvent?: (event: EeEvent) => void;
  /** Called for each event that the policy has a response to, once it is on disk. */
  onResponse?: (response: AskedResponse) => void;
  /** An endpoint's state changed, or that of an engine. */
  onChange?: () => void;
  /** A lane's canary came back after so many seconds. */
  onCanary?: (lane: string, seconds: number) => void;
  /** A sink's destination answered a send after so many seconds. */
  onSent?: (sink: string, seconds: number) => void;
  /** Called before the agent is there, with what its start waits for; undefined: for nothing but its engines. */
  onWaiting?: (problem: string | undefined) => void;
}

export interface EndpointStatus extends CapturedEndpoint {
  coverage: EndpointCoverage;
}

export interface Agent {
  /**
   * An endpoint that is attached gets its new labels and resources, and goes over to its new interfaces.
   * @throws Error when no VLAN id is free.
   */
  attach(endpoint: Endpoint): void;
  /** @returns the endpoint's last counters. */
  detach(endpointId: string): Promise<Counters | undefined>;
  endpoints(): EndpointStatus[];
  /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
  barredFromPods(): string | undefined;
  lanes(): LaneStatus[];
  laneChanges(): LaneChanges;
  /** Alerts that the engines gave, by signature and priority. */
  signatures(): SignatureCounts;
  /** Packets that are neither inspected, nor counted as dropped, nor on their way, by lane. */
  unaccounted(): ReadonlyMap<string, number>;
  /** What the container's limits took. */
  limits(): Limited;
  alerts(): AlertCounts;
  /** Those of `merged` that the flood control folded. */
  folded(): number;
  /** Those that the policy suppressed, by the names of its entries. */
  suppressed(): ReadonlyMap<string, number>;
  /** Undefined without a policy file. */
  policy(): PolicyStatus | undefined;
  journal(): JournalStatus;
  /** Of packets of alerts; undefined where none are kept. */
  evidence(): EvidenceStatus | undefined;
  sinks(): SinkStatus[];
  /** What keeps packets from being inspected, other than an endpoint's own state; empty when all is well. */
  problems(): string[];
  /**
   * What is wrong, though packets are inspected, for a resource that names these rule sets; undefined: the default
   * ones. Empty when all is well.
   */
  conditions(ruleSets: readonly string[] | undefined): string[];
  rules(): RulesStatus;
  /** The same by part: a lane for its engine, `capture/<lane>`, `canary/<lane>`, `journal`, `state`. */
  problemsByPart(): ReadonlyMap<string, string>;
  /**
   * Takes over what needs no restart: sinks, lanes, and of `alerts` policy, burst and rate.
   * @throws Error when a sink can't be made; then nothing has changed.
   */
  reconfigure(config: Config): Promise<void>;
  /** Why only a new process can go on; undefined while this one can. */
  stuck(): string | undefined;
  /**
   * Ends everything; what the engines had found is in the journal when it resolves, or stays in their files for the
   * next agent if the journal can't be written.
   */
  stop(): Promise<void>;
}

/**
 * Resolves when every lane's engine reads packets.
 * Waits while the journal's disk is full or read-only.
 * @throws EngineError when an engine can't start, JournalError when the journal can't be opened, the signal's reason
 * when it is aborted.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const parts = await startParts(options);
  const { rules, signal } = options;
  const { lanes, open, started, attachments } = parts;
  try {
    await Promise.race([started.ready, aborted(signal)]);
  } catch (error) {
    await stopParts(parts);
    throw error;
  }
  const unfollow = rules.follow({
    lanes: () => open,
    policies: attachments.combinations,
    packets: () => lanes.reduce((sum, { capture }) => sum + receivedOf(capture.counters().values()), 0),
  });
  return agentOf(parts, rules, async () => {
    unfollow();
    await stopParts(parts);
  });
}

type Parts = Awaited<ReturnType<typeof startParts>>;

async function startParts(options: AgentOptions) {
  const { config, log } = options;
  /** Why packets are not inspected, or alerts not found or not kept: see problemsByPart(). */
  const problems = new Map<string, string>();
  /** Filled as they start. */
  const lanes: Lane[] = [];
  /** Of them, those that take endpoints. */
  const open: Lane[] = [];
  const common = { ...options, lanes, problems };

  // What earlier agents left, and how far their alerts got.
  const left = await generationsLeft(config);
  const journal = await openJournalOnceItCan(options);
  const consumed = await scanConsumed(
    config.journal.directory,
    left.map(({ name }) => name),
  );

  const leases = await openLeasesOnceItCan(options);
  const clock = watchClock((agoMicros) => leases.clockMoved(agoMicros), log);
  const attachments = openAttachments({
    ...common,
    lanes: open,
    leases,
    keep: config.evidence.keep,
    goesOver: (id) => coverage.forget(id),
  });
  const evidence = await startEvidence(options, lanes);
  const withEvidence = evidence === undefined ? {} : { evidence };
  const { isMoving, spread } = attachments;
  const alerting = startAlerting({ ...common, ...withEvidence, leases, isMoving, left, consumed, journal });
  // What earlier agents left to deliver need not wait for the engines.
  const sinks = await startSinks({ ...options, ...withEvidence, journal });
  const started = await startLanes(lanes, lanesFor(config, readGranted()), {
    ...common,
    consumed,
    open,
    spread,
    events: {
      alerts(generation, items, passed) {
        clock.check();
        return alerting.read(generation, items, passed);
      },
      finished: alerting.finished,
      endpoint: attachments.noteState,
    },
  });

  const endpoints = attachments.captured;
  const coverage = watchCoverage({ ...options, windowMillis: config.coverage.windowMillis, endpoints });
  const ledger = watchLedger({ endpoints, engines: () => lanes.flatMap((lane) => lane.status().ledger ?? []), log });
  const limits = watchLimits({ endpoints, log });
  const laneCount = followLaneCount({ settings: config, count: () => lanes.length, resize: started.resize, log });
  const checks = { coverage, ledger, limits, laneCount };
  return { problems, lanes, open, journal, clock, attachments, alerting, evidence, sinks, started, ...checks };
}

/** Packets of alerts are kept where they can be: whatever is wrong with that, alerts go on. */
async function startEvidence({ config, log }: AgentOptions, lanes: readonly Lane[]): Promise<Evidence | undefined> {
  const { evidence, journal } = config;
  const directory = evidenceDirectory(journal.directory);
  try {
    const store = await openEvidenceStore({ ...evidence, directory });
    return createEvidence({ settings: evidence, store, lanes, now: Date.now, log });
  } catch (error) {
    log.error({ err: error, directory }, "alerts' packets are not kept: their folder cannot be read");
    return undefined;
  }
}

/** Also of an agent that has not started yet. */
async function stopParts(parts: Parts) {
  const { lanes, journal, clock, attachments, alerting, evidence, sinks, started } = parts;
  const { coverage, ledger, limits, laneCount } = parts;
  attachments.stop();
  laneCount.stop();
  await started.close();
  const allRead = Promise.all(lanes.map((lane) => lane.stop()));
  await alerting.stop(performance.now() + JOURNAL_GRACE_MILLIS, allRead);
  await evidence?.settled();
  for (const check of [clock, coverage, ledger, limits]) check.stop();
  await sinks.stop();
  await journal.close();
}

function agentOf(parts: Parts, rules: LiveRules, stop: () => Promise<void>): Agent {
  const { problems, lanes, journal, clock, attachments, alerting, evidence, sinks } = parts;
  const { started, coverage, ledger, limits, laneCount } = parts;
  return {
    attach(endpoint) {
      clock.check();
      attachments.attach(endpoint);
    },
    detach: attachments.detach,
    endpoints: () =>
      attachments.captured().map((captured) => ({ ...captured, coverage: coverage.of(captured.endpoint.id) })),
    barredFromPods: started.barredFromPods,
    lanes: () => lanes.map((lane) => lane.status()),
    laneChanges: started.changes,
    signatures: () => alerting.signatures,
    unaccounted: ledger.unaccounted,
    limits: limits.limited,
    alerts: alerting.books.counts,
    folded: alerting.books.folded,
    suppressed: alerting.books.suppressed,
    policy: alerting.policy,
    journal: () => journal.status(),
    evidence: () => evidence?.status(),
    sinks: sinks.status,
    problems: () => [...problems.values()],
    conditions: (ruleSets) => [rules.conditions(ruleSets), limits.limited().problem ?? []].flat(),
    rules: rules.status,
    problemsByPart: () => problems,
    async reconfigure(config) {
      await sinks.apply(config);
      alerting.change(config.alerts);
      laneCount.change(config);
    },
    stuck: started.stuck,
    stop,
  };
}

function openJournalOnceItCan({ config, log, onWaiting, signal }: AgentOptions): Promise<Journal> {
  return onceDiskAllows(
    () => openJournal(config.journal),
    (error, failures) => {
      if (failures === 0) log.error({ err: error }, 'journal cannot be opened; nothing is inspected until it can');
      onWaiting?.(messageOf(error));
    },
    signal,
  );
}

function openLeasesOnceItCan({ config, log, onWaiting, signal }: AgentOptions): Promise<Leases> {
  const file = join(config.stateDirectory, 'leases.ndjson');
  return onceDiskAllows(
    () => openLeases(file),
    (error, failures) => {
      if (failures === 0) log.error({ err: error }, 'leases cannot be opened; nothing is inspected until they can');
      onWaiting?.(messageOf(error));
    },
    signal,
  );
}

/** Rejects when it is aborted. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted === true) reject(signal.reason as Error);
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
