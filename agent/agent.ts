/**
 * Composes the pipeline; read top to bottom, it is the way of a packet and of its alert:
 * endpoints → leases → lanes (capture → engine → reader) → attribution → policy → flood control → merging → naming → events → journal → sinks.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { mayBeSeenTwice } from './alerts/attribute.ts';
import type { AttributedAlert } from './alerts/attributed.ts';
import { openFailedAlerts } from './alerts/failed.ts';
import { createFloodControl } from './alerts/flood.ts';
import { identify } from './alerts/identify.ts';
import { createMerger } from './alerts/merge.ts';
import { usePolicy, type PolicyStatus } from './alerts/used-policy.ts';
import { createNamer, type Names } from './alerts/name.ts';
import { lostOf, type AttachSpec, type Counters } from './capture/protocol.ts';
import type { EndpointState } from './capture/supervisor.ts';
import type { Config } from './config/load.ts';
import { tapsOf, type Endpoint } from './endpoints/endpoint.ts';
import { openLeases } from './endpoints/leases.ts';
import { createCombinations } from './endpoints/combinations.ts';
import type { Alert, Decoded, Position } from './engine/alert.ts';
import type { EngineDriver, EngineInstall } from './engine/engine.ts';
import { ruleFolders } from './engine/generation.ts';
import { leftGenerations } from './engine/orphans.ts';
import type { Sandbox } from './engine/sandbox.ts';
import type { EngineError } from './engine/supervisor.ts';
import { createDecoder } from './engine/readers/decoder.ts';
import { eventId, toEvent, type EeEvent } from './events/event.ts';
import { onceDiskAllows } from './files/disk.ts';
import {
  foldKey,
  isConsumed,
  openJournal,
  scanConsumed,
  type EventLine,
  type Journal,
  type JournalStatus,
} from './journal/journal.ts';
import { whyNotInPods } from './rights.ts';
import { createLedger } from './observe/ledger.ts';
import { createSignatureCounts, type SignatureCounts } from './observe/signatures.ts';
import { captureSettings, startLane, type Lane, type LaneStatus } from './lane.ts';
import type { RuleVocabulary } from './rulesets/classes.ts';
import { createCoverage, type EndpointCoverage } from './observe/coverage.ts';
import { ruleKey } from './rulesets/files.ts';
import type { LiveRules, RulesStatus } from './rulesets/live.ts';
import { isWanted, readStates, type RuleState } from './rulesets/membership.ts';
import { createDestinations } from './ship/destinations.ts';
import { startSink, type Sink, type SinkStatus } from './ship/sink.ts';

const JOURNAL_RETRY_MILLIS = 1_000;
/** A difference between the wall clock and the monotonic one that is no drift. */
const CLOCK_STEP_MILLIS = 500;
const LEDGER_MILLIS = 5_000;
const CLOCK_CHECK_MILLIS = 10_000;
/** How often the directions that endpoints are seen to use are looked at. */
const COVERAGE_MILLIS = 5_000;
/** What the sinks may take to confirm what they are sending when the agent ends. */
const SINK_GRACE_MILLIS = 3_000;
/** How long an agent that ends still tries to write its journal. Kubernetes lets it 30 s for that and the sinks. */
const JOURNAL_GRACE_MILLIS = 5_000;
/** Reasons that are counted by their names; what policies of hundreds of names give beyond is `other`. */
const MAX_REASONS = 256;
/** How long an engine keeps the rules of sets that no endpoint has any more. */
const TRIM_MILLIS = 60_000;

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
  /** An endpoint's state changed, or that of an engine. */
  onChange?: () => void;
  /** A lane's canary came back after so many seconds. */
  onCanary?: (lane: string, seconds: number) => void;
  /** A sink's destination answered a send after so many seconds. */
  onSent?: (sink: string, seconds: number) => void;
  /** Called before the agent is there, with what its start waits for; undefined: for nothing but its engines. */
  onWaiting?: (problem: string | undefined) => void;
}

/** `read + copies = journaled + merged + suppressed + recovered + unparsable + unattributed + failed`, once nothing is held any more. */
export interface AlertCounts {
  /** Alerts and pieces of damage in the engines' output. */
  read: number;
  /** Further events of alerts that several resources select. */
  copies: number;
  journaled: number;
  /** The same packet seen at its other end, or folded into another's event by the flood control. */
  merged: number;
  /** By the operator's policy. */
  suppressed: number;
  /** Read again after a crash, and already in the journal. */
  recovered: number;
  unparsable: number;
  /** With a VLAN id that nobody held at the packet's time, or of a rule that none of the endpoint's resources asked for. */
  unattributed: number;
  /** By an error of the agent's own, no event could be made of them (`failed-alerts.ndjson` in the state folder). */
  failed: number;
}

export interface EndpointStatus {
  endpoint: Endpoint;
  lane: string;
  state: EndpointState;
  counters: Counters;
  coverage: EndpointCoverage;
}

export interface Agent {
  /** An endpoint that is attached gets its new labels and resources, and goes over to its new interfaces. @throws Error when no VLAN id is free. */
  attach(endpoint: Endpoint): void;
  /** @returns the endpoint's last counters. */
  detach(endpointId: string): Promise<Counters | undefined>;
  endpoints(): EndpointStatus[];
  /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
  barredFromPods(): string | undefined;
  lanes(): LaneStatus[];
  /** Alerts that the engines gave, by signature and priority. */
  signatures(): SignatureCounts;
  /** Packets that are neither inspected, nor counted as dropped, nor on their way, by lane. */
  unaccounted(): ReadonlyMap<string, number>;
  alerts(): AlertCounts;
  /** Those of `merged` that the flood control folded. */
  folded(): number;
  /** Those that the policy suppressed, by the names of its entries. */
  suppressed(): ReadonlyMap<string, number>;
  /** Undefined without a policy file. */
  policy(): PolicyStatus | undefined;
  journal(): JournalStatus;
  sinks(): SinkStatus[];
  /** What keeps packets from being inspected, other than an endpoint's own state; empty when all is well. */
  problems(): string[];
  /** What is wrong with the rules of a resource that names these sets; undefined: the default ones. Empty when all is well. */
  ruleConditions(named: readonly string[] | undefined): string[];
  rules(): RulesStatus;
  /** The same by part: a lane for its engine, `capture/<lane>`, `canary/<lane>`, `journal`, `state`. */
  problemsByPart(): ReadonlyMap<string, string>;
  /** Why only a new process can go on; undefined while this one can. */
  stuck(): string | undefined;
  /**
   * Ends everything; what the engines had found is in the journal when it resolves, or stays in their files for the next
   * agent if the journal can't be written.
   */
  stop(): Promise<void>;
}

/**
 * Resolves when every lane's engine reads packets.
 * Waits while the journal's disk is full or read-only.
 * @throws EngineError when an engine can't start, JournalError when the journal can't be opened, the signal's reason when it is aborted.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { config, install, log } = options;
  const laneNames = Array.from({ length: config.lanes }, (_, index) => `lane${index}`);
  const laneDirectory = (lane: string): string => join(config.stateDirectory, 'lanes', lane);

  // What earlier agents left, and how far their alerts got.
  const leftOfLanes = await Promise.all(laneNames.map((lane) => leftGenerations(laneDirectory(lane))));
  const left = leftOfLanes.flatMap(({ generations }) => generations);
  const journal = await openJournalOnceItCan(options);
  const consumed = await scanConsumed(
    config.journal.directory,
    left.map(({ name }) => name),
  );

  const leases = openLeases(join(config.stateDirectory, 'leases.ndjson'));
  const combinations = createCombinations(options.rules.defaults);
  /** What rules generations had that earlier agents left. */
  const formerRules = new Map(
    left.map(({ name, directory }) => [name, () => readStates(ruleFolders(directory))] as const),
  );
  const formerStates = new Map<string, RuleState[]>();
  const flood = createFloodControl({
    burst: config.alerts.burst,
    ratePerSecond: config.alerts.ratePerSecond,
    foldMillis: config.alerts.foldMillis,
  });
  const merger = createMerger(config.alerts.mergeMillis, (attributed) => mayBeSeenTwice(attributed, leases));
  const counts: AlertCounts = {
    read: 0,
    copies: 0,
    journaled: 0,
    merged: 0,
    suppressed: 0,
    recovered: 0,
    unparsable: 0,
    unattributed: 0,
    failed: 0,
  };
  const failedAlerts = openFailedAlerts(join(config.stateDirectory, 'failed-alerts.ndjson'), log);
  let folded = 0;
  const suppressed = new Map<string, number>();
  /** Of each generation, the last alert that was suppressed, or set aside, and after which nothing was journaled yet. */
  const suppressedUpTo = new Map<string, number>();
  const policy = usePolicy(config.alerts.policy, config.alerts.mergeMillis, log);
  const namer = createNamer(options.names);
  const sensor = { engine: { name: install.name, version: install.version }, node: config.node };
  /** `isCaptured`: capture was told, as the rule sets that it needs are loaded. */
  const attached = new Map<string, { endpoint: Endpoint; lane: Lane; isCaptured: boolean }>();

  const signatures = createSignatureCounts();

  /** A lane's alerts, in order, to attributed ones. */
  async function takeAlerts(generation: string, items: Decoded[], passed?: number): Promise<void> {
    checkClock();
    for (const item of items) {
      counts.read++;
      if (item.kind === 'damage') {
        counts.unparsable++;
        log.warn({ generation, offset: item.start, reason: item.reason }, 'engine output is not readable');
        continue;
      }
      takeAlert(generation, item.alert, item.start);
    }
    await release();
    // With nothing held, what was passed over need not be read again; else a quiet node's file would grow for ever.
    if (passed !== undefined && merger.nextDue() === undefined && flood.nextDue() === undefined)
      await forget((lane) => lane.passed(generation, passed), generation);
  }

  function takeAlert(generation: string, found: Alert, offset: number): void {
    let attributed: AttributedAlert[];
    try {
      attributed = identifyRead(generation, found, offset);
    } catch (error) {
      suppressedUpTo.set(generation, offset);
      return setAside({ generation, offset }, found, error);
    }
    if (attributed.length === 0) counts.unattributed++;
    else counts.copies += attributed.length - 1;
    for (const one of attributed) {
      try {
        passOn(generation, one, offset);
      } catch (error) {
        suppressedUpTo.set(generation, offset);
        setAside(one.position, found, error);
      }
    }
  }

  /** Whose alert it is, with what its rule says. */
  function identifyRead(generation: string, found: Alert, offset: number): AttributedAlert[] {
    signatures.add(found);
    // A count of the engine's packets says nothing to anybody when it runs for ever.
    const { packetNumber: _, ...alert } = found;
    const position = { generation, offset };
    return identify(alert, position, {
      rules: options.rules.index(),
      vocabulary: options.vocabulary,
      owners: leases,
      sensor,
      asks: (named) => isWanted(statesOf(generation), ruleKey(alert), alert.timeMicros, named),
    });
  }

  /** To where it waits for its twin, or for others of its kind, unless nothing is to become of it. */
  function passOn(generation: string, attributed: AttributedAlert, offset: number): void {
    const done = consumed.get(generation);
    // Judged also where it is in the journal: it counts for thresholds.
    const reason = policy.judge(attributed, () => mayBeSeenTwice(attributed, leases));
    if (done !== undefined && isConsumed(done, asJournaled(attributed, offset))) {
      counts.recovered++;
      return;
    }
    if (reason !== undefined) {
      counts.suppressed++;
      const name = suppressed.has(reason) || suppressed.size < MAX_REASONS ? reason : 'other';
      suppressed.set(name, (suppressed.get(name) ?? 0) + 1);
      suppressedUpTo.set(generation, offset);
      return;
    }
    const now = performance.now();
    if (flood.admit(attributed, now) === 'folded') return;
    namer.expect(attributed);
    if (merger.add(attributed, now) === 'merged') counts.merged++;
  }

  /** One alert that something throws on keeps none behind it from the journal. */
  function setAside(position: Position, alert: Alert, error: unknown): void {
    counts.failed++;
    failedAlerts.add(position, alert, error);
  }

  /** The rules by which a generation inspected. */
  function statesOf(generation: string): readonly RuleState[] {
    const read = formerRules.get(generation);
    if (read === undefined) return options.rules.states();
    const known = formerStates.get(generation) ?? read();
    formerStates.set(generation, known);
    return known;
  }

  /** The wall clock ahead of the monotonic one, when last looked at. */
  let clockOffset = Date.now() - performance.now();
  let checkedAt = performance.now();

  /** Packets bear the time of the wall clock, and so do leases. */
  function checkClock(): void {
    const offset = Date.now() - performance.now();
    if (Math.abs(offset - clockOffset) > CLOCK_STEP_MILLIS) {
      log.warn({ seconds: Math.round((offset - clockOffset) / 1000) }, 'the clock was set');
      leases.clockMoved(1000 * (performance.now() - checkedAt));
    }
    clockOffset = offset;
    checkedAt = performance.now();
  }
  // Often enough that what the clocks drift apart is no step.
  const clockTimer = setInterval(checkClock, CLOCK_CHECK_MILLIS).unref();

  /** Why alerts are not found or not kept, by part: see problemsByPart(). */
  const problems = new Map<string, string>();
  let stuck: string | undefined;
  let releasing: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  /** Aborted when an agent that ends has tried for long enough to write its journal. */
  const journalGrace = new AbortController();
  /** Why a batch was given up. Nothing behind it may be written: the next agent would go on there. */
  let givenUp: Error | undefined;

  /** What need not wait any longer goes to the journal, one batch after the other. */
  function release(all = false): Promise<void> {
    releasing = releasing.then(async () => {
      const now = performance.now();
      const folds = all ? flood.closeAll() : flood.closeDue(now);
      for (const fold of folds) {
        namer.expect(fold);
        folded += (fold.fold?.count ?? 1) - 1;
        counts.merged += (fold.fold?.count ?? 1) - 1;
      }
      // Folds first: the lines behind them no longer say that they are held.
      const alerts = [...folds, ...(all ? merger.releaseAll() : merger.releaseDue(now))];
      for await (const named of namer.name(alerts)) await record(named);
      await forgetSuppressed();
      const due = Math.min(merger.nextDue() ?? Infinity, flood.nextDue() ?? Infinity);
      clearTimeout(timer);
      if (due < Infinity)
        timer = setTimeout(() => void release().catch(unlessGivenUp), Math.max(0, due - performance.now()));
    });
    return releasing;
  }

  async function record(alerts: AttributedAlert[]): Promise<void> {
    if (alerts.length === 0) return;
    const events: EeEvent[] = [];
    const lines: EventLine[] = [];
    const read = new Map<string, number>();
    for (const attributed of alerts) {
      const { generation, offset } = attributed.position;
      const held = flood.heldFrom(generation);
      const checkpoint = held !== undefined && held < offset ? { generation, offset: held } : undefined;
      if (attributed.fold === undefined) read.set(generation, Math.min(offset, held ?? offset));
      try {
        const event = toEvent(checkpoint === undefined ? attributed : { ...attributed, checkpoint }, config.evidence);
        lines.push({ position: event.record.position, json: JSON.stringify(event) });
        events.push(event);
      } catch (error) {
        setAside(attributed.position, attributed.alert, error);
      }
    }
    await append(lines);
    counts.journaled += lines.length;
    for (const event of events) giveOn(event);
    for (const [generation, offset] of read) await forget((lane) => lane.consumed(generation, offset), generation);
  }

  function giveOn(event: EeEvent): void {
    try {
      options.onEvent?.(event);
    } catch (error) {
      log.error({ err: error, event: event.record.event_id }, 'an event is journaled, but could not be given on');
    }
  }

  /** What is suppressed has no line in the journal; its bytes can go once nothing before them is held. */
  async function forgetSuppressed(): Promise<void> {
    if (merger.nextDue() !== undefined) return;
    for (const [generation, offset] of suppressedUpTo) {
      const held = flood.heldFrom(generation);
      await forget((lane) => lane.consumed(generation, Math.min(offset, held ?? offset)), generation);
      if (held === undefined) suppressedUpTo.delete(generation);
    }
  }

  /** What is journaled need not stay in the engine's files. Failing to delete it is no reason not to read on. */
  async function forget(consume: (lane: Lane) => Promise<void>, generation: string): Promise<void> {
    try {
      for (const lane of lanes) await consume(lane);
      if (problems.delete('state')) options.onChange?.();
    } catch (error) {
      if (problems.has('state')) return;
      log.error({ err: error, generation }, "the engine's files cannot be deleted; tried again with the next events");
      problems.set('state', error instanceof Error ? error.message : String(error));
      options.onChange?.();
    }
  }

  /**
   * The engines' files are the buffer while the journal can't be written: nothing is read on until it can.
   * Rejects when the agent ends before that; the next one reads these alerts again.
   */
  async function append(lines: EventLine[]): Promise<void> {
    if (lines.length === 0) return;
    for (let failures = 0; ; failures++) {
      if (givenUp !== undefined) throw givenUp;
      try {
        await journal.append(lines);
        if (failures > 0) {
          log.info('journal is written again');
          problems.delete('journal');
          options.onChange?.();
        }
        return;
      } catch (error) {
        if (failures === 0) {
          log.error({ err: error }, 'journal cannot be written; alerts wait');
          problems.set('journal', error instanceof Error ? error.message : String(error));
          options.onChange?.();
        }
        if (journalGrace.signal.aborted) {
          givenUp = new Error(
            'the agent ends before its journal can be written; the next one reads these alerts again',
          );
        } else {
          await sleep(JOURNAL_RETRY_MILLIS, undefined, { signal: journalGrace.signal }).catch(() => undefined);
        }
      }
    }
  }

  function unlessGivenUp(error: unknown): void {
    if (error !== givenUp) throw error;
  }

  // What earlier agents left to deliver need not wait for the engines.
  const sinks = (await createDestinations(config, log)).map(({ name, destination }) =>
    startSink({
      name,
      stateDirectory: config.stateDirectory,
      journal: { ...journal, directory: config.journal.directory },
      destination,
      batch: config.sinks[name],
      deadLetterSize: config.sinks.deadLetterSize,
      onSent: (seconds) => options.onSent?.(name, seconds),
      log: log.child({ sink: name }),
    }),
  );

  const ready: Promise<void>[] = [];
  const lanes: Lane[] = [];
  for (const name of laneNames) {
    let isReady: () => void = () => undefined;
    let failed: (error: EngineError) => void = () => undefined;
    ready.push(
      new Promise((resolve, reject) => {
        isReady = resolve;
        failed = reject;
      }),
    );
    lanes.push(
      await startLane(
        {
          ...options,
          engineRules: options.rules.engineRules,
          lane: name,
          laneDirectory: laneDirectory(name),
          output: install.name === 'snort' ? config.engine.output : 'json',
          capture: captureSettings(config),
          canaryMillis: config.canary.interval,
          resumeAt: (generation) => consumed.get(generation)?.offset ?? 0,
          createDecoder,
        },
        {
          alerts: takeAlerts,
          finished(generation) {
            formerStates.delete(generation);
            return release(true);
          },
          endpoint: logEndpoint,
          ready(generation) {
            log.info({ lane: name, pid: generation.pid, generation: generation.name }, 'engine reads packets');
            problems.delete(name);
            isReady();
            options.onChange?.();
          },
          engineFailed(error) {
            log.error({ lane: name, output: error.exit.output.slice(-2000) }, error.message);
            problems.set(name, error.message);
            options.onChange?.();
            failed(error);
          },
          captureFailed(reason) {
            const problem = `capture/${name}`;
            if (reason === undefined) problems.delete(problem);
            else problems.set(problem, reason);
            options.onWaiting?.(reason);
            options.onChange?.();
          },
          unreadable(error) {
            stuck = `${name}: alerts cannot be read on: ${error}`;
            problems.set(`alerts/${name}`, stuck);
            options.onChange?.();
          },
          canaryReturned: (seconds) => options.onCanary?.(name, seconds),
          canaryChanged({ is }) {
            const problem = `canary/${name}`;
            if (is === 'missing') {
              const text = `${name} does not inspect: of its frames to itself none came back for ${(3 * config.canary.interval) / 1000} s`;
              log.error({ lane: name }, 'canary is missing');
              problems.set(problem, text);
            } else if (problems.delete(problem)) {
              log.info({ lane: name }, 'canary is back');
            }
            options.onChange?.();
          },
        },
        log,
      ),
    );
  }

  const coverage = createCoverage(config.coverage.windowMillis);
  const barred = whyNotInPods();

  function barredFromPods(): string | undefined {
    const library = lanes.map((lane) => lane.capture.library()?.name).find((name) => name === 'node-pcap');
    return (
      barred ?? (library === undefined ? undefined : `${library} cannot enter network namespaces (capture.library)`)
    );
  }

  function checkCoverage(): void {
    const endpoints = captureStates();
    const changes = coverage.update(endpoints);
    for (const { id, oneWay } of changes) {
      const device = attached.get(id)?.endpoint.interface;
      if (oneWay === undefined) log.info({ endpoint: id, interface: device }, 'both directions are seen again');
      else log.warn({ endpoint: id, interface: device, oneWay }, 'only one direction is seen');
    }
    if (changes.length > 0) options.onChange?.();
  }
  const coverageTimer = setInterval(checkCoverage, Math.min(COVERAGE_MILLIS, config.coverage.windowMillis / 4)).unref();

  const ledger = createLedger((lane, side, packets) => {
    if (packets > 0) log.error({ lane, side, packets }, 'packets are unaccounted for');
    else log.info({ lane, side }, 'packets are accounted for again');
  });
  const ledgerTimer = setInterval(() => {
    ledger.check(
      performance.now(),
      captureStates().map(({ endpoint: { id }, lane, counters }) => ({
        id,
        lane,
        received: counters.received,
        accounted: counters.forwarded + counters.shunted + counters.unsupported + lostOf(counters),
      })),
      lanes.flatMap((lane) => lane.status().ledger ?? []),
    );
  }, LEDGER_MILLIS).unref();

  /** Endpoints that were captured at some time. */
  const captured = new Set<string>();

  function logEndpoint(id: string, state: EndpointState): void {
    const endpoint = attached.get(id)?.endpoint;
    if (endpoint === undefined) return;
    const about = { endpoint: id, interface: endpoint.interface };
    if (state.is === 'capturing') {
      captured.add(id);
      log.info({ ...about, linkType: state.linkType }, 'capturing');
    } else if (state.is === 'waiting' && !problems.has(`capture/${attached.get(id)?.lane.name}`)) {
      // Interfaces go when their pods end.
      log[captured.has(id) ? 'info' : 'warn']({ ...about, reason: state.reason }, 'not capturing');
    }
    options.onChange?.();
  }

  function captureStates(): Omit<EndpointStatus, 'coverage'>[] {
    const states = new Map(
      lanes.map((lane) => [lane.name, { states: lane.capture.states(), counters: lane.capture.counters() }]),
    );
    return [...attached.values()].flatMap(({ endpoint, lane }) => {
      const counters = states.get(lane.name)?.counters.get(endpoint.id);
      const state = states.get(lane.name)?.states.get(endpoint.id);
      return counters === undefined || state === undefined ? [] : [{ endpoint, lane: lane.name, state, counters }];
    });
  }

  let unfollow = (): void => undefined;
  let trimming: NodeJS.Timeout | undefined;

  /** Also of an agent that has not started yet. */
  async function stop(): Promise<void> {
    unfollow();
    clearTimeout(trimming);
    setTimeout(() => journalGrace.abort(), JOURNAL_GRACE_MILLIS).unref();
    await Promise.all(lanes.map((lane) => lane.stop()));
    await release(true).catch(unlessGivenUp);
    policy.stop();
    clearTimeout(timer);
    clearInterval(clockTimer);
    clearInterval(coverageTimer);
    clearInterval(ledgerTimer);
    await drain();
    await Promise.all(sinks.map((sink) => sink.stop(SINK_GRACE_MILLIS)));
    await journal.close();
  }

  /** What was just journaled goes out too, where sinks take it; the rest waits for the next agent. */
  async function drain(): Promise<void> {
    const isSending = (sink: Sink): boolean => sink.status().pending > 0 && sink.status().circuit === 'closed';
    for (const end = performance.now() + SINK_GRACE_MILLIS; performance.now() < end && sinks.some(isSending);) {
      await sleep(20);
    }
  }

  try {
    await Promise.race([Promise.all(ready), aborted(options.signal)]);
  } catch (error) {
    await stop();
    throw error;
  }

  unfollow = options.rules.follow({ lanes: () => lanes, policies: combinations.list });

  /** The sets that any of its resources names. */
  function setsOf({ resources, ruleSets }: Endpoint): string[] {
    return [...new Set(resources.flatMap((key) => ruleSets?.[key] ?? options.rules.defaults()))];
  }

  /** An engine keeps rules that nobody asks for any more only for a while. */
  function trimLater(): void {
    clearTimeout(trimming);
    trimming = setTimeout(() => {
      const held = [...attached.keys()].flatMap((id) => leases.idOf(id) ?? []);
      if (combinations.trim(held)) void options.rules.changed();
    }, TRIM_MILLIS).unref();
  }

  return {
    attach(endpoint) {
      checkClock();
      const before = attached.get(endpoint.id);
      if (before !== undefined) {
        const goesOver = !isDeepStrictEqual(tapsOf(before.endpoint), tapsOf(endpoint));
        before.endpoint = endpoint;
        leases.update(endpoint);
        const vlan = leases.idOf(endpoint.id);
        if (vlan === undefined) return;
        if (goesOver && before.isCaptured) {
          coverage.forget(endpoint.id);
          before.lane.capture.attach(specOf(endpoint, vlan));
        }
        if (!combinations.move(vlan, setsOf(endpoint))) return;
        trimLater();
        void options.rules.changed().then(options.onChange);
        return;
      }
      const sets = setsOf(endpoint);
      const accepted = combinations.accepts(sets);
      const isNew = !leases.spare().some(accepted);
      if (isNew) combinations.claim(leases.spare(), sets);
      const vlan = leases.take(endpoint, accepted);
      const lane = leastLoaded(lanes, attached);
      const entry = { endpoint, lane, isCaptured: !isNew };
      attached.set(endpoint.id, entry);
      if (!isNew) return lane.capture.attach(specOf(endpoint, vlan));
      log.info({ endpoint: endpoint.id, sets }, 'its rule sets are loaded first');
      void options.rules.changed().then(() => {
        if (attached.get(endpoint.id) !== entry) return;
        entry.isCaptured = true;
        lane.capture.attach(specOf(entry.endpoint, vlan));
      });
    },
    async detach(endpointId) {
      const entry = attached.get(endpointId);
      if (entry === undefined) return undefined;
      const counters = await entry.lane.capture.detach(endpointId);
      attached.delete(endpointId);
      captured.delete(endpointId);
      leases.free(endpointId);
      if (combinations.list().length > 0) trimLater();
      return counters;
    },
    endpoints: () => captureStates().map((entry) => ({ ...entry, coverage: coverage.of(entry.endpoint.id) })),
    barredFromPods,
    lanes: () => lanes.map((lane) => lane.status()),
    signatures: () => signatures,
    unaccounted: () => ledger.unaccounted(),
    alerts: () => ({ ...counts }),
    folded: () => folded,
    suppressed: () => new Map(suppressed),
    policy: policy.status,
    journal: () => journal.status(),
    sinks: () => sinks.map((sink) => sink.status()),
    problems: () => [...problems.values()],
    ruleConditions: options.rules.conditions,
    rules: options.rules.status,
    problemsByPart: () => problems,
    stuck: () => stuck,
    stop,
  };
}

function specOf(endpoint: Endpoint, vlan: number): AttachSpec {
  return { id: endpoint.id, taps: tapsOf(endpoint), vlan, addresses: endpoint.addresses };
}

/** As it would be in the journal, had it been read before. */
function asJournaled(attributed: AttributedAlert, offset: number): Parameters<typeof isConsumed>[1] {
  const { alert, seenAt, resource } = attributed;
  const origin = `dpi.${resource}`;
  const endpoint = seenAt[0];
  const name = endpoint === undefined ? '' : `${endpoint.namespace}/${endpoint.name}`;
  return {
    offset,
    id: eventId(attributed),
    origin,
    key: foldKey(origin, String(alert.gid), String(alert.sid), name),
  };
}

function openJournalOnceItCan({ config, log, onWaiting, signal }: AgentOptions): Promise<Journal> {
  return onceDiskAllows(
    () => openJournal(config.journal),
    (error, failures) => {
      if (failures === 0) log.error({ err: error }, 'journal cannot be opened; nothing is inspected until it can');
      onWaiting?.(error instanceof Error ? error.message : String(error));
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

/** Its endpoints share a lane's engine, so a new one goes where the fewest are. */
function leastLoaded(lanes: Lane[], attached: Map<string, { lane: Lane }>): Lane {
  const load = (lane: Lane): number => [...attached.values()].filter((entry) => entry.lane === lane).length;
  const [first, ...rest] = lanes;
  if (first === undefined) throw new Error('there is no lane');
  return rest.reduce((best, lane) => (load(lane) < load(best) ? lane : best), first);
}
