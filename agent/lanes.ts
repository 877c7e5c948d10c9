/**
 * The lanes of an agent: where each has its folder, how they start, what is wrong with them, and how they become more or
 * fewer while it runs.
 *
 * Invariants: a lane that is added takes endpoints once its engine reads packets by the rules in force; one that is
 * taken away ends once its endpoints are captured by others, and what its engine had found is in the journal. What fails
 * of that is tried again, later and later, until there are as many as are wanted; those that there are inspect on.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from './config/load.ts';
import type { EngineDriver, EngineInstall } from './engine/engine.ts';
import type { Generation } from './engine/generation.ts';
import { leftGenerations, type LeftGenerations } from './engine/orphans.ts';
import { createDecoder } from './engine/readers/decoder.ts';
import { systemClock, type Clock } from './files/clock.ts';
import type { Sandbox } from './engine/sandbox.ts';
import type { EngineError } from './engine/supervisor.ts';
import type { Consumed } from './journal/journal.ts';
import { captureSettings, startLane, type Lane, type LaneEvents, type LaneOptions } from './lane.ts';
import type { CanaryStatus } from './observe/canary.ts';
import { MOST_LANES } from './lane-count.ts';
import { whyNotInPods } from './rights.ts';
import type { LiveRules } from './rulesets/live.ts';

/** First and longest wait after a lane could not be started or ended. */
const FAILURE_MILLIS = [1_000, 60_000] as const;

export interface LanesOptions {
  config: Config;
  install: EngineInstall;
  driver: EngineDriver;
  sandbox: Sandbox;
  rules: Pick<LiveRules, 'engineRules'>;
  /** What the journal has of generations that earlier agents left. */
  consumed: ReadonlyMap<string, Consumed>;
  /** What becomes of alerts and of endpoints. */
  events: Pick<LaneEvents, 'alerts' | 'finished' | 'endpoint'>;
  /** Those that take endpoints. */
  open: Lane[];
  /** Endpoints go to the lanes that take them. */
  spread: () => Promise<void>;
  /** What keeps packets from being inspected, by part: those of the lanes are set here. */
  problems: Map<string, string>;
  onChange?: () => void;
  /** With what the start waits for; undefined: for nothing but its engines. */
  onWaiting?: (problem: string | undefined) => void;
  onCanary?: (lane: string, seconds: number) => void;
  log: Logger;
  /** Default: on this machine. */
  startLane?: typeof startLane;
  clock?: Pick<Clock, 'wait'>;
}

/** How many lanes there shall be, and how often one could not be started or ended. */
export interface LaneChanges {
  wanted: number;
  failed: number;
}

export interface StartedLanes {
  /** Resolves when every lane's engine reads packets. Rejects with an EngineError when one can't start. */
  ready: Promise<unknown>;
  /** Why only a new process can go on; undefined while this one can. */
  stuck: () => string | undefined;
  /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
  barredFromPods: () => string | undefined;
  /** So many lanes from now on. */
  resize: (count: number) => void;
  changes: () => LaneChanges;
  /** No lane is started any more. */
  close: () => Promise<void>;
}

interface Place {
  name: string;
  directory: string;
}

/** Each lane reads what was left in its own folder; the first one also what is in those of lanes that there are no more. */
function foldersToRead(config: Config, index: number, count: number): string[] {
  const further = index > 0 ? [] : Array.from({ length: MOST_LANES - count }, (_, more) => count + more);
  return [index, ...further].map((one) => placeOf(config, one).directory);
}

function placeOf({ stateDirectory }: Pick<Config, 'stateDirectory'>, index: number): Place {
  const name = `lane${index}`;
  return { name, directory: join(stateDirectory, 'lanes', name) };
}

/** Generations that earlier agents left in the lanes' folders, of however many lanes those had. */
export async function generationsLeft(config: Config): Promise<LeftGenerations['generations']> {
  const places = Array.from({ length: MOST_LANES }, (_, index) => placeOf(config, index));
  const left = await Promise.all(places.map(({ directory }) => leftGenerations(directory)));
  return left.flatMap(({ generations }) => generations);
}

/** What a lane says of its own start. */
interface Start {
  /** The engine reads packets; each time. */
  succeeded(generation: Generation): void;
  failed(error: EngineError): void;
}

interface State {
  readonly lanes: Lane[];
  readonly options: LanesOptions;
  stuck: string | undefined;
  readonly changes: LaneChanges;
  adjusting: Promise<void> | undefined;
  /** Ends the wait after a failure. */
  wake: AbortController;
  closed: boolean;
}

/** @param lanes Each is added when it has started. */
export async function startLanes(lanes: Lane[], count: number, options: LanesOptions): Promise<StartedLanes> {
  const barred = whyNotInPods();
  const state: State = {
    lanes,
    options,
    stuck: undefined,
    changes: { wanted: count, failed: 0 },
    adjusting: undefined,
    wake: new AbortController(),
    closed: false,
  };
  const ready: Promise<void>[] = [];
  for (let index = 0; index < count; index++) {
    const start: Start = { succeeded: () => undefined, failed: () => undefined };
    ready.push(
      new Promise((resolve, reject) => {
        start.succeeded = () => resolve();
        start.failed = reject;
      }),
    );
    options.open.push(await begin(state, index, foldersToRead(options.config, index, count), start));
  }
  return {
    ready: Promise.all(ready),
    stuck: () => state.stuck,
    barredFromPods: () => barred ?? whyLibraryCannot(lanes),
    resize(wanted) {
      state.changes.wanted = wanted;
      state.wake.abort();
      state.wake = new AbortController();
      state.adjusting ??= adjust(state).finally(() => {
        state.adjusting = undefined;
      });
    },
    changes: () => state.changes,
    async close() {
      state.closed = true;
      state.wake.abort();
      await state.adjusting;
    },
  };
}

/** @param leftIn Folders of which it reads what earlier agents left there. */
async function begin(state: State, index: number, leftIn: readonly string[], start: Start): Promise<Lane> {
  const { lanes, options } = state;
  const place = placeOf(options.config, index);
  const isStuck = (reason: string): void => {
    state.stuck = reason;
  };
  const lane = await (options.startLane ?? startLane)(
    laneOptions(place, leftIn, options),
    laneEvents(place.name, options, start, isStuck),
    options.log,
  );
  lanes.push(lane);
  return lane;
}

/** Lanes are numbered: the last one ends first. */
async function adjust(state: State): Promise<void> {
  const { lanes, options, changes } = state;
  const { log, clock = systemClock } = options;
  const [first, last] = FAILURE_MILLIS;
  let pause: number = first;
  while (!state.closed && lanes.length !== changes.wanted) {
    try {
      await (lanes.length < changes.wanted ? add(state, lanes.length) : takeAway(state));
      pause = first;
    } catch (error) {
      changes.failed++;
      const { wanted } = changes;
      log.error({ err: error, lanes: lanes.length, wanted, retryMillis: pause }, 'lane cannot be started or ended');
      await clock.wait(pause, state.wake.signal);
      pause = Math.min(pause * 2, last);
    }
  }
}

async function add(state: State, index: number): Promise<void> {
  let lane: Lane | undefined;
  let isReading = false;
  const takeEndpoints = (): void => {
    const { open, spread } = state.options;
    if (lane === undefined || !state.lanes.includes(lane) || open.includes(lane)) return;
    open.push(lane);
    void spread();
  };
  const start: Start = {
    succeeded(generation) {
      // Rules that changed meanwhile were brought to the other lanes only.
      if (generation.rules() !== state.options.rules.engineRules()) return void lane?.restart();
      isReading = true;
      takeEndpoints();
    },
    // It is started again.
    failed: () => undefined,
  };
  // What earlier agents left was all found when this one started.
  lane = await begin(state, index, [], start);
  if (isReading) takeEndpoints();
}

async function takeAway({ lanes, options }: State): Promise<void> {
  const { open, spread, problems, onChange, log } = options;
  const lane = lanes.at(-1);
  if (lane === undefined) return;
  if (open.includes(lane)) open.splice(open.indexOf(lane), 1);
  await spread();
  await lane.stop();
  lanes.splice(lanes.indexOf(lane), 1);
  for (const part of [lane.name, `capture/${lane.name}`, `canary/${lane.name}`]) problems.delete(part);
  log.info({ lane: lane.name }, 'lane ended');
  onChange?.();
}

function whyLibraryCannot(lanes: readonly Lane[]): string | undefined {
  const library = lanes.map((lane) => lane.capture.library()?.name).find((name) => name === 'node-pcap');
  return library === undefined ? undefined : `${library} cannot enter network namespaces (capture.library)`;
}

function laneOptions({ name, directory }: Place, leftIn: readonly string[], options: LanesOptions): LaneOptions {
  const { config, install, driver, sandbox, rules, consumed } = options;
  return {
    install,
    driver,
    sandbox,
    engineRules: rules.engineRules,
    lane: name,
    laneDirectory: directory,
    leftIn,
    output: install.name === 'snort' ? config.engine.output : 'json',
    capture: captureSettings(config),
    canaryMillis: config.canary.interval,
    resumeAt: (generation) => consumed.get(generation)?.offset ?? 0,
    createDecoder,
  };
}

function laneEvents(lane: string, options: LanesOptions, start: Start, isStuck: (reason: string) => void): LaneEvents {
  const { events, problems, onChange, onWaiting, onCanary, log } = options;
  return {
    ...events,
    ready(generation) {
      log.info({ lane, pid: generation.pid, generation: generation.name }, 'engine reads packets');
      problems.delete(lane);
      start.succeeded(generation);
      onChange?.();
    },
    engineFailed(error) {
      log.error({ lane, output: error.exit.output.slice(-2000) }, error.message);
      problems.set(lane, error.message);
      onChange?.();
      start.failed(error);
    },
    captureFailed(reason) {
      const problem = `capture/${lane}`;
      if (reason === undefined) problems.delete(problem);
      else problems.set(problem, reason);
      onWaiting?.(reason);
      onChange?.();
    },
    unreadable(error) {
      const reason = `${lane}: alerts cannot be read on: ${error}`;
      isStuck(reason);
      problems.set(`alerts/${lane}`, reason);
      onChange?.();
    },
    canaryReturned: (seconds) => onCanary?.(lane, seconds),
    canaryChanged: (status) => noteCanary(lane, options, status),
  };
}

function noteCanary(lane: string, { config, problems, onChange, log }: LanesOptions, { is }: CanaryStatus): void {
  const problem = `canary/${lane}`;
  if (is === 'missing') {
    const seconds = (3 * config.canary.interval) / 1000;
    log.error({ lane }, 'canary is missing');
    problems.set(problem, `${lane} does not inspect: of its frames to itself none came back for ${seconds} s`);
  } else if (problems.delete(problem)) {
    log.info({ lane }, 'canary is back');
  }
  onChange?.();
}
