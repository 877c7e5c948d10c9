/**
 * A lane with scripted capture and engines, and the real reader of their files. It does with those files what
 * agent/lane.ts does.
 *
 * Engines are outside: they outlive the process, and a lane that begins waits for those that an earlier process left.
 */
import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { AttachSpec, Counters } from '../../agent/capture/protocol.ts';
import type { Decoded } from '../../agent/engine/alert.ts';
import { createAlertJsonDecoder } from '../../agent/engine/readers/alert-json.ts';
import type { TailFileSystem } from '../../agent/engine/readers/tail-files.ts';
import { createTail, type Tail } from '../../agent/engine/readers/tail.ts';
import { replaceFile } from '../../agent/files/replace.ts';
import type { Lane } from '../../agent/lane.ts';
import type { VirtualClock } from './clock.ts';
import type { Disk } from './disk.ts';
import { ALERT_FILE, startEngine, type Engine, type Stimulus } from './engine.ts';

/** Of an engine that an earlier process left. */
const PATIENCE_MILLIS = 5000;
const LOOK_MILLIS = 50;
const RESTART_MILLIS = 1000;
/** Until a capture process has begun with an endpoint, or ended, at most. */
const CAPTURE_MILLIS = 50;

const NO_COUNTERS = {} as Counters;

/** What is outside of the process: it stays when that ends. */
export interface Engines {
  readonly stamped: boolean;
  /** Of a lane, by generation, the oldest first. */
  of(lane: string): Engine[];
  start(lane: string): Engine;
  /** The agent has ended, so their input has. */
  orphan(): void;
  /** The power is cut. */
  cutPower(): void;
}

export function createEngines(
  lanes: string,
  options: { clock: VirtualClock; disk: Disk; random: () => number; stamped: boolean },
  wrote: (stimulus: Stimulus) => void,
): Engines {
  const { disk, random } = options;
  const engines: { lane: string; engine: Engine }[] = [];
  const running = (): Engine[] => engines.flatMap(({ engine }) => (engine.isRunning() ? [engine] : []));
  return {
    stamped: options.stamped,
    of: (lane) => engines.flatMap(({ lane: its, engine }) => (its === lane ? [engine] : [])),
    start(lane) {
      const generation = `${lane}-${String(engines.length).padStart(4, '0')}`;
      const directory = `${lanes}/${lane}/${generation}`;
      for (const folder of ['output', 'state']) disk.outside.makeFolder(`${directory}/${folder}`);
      disk.outside.makeFile(`${directory}/generation.json`, '{}');
      const engine = startEngine({ ...options, generation, directory, wrote });
      engines.push({ lane, engine });
      return engine;
    },
    orphan() {
      for (const engine of running()) {
        engine.onEnd = () => undefined;
        if (random() < 0.2) engine.die(true);
        else engine.finish();
      }
    },
    cutPower() {
      for (const engine of running()) {
        engine.onEnd = () => undefined;
        engine.die(false);
      }
    },
  };
}

export interface LaneSystem {
  clock: VirtualClock;
  disk: Disk;
  random: () => number;
  engines: Engines;
  pollMillis: number;
}

export interface LaneEvents {
  resumeAt(generation: string): number;
  alerts(generation: string, items: Decoded[], passed?: number): Promise<void>;
  finished(generation: string): Promise<void>;
  /** The engine's alerts can't be read on by this process. */
  unreadable(): void;
  attached(vlan: number, endpointId: string): void;
  detached(endpointId: string): void;
}

export interface SimulatedLane {
  /** As much of one as is used. */
  lane: Lane;
  /** By the interface, with the VLAN id. */
  captured: ReadonlyMap<string, number>;
  engine(): Engine | undefined;
  stop(): Promise<void>;
}

export function startSimulatedLane(
  name: string,
  left: readonly Engine[],
  { clock, disk, random, engines, pollMillis }: LaneSystem,
  events: LaneEvents,
): SimulatedLane {
  const tails = new Map<string, { tail: Tail; directory: string; done: Promise<void> }>();
  let running: Engine | undefined;
  let stopping = false;

  function follow({ generation, directory }: Engine, from: number): Tail {
    const tail = createTail({
      directory: `${directory}/output`,
      stateDirectory: `${directory}/state`,
      base: ALERT_FILE,
      stamped: engines.stamped,
      decoder: createAlertJsonDecoder(),
      from,
      pollMillis,
      fileSystem: tailFileSystem(disk),
      after: clock.after,
      notice: (folder, changed) => noticeOf(disk, folder, changed),
    });
    tails.set(generation, { tail, directory, done: readAll(generation, tail, directory) });
    return tail;
  }

  async function readAll(generation: string, tail: Tail, directory: string): Promise<void> {
    try {
      for await (const batch of tail) await events.alerts(generation, batch);
      await events.finished(generation);
      await disk.rm(directory);
    } catch {
      if (running?.generation === generation) events.unreadable();
    }
    tails.delete(generation);
  }

  function start(): void {
    if (stopping) return;
    const engine = engines.start(name);
    running = engine;
    follow(engine, 0);
    engine.onEnd = () => {
      running = undefined;
      tails.get(engine.generation)?.tail.finish();
      if (!stopping) clock.after(RESTART_MILLIS, start);
    };
    if (random() < 0.3) clock.after(random() * 60_000, () => engine.die(random() < 0.5));
  }

  async function recover(): Promise<void> {
    for (const deadline = clock.now() + PATIENCE_MILLIS; clock.now() < deadline; await clock.sleep(LOOK_MILLIS)) {
      if (left.every((engine) => !engine.isRunning())) break;
    }
    for (const engine of left) engine.die(true);
    for (const engine of left) {
      const from = Math.max(events.resumeAt(engine.generation), readPassed(disk, engine.directory));
      follow(engine, from).finish();
      await tails.get(engine.generation)?.done;
    }
  }

  const recovered = recover();
  start();

  const attached = new Map<string, AttachSpec>();
  const captured = new Map<string, number>();
  const capture: Pick<Lane['capture'], 'attach' | 'detach'> = {
    attach(spec) {
      attached.set(spec.id, spec);
      events.attached(spec.vlan, spec.id);
      clock.after(random() * CAPTURE_MILLIS, () => {
        if (attached.get(spec.id) === spec) captured.set(interfaceOf(spec), spec.vlan);
      });
    },
    async detach(endpointId) {
      await clock.sleep(random() * CAPTURE_MILLIS);
      const spec = attached.get(endpointId);
      if (spec !== undefined) captured.delete(interfaceOf(spec));
      attached.delete(endpointId);
      events.detached(endpointId);
      return NO_COUNTERS;
    },
  };
  const files: Pick<Lane, 'consumed' | 'passed'> = {
    async consumed(generation, offset) {
      await tails.get(generation)?.tail.deleteConsumed(offset);
    },
    async passed(generation, offset) {
      const reading = tails.get(generation);
      if (reading === undefined) return;
      await replaceFile(passedFile(reading.directory), String(offset), 0o644, disk);
      await reading.tail.deleteConsumed(offset);
    },
  };
  return {
    lane: { name, capture, ...files } as unknown as Lane,
    captured,
    engine: () => running,
    async stop() {
      stopping = true;
      captured.clear();
      running?.finish();
      await recovered;
      await Promise.all([...tails.values()].map(({ done }) => done));
    },
  };
}

const interfaceOf = ({ taps }: AttachSpec): string => taps[0]?.interface ?? '';

const passedFile = (directory: string): string => `${directory}/state/passed`;

function readPassed(disk: Disk, directory: string): number {
  return Number(disk.peek(passedFile(directory))?.toString() ?? 0);
}

function noticeOf(disk: Disk, folder: string, changed: () => void): { start(): void; stop(): void } {
  let end: (() => void) | undefined;
  return {
    start: () => (end ??= disk.watch(folder, changed)),
    stop: () => end?.(),
  };
}

/** As a tail has it. */
export function tailFileSystem(disk: Disk): TailFileSystem {
  const statOf = ({ ino, size }: { ino: number; size: number }): BigIntStats =>
    ({ ino: BigInt(ino), size: BigInt(size), isFile: () => true }) as unknown as BigIntStats;
  return {
    async open(path, flags, mode) {
      const handle = await disk.open(path, typeof flags === 'number' ? 'r' : flags, mode);
      const stat = async (options?: { bigint: boolean }) => {
        const facts = await handle.stat();
        return options?.bigint === true ? statOf(facts) : facts;
      };
      return { ...handle, stat } as unknown as FileHandle;
    },
    readdir: async (path) => (await disk.readdir(path, { withFileTypes: true })).map(({ name }) => name),
    lstat: async (path) => statOf(await disk.stat(path)),
    readText: (path) => disk.readFile(path, 'utf8'),
    rename: (from, to) => disk.rename(from, to),
    unlink: (path) => disk.unlink(path),
    mkdir: (path) => disk.mkdir(path, { recursive: true, mode: 0o700 }),
  };
}
