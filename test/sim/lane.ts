/**
 * A lane with scripted capture and engines, and the real reader of their files.
 *
 * Engines are outside: they outlive the process, and a lane that begins waits for those that an earlier process left.
 */
import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { AttachSpec, Counters } from '../../agent/capture/protocol.ts';
import type { Decoded } from '../../agent/engine/alert.ts';
import type { LeftGenerations } from '../../agent/engine/orphans.ts';
import { createAlertJsonDecoder } from '../../agent/engine/readers/alert-json.ts';
import type { TailFileSystem } from '../../agent/engine/readers/tail-files.ts';
import type { Lane } from '../../agent/lane.ts';
import { readAlertFiles, type AlertFiles } from '../../agent/lane/alert-files.ts';
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
  log: Logger;
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

interface State {
  readonly name: string;
  readonly system: LaneSystem;
  readonly events: LaneEvents;
  running: Engine | undefined;
  stopping: boolean;
  /** By endpoint. */
  readonly attached: Map<string, AttachSpec>;
  readonly captured: Map<string, number>;
}

export function startSimulatedLane(
  name: string,
  left: readonly Engine[],
  system: LaneSystem,
  events: LaneEvents,
): SimulatedLane {
  const state: State = {
    name,
    system,
    events,
    running: undefined,
    stopping: false,
    attached: new Map(),
    captured: new Map(),
  };
  const alertFiles = readFiles(state, left);
  const recovered = alertFiles.recover({ generations: left.map((engine) => recordOf(system, engine)), unreadable: [] });
  start(state, alertFiles);
  const { consumed, passed } = alertFiles;
  return {
    lane: { name, capture: captureOf(state), consumed, passed } as unknown as Lane,
    captured: state.captured,
    engine: () => state.running,
    async stop() {
      state.stopping = true;
      state.captured.clear();
      state.running?.finish();
      await recovered;
      await alertFiles.allRead();
    },
  };
}

function readFiles(state: State, left: readonly Engine[]): AlertFiles {
  const { name, system, events } = state;
  const { clock, disk, pollMillis, log } = system;
  return readAlertFiles(
    {
      lane: name,
      alerts: (generation, items, passed) => events.alerts(generation, items, passed),
      finished: (generation) => events.finished(generation),
      isOwn: () => false,
      locate: (_fifo, items) => Promise.resolve(items),
      unreadable(generation) {
        if (state.running?.generation === generation) events.unreadable();
      },
      resumeAt: (generation) => events.resumeAt(generation),
      createDecoder: createAlertJsonDecoder,
      log,
    },
    {
      fileSystem: tailFileSystem(disk),
      tail: { pollMillis, after: clock.after, notice: (folder, changed) => noticeOf(disk, folder, changed) },
      remove: (directory) => disk.rm(directory),
      endOrphans: () => endLeft(clock, left),
    },
  );
}

/** As it stands in its folder. */
function recordOf({ engines: { stamped } }: LaneSystem, engine: Engine): LeftGenerations['generations'][number] {
  const { generation: name, directory } = engine;
  return { name, directory, engine: 'snort', version: '3', alertFile: ALERT_FILE, stamped, output: 'json' };
}

async function endLeft(clock: VirtualClock, left: readonly Engine[]): Promise<void> {
  for (const deadline = clock.now() + PATIENCE_MILLIS; clock.now() < deadline; await clock.sleep(LOOK_MILLIS)) {
    if (left.every((engine) => !engine.isRunning())) break;
  }
  for (const engine of left) engine.die(true);
}

function start(state: State, alertFiles: AlertFiles): void {
  const { name, system } = state;
  const { clock, random, engines } = system;
  if (state.stopping) return;
  const engine = engines.start(name);
  state.running = engine;
  const command = { alertFile: ALERT_FILE, stamped: engines.stamped, createDecoder: createAlertJsonDecoder };
  alertFiles.follow({ name: engine.generation, directory: engine.directory, command });
  engine.onEnd = () => {
    state.running = undefined;
    alertFiles.finish(engine.generation);
    if (!state.stopping) clock.after(RESTART_MILLIS, () => start(state, alertFiles));
  };
  if (random() < 0.3) clock.after(random() * 60_000, () => engine.die(random() < 0.5));
}

function captureOf({ system, events, attached, captured }: State): Pick<Lane['capture'], 'attach' | 'detach'> {
  const { clock, random } = system;
  return {
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
}

const interfaceOf = ({ taps }: AttachSpec): string => taps[0]?.interface ?? '';

export function noticeOf(disk: Disk, folder: string, changed: () => void): { start(): void; stop(): void } {
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
