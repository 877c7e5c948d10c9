/**
 * One seed is one run: a process appends events and delivers them, on a disk, a clock and a destination that the seed's random numbers
 * make fail; it is killed or loses power some times, and begins again from what the disk then holds. At last all faults end, and
 * everything has to be settled.
 *
 * Limits are those that a configuration accepts: the defaults, or their smallest and largest values.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { JournalError, openJournal } from '../../agent/journal/journal.ts';
import type { Journal, JournalOptions, JournalSystem } from '../../agent/journal/journal.ts';
import { saveProgress } from '../../agent/ship/cursor.ts';
import { appendDeadLetters } from '../../agent/ship/dead-letter.ts';
import { startSink } from '../../agent/ship/sink.ts';
import type { SinkOptions } from '../../agent/ship/state.ts';
import { seeded } from '../support/random.ts';
import { createClock } from './clock.ts';
import type { VirtualClock } from './clock.ts';
import { createDestination, MOODS } from './destination.ts';
import type { ScriptedDestination } from './destination.ts';
import { createDisk, FAIR } from './disk.ts';
import type { Disk } from './disk.ts';
import { createOracle } from './oracle.ts';
import type { Oracle } from './oracle.ts';

const MEBIBYTE = 1 << 20;
const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const RETRY_MILLIS = 1000;
/** Steps of the clock after which a run that is not at its end never will be. */
const MAX_STEPS = 200_000;

const PLACES = {
  journal: '/var/log/calico/snort-alerts',
  cursor: '/var/lib/dpi-agent/sinks/test.cursor.json',
  letters: '/var/lib/dpi-agent/sinks/test-dead-letters',
};
const STATE = '/var/lib/dpi-agent';

export interface Result {
  seed: number;
  /** The obligation, and how. */
  broken?: string;
  calls: number;
  events: number;
  sends: number;
  kills: number;
  powerCuts: number;
  stops: number;
  evicted: number;
  letters: number;
  /** Of all calls and sends: the same for the same seed. */
  digest: number;
}

interface Plan {
  journal: Omit<JournalOptions, 'directory'>;
  batch: SinkOptions['batch'];
  deadLetterSize: number;
  /** Batches of events. */
  batches: { id: string; json: string }[][];
  /** At most, before each. */
  pauseMillis: number;
  /** Of each life of the process but the last. */
  ends: End[];
  /** Whether the disk says of some syncs that it did them, and did not. */
  lying: boolean;
}

interface End {
  how: 'kill' | 'power cut' | 'stop' | 'settle';
  /** Calls of the disk until then. */
  calls: number;
}

interface Life {
  stopping: boolean;
  /** Whether there are events to append. */
  producing: boolean;
}

interface World {
  clock: VirtualClock;
  disk: Disk;
  destination: ScriptedDestination;
  oracle: Oracle;
  plan: Plan;
  random: () => number;
}

/** @param trace Called with each call of the disk and each send. */
export async function simulate(seed: number, trace: (line: string) => void = () => undefined): Promise<Result> {
  const random = seeded(seed);
  const clock = createClock();
  const disk = createDisk(clock, seeded(seed + 0x1000_0000), ['/var/log', '/var/lib']);
  const destination = createDestination(clock, seeded(seed + 0x2000_0000));
  const oracle = createOracle(disk, PLACES, destination.taken);
  const world: World = { clock, disk, destination, oracle, plan: makePlan(random), random };
  const result: Result = { seed, ...NO_COUNTS };

  const note = (line: string): void => {
    for (let at = 0; at < line.length; at++)
      result.digest = Math.imul(result.digest ^ line.charCodeAt(at), 0x0100_0193);
    trace(line);
  };
  disk.trace = note;
  destination.trace = note;
  disk.onUnlink = oracle.unlinking;
  disk.onRename = oracle.renamed;
  destination.onSend = oracle.sent;
  destination.onAnswer = oracle.answered;

  for (const end of [...world.plan.ends, LAST]) {
    await live(world, end);
    clock.clear();
    note(end.how);
    result[COUNTED[end.how]] += 1;
    const lossy = end.how === 'power cut' && disk.lostSyncs();
    disk.restart(end.how === 'power cut' ? 'power cut' : 'kill');
    oracle.ended(lossy);
    if (oracle.broken() !== undefined) break;
  }
  const broken = oracle.broken();
  return {
    ...result,
    ...oracle.facts(),
    ...(broken === undefined ? {} : { broken }),
    calls: disk.calls(),
    events: world.plan.batches.flat().length,
    sends: destination.sends(),
  };
}

const NO_COUNTS = {
  calls: 0,
  events: 0,
  sends: 0,
  kills: 0,
  powerCuts: 0,
  stops: 0,
  evicted: 0,
  letters: 0,
  digest: 0x811c_9dc5,
};
const LAST: End = { how: 'settle', calls: Infinity };
const COUNTED = { kill: 'kills', 'power cut': 'powerCuts', stop: 'stops', settle: 'stops' } as const;

/** One life of the process. */
async function live(world: World, end: End): Promise<void> {
  const { clock, disk, oracle } = world;
  const begun = disk.calls();
  if (end.how === 'kill' || end.how === 'power cut') disk.crashAt = begun + end.calls;
  const last = end.how === 'settle';
  changeWeather(world);
  if (last) clock.after(world.random() * 2 * MINUTE, () => makeFair(world));

  const life: Life = { stopping: false, producing: true };
  let outcome: { error?: unknown } | undefined;
  const fail = (error: unknown): void => void (outcome = { error });
  runProcess(world, life, last, fail).then(() => (outcome = {}), fail);
  for (let steps = 0; oracle.broken() === undefined && !disk.crashed; steps++) {
    // All that the last step made possible.
    await turn();
    if (outcome?.error !== undefined) throw outcome.error as Error;
    if (outcome !== undefined) return;
    if (end.how === 'stop' && disk.calls() - begun >= end.calls) life.stopping = true;
    if (steps > MAX_STEPS || (!disk.crashed && !clock.step())) oracle.stuck();
  }
}

/** As the agent does it: the journal once the disk allows, the sink, then what is not in the journal yet. */
async function runProcess(world: World, life: Life, last: boolean, fail: (error: unknown) => void): Promise<void> {
  const { clock, disk, oracle, plan } = world;
  const options = { ...plan.journal, directory: PLACES.journal };
  const system = { fileSystem: disk, lock: () => () => undefined, every: clock.every };
  const journal = await onceItCan(world, () => openJournal(options, undefined, clock.wall, undefined, system));
  const end = (): number => journal.end().event;
  oracle.opened(end());
  const sink = startSink(sinkOptions(world, journal, system));
  const done = oracle.journaled();
  const waiting = plan.batches.map((batch) => batch.filter(({ id }) => !done.has(id)));
  // Lanes append without regard to each other.
  const producers = [0, 1].map((lane) =>
    produce(
      world,
      journal,
      life,
      waiting.filter((_, index) => index % 2 === lane),
    ),
  );
  Promise.all(producers).then(() => (life.producing = false), fail);
  const isSettled = (): boolean => !life.producing && sink.status().pending === 0 && oracle.passed(end());
  while (!life.stopping && !(last && isSettled())) {
    await clock.sleep(RETRY_MILLIS);
    oracle.books(sink.status(), end());
  }
  await sink.stop(1000 * world.random());
  await journal.close().catch(() => undefined);
  oracle.books(sink.status(), end());
  if (!last) return;
  const stimuli = plan.batches.flat().map(({ id }) => id);
  oracle.settled(sink.status(), end(), stimuli);
}

/** Appends them in order, each until the journal has it. */
async function produce(world: World, journal: Journal, life: Life, batches: Plan['batches']): Promise<void> {
  const { clock, oracle, plan, random } = world;
  // A node may be quiet after its start: nothing then syncs what the process before left.
  if (random() < 0.5) await clock.sleep(random() * MINUTE);
  for (const batch of batches) {
    if (batch.length === 0) continue;
    await clock.sleep(random() * plan.pauseMillis);
    const lines = batch.map(({ id, json }) => ({ position: `generation:${id}`, json }));
    await onceItCan(world, () => (life.stopping ? new Promise<never>(() => undefined) : journal.append(lines)));
    oracle.acknowledged(
      batch.map(({ id }) => id),
      journal.end().event,
    );
  }
}

function sinkOptions(
  { clock, disk, destination, oracle, plan, random }: World,
  journal: Journal,
  system: JournalSystem,
): SinkOptions {
  const say = (): void => undefined;
  return {
    name: 'test',
    stateDirectory: STATE,
    journal: { ...journal, directory: PLACES.journal, fileSystem: disk },
    destination,
    batch: plan.batch,
    deadLetterSize: plan.deadLetterSize,
    log: { info: say, warn: say, error: say },
    clock,
    random,
    io: {
      async save(file, progress) {
        await saveProgress(file, progress, disk);
        oracle.saved(progress);
      },
      appendLetters: (options) => appendDeadLetters({ ...options, system, now: clock.wall }),
    },
  };
}

/** The agent tries each second. */
async function onceItCan<T>({ clock }: World, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof JournalError)) throw error;
    }
    await clock.sleep(RETRY_MILLIS);
  }
}

/** What fails changes every some seconds. */
function changeWeather(world: World): void {
  const { clock, disk, destination, plan, random } = world;
  if (destination.kind) return;
  const some = (most: number): number => (random() < 0.25 ? most * random() : 0);
  const bad = random() < 0.5;
  disk.weather = bad
    ? {
        full: random() < 0.1 ? 1 : some(0.5),
        broken: random() < 0.05 ? 1 : some(0.2),
        short: some(1),
        late: some(1),
        lost: plan.lying ? some(1) : 0,
      }
    : FAIR;
  destination.mood = random() < 0.4 ? 'well' : pick(random, MOODS);
  clock.after(random() * 30_000, () => changeWeather(world));
}

function makeFair({ disk, destination }: World): void {
  disk.weather = FAIR;
  destination.mood = 'well';
  destination.kind = true;
}

function makePlan(random: () => number): Plan {
  const segmentSize = pick(random, [MEBIBYTE, MEBIBYTE, 64 * MEBIBYTE]);
  const big = random() < 0.3;
  const bad = random() < 0.5 ? 0 : 0.1;
  let count = 0;
  const makeEvent = (): { id: string; json: string } => {
    const kind = random() < bad ? pick(random, ['-poison', '-poison', '-stubborn']) : '';
    const id = `e${count++}${kind}`;
    const padding = 'x'.repeat(random() * (big && random() < 0.3 ? 120_000 : 1500));
    const record = { event_id: id, timestamp: '2026-01-02T03:04:05.678901Z', padding };
    return { id, json: JSON.stringify({ severity: 100, host: 'node', record }) };
  };
  return {
    journal: {
      segmentSize,
      maxSize: segmentSize * pick(random, [2, 2, 16]),
      segmentAge: pick(random, [MINUTE, DAY]),
      maxAge: pick(random, [0, MINUTE, 30 * DAY]),
      fsync: true,
    },
    batch: {
      batchEvents: pick(random, [1, 10, 1000, 1000, 10_000]),
      batchSize: pick(random, [1 << 16, 5 * MEBIBYTE]),
      batchMillis: pick(random, [0, 200, 200, MINUTE]),
    },
    deadLetterSize: pick(random, [MEBIBYTE, 64 * MEBIBYTE]),
    batches: times(1 + random() * 60, () => times(1 + random() * pick(random, [2, 20]), makeEvent)),
    pauseMillis: pick(random, [10, 500, 20_000, 2 * MINUTE]),
    ends: times(random() * 5, () => ({
      how: pick(random, ['kill', 'power cut', 'power cut', 'stop'] as const),
      calls: Math.ceil(3000 ** random()),
    })),
    lying: random() < 0.15,
  };
}

function pick<T>(random: () => number, choices: readonly [T, ...T[]]): T {
  return choices[Math.floor(random() * choices.length)] ?? choices[0];
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: Math.floor(count) }, make);
}
