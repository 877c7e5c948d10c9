/**
 * One seed is one run: an agent reads what engines write, journals and delivers it, on a disk, a clock, a node and a
 * destination that the seed's random numbers make fail; it is killed or loses power some times, and begins again from
 * what the disk then holds. At last all faults end, and everything has to be settled.
 */
import { seeded } from '../support/random.ts';
import { PLACES, runAgent, textsOf, type Life, type Machine } from './agent.ts';
import { createAlertOracle } from './alerts.ts';
import { createClock, turn } from './clock.ts';
import { createDestination, DELIVERIES, MOODS } from './destination.ts';
import { createDisk, FAIR } from './disk.ts';
import { createEngines } from './lane.ts';
import { createNode } from './node.ts';
import { createOracle } from './oracle.ts';
import { makeChoice, makePlan, MINUTE, pick, type End } from './plan.ts';

/** Steps of the clock after which a life that is not at its end never will be. */
const MAX_STEPS = 400_000;
/** Between two lives: a machine that begins anew takes its time. */
const REBOOT_MILLIS = 10_000;

export interface Result {
  /** The obligation, and how. */
  broken?: string;
  calls: number;
  alerts: number;
  merged: number;
  folded: number;
  suppressed: number;
  sends: number;
  kills: number;
  powerCuts: number;
  stops: number;
  evicted: number;
  letters: number;
  /** Of all calls: the same for the same seed. */
  digest: number;
}

/** Faults end in the first one; the second one has none. */
const LAST: readonly End[] = [
  { how: 'settle', calls: Infinity },
  { how: 'settle', calls: Infinity },
];
const COUNTED = { kill: 'kills', 'power cut': 'powerCuts', stop: 'stops', settle: 'stops' } as const;

/** @param trace Called with each call of the disk and each send. */
export async function simulate(seed: number, trace?: (line: string) => void): Promise<Result> {
  const machine = createMachine(seed);
  const { disk, destination, engines, oracle, alertOracle } = machine;
  const ends = { kills: 0, powerCuts: 0, stops: 0 };
  disk.trace = trace;
  destination.trace = trace;

  for (const end of [...machine.plan.ends, ...LAST]) {
    await live(machine, end);
    trace?.(end.how);
    ends[COUNTED[end.how]] += 1;
    const lossy = end.how === 'power cut' && disk.lostSyncs();
    if (end.how === 'power cut') engines.cutPower();
    else engines.orphan();
    disk.restart(end.how === 'power cut' ? 'power cut' : 'kill');
    oracle.ended(lossy);
    alertOracle.ended(end.how, lossy);
    if (brokenOf(machine) !== undefined) break;
    await pass(machine, end.how === 'power cut' ? REBOOT_MILLIS : machine.random() * REBOOT_MILLIS);
  }
  if (brokenOf(machine) === undefined) alertOracle.settled(textsOf(disk));
  const broken = brokenOf(machine);
  return {
    ...(broken === undefined ? {} : { broken }),
    calls: disk.calls(),
    ...alertOracle.facts(),
    sends: destination.sends(),
    ...ends,
    ...oracle.facts(),
    digest: disk.digest(),
  };
}

function createMachine(seed: number): Machine {
  const random = seeded(seed);
  const plan = makePlan(random);
  const clock = createClock();
  const disk = createDisk(clock, seeded(seed + 0x1000_0000), ['/var/log', '/var/lib']);
  const destination = createDestination({
    clock,
    random: seeded(seed + 0x2000_0000),
    bad: plan.bad,
    delivery: DELIVERIES[seed % DELIVERIES.length] ?? 'whole',
  });
  const choice = makeChoice(seeded(seed + 0x5000_0000));
  const oracle = createOracle(disk, PLACES, destination.taken, choice);
  const alertOracle = createAlertOracle(disk, PLACES.lanes, plan.crowd > 0);
  const outside = { clock, disk, random: seeded(seed + 0x3000_0000), stamped: plan.stamped };
  const engines = createEngines(PLACES.lanes, outside, alertOracle.wrote);
  const node = createNode(clock, seeded(seed + 0x4000_0000), plan.node);
  disk.onUnlink = (path) => {
    if (path.startsWith(`${PLACES.journal}/`)) alertOracle.evicting(textsOf(disk, path));
    alertOracle.unlinking(path);
    oracle.unlinking(path);
  };
  disk.onRename = oracle.renamed;
  destination.onSend = oracle.sent;
  destination.onAnswer = oracle.answered;
  return { clock, disk, destination, engines, node, plan, choice, random, oracle, alertOracle };
}

function brokenOf({ oracle, alertOracle }: Machine): string | undefined {
  return oracle.broken() ?? alertOracle.broken();
}

/** One life of the process. */
async function live(machine: Machine, end: End): Promise<void> {
  const { clock, disk, oracle, random } = machine;
  const begun = disk.calls();
  if (end.how === 'kill' || end.how === 'power cut') disk.crashAt = begun + end.calls;
  const isLast = end === LAST[1];
  if (isLast) makeFair(machine);
  else changeWeather(machine);
  const settles = end.how === 'settle';
  if (settles && !isLast) clock.after(random() * 2 * MINUTE, () => makeFair(machine));

  const life: Life = { stopping: false, settles, isWaiting: false };
  let outcome: { error?: unknown } | undefined;
  const fail = (error: unknown): void => void (outcome = { error });
  runAgent(machine, life).then(() => (outcome = {}), fail);
  for (let steps = 0; brokenOf(machine) === undefined && !disk.crashed; steps++) {
    await turn();
    if (outcome?.error !== undefined) throw outcome.error as Error;
    if (outcome !== undefined) break;
    if (end.how === 'stop' && disk.calls() - begun >= end.calls) life.stopping = true;
    if (steps > MAX_STEPS || !clock.step()) oracle.stuck();
  }
  // What a call that failed because the process died is told is heard by nobody.
  await turn();
  clock.clear();
  machine.node.lanes = [];
  machine.alertOracle.counted(false);
}

/** Time goes by while no agent runs. */
async function pass({ clock }: Machine, millis: number): Promise<void> {
  let isOver = false;
  clock.after(millis, () => (isOver = true));
  while (!isOver && clock.step()) await turn();
}

/** What fails changes every some seconds. */
function changeWeather(machine: Machine): void {
  const { clock, disk, destination, plan, random } = machine;
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
  clock.after(random() * 30_000, () => changeWeather(machine));
}

function makeFair({ disk, destination }: Machine): void {
  disk.weather = FAIR;
  destination.mood = 'well';
  destination.kind = true;
}
