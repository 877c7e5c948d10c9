/** The lanes of an agent: where each has its folder, how they start, and what is wrong with them. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from './config/load.ts';
import type { EngineDriver, EngineInstall } from './engine/engine.ts';
import { leftGenerations, type LeftGenerations } from './engine/orphans.ts';
import { createDecoder } from './engine/readers/decoder.ts';
import type { Sandbox } from './engine/sandbox.ts';
import type { EngineError } from './engine/supervisor.ts';
import type { Consumed } from './journal/journal.ts';
import { captureSettings, startLane, type Lane, type LaneEvents, type LaneOptions } from './lane.ts';
import type { CanaryStatus } from './observe/canary.ts';
import { whyNotInPods } from './rights.ts';
import type { LiveRules } from './rulesets/live.ts';

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
  /** What keeps packets from being inspected, by part: those of the lanes are set here. */
  problems: Map<string, string>;
  onChange?: () => void;
  /** With what the start waits for; undefined: for nothing but its engines. */
  onWaiting?: (problem: string | undefined) => void;
  onCanary?: (lane: string, seconds: number) => void;
  log: Logger;
}

export interface StartedLanes {
  /** Resolves when every lane's engine reads packets. Rejects with an EngineError when one can't start. */
  ready: Promise<unknown>;
  /** Why only a new process can go on; undefined while this one can. */
  stuck: () => string | undefined;
  /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
  barredFromPods: () => string | undefined;
}

interface Place {
  name: string;
  directory: string;
}

function placesOf({ lanes, stateDirectory }: Config): Place[] {
  return Array.from({ length: lanes }, (_, index) => {
    const name = `lane${index}`;
    return { name, directory: join(stateDirectory, 'lanes', name) };
  });
}

/** Generations that earlier agents left in the lanes' folders. */
export async function generationsLeft(config: Config): Promise<LeftGenerations['generations']> {
  const left = await Promise.all(placesOf(config).map(({ directory }) => leftGenerations(directory)));
  return left.flatMap(({ generations }) => generations);
}

/** What a lane says of its own start. */
interface Start {
  succeeded(): void;
  failed(error: EngineError): void;
}

/** @param lanes Each is added when it has started. */
export async function startLanes(lanes: Lane[], options: LanesOptions): Promise<StartedLanes> {
  const barred = whyNotInPods();
  const ready: Promise<void>[] = [];
  let stuck: string | undefined;
  const isStuck = (reason: string): void => {
    stuck = reason;
  };
  for (const place of placesOf(options.config)) {
    const start: Start = { succeeded: () => undefined, failed: () => undefined };
    ready.push(
      new Promise((resolve, reject) => {
        start.succeeded = resolve;
        start.failed = reject;
      }),
    );
    lanes.push(
      await startLane(laneOptions(place, options), laneEvents(place.name, options, start, isStuck), options.log),
    );
  }
  return {
    ready: Promise.all(ready),
    stuck: () => stuck,
    barredFromPods: () => barred ?? whyLibraryCannot(lanes),
  };
}

function whyLibraryCannot(lanes: readonly Lane[]): string | undefined {
  const library = lanes.map((lane) => lane.capture.library()?.name).find((name) => name === 'node-pcap');
  return library === undefined ? undefined : `${library} cannot enter network namespaces (capture.library)`;
}

function laneOptions({ name, directory }: Place, options: LanesOptions): LaneOptions {
  const { config, install, driver, sandbox, rules, consumed } = options;
  return {
    install,
    driver,
    sandbox,
    engineRules: rules.engineRules,
    lane: name,
    laneDirectory: directory,
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
      start.succeeded();
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
