/**
 * An alert's way, from an engine's reader to the journal:
 * repetition → identification → policy → flood control → merging → naming → journal → the engine's files.
 *
 * Invariants: alerts of a generation are journaled in the order in which they were read, but for folds; one release
 * after the other; of an engine's files nothing is deleted that is not in the journal, or held here.
 *
 * Not promised: that an agent which ends has journaled all that it read. The next one reads the rest again.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { mayBeSeenTwice } from './alerts/attribute.ts';
import type { AttributedAlert } from './alerts/attributed.ts';
import { createAlertBooks, type AlertBooks } from './alerts/books.ts';
import { openFailedAlerts, type FailedAlerts } from './alerts/failed.ts';
import { createFloodControl, type FloodControl, type FloodLimit } from './alerts/flood.ts';
import { identify } from './alerts/identify.ts';
import { createMerger, type Merger } from './alerts/merge.ts';
import { createNamer, type Namer, type Names } from './alerts/name.ts';
import { createRepeats, type Repeats } from './alerts/repeats.ts';
import type { Response } from './alerts/policy.ts';
import type { followPolicy } from './alerts/policy-file.ts';
import { usePolicy, type PolicyStatus, type UsedPolicy } from './alerts/used-policy.ts';
import type { Config } from './config/load.ts';
import type { Endpoint } from './endpoints/endpoint.ts';
import type { Leases } from './endpoints/leases.ts';
import type { Alert, Decoded, Position } from './engine/alert.ts';
import type { EngineInstall } from './engine/engine.ts';
import type { Evidence } from './evidence/collect.ts';
import { eventId, toEvent, type EeEvent, type EventOptions } from './events/event.ts';
import { systemClock, type Clock } from './files/clock.ts';
import { messageOf } from './files/errors.ts';
import { foldKey, isConsumed, type Consumed, type EventLine, type Journal } from './journal/journal.ts';
import { beingPatient, type PatientJournal } from './journal/patient.ts';
import type { Lane } from './lane.ts';
import { createSignatureCounts, type SignatureCounts } from './observe/signatures.ts';
import type { RuleVocabulary } from './rulesets/classes.ts';
import { ruleKey } from './rulesets/files.ts';
import type { LiveRules } from './rulesets/live.ts';
import { isWanted, statesByGeneration, type StatesByGeneration } from './rulesets/membership.ts';

export interface AlertingOptions {
  config: Pick<Config, 'alerts' | 'node' | 'stateDirectory'> & { evidence: EventOptions };
  install: EngineInstall;
  leases: Leases;
  rules: Pick<LiveRules, 'index' | 'states'>;
  /** What classes and types of references mean. */
  vocabulary: RuleVocabulary;
  /** Names the ends of flows that are no endpoints. */
  names?: Names;
  /** Generations that earlier agents left, and what the journal has of them. */
  left: readonly { name: string; directory: string }[];
  consumed: ReadonlyMap<string, Consumed>;
  journal: Journal;
  /** They delete what they need not keep. */
  lanes: readonly Lane[];
  /** Whether two lanes may have captured the same packets of an endpoint. */
  isMoving?: (endpointId: string) => boolean;
  /** Collects packets of alerts that become events; absent: none are. */
  evidence?: Pick<Evidence, 'collect'>;
  /** What keeps packets from being inspected, by part: `journal` and `state` are set here. */
  problems: Map<string, string>;
  /** Called for each event once it is on disk. */
  onEvent?: (event: EeEvent) => void;
  /** Called for each event that the policy has a response to, once it is on disk. */
  onResponse?: (response: AskedResponse) => void;
  onChange?: () => void;
  log: Logger;
  system?: Partial<AlertingSystem>;
}

/** What an entry of the policy wants done about a pod. */
export interface AskedResponse {
  entry: Response;
  pod: Endpoint;
  event: EeEvent;
}

/** What is around it. */
export interface AlertingSystem {
  clock: Clock;
  failed: FailedAlerts;
  followPolicy: typeof followPolicy;
}

export interface Alerting {
  /**
   * A generation's alerts, in order. Resolves when those that wait for nothing are journaled.
   * `passed`: the end of what was read, where something was left out of it.
   */
  read(generation: string, items: Decoded[], passed?: number): Promise<void>;
  /** All alerts of a generation were read. Resolves when they are journaled. */
  finished: (generation: string) => Promise<void>;
  books: AlertBooks;
  /** Alerts that the engines gave, by signature and priority. */
  signatures: SignatureCounts;
  /** Undefined without a policy file. */
  policy: () => PolicyStatus | undefined;
  /** The policy's file and how many alerts pass before they are folded are these from now on. */
  change(settings: Pick<Config['alerts'], 'policy' | 'burst' | 'ratePerSecond'>): void;
  /**
   * Journals what is held, once all is read.
   * @param deadline Milliseconds, on the monotonic clock: what the journal doesn't take then is left to the next agent.
   */
  stop(deadline: number, allRead: Promise<unknown>): Promise<void>;
}

/** What an alert passes, in this order, and what is known of those on their way. */
interface Stations extends AlertingOptions {
  books: AlertBooks;
  clock: Clock;
  /** Those that something throws on. */
  failed: FailedAlerts;
  signatures: SignatureCounts;
  states: StatesByGeneration;
  repeats: Repeats;
  policy: UsedPolicy;
  flood: FloodControl;
  /** Of the flood control, which reads it at each alert. */
  floodLimit: FloodLimit;
  merger: Merger;
  namer: Namer;
  patient: PatientJournal;
  /**
   * Of each generation, the last alert that was suppressed, a repeat, set aside, asked for by nobody, or journaled out
   * of turn, and after which nothing was journaled yet.
   */
  eventlessUpTo: Map<string, number>;
  /** The last release that was begun. */
  releasing: Promise<void>;
  /** Of the next release. */
  callOffRelease: () => void;
}

export function startAlerting(options: AlertingOptions): Alerting {
  const { config, leases, isMoving = () => false, rules, journal, log, system = {} } = options;
  const { clock = systemClock } = system;
  const { policy, mergeMillis, burst, ratePerSecond, foldMillis } = config.alerts;
  const floodLimit = { burst, ratePerSecond, foldMillis };
  const stations: Stations = {
    ...options,
    floodLimit,
    books: createAlertBooks(),
    clock,
    failed: system.failed ?? openFailedAlerts(join(config.stateDirectory, 'failed-alerts.ndjson'), log),
    signatures: createSignatureCounts(),
    states: statesByGeneration(options.left, rules.states),
    repeats: createRepeats(),
    policy: usePolicy(policy, mergeMillis, log, system.followPolicy),
    flood: createFloodControl(floodLimit),
    merger: createMerger(
      mergeMillis,
      (attributed) => attributed.seenAt.some(({ id }) => isMoving(id)) || mayBeSeenTwice(attributed, leases),
      isMoving,
    ),
    namer: createNamer(options.names),
    patient: beingPatient(journal, journalEvents(options), clock),
    eventlessUpTo: new Map(),
    releasing: Promise.resolve(),
    callOffRelease: () => undefined,
  };
  return {
    read: (generation, items, passed) => readAlerts(stations, generation, items, passed),
    finished(generation) {
      stations.states.forget(generation);
      return release(stations, 'all');
    },
    books: stations.books,
    signatures: stations.signatures,
    policy: stations.policy.status,
    change(settings) {
      stations.floodLimit.burst = settings.burst;
      stations.floodLimit.ratePerSecond = settings.ratePerSecond;
      stations.policy.change(settings.policy);
    },
    stop: (deadline, allRead) => stop(stations, deadline, allRead),
  };
}

async function readAlerts(stations: Stations, generation: string, items: Decoded[], passed?: number): Promise<void> {
  const { books, merger, flood, log } = stations;
  for (const item of items) {
    books.add('read');
    const position = { generation, offset: item.start };
    if (item.kind === 'alert') {
      readAlert(stations, item.alert, position);
    } else {
      books.add('unparsable');
      log.warn({ ...position, reason: item.reason }, 'engine output is not readable');
    }
  }
  await release(stations);
  // With nothing held, what was passed over need not be read again; else a quiet node's file would grow for ever.
  if (passed !== undefined && merger.nextDue() === undefined && flood.nextDue() === undefined)
    await letGo(stations, generation, (lane) => lane.passed(generation, passed));
}

/** An alert that something throws on keeps none behind it from the journal. */
function readAlert(stations: Stations, alert: Alert, position: Position): void {
  const setItAside = (error: unknown): void => {
    stations.eventlessUpTo.set(position.generation, position.offset);
    setAside(stations, alert, position, error);
  };
  let attributed: AttributedAlert[];
  try {
    if (stations.repeats.isRepeat(alert)) {
      stations.books.add('merged');
      stations.eventlessUpTo.set(position.generation, position.offset);
      return;
    }
    attributed = identifyRead(stations, alert, position);
  } catch (error) {
    return setItAside(error);
  }
  for (const copy of attributed) {
    try {
      judge(stations, copy);
    } catch (error) {
      setItAside(error);
    }
  }
}

function setAside({ books, failed }: Stations, alert: Alert, position: Position, error: unknown): void {
  books.add('failed');
  failed.add(position, alert, error);
}

function identifyRead(stations: Stations, reported: Alert, position: Position): AttributedAlert[] {
  const { books, signatures, states, rules, vocabulary, leases, install, config, eventlessUpTo } = stations;
  signatures.add(reported);
  // A count of the engine's packets says nothing to anybody when it runs for ever.
  const { packetNumber: _, ...alert } = reported;
  const attributed = identify(alert, position, {
    rules: rules.index(),
    vocabulary,
    owners: leases,
    sensor: { engine: { name: install.name, version: install.version }, node: config.node },
    asks: (ruleSets) => isWanted(states.of(position.generation), ruleKey(alert), alert.timeMicros, ruleSets),
  });
  if (attributed.length > 0) {
    books.add('copies', attributed.length - 1);
  } else if (leases.owner(alert.vlan, alert.timeMicros) === undefined) {
    books.add('unattributed');
  } else {
    books.add('unasked');
    // Where there are many, nothing else would let the engine's file go.
    eventlessUpTo.set(position.generation, position.offset);
  }
  return attributed;
}

/** What becomes of it: it was journaled before, is suppressed, or goes on. */
function judge(stations: Stations, attributed: AttributedAlert): void {
  const { books, policy, leases, consumed, eventlessUpTo } = stations;
  const { generation, offset } = attributed.position;
  // Judged also where it is in the journal: it counts for thresholds.
  const reason = policy.judge(attributed, () => mayBeSeenTwice(attributed, leases));
  const journaled = consumed.get(generation);
  if (journaled !== undefined && isConsumed(journaled, asJournaled(attributed))) {
    books.add('recovered');
  } else if (reason === undefined) {
    hold(stations, attributed);
  } else {
    books.addSuppressed(reason);
    eventlessUpTo.set(generation, offset);
  }
}

/** Until its fold is closed, or its twin has come, and its names are there. */
function hold({ books, flood, namer, merger, evidence, policy, clock }: Stations, attributed: AttributedAlert): void {
  const now = clock.now();
  if (flood.admit(attributed, now) === 'folded') return;
  namer.expect(attributed);
  if (merger.add(attributed, now) === 'merged') return books.add('merged');
  // While the capture has its packets.
  evidence?.collect(attributed, policy.keep(attributed));
}

/** What need not wait any longer goes to the journal. Rejects when it is given up, and from then on. */
function release(stations: Stations, which: 'due' | 'all' = 'due'): Promise<void> {
  stations.releasing = stations.releasing.then(async () => {
    const released = releasedBy(stations, which);
    for await (const batch of stations.namer.name(released)) await record(stations, batch);
    await letGoOfEventless(stations);
    releaseLater(stations);
  });
  return stations.releasing;
}

function releasedBy({ books, flood, merger, namer, clock }: Stations, which: 'due' | 'all'): AttributedAlert[] {
  const now = clock.now();
  const folds = which === 'all' ? flood.closeAll() : flood.closeDue(now);
  for (const fold of folds) {
    namer.expect(fold);
    books.addFolded((fold.fold?.count ?? 1) - 1);
  }
  // Folds first: the lines behind them no longer say that they are held.
  return [...folds, ...(which === 'all' ? merger.releaseAll() : merger.releaseDue(now))];
}

function releaseLater(stations: Stations): void {
  const { merger, flood, patient, clock } = stations;
  const due = Math.min(merger.nextDue() ?? Infinity, flood.nextDue() ?? Infinity);
  stations.callOffRelease();
  if (due === Infinity) return;
  stations.callOffRelease = clock.after(
    Math.max(0, due - clock.now()),
    () => void release(stations).catch(unlessGivenUp(patient)),
  );
}

async function record(stations: Stations, alerts: AttributedAlert[]): Promise<void> {
  const documents = alerts.flatMap((attributed) => documentOf(stations, attributed) ?? []);
  const consumed = consumedBy(stations, alerts);
  await stations.patient.append(documents.map(({ line }) => line));
  stations.books.add('journaled', documents.length);
  for (const document of documents) giveOn(stations, document);
  for (const [generation, offset] of consumed) {
    await letGo(stations, generation, (lane) => lane.consumed(generation, offset));
  }
  for (const { position, checkpoint } of alerts) if (checkpoint !== undefined) letGoLater(stations, position);
}

/** Once nothing before it is held. */
function letGoLater({ eventlessUpTo }: Stations, { generation, offset }: Position): void {
  eventlessUpTo.set(generation, Math.max(eventlessUpTo.get(generation) ?? 0, offset));
}

interface Document {
  attributed: AttributedAlert;
  event: EeEvent;
  line: EventLine;
}

/** @returns undefined where something throws on the alert, which is set aside. */
function documentOf(stations: Stations, attributed: AttributedAlert): Document | undefined {
  const { flood, config } = stations;
  const { alert, position } = attributed;
  const heldFrom = flood.heldFrom(position.generation) ?? Infinity;
  const held = heldFrom < position.offset ? { checkpoint: { ...position, offset: heldFrom } } : {};
  try {
    const event = toEvent({ ...held, ...attributed }, config.evidence);
    return { attributed, event, line: { position: event.record.position, json: JSON.stringify(event) } };
  } catch (error) {
    setAside(stations, alert, position, error);
    return undefined;
  }
}

/**
 * Of each generation, up to where nothing need be read again once these are journaled. Folds, and what comes out of
 * turn, say nothing of that.
 */
function consumedBy({ flood }: Stations, alerts: readonly AttributedAlert[]): Map<string, number> {
  const consumed = new Map<string, number>();
  for (const { position, fold, checkpoint } of alerts) {
    const { generation, offset } = position;
    if (fold === undefined && checkpoint === undefined)
      consumed.set(generation, Math.min(offset, flood.heldFrom(generation) ?? offset));
  }
  return consumed;
}

function giveOn({ onEvent, onResponse, policy, log }: Stations, { event, attributed }: Document): void {
  try {
    onEvent?.(event);
    const response = onResponse && policy.respond(attributed);
    if (response !== undefined) onResponse?.({ ...response, event });
  } catch (error) {
    log.error({ err: error, event: event.record.event_id }, 'an event is journaled, but could not be given on');
  }
}

/** What no event is made of has no line in the journal; its bytes can go once nothing before them is held. */
async function letGoOfEventless(stations: Stations): Promise<void> {
  const { merger, flood, eventlessUpTo } = stations;
  if (merger.nextDue() !== undefined) return;
  for (const [generation, offset] of eventlessUpTo) {
    const heldFrom = flood.heldFrom(generation);
    await letGo(stations, generation, (lane) => lane.consumed(generation, Math.min(offset, heldFrom ?? offset)));
    if (heldFrom === undefined) eventlessUpTo.delete(generation);
  }
}

/** What is journaled need not stay in the engine's files. Failing to delete it is no reason not to read on. */
async function letGo(
  { lanes, problems, onChange, log }: Stations,
  generation: string,
  deleteRead: (lane: Lane) => Promise<void>,
): Promise<void> {
  try {
    for (const lane of lanes) await deleteRead(lane);
    if (problems.delete('state')) onChange?.();
  } catch (error) {
    if (problems.has('state')) return;
    log.error({ err: error, generation }, "the engine's files cannot be deleted; tried again with the next events");
    problems.set('state', messageOf(error));
    onChange?.();
  }
}

/** The engines' files are the buffer while the journal can't be written: nothing is read on until it can. */
function journalEvents({ problems, onChange, log }: AlertingOptions): Parameters<typeof beingPatient>[1] {
  return {
    failed(error) {
      log.error({ err: error }, 'journal cannot be written; alerts wait');
      problems.set('journal', messageOf(error));
      onChange?.();
    },
    recovered() {
      log.info('journal is written again');
      problems.delete('journal');
      onChange?.();
    },
  };
}

async function stop(stations: Stations, deadline: number, allRead: Promise<unknown>): Promise<void> {
  const { patient, policy } = stations;
  patient.giveUpAt(deadline);
  await allRead;
  await release(stations, 'all').catch(unlessGivenUp(patient));
  policy.stop();
  stations.callOffRelease();
}

/** Throws any other error. */
function unlessGivenUp(patient: PatientJournal): (error: unknown) => void {
  return (error) => {
    if (!patient.isGivenUp(error)) throw error;
  };
}

/** As it would be in the journal, had it been read before. */
function asJournaled(attributed: AttributedAlert): Parameters<typeof isConsumed>[1] {
  const { alert, position, seenAt, resource } = attributed;
  const origin = `dpi.${resource}`;
  const endpoint = seenAt[0];
  const name = endpoint === undefined ? '' : `${endpoint.namespace}/${endpoint.name}`;
  return {
    offset: position.offset,
    id: eventId(attributed),
    origin,
    key: foldKey(origin, String(alert.gid), String(alert.sid), name),
  };
}
