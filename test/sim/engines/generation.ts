/**
 * Scripted processes of an engine, as a supervisor starts them: slow to start, to load and to go over to other rules,
 * or never; they die, close their input and stay, do not inspect, and do not listen to signals, as the run's script
 * says.
 *
 * Their alerts are in files, as engine.ts writes them. A frame of the agent's own is an alert where the rules that the
 * process inspects by have its token.
 */
import { CANARY_VLAN } from '../../../agent/engine/canary.ts';
import type { EngineExit } from '../../../agent/engine/exit.ts';
import type { Generation, GenerationOptions } from '../../../agent/engine/generation.ts';
import { createAlertJsonDecoder } from '../../../agent/engine/readers/alert-json.ts';
import type { EngineRules } from '../../../agent/engine/rules.ts';
import type { VirtualClock } from '../clock.ts';
import type { Disk } from '../disk.ts';
import { ALERT_FILE, startEngine, type Packet, type Stimulus } from '../engine.ts';
import type { EnginesOracle, ScriptedProcess } from './oracle.ts';

/** Probabilities, 0..1, of each process and each change of its rules; and how long they take, at most. */
export interface Temper {
  notStarted: number;
  /** It dies while it runs, within `lifeMillis`. */
  dies: number;
  lifeMillis: number;
  /** It closes its input and stays. */
  closes: number;
  /** It does not inspect any more, and reads on. */
  stares: number;
  /** It hears no SIGTERM, and no end of its input. */
  deaf: number;
  /** A change of its rules: it refuses it, dies of it, or does nothing. */
  refuses: number;
  diesAtSwap: number;
  ignores: number;
  loadMillis: number;
}

export const CALM: Temper = {
  notStarted: 0,
  dies: 0,
  lifeMillis: 60_000,
  closes: 0,
  stares: 0,
  deaf: 0,
  refuses: 0,
  diesAtSwap: 0,
  ignores: 0,
  loadMillis: 2000,
};

export interface ProcessesOptions {
  clock: VirtualClock;
  disk: Disk;
  random: () => number;
  lane: string;
  temper: () => Temper;
  oracle: EnginesOracle;
  /** It waits for its input, or closed it. */
  changed: () => void;
}

export interface Processes {
  start(options: GenerationOptions): Promise<Generation>;
  release(fifo: string): void;
  at(fifo: string): ScriptedProcess | undefined;
}

const PATCHED = {
  source: { ip: '10.0.0.1', port: 1 },
  destination: { ip: '10.0.0.2', port: 2 },
  protocol: 'TCP',
} as const;
const ENDPOINT = {
  id: 'p',
  namespace: 'n',
  name: 'p',
  nameAggr: '-',
  interface: 'i',
  labels: {},
  addresses: [],
  resources: [],
};

export function createProcesses(options: ProcessesOptions): Processes {
  const { clock, random, lane, temper, oracle } = options;
  const processes = new Map<string, ScriptedProcess>();
  let number = 0;
  let tokens = 0;

  async function start({ engineRules }: GenerationOptions): Promise<Generation> {
    const rules = engineRules();
    await clock.sleep(random() * temper().loadMillis);
    if (random() < temper().notStarted) {
      oracle.notStarted(lane);
      throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    }
    const name = `${lane}-${String(number++).padStart(4, '0')}`;
    return run(name, rules);
  }

  function run(name: string, first: EngineRules): Generation {
    const { disk, changed } = options;
    const nature = natureOf(temper(), random);
    const directory = `/var/lib/dpi-agent/lanes/${lane}/${name}`;
    const fifo = `${directory}/fifo`;
    const token = `${++tokens}`.padStart(16, '0');
    let told = first;
    let active = { rules: first, token };
    /** What it goes over to with the next frame. */
    let staged: (() => void) | undefined;
    let state: 'loading' | 'waiting' | 'reading' | 'closed' | 'ended' = 'loading';
    let stares = false;
    let reloading: Promise<void> = Promise.resolve();
    for (const folder of ['output', 'state']) disk.outside.makeFolder(`${directory}/${folder}`);
    const writer = startEngine({
      clock,
      disk,
      random,
      generation: name,
      directory,
      stamped: false,
      wrote: (stimulus) => noteAlert(oracle, lane, stimulus),
    });
    let resolveExit: (exit: EngineExit) => void = () => undefined;
    const exited = new Promise<EngineExit>((resolve) => (resolveExit = resolve));

    function end(exit: Omit<EngineExit, 'output'>): void {
      if (state === 'ended') return;
      state = 'ended';
      oracle.ended(lane, name, exit.signal === null ? 'exited' : 'signal');
      writer.onEnd = () => resolveExit({ ...exit, output: '' });
      writer.die(true);
      changed();
    }

    function finish(): void {
      if (nature.isDeaf || state === 'ended') return;
      writer.onEnd = () => {
        if (state === 'ended') return;
        state = 'ended';
        oracle.ended(lane, name, 'exited');
        resolveExit({ code: 0, signal: null, output: '' });
      };
      writer.finish();
    }

    function fire(packet: Packet, vlan: number): void {
      writer.fire({ packet, vlan, timeMicros: Math.round(clock.wall() * 1000), endpoint: ENDPOINT, end: 'source' });
    }

    const child: ScriptedProcess = {
      fifo,
      isWaiting: () => state === 'waiting',
      isReading: () => state === 'reading',
      open() {
        state = 'reading';
        oracle.opened(lane, child);
      },
      endInput: finish,
      frame(payload) {
        if (state !== 'reading') return false;
        staged?.();
        staged = undefined;
        if (!stares && payload.includes(active.token))
          fire({ ...PATCHED, gid: 4094, sid: 4094, payload: Buffer.from(payload) }, CANARY_VLAN);
        return true;
      },
      packet(serial) {
        if (state !== 'reading' || stares) return false;
        fire({ ...PATCHED, sid: 7, payload: Buffer.from(`packet ${serial}`) }, 1);
        return true;
      },
      inspectsBy: () => active.rules,
    };
    processes.set(fifo, child);
    oracle.started(lane, name, child);

    clock.after(random() * temper().loadMillis, () => {
      if (state !== 'loading') return;
      state = 'waiting';
      changed();
    });
    if (nature.dies) {
      const isCrash = random() < 0.5;
      clock.after(random() * temper().lifeMillis, () =>
        end(isCrash ? { code: null, signal: 'SIGSEGV' } : { code: Math.floor(random() * 3), signal: null }),
      );
    }
    if (nature.closes)
      clock.after(random() * temper().lifeMillis, () => {
        if (state !== 'reading') return;
        state = 'closed';
        changed();
      });
    if (nature.stares) clock.after(random() * temper().lifeMillis, () => (stares = true));

    /** One after the other, as engines do it. */
    function apply(rules: EngineRules, next: string): Promise<void> {
      told = rules;
      const applied = reloading.then(() => reload(rules, next));
      reloading = applied.catch(() => undefined);
      return applied;
    }

    async function reload(rules: EngineRules, next: string): Promise<void> {
      await clock.sleep(random() * temper().loadMillis);
      const outcome = random();
      const { refuses, diesAtSwap, ignores } = temper();
      if (outcome < refuses) throw new Error('it refuses the rules');
      if (outcome < refuses + diesAtSwap) return end({ code: null, signal: 'SIGABRT' });
      if (outcome < refuses + diesAtSwap + ignores) return;
      staged = () => (active = { rules, token: next });
    }

    return {
      name,
      directory,
      fifo,
      outputDirectory: `${directory}/output`,
      stateDirectory: `${directory}/state`,
      command: { arguments: [], alertFile: ALERT_FILE, stamped: false, createDecoder: createAlertJsonDecoder },
      token,
      pid: number,
      startedAt: clock.now(),
      exited,
      counters: () => undefined,
      kill(signal) {
        if (signal === 'SIGKILL' || !nature.isDeaf) clock.after(1, () => end({ code: null, signal }));
      },
      rules: () => told,
      stage(rules) {
        const next = `${++tokens}`.padStart(16, '0');
        return { token: next, apply: () => apply(rules, next) };
      },
    };
  }

  return {
    start,
    release(fifo) {
      const child = processes.get(fifo);
      if (child?.isWaiting() === true) child.endInput();
    },
    at: (fifo) => processes.get(fifo),
  };
}

function natureOf({ dies, closes, stares, deaf }: Temper, random: () => number) {
  return { dies: random() < dies, closes: random() < closes, stares: random() < stares, isDeaf: random() < deaf };
}

function noteAlert(oracle: EnginesOracle, lane: string, { packet, generation }: Stimulus): void {
  if (packet.gid === undefined) oracle.wrote(lane, generation, packet.payload.toString());
}
