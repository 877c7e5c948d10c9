/**
 * A lane: capture process → FIFO → engine → alert files → reader. Composes these and nothing else.
 *
 * A FIFO is written by one capture process only: when that dies, its generation of the engine ends too, because another
 * process can't go on in the middle of a record. When the engine dies, capture goes on and counts what nobody reads.
 */
import type { Logger } from 'pino';
import { superviseCapture, type Capture, type CaptureEvents, type EndpointState } from './capture/supervisor.ts';
import type { CaptureSettings } from './capture/protocol.ts';
import type { Config } from './config/load.ts';
import type { Decoded, Decoder } from './engine/alert.ts';
import { readCanary } from './engine/canary.ts';
import { addEngineCounters, zeroEngineCounters } from './engine/counters.ts';
import type { GenerationRecord } from './engine/folder.ts';
import type { Generation, GenerationOptions } from './engine/generation.ts';
import { leftGenerations } from './engine/orphans.ts';
import { systemClock, type Clock } from './files/clock.ts';
import { createProver, type Prover } from './engine/prover.ts';
import type { EngineRules, RulesChange } from './engine/rules.ts';
import {
  superviseEngine,
  type EngineError,
  type EngineSupervisor,
  type SupervisorEvents,
} from './engine/supervisor.ts';
import { readAlertFiles, type AlertFiles, type AlertFilesOptions } from './lane/alert-files.ts';
import { changeRules, restartEngine } from './lane/change-rules.ts';
import { locate } from './lane/locate.ts';
import { newState, type LaneParts } from './lane/parts.ts';
import { statusOf, type LaneStatus } from './lane/status.ts';
import { watchCanary, type CanaryStatus } from './observe/canary.ts';

/** An engine that closed its input but does not end is ended after this. */
const HANGING_MILLIS = 5_000;

export interface LaneEvents {
  /**
   * Alerts and damage of one generation, in order; those of the canary are not among them. The next ones are read when
   * the promise resolves. `passed`: the end of what was read, where alerts of the canary were left out.
   */
  alerts(generation: string, items: Decoded[], passed?: number): Promise<void>;
  endpoint: (id: string, state: EndpointState) => void;
  /** The engine reads packets. */
  ready(generation: Generation): void;
  /** All alerts of the generation were given out and taken; resolves when they are on disk, and its folder can go. */
  finished(generation: string): Promise<void>;
  engineFailed(error: EngineError): void;
  /** Nothing can be captured, for this reason, which names the remedy; undefined: it can again. */
  captureFailed: (reason: string | undefined) => void;
  /** Alerts of the engine that runs can't be read on by this process: it has to be ended for another to read them. */
  unreadable(error: string): void;
  /** The canary came back after so many seconds. */
  canaryReturned(seconds: number): void;
  /** The canary is missing, or back again. */
  canaryChanged(status: CanaryStatus): void;
}

export interface LaneOptions extends Omit<GenerationOptions, 'mode'> {
  capture: CaptureSettings;
  /** Folders of which it reads what earlier agents left there. */
  leftIn: readonly string[];
  /** Milliseconds between two canaries; 0 for none. */
  canaryMillis: number;
  /** Offset to go on at in the alerts of a generation that an earlier agent left, from what the journal says. */
  resumeAt(generation: string): number;
  createDecoder(record: Pick<GenerationRecord, 'engine' | 'output'>): Decoder;
}

/** What a capture process is told of the configuration. */
export function captureSettings({ capture, evidence }: Pick<Config, 'capture' | 'evidence'>): CaptureSettings {
  return {
    ...capture,
    filter: capture.filter ?? '',
    shunt: capture.shunt === 'on',
    recentBytes: evidence.memory,
    recentRate: evidence.wholeRate,
  };
}

export interface Lane {
  readonly name: string;
  readonly capture: Capture;
  /** Deletes what was read up to this offset of the generation's alerts, as far as the engine has put it aside. */
  consumed(generation: string, offset: number): Promise<void>;
  /** Likewise, where no event stands for what was read up to there: after a crash it is not read again. */
  passed(generation: string, offset: number): Promise<void>;
  status(): LaneStatus;
  /**
   * Makes the engine inspect by other rules. Where it goes over while it runs, packets that are captured wait
   * meanwhile, and none is lost.
   * @returns why the engine does not inspect by them; undefined when it does. One that does not run has them at its
   * next start.
   */
  reload(rules: EngineRules, change: RulesChange): Promise<string | undefined>;
  /** Starts the engine anew, with the rules that it was last told. Packets that nobody reads meanwhile are counted. */
  restart(): Promise<void>;
  /** Ends capture and engine, and resolves when their last alert was given out. */
  stop(): Promise<void>;
}

/** What is around a lane: the machine's own, or what is simulated. */
export interface LaneSystem {
  leftGenerations: typeof leftGenerations;
  startCapture: typeof superviseCapture;
  startEngine: (...asked: Parameters<typeof superviseEngine>) => EngineSupervisor;
  readFiles: (options: AlertFilesOptions) => AlertFiles;
  clock: Clock;
}

const machine: LaneSystem = {
  leftGenerations,
  startCapture: superviseCapture,
  startEngine: superviseEngine,
  readFiles: readAlertFiles,
  clock: systemClock,
};

export async function startLane(
  options: LaneOptions,
  events: LaneEvents,
  log: Logger,
  system: Partial<LaneSystem> = {},
): Promise<Lane> {
  const { leftGenerations: findLeft, startCapture, startEngine, readFiles, clock } = { ...machine, ...system };
  // Before a generation of our own is in the folder.
  const found = await Promise.all(options.leftIn.map((directory) => findLeft(directory)));
  const left = {
    generations: found.flatMap(({ generations }) => generations),
    unreadable: found.flatMap(({ unreadable }) => unreadable),
  };
  const state = newState();
  const canary = watchCanary({
    isOff: options.canaryMillis === 0,
    returned: (seconds) => events.canaryReturned(seconds),
    changed: (status) => events.canaryChanged(status),
  });
  const prover = createProver({
    intervalMillis: options.canaryMillis,
    inject: (number, payload) => capture.inject(number, payload),
    returned: (way) => canary.returned(way),
    missed: () => canary.missed(),
    clock,
  });
  const common = { name: options.lane, engineName: options.install.name, state, events, prover, clock, log };
  const engineRules = (): EngineRules => state.newestRules ?? options.engineRules();

  const replaceEngine = (): void => void engine.replace();
  const capture = startCapture(options.capture, captureEvents({ ...common, replaceEngine }), log);
  const alertFiles = readFiles({
    ...options,
    alerts: (generation, items, passed) => events.alerts(generation, items, passed),
    finished: (generation) => events.finished(generation),
    isOwn: (item) => takeCanary(prover, item),
    locate: (fifo, items) => locate(items, (records) => capture.ownersOf(fifo, records)),
    unreadable(generation, error) {
      if (state.running?.name === generation) events.unreadable(error);
    },
    log,
  });
  const engine = startEngine(
    { ...options, engineRules, mode: 'live' },
    engineEvents({ ...common, capture, alertFiles, engineRules, replaceEngine }),
    log,
  );
  const recovered = alertFiles.recover(left).catch((error: unknown) => {
    log.error({ lane: options.lane, err: error }, 'what an earlier agent left is not read; the next one tries again');
  });
  return laneOf({ ...common, canary, capture, engine, alertFiles }, recovered);
}

function laneOf(parts: LaneParts, recovered: Promise<void>): Lane {
  const { name, capture, alertFiles } = parts;
  return {
    name,
    capture,
    consumed: alertFiles.consumed,
    passed: alertFiles.passed,
    status: () => statusOf(parts),
    reload: (rules, change) => changeRules(parts, rules, change),
    restart: () => restartEngine(parts),
    stop: () => stopLane(parts, recovered),
  };
}

/** What its parts and its events are told by. */
interface Listening extends Pick<LaneParts, 'name' | 'state' | 'prover' | 'clock'> {
  events: LaneEvents;
  log: Logger;
}

function captureEvents(lane: Listening & { replaceEngine: () => void }): CaptureEvents {
  const { name, state, events, prover, clock, log } = lane;
  return {
    endpoint: events.endpoint,
    failed: events.captureFailed,
    outputOpen: () => noteReading(lane),
    outputClosed(path, reason, by) {
      const { running, stopping } = state;
      if (stopping || running?.fifo !== path) return;
      if (by === 'capture') return lane.replaceEngine();
      log.warn({ lane: name, reason }, 'engine no longer reads packets');
      endHanging(running, clock);
    },
    injected: (number, accepted) => prover.injected(number, accepted),
  };
}

/** The generation that runs begins to read packets. */
function noteReading({ state, events, prover }: Listening): void {
  const { running } = state;
  if (running === undefined) return;
  state.readingSince = Date.now();
  if (running.token !== undefined) prover.started(running.token);
  events.ready(running);
  state.onReading(running);
}

function endHanging({ kill, exited }: Generation, clock: Clock): void {
  const callOff = clock.after(HANGING_MILLIS, () => kill('SIGKILL'));
  void exited.then(callOff);
}

/** What the supervisor's events are told by, too. */
interface OfEngine extends Listening, Pick<LaneParts, 'capture' | 'alertFiles'> {
  engineRules: () => EngineRules;
  replaceEngine: () => void;
}

function engineEvents(lane: OfEngine): SupervisorEvents {
  const { state, events, capture, alertFiles, engineRules, replaceEngine } = lane;
  return {
    started(generation) {
      state.running = generation;
      alertFiles.follow(generation);
      // They changed while it was made: the next one has them.
      if (generation.rules() !== engineRules()) return replaceEngine();
      capture.setOutput(generation.fifo);
    },
    ended(generation, error) {
      state.running = undefined;
      state.readingSince = undefined;
      addEngineCounters(state.earlier, generation.counters() ?? zeroEngineCounters());
      if (!state.stopping) capture.setOutput(undefined);
      alertFiles.finish(generation.name);
      if (error !== undefined) events.engineFailed(error);
    },
  };
}

/** @returns whether the alert is of a frame of the agent's own. */
function takeCanary(prover: Prover, item: Decoded): boolean {
  const returned = item.kind === 'alert' ? readCanary(item.alert) : undefined;
  if (returned !== undefined) prover.returned(returned);
  return returned !== undefined;
}

async function stopLane(
  { state, prover, capture, engine, alertFiles }: LaneParts,
  recovered: Promise<void>,
): Promise<void> {
  state.stopping = true;
  prover.stop();
  // Together: the engine must know that its input ends on purpose.
  await Promise.all([capture.stop(), engine.stop()]);
  await recovered;
  await alertFiles.allRead();
}
