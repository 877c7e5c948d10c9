/**
 * One life of the agent's process: the parts of agent/agent.ts between the endpoints and the sinks, put together as
 * there, on the simulated machine.
 *
 * In place of the real ones: lanes (lane.ts), the destination, and the reconciler, which is a loop that attaches the
 * pods that are there.
 */
import { join } from 'node:path';
import { pino } from 'pino';
import { startAlerting, type Alerting, type AlertingOptions } from '../../agent/alerting.ts';
import type { Names } from '../../agent/alerts/name.ts';
import type { PolicyEvents } from '../../agent/alerts/policy-file.ts';
import { openAttachments, type Attachments } from '../../agent/attachments.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import { openLeases, type Leases } from '../../agent/endpoints/leases.ts';
import { errorCode } from '../../agent/files/errors.ts';
import { JournalError, openJournal, scanConsumed, type EventLine, type Journal } from '../../agent/journal/journal.ts';
import type { Lane } from '../../agent/lane.ts';
import { BUILT_IN_VOCABULARY } from '../../agent/rulesets/classes.ts';
import { saveProgress } from '../../agent/ship/cursor.ts';
import { appendDeadLetters } from '../../agent/ship/dead-letter.ts';
import { startSink, type Sink } from '../../agent/ship/sink.ts';
import type { AlertOracle } from './alerts.ts';
import type { VirtualClock } from './clock.ts';
import type { ScriptedDestination } from './destination.ts';
import type { Disk } from './disk.ts';
import type { Engine } from './engine.ts';
import { startSimulatedLane, type Engines, type SimulatedLane } from './lane.ts';
import type { Node } from './node.ts';
import { linesOf, type Oracle } from './oracle.ts';
import { makePolicy, type Choice, type Plan } from './plan.ts';

export const STATE = '/var/lib/dpi-agent';
export const PLACES = {
  journal: '/var/log/calico/snort-alerts',
  cursor: `${STATE}/sinks/test.cursor.json`,
  letters: `${STATE}/sinks/test-dead-letters`,
  lanes: `${STATE}/lanes`,
};
/** In which things are tried again, and looked at. */
const RETRY_MILLIS = 1000;
const JOURNAL_GRACE_MILLIS = 5000;
const LOG = pino({ level: 'silent' });

export interface Machine {
  clock: VirtualClock;
  disk: Disk;
  destination: ScriptedDestination;
  engines: Engines;
  node: Node;
  plan: Plan;
  choice: Choice;
  random: () => number;
  oracle: Oracle;
  alertOracle: AlertOracle;
}

/** How it is to end. */
export interface Life {
  /** Somebody asks it to. */
  stopping: boolean;
  /** All is to be read and delivered before it does. */
  settles: boolean;
  /** The journal did not take what it was given last. */
  isWaiting: boolean;
}

/** Resolves when it has ended in order. */
export async function runAgent(machine: Machine, life: Life): Promise<void> {
  const { clock, disk, oracle, alertOracle, plan, node } = machine;
  const names = Array.from({ length: plan.lanes }, (_, index) => `lane${index}`);
  const left = names.map((name) => leftEngines(machine, name));
  const generations = left.flat().map(({ generation, directory }) => ({ name: generation, directory }));
  const journal = await openOwnJournal(machine);
  const consumed = await onceItCan(clock, () =>
    scanConsumed(
      PLACES.journal,
      generations.map(({ name }) => name),
      undefined,
      disk,
    ),
  );
  const leases = await onceItCan(clock, async () =>
    openLeases(join(STATE, 'leases.ndjson'), () => clock.wall() * 1000, disk.files),
  );

  const lanes: Lane[] = [];
  const common = { lanes, problems: new Map<string, string>(), leases, log: LOG };
  const attachments = openAttachments({
    ...common,
    rules: { defaults: () => [], changed: async () => undefined },
    keep: 'off',
    goesOver: () => undefined,
  });
  const alerting = startAlerting({
    ...common,
    config: {
      alerts: plan.alerts,
      evidence: { payload: true, maxBytes: plan.evidence, rule: false },
      node: 'node',
      stateDirectory: STATE,
    },
    install: { name: 'snort', version: '3' } as AlertingOptions['install'],
    rules: { index: () => new Map(), states: () => [] },
    vocabulary: BUILT_IN_VOCABULARY,
    ...(plan.names ? { names: namesOf(machine) } : {}),
    left: generations,
    consumed,
    journal: { ...journal, append: (lines) => append(machine, life, journal, lines) },
    system: {
      clock,
      failed: { add: (_position, _alert, error) => alertOracle.failed(error) },
      followPolicy: (_file, events) => followPlan(machine, events),
    },
  });
  alertOracle.counting(alerting.books.counts);
  const sink = startOwnSink(machine, journal);
  const simulated = names.map((name, index) =>
    startSimulatedLane(
      name,
      left[index] ?? [],
      { ...machine, pollMillis: plan.pollMillis, log: LOG },
      {
        resumeAt: (generation) => consumed.get(generation)?.offset ?? 0,
        alerts: (generation, items, passed) => alerting.read(generation, items, passed),
        finished: alerting.finished,
        unreadable: () => void (life.stopping = true),
        attached: alertOracle.attached,
        detached: alertOracle.detached,
      },
    ),
  );
  lanes.push(...simulated.map(({ lane }) => lane));
  node.lanes = simulated;
  const reconciling = reconcile(machine, attachments, leases, life);

  while (!life.stopping && !(life.settles && node.isQuiet())) {
    await clock.sleep(RETRY_MILLIS);
    oracle.books(sink.status(), journal.end().event);
  }
  life.stopping = true;
  await reconciling;
  await stopAgent(machine, { attachments, alerting, simulated, sink, journal }, life);
}

interface Parts {
  attachments: Attachments;
  alerting: Alerting;
  simulated: readonly SimulatedLane[];
  sink: Sink;
  journal: Journal;
}

/** As `stopParts` does it; one that settles has time until all is delivered. */
async function stopAgent(
  { clock, oracle, alertOracle, node, random }: Machine,
  { attachments, alerting, simulated, sink, journal }: Parts,
  life: Life,
): Promise<void> {
  attachments.stop();
  const allRead = Promise.all(simulated.map((lane) => lane.stop()));
  await alerting.stop(clock.now() + JOURNAL_GRACE_MILLIS, allRead);
  node.lanes = [];
  alertOracle.counted(!life.isWaiting);
  const end = (): number => journal.end().event;
  const isSettled = (): boolean => sink.status().pending === 0 && oracle.passed(end());
  while (life.settles && !isSettled()) {
    await clock.sleep(RETRY_MILLIS);
    oracle.books(sink.status(), end());
  }
  await sink.stop(1000 * random());
  await journal.close().catch(() => undefined);
  oracle.books(sink.status(), end());
  if (life.settles) oracle.settled(sink.status(), end());
}

/** Those whose folder is there. */
function leftEngines({ disk, engines }: Machine, lane: string): Engine[] {
  return engines.of(lane).filter(({ directory }) => disk.facts(`${directory}/generation.json`) !== undefined);
}

function openOwnJournal({ clock, disk, oracle, alertOracle, plan }: Machine): Promise<Journal> {
  const options = { ...plan.journal, directory: PLACES.journal };
  const system = { fileSystem: disk, lock: () => () => undefined, every: clock.every };
  return onceItCan(clock, async () => {
    const journal = await openJournal(options, undefined, clock.wall, undefined, system);
    oracle.opened(journal.end().event);
    alertOracle.journaled(textsOf(disk));
    return journal;
  });
}

/** Says what is durable. */
async function append(
  { oracle, alertOracle }: Machine,
  life: Life,
  journal: Journal,
  lines: readonly EventLine[],
): Promise<void> {
  life.isWaiting = true;
  await journal.append(lines);
  life.isWaiting = false;
  const texts = lines.map(({ json }) => json);
  oracle.acknowledged(texts, journal.end().event);
  alertOracle.journaled(texts);
}

/** Of the journal's files, or of one of them. */
export function* textsOf(disk: Disk, path = PLACES.journal): Generator<string> {
  for (const [, line] of linesOf(disk, path)) yield line;
}

function startOwnSink(machine: Machine, journal: Journal): Sink {
  const { clock, disk, destination, oracle, plan, choice, random } = machine;
  const system = { fileSystem: disk, lock: () => () => undefined, every: clock.every };
  return startSink({
    name: 'test',
    stateDirectory: STATE,
    journal: { ...journal, directory: PLACES.journal, fileSystem: disk },
    destination,
    batch: { ...plan.batch, batchEvents: Math.min(plan.batch.batchEvents, destination.maxEvents ?? Infinity) },
    deadLetterSize: plan.deadLetterSize,
    ...(choice.signatures === undefined ? {} : { when: { signature: choice.signatures } }),
    ...(choice.quiet === undefined ? {} : { quiet: choice.quiet }),
    log: LOG,
    clock,
    random,
    io: {
      async save(file, progress) {
        await saveProgress(file, progress, disk);
        oracle.saved(progress);
      },
      appendLetters: (options) => appendDeadLetters({ ...options, system, now: clock.wall }),
    },
  });
}

function followPlan({ clock, plan, random }: Machine, events: PolicyEvents): { stop: () => void } {
  const load = (): void => {
    if (random() < 0.1) events.refused(['no policy']);
    else events.loaded({ ...makePolicy(random), expired: [] });
  };
  load();
  return { stop: clock.every(plan.policyMillis, load) };
}

/** Knows some names, in time or too late. */
function namesOf({ clock, random }: Machine): Names {
  return {
    async resolve(addresses, millis) {
      await clock.sleep(Math.min(millis, random() * 2 * millis));
      const known = addresses.filter(() => random() < 0.5);
      return new Map(known.map((address) => [address, { namespace: 'far', name: 'away', nameAggr: 'away-*' }]));
    },
  };
}

/** Attaches the pods that are there, detaches those that are gone, and tries again what fails. */
async function reconcile(machine: Machine, attachments: Attachments, leases: Leases, life: Life): Promise<void> {
  const { clock, node, plan, random } = machine;
  const attached = new Map<string, Endpoint>();
  let fillers = Array.from({ length: plan.crowd }, (_, index) => fillerOf(index));
  while (!life.stopping) {
    try {
      for (const filler of fillers) leases.acquire(filler);
      fillers = [];
      for (const [id, endpoint] of attached) {
        if (node.pods.has(endpoint)) continue;
        attached.delete(id);
        await attachments.detach(id);
      }
      for (const endpoint of node.pods) {
        if (attached.get(endpoint.id) === endpoint || attached.has(endpoint.id)) continue;
        attachments.attach(endpoint);
        attached.set(endpoint.id, endpoint);
      }
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
    }
    await clock.sleep(random() * RETRY_MILLIS);
  }
}

function fillerOf(index: number): Endpoint {
  const name = `filler-${index}`;
  const id = `crowd/${name}`;
  return { id, namespace: 'crowd', name, nameAggr: '-', interface: '', labels: {}, addresses: [], resources: [] };
}

/** The agent tries each second, or is started anew. @throws what is no error of the disk. */
async function onceItCan<T>(clock: VirtualClock, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (errorCode(error) === undefined && !(error instanceof JournalError)) throw error;
    }
    await clock.sleep(RETRY_MILLIS);
  }
}
