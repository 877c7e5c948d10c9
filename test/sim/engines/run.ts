/**
 * One seed is one run of lanes that keep their engines running: engines crash, hang, are slow and refuse, capture
 * processes die, rules are swapped meanwhile. At last nothing fails any more, and everything has to be settled; then
 * the lanes end.
 */
import { pino } from 'pino';
import type { CaptureEvents } from '../../../agent/capture/supervisor.ts';
import type { EngineRules } from '../../../agent/engine/rules.ts';
import { superviseEngine } from '../../../agent/engine/supervisor.ts';
import { createAlertJsonDecoder } from '../../../agent/engine/readers/alert-json.ts';
import { startLane, type Lane, type LaneOptions } from '../../../agent/lane.ts';
import { readAlertFiles } from '../../../agent/lane/alert-files.ts';
import { swapRules } from '../../../agent/rulesets/swap.ts';
import { seeded } from '../../support/random.ts';
import { createClock, turn, type VirtualClock } from '../clock.ts';
import { createDisk, type Disk } from '../disk.ts';
import { noticeOf, tailFileSystem } from '../lane.ts';
import { MINUTE, pick } from '../plan.ts';
import { CALM, createProcesses, type Processes, type Temper } from './generation.ts';
import { createEnginesOracle, type EnginesOracle } from './oracle.ts';

const LOG = pino({ level: 'silent' });
const MAX_STEPS = 100_000;
const PROOF_MILLIS = 20_000;
/** Longer than an engine's pause, its start, and three canaries. */
const SETTLING_MILLIS = 3 * MINUTE;

export interface EnginesResult {
  /** The obligation, and how. */
  broken?: string;
  processes: number;
  swaps: number;
  alerts: number;
  /** The same for the same seed. */
  digest: number;
}

interface EnginesMachine {
  clock: VirtualClock;
  disk: Disk;
  random: () => number;
  oracle: EnginesOracle;
  temper: Temper;
  /** How often a capture process dies, per minute. */
  captureDies: number;
  canaryMillis: number;
}

interface SimulatedLane {
  lane: Lane;
  /** A packet comes to the engine. */
  packet(number: number): void;
  dieCapture(): void;
}

/** @param trace Called with each call of the disk. */
export async function simulateEngines(seed: number, trace?: (line: string) => void): Promise<EnginesResult> {
  const machine = createMachine(seed);
  const { clock, disk, oracle } = machine;
  disk.trace = trace;
  let outcome: { error?: unknown } | undefined;
  runAll(machine).then(
    () => (outcome = {}),
    (error: unknown) => (outcome = { error }),
  );
  for (let steps = 0; oracle.broken() === undefined; steps++) {
    await turn();
    if (outcome?.error !== undefined) throw outcome.error as Error;
    if (outcome !== undefined) break;
    if (steps > MAX_STEPS || !clock.step()) oracle.stuck();
  }
  const broken = oracle.broken();
  return {
    ...(broken === undefined ? {} : { broken }),
    ...oracle.facts(),
    digest: disk.digest() ^ (clock.now() * 1000),
  };
}

function createMachine(seed: number): EnginesMachine {
  const random = seeded(seed);
  const clock = createClock();
  const some = (most: number): number => (random() < 0.4 ? most * random() : 0);
  return {
    clock,
    disk: createDisk(clock, seeded(seed + 0x1000_0000), ['/var/lib']),
    random: seeded(seed + 0x2000_0000),
    oracle: createEnginesOracle(() => clock.now()),
    temper: {
      notStarted: some(0.5),
      dies: some(1),
      lifeMillis: pick(random, [1000, 30_000, 3 * MINUTE]),
      closes: some(0.5),
      stares: some(0.3),
      deaf: some(0.5),
      refuses: some(0.3),
      diesAtSwap: some(0.3),
      ignores: some(0.3),
      loadMillis: pick(random, [200, 5000, 30_000]),
    },
    captureDies: some(2),
    canaryMillis: pick(random, [10_000, 10_000, 1000]),
  };
}

/** Numbers of versions tell states of the rules apart. */
const rulesOf = (version: number): EngineRules => ({
  files: [{ name: '000.rules', sets: ['own'], text: `version ${version}`, origins: [] }],
  defaults: ['own'],
  policies: [],
});

async function runAll(machine: EnginesMachine): Promise<void> {
  const { clock, oracle, random } = machine;
  let inForce = rulesOf(0);
  const names = pick(random, [['lane0'], ['lane0', 'lane1']]);
  const simulated: SimulatedLane[] = [];
  for (const name of names) simulated.push(await startSimulated(machine, name, () => inForce));
  const lanes = simulated.map(({ lane }) => lane);
  const ends = clock.now() + (1 + random() * 9) * MINUTE;
  const packets = sendPackets(machine, simulated);
  let version = 0;
  while (clock.now() < ends) {
    await clock.sleep(random() * 30_000);
    for (const each of simulated) if (random() < machine.captureDies / 4) each.dieCapture();
    if (random() < 0.5) continue;
    inForce = await swapAll(machine, lanes, inForce, rulesOf(++version), (rules) => (inForce = rules));
  }
  Object.assign(machine, { temper: CALM, captureDies: 0 });
  // What stares is what only an operator sees, by the canary; the others come back by themselves.
  for (const { lane } of simulated) {
    await clock.sleep(SETTLING_MILLIS);
    if (lane.status().canary.is !== 'alive') await lane.restart();
  }
  await clock.sleep(SETTLING_MILLIS);
  inForce = await swapAll(machine, lanes, inForce, rulesOf(++version), (rules) => (inForce = rules));
  await clock.sleep(SETTLING_MILLIS);
  for (const lane of lanes) oracle.settled(lane.name, inForce, lane.status());
  packets.end();
  const asked = clock.now();
  await Promise.all(
    lanes.map(async (lane) => {
      await lane.stop();
      oracle.stopped(lane.name, clock.now() - asked);
    }),
  );
}

/** As live.ts does. @returns what is in force then. */
async function swapAll(
  { oracle }: EnginesMachine,
  lanes: readonly Lane[],
  before: EngineRules,
  next: EngineRules,
  put: (rules: EngineRules) => void,
): Promise<EngineRules> {
  put(next);
  const told = lanes.map((lane) => ({
    name: lane.name,
    async reload(rules: EngineRules) {
      oracle.told(lane.name);
      const failure = await lane.reload(rules, { engine: 'running', proofMillis: PROOF_MILLIS });
      if (failure === undefined) oracle.left(lane.name, rules, true);
      return failure;
    },
    async restart() {
      await lane.restart();
      oracle.left(lane.name, before, false);
    },
  }));
  const { is } = await swapRules(told, before, next);
  return is === 'swapped' ? next : before;
}

function sendPackets({ clock, random }: EnginesMachine, lanes: readonly SimulatedLane[]): { end(): void } {
  let isOver = false;
  let number = 0;
  (function send(): void {
    if (isOver) return;
    for (const lane of lanes) lane.packet(number++);
    clock.after(random() * 20_000, send);
  })();
  return { end: () => void (isOver = true) };
}

async function startSimulated(
  machine: EnginesMachine,
  name: string,
  engineRules: () => EngineRules,
): Promise<SimulatedLane> {
  const { clock, disk, random, oracle } = machine;
  const processes = createProcesses({
    clock,
    disk,
    random,
    lane: name,
    temper: () => machine.temper,
    oracle,
    changed: () => capture?.look(),
  });
  let capture: ScriptedCapture | undefined;
  const lane = await startLane(
    laneOptions(machine, name, engineRules),
    {
      async alerts(generation, items) {
        const payloads = items.flatMap((item) => (item.kind === 'alert' ? [item.alert.payload?.toString() ?? ''] : []));
        oracle.read(name, generation, payloads);
        await clock.sleep(random() * 50);
      },
      endpoint: () => undefined,
      ready: () => undefined,
      finished: async () => undefined,
      engineFailed: () => undefined,
      captureFailed: () => undefined,
      unreadable: () => undefined,
      canaryReturned: () => undefined,
      canaryChanged: () => undefined,
    },
    LOG,
    {
      clock,
      leftGenerations: async () => ({ generations: [], unreadable: [] }),
      startCapture: (_settings, events) => (capture = captureOf(machine, processes, events)),
      startEngine: (options, events, log) =>
        superviseEngine(options, events, log, {
          clock,
          release: (fifo) => processes.release(fifo),
          start(given) {
            oracle.beginning(name);
            return processes.start(given);
          },
        }),
      readFiles: (options) =>
        readAlertFiles(options, {
          fileSystem: tailFileSystem(disk),
          tail: {
            pollMillis: 1000,
            after: clock.after,
            notice: (folder, changed) => noticeOf(disk, folder, changed),
          },
          remove: (directory) => disk.rm(directory),
          endOrphans: async () => undefined,
        }),
    },
  );
  return {
    lane,
    packet(number) {
      capture?.packet(number);
    },
    dieCapture: () => capture?.die(),
  };
}

function laneOptions({ canaryMillis }: EnginesMachine, lane: string, engineRules: () => EngineRules): LaneOptions {
  return {
    lane,
    laneDirectory: '',
    leftIn: [''],
    driver: {
      name: 'snort',
      prepare: () => Promise.reject(new Error('simulated')),
      reload: () => Promise.reject(new Error('simulated')),
      validateArguments: () => Promise.resolve([]),
      ruleErrors: () => [],
      analysedPackets: () => undefined,
    },
    install: { name: 'snort', binary: '/snort', version: '3', searchMethods: [] },
    sandbox: { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] },
    engineRules,
    output: 'json',
    capture: {} as LaneOptions['capture'],
    canaryMillis,
    resumeAt: () => 0,
    createDecoder: createAlertJsonDecoder,
  };
}

type ScriptedCapture = Lane['capture'] & { look(): void; die(): void; packet(number: number): void };

/** A capture process, as far as its output is concerned. */
function captureOf({ clock, random }: EnginesMachine, processes: Processes, events: CaptureEvents): ScriptedCapture {
  let output: string | undefined;
  let isOpen = false;

  const current = () => (output === undefined ? undefined : processes.at(output));

  /** Opens what waits, and notices what closed. */
  function look(): void {
    clock.after(random() * 20, () => {
      const engine = current();
      if (output === undefined || engine === undefined) return;
      if (!isOpen && engine.isWaiting()) {
        isOpen = true;
        engine.open();
        events.outputOpen(output);
      } else if (isOpen && !engine.isReading()) {
        isOpen = false;
        const path = output;
        output = undefined;
        events.outputClosed(path, 'broken pipe', 'engine');
      }
    });
  }

  function close(): void {
    if (isOpen) current()?.endInput();
    isOpen = false;
  }

  return {
    look,
    die() {
      if (!isOpen || output === undefined) return;
      const path = output;
      close();
      output = undefined;
      events.outputClosed(path, 'it died', 'capture');
    },
    packet: (number) => void (isOpen && current()?.packet(number)),
    setOutput(path) {
      close();
      output = path;
      look();
    },
    countersOf: () => undefined,
    packetsOf: () => Promise.reject(new Error('the simulated capture keeps no packets')),
    inject(number, payload) {
      clock.after(random() * 5, () => {
        const accepted = isOpen && current()?.frame(payload) === true;
        events.injected(number, accepted ? 'accepted' : 'closed');
      });
    },
    async stop() {
      await clock.sleep(random() * 500);
      close();
      output = undefined;
    },
    attach: () => undefined,
    detach: () => Promise.reject(new Error('simulated')),
    counters: () => new Map(),
    handed: () => undefined,
    ownersOf: async (_path, records) => records.map(() => undefined),
    states: () => new Map(),
    countedAt: () => undefined,
    pid: () => undefined,
    library: () => undefined,
    failure: () => undefined,
  };
}
