/**
 * Keeps one engine running: a generation ends, for whatever reason, and the next one starts after a pause that grows
 * with failures and goes back to the shortest only after a healthy minute.
 */
import type { Logger } from 'pino';
import { systemClock, type Clock } from '../files/clock.ts';
import type { EngineExit } from './exit.ts';
import { releaseReader, startGeneration, type Generation, type GenerationOptions } from './generation.ts';
import { unstage } from './rules.ts';

const BACKOFF_FIRST_MILLIS = 200;
const BACKOFF_LAST_MILLIS = 30_000;
const HEALTHY_MILLIS = 60_000;
/** An engine whose input ended finishes on its own; then it is asked, then it is made to. */
const END_OF_INPUT_MILLIS = 2_500;
const TERM_MILLIS = 1_000;

export class EngineError extends Error {
  readonly exit: EngineExit;

  constructor(message: string, exit: EngineExit) {
    super(message);
    this.name = 'EngineError';
    this.exit = exit;
  }
}

export interface SupervisorEvents {
  /** A generation waits for its input. */
  started(generation: Generation): void;
  /** It is over, and all that it will ever write is in its folder. `error` is undefined where it was asked to end. */
  ended(generation: Generation, error: EngineError | undefined): void;
}

/** What is around an engine: the machine's own, or what is simulated. */
export interface SupervisorSystem {
  start: (options: GenerationOptions) => Promise<Generation>;
  /** An engine that waits for its input gets the end of it. */
  release: (fifo: string) => void;
  clock: Pick<Clock, 'now' | 'wait'>;
}

const machine: SupervisorSystem = { start: startGeneration, release: releaseReader, clock: systemClock };

export type Ending = 'exited' | 'signal' | 'replaced' | 'not_started';

export interface EngineSupervisor {
  /** Ends the generation that runs; the next one starts at once. The caller has closed its input. */
  replace(): Promise<void>;
  /** Ends it for good, within 4 s. The caller has closed its input. */
  stop(): Promise<void>;
  restarts(): number;
  /** Why generations ended that should not have, or could not begin: `exited`, `signal`, `replaced`, `not_started`. */
  endings(): Readonly<Record<Ending, number>>;
  pid(): number | undefined;
}

interface Supervision {
  readonly options: GenerationOptions;
  readonly events: SupervisorEvents;
  readonly log: Logger;
  readonly system: SupervisorSystem;
  current: Generation | undefined;
  stopping: boolean;
  /** The generation that runs was asked to make room for the next one. */
  replacing: boolean;
  /** Milliseconds. */
  backoff: number;
  restarts: number;
  readonly endings: Record<Ending, number>;
  /** Ends a pause. */
  readonly wake: AbortController;
}

export function superviseEngine(
  options: GenerationOptions,
  events: SupervisorEvents,
  log: Logger,
  system = machine,
): EngineSupervisor {
  const supervision: Supervision = {
    options,
    events,
    log,
    system,
    current: undefined,
    stopping: false,
    replacing: false,
    backoff: BACKOFF_FIRST_MILLIS,
    restarts: 0,
    endings: { exited: 0, signal: 0, replaced: 0, not_started: 0 },
    wake: new AbortController(),
  };
  const loop = run(supervision);
  return {
    async replace() {
      supervision.replacing = supervision.current !== undefined;
      await endCurrent(supervision);
    },
    async stop() {
      supervision.stopping = true;
      supervision.wake.abort();
      await endCurrent(supervision);
      await loop;
    },
    restarts: () => supervision.restarts,
    endings: () => supervision.endings,
    pid: () => supervision.current?.pid,
  };
}

/** One generation after the other. */
async function run(supervision: Supervision): Promise<void> {
  const { options, events, log, system, endings } = supervision;
  while (!supervision.stopping) {
    try {
      supervision.current = await system.start(options);
    } catch (error) {
      endings.not_started++;
      log.error({ lane: options.lane, err: error, retryMillis: supervision.backoff }, 'engine cannot be started');
      await pause(supervision);
      continue;
    }
    events.started(supervision.current);
    if (supervision.stopping) {
      // stop() came before there was anything to end.
      supervision.current.kill('SIGTERM');
      void endCurrent(supervision);
    }
    await untilEnded(supervision, supervision.current);
  }
}

/** Until the next generation is to start, or none is. */
async function untilEnded(supervision: Supervision, generation: Generation): Promise<void> {
  const { options, events, system, endings } = supervision;
  const exit = await generation.exited;
  const isWanted = supervision.stopping || supervision.replacing;
  const error = isWanted ? undefined : engineError({ ...options, engineRules: generation.rules }, exit);
  const healthy = system.clock.now() - generation.startedAt >= HEALTHY_MILLIS;
  supervision.current = undefined;
  events.ended(generation, error);
  if (supervision.stopping) return;
  const { replacing } = supervision;
  supervision.restarts++;
  endings[replacing ? 'replaced' : exit.signal === null ? 'exited' : 'signal']++;
  if (healthy || replacing) supervision.backoff = BACKOFF_FIRST_MILLIS;
  if (!replacing) await pause(supervision);
  supervision.replacing = false;
}

async function pause(supervision: Supervision): Promise<void> {
  const millis = supervision.backoff;
  supervision.backoff = Math.min(millis * 2, BACKOFF_LAST_MILLIS);
  await supervision.system.clock.wait(millis, supervision.wake.signal);
}

async function endCurrent({ current: generation, options, log, system }: Supervision): Promise<void> {
  if (generation === undefined) return;
  system.release(generation.fifo);
  const steps: [number, NodeJS.Signals][] = [
    [END_OF_INPUT_MILLIS, 'SIGTERM'],
    [TERM_MILLIS, 'SIGKILL'],
  ];
  for (const [millis, signal] of steps) {
    const timer = new AbortController();
    const done = await Promise.race([
      generation.exited.then(() => true),
      system.clock.wait(millis, timer.signal).then(() => false),
    ]);
    timer.abort();
    if (done) return;
    log.warn({ lane: options.lane, pid: generation.pid, signal }, 'engine does not end by itself');
    generation.kill(signal);
  }
  await generation.exited;
}

/** An unexpected end in one sentence: how it ended, and the engine's own words for it. */
export function engineError(
  options: Pick<GenerationOptions, 'install' | 'driver' | 'engineRules'>,
  exit: EngineExit,
): EngineError {
  const how = exit.signal !== null ? `was ended by ${exit.signal}` : `ended with status ${exit.code ?? 'unknown'}`;
  const output = unstage(exit.output, options.engineRules());
  const reason = options.driver
    .ruleErrors(output, 3)
    .map((e) => (e.file === undefined ? e.reason : `${e.file}:${e.line}: ${e.reason}`));
  // Where no error is understood, the last lines may tell.
  const why = reason.length > 0 ? reason.join('; ') : output.trimEnd().split('\n').slice(-3).join(' | ');
  return new EngineError(`${options.install.name} ${how}${why === '' ? '' : `: ${why}`}`, { ...exit, output });
}
