/**
 * One seed is one run of updates: versions of a rule set are published, looked for, fetched, put in place and proven,
 * while the disk and the way fail; the agent is killed or loses power within any call of the disk, or ends in order,
 * and begins again from what the disk then holds. At last all faults end, one more version comes, and everything has to
 * be settled.
 */
import { seeded } from '../../support/random.ts';
import { createClock, turn, type VirtualClock } from '../clock.ts';
import { createDisk, FAIR } from '../disk.ts';
import { MINUTE, pick } from '../plan.ts';
import { runUpdates, type UpdatesMachine } from './agent.ts';
import { createUpdatesOracle, linkOf, RULES } from './oracle.ts';
import { createPublisher, KINDS, WAYS } from './publisher.ts';

const HOUR = 60 * MINUTE;
const MAX_STEPS = 200_000;

export interface UpdatesResult {
  /** The obligation, and how. */
  broken?: string;
  calls: number;
  kills: number;
  powerCuts: number;
  stops: number;
  published: number;
  proven: number;
  /** The same for the same seed. */
  digest: number;
}

type How = 'kill' | 'power cut' | 'stop';

/** @param trace Called with each call of the disk. */
export async function simulateUpdates(seed: number, trace?: (line: string) => void): Promise<UpdatesResult> {
  const machine = createMachine(seed);
  const { disk, oracle, publisher, random, clock } = machine;
  disk.trace = trace;
  const ends = { kill: 0, 'power cut': 0, stop: 0 };
  const lives = Array.from({ length: Math.ceil(random() * 6) }, () => pick<How>(random, ['kill', 'power cut', 'stop']));
  const weather = changeWeather(machine);
  for (const how of lives) {
    const calls = Math.ceil(pick(random, [400, 400, 3000]) ** random());
    await live(machine, how, disk.calls() + calls);
    trace?.(how);
    ends[how] += 1;
    disk.restart(how === 'power cut' ? 'power cut' : 'kill');
    oracle.look();
    if (oracle.broken() !== undefined) break;
    await pass(clock, random() * 30_000);
  }
  if (oracle.broken() === undefined) {
    weather.end();
    Object.assign(machine, { stubborn: 0, unreadable: 0 });
    publisher.publish(pick(random, KINDS));
    await live(machine, 'stop', Infinity);
    if (oracle.broken() === undefined) oracle.settled();
  }
  const broken = oracle.broken();
  return {
    ...(broken === undefined ? {} : { broken }),
    calls: disk.calls(),
    kills: ends.kill,
    powerCuts: ends['power cut'],
    stops: ends.stop,
    published: publisher.newest(),
    ...oracle.facts(),
    digest: disk.digest(),
  };
}

function createMachine(seed: number): UpdatesMachine {
  const random = seeded(seed);
  const clock = createClock();
  const disk = createDisk(clock, seeded(seed + 0x1000_0000), ['/var/lib/dpi-agent', RULES]);
  const publisher = createPublisher(clock, seeded(seed + 0x2000_0000), disk.versionFiles);
  publisher.publish(pick(random, KINDS));
  const lanes = pick(random, [1, 1, 2]);
  const oracle = createUpdatesOracle(disk, publisher, lanes, () => clock.now());
  disk.onRename = (path) => {
    if (path === linkOf()) oracle.look();
  };
  disk.onUnlink = oracle.unlinking;
  const source = {
    name: 'source',
    set: 'own',
    url: 'https://rules.example.com/own.tar.gz',
    every: pick(random, [5 * MINUTE, HOUR]),
    secretHeader: 'authorization',
    maxBytes: 1e6,
    timeout: HOUR,
  };
  const stubborn = pick(random, [0, 0, 0.1]);
  const unreadable = pick(random, [0, 0, 0.1]);
  const inner = seeded(seed + 0x3000_0000);
  return { clock, disk, publisher, oracle, random: inner, lanes, source, stubborn, unreadable, updates: 0 };
}

/** One life of the process. @param until So many calls of the disk, or, without an end, until all is settled. */
async function live(machine: UpdatesMachine, how: How, until: number): Promise<void> {
  const { clock, disk, oracle, source } = machine;
  if (how !== 'stop') disk.crashAt = until;
  const isLast = until === Infinity;
  // A look, one that failed and is tried again, and what is left of the time of a slow one.
  if (isLast) clock.after(3 * source.every + HOUR, () => (life.stopping = true));
  const life = { stopping: false, settles: isLast };
  let outcome: { error?: unknown } | undefined;
  runUpdates(machine, life).then(
    () => (outcome = {}),
    (error: unknown) => (outcome = { error }),
  );
  for (let steps = 0; oracle.broken() === undefined && !disk.crashed; steps++) {
    await turn();
    if (outcome?.error !== undefined) throw outcome.error as Error;
    if (outcome !== undefined) break;
    if (how === 'stop' && disk.calls() >= until) life.stopping = true;
    if (steps > MAX_STEPS || !clock.step()) oracle.stuck();
  }
  await turn();
  clock.clear();
}

async function pass(clock: VirtualClock, millis: number): Promise<void> {
  let isOver = false;
  clock.after(millis, () => (isOver = true));
  while (!isOver && clock.step()) await turn();
}

/** New versions come, and what fails changes. */
function changeWeather({ clock, disk, publisher, random, source }: UpdatesMachine): { end(): void } {
  let isOver = false;
  (function change(): void {
    if (isOver) return;
    const some = (most: number): number => (random() < 0.25 ? most * random() : 0);
    const isBad = random() < 0.4;
    disk.weather = isBad ? { full: some(0.3), broken: some(0.1), short: 0, late: some(1), lost: 0 } : FAIR;
    publisher.way = pick(random, WAYS);
    if (random() < 0.3) publisher.publish(pick(random, KINDS));
    clock.outside((random() * source.every) / 2, change);
  })();
  return {
    end() {
      isOver = true;
      disk.weather = FAIR;
      publisher.way = 'well';
    },
  };
}
