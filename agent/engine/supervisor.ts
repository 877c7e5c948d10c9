/**
 * Keeps one engine running: a generation ends, for whatever reason, and the next one starts after a pause that grows with
 * failures and goes back to the shortest only after a healthy minute.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
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
  /** It is over, and everything that it will ever write is in its folder. `error` is undefined when it was asked to end. */
  ended(generation: Generation, error: EngineError | undefined): void;
}

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

export function superviseEngine(options: GenerationOptions, events: SupervisorEvents, log: Logger): EngineSupervisor {
  let current: Generation | undefined;
  let stopping = false;
  let replacing = false;
  let backoff = BACKOFF_FIRST_MILLIS;
  let restarts = 0;
  const endings: Record<Ending, number> = { exited: 0, signal: 0, replaced: 0, not_started: 0 };
  const wake = new AbortController();
  const loop = run();

  async function run(): Promise<void> {
    while (!stopping) {
      try {
        current = await startGeneration(options);
      } catch (error) {
        endings.not_started++;
        log.error({ lane: options.lane, err: error, retryMillis: backoff }, 'engine cannot be started');
        await pause();
        continue;
      }
      events.started(current);
      if (stopping) {
        // stop() came before there was anything to end.
        current.kill('SIGTERM');
        void end();
      }
      const exit = await current.exited;
      const error = stopping || replacing ? undefined : engineError({ ...options, engineRules: current.rules }, exit);
      const healthy = performance.now() - current.startedAt >= HEALTHY_MILLIS;
      const ended = current;
      current = undefined;
      events.ended(ended, error);
      if (stopping) return;
      restarts++;
      endings[replacing ? 'replaced' : exit.signal === null ? 'exited' : 'signal']++;
      if (healthy || replacing) backoff = BACKOFF_FIRST_MILLIS;
      if (!replacing) await pause();
      replacing = false;
    }
  }

  async function pause(): Promise<void> {
    const millis = backoff;
    backoff = Math.min(backoff * 2, BACKOFF_LAST_MILLIS);
    await sleep(millis, undefined, { signal: wake.signal }).catch(() => undefined);
  }

  async function end(): Promise<void> {
    const generation = current;
    if (generation === undefined) return;
    releaseReader(generation.fifo);
    const steps: [number, NodeJS.Signals][] = [
      [END_OF_INPUT_MILLIS, 'SIGTERM'],
      [TERM_MILLIS, 'SIGKILL'],
    ];
    for (const [millis, signal] of steps) {
      const timer = new AbortController();
      const done = await Promise.race([
        generation.exited.then(() => true),
        sleep(millis, false, { signal: timer.signal }).catch(() => true),
      ]);
      timer.abort();
      if (done) return;
      log.warn({ lane: options.lane, pid: generation.pid, signal }, 'engine does not end by itself');
      generation.kill(signal);
    }
    await generation.exited;
  }

  return {
    async replace() {
      replacing = current !== undefined;
      await end();
    },
    async stop() {
      stopping = true;
      wake.abort();
      await end();
      await loop;
    },
    restarts: () => restarts,
    endings: () => endings,
    pid: () => current?.pid,
  };
}

/** An unexpected end in one sentence: how it ended, and the engine's own words for it. */
export function engineError(
  options: Pick<GenerationOptions, 'install' | 'driver' | 'engineRules'>,
  exit: EngineExit,
): EngineError {
  const how = exit.signal !== null ? `was ended by ${exit.signal}` : `ended with status ${exit.code ?? 'unknown'}`;
  const output = unstage(exit.output, options.engineRules().files);
  const said = options.driver
    .ruleErrors(output, 3)
    .map((e) => (e.file === undefined ? e.reason : `${e.file}:${e.line}: ${e.reason}`));
  // Where no error is understood, the last lines may tell.
  const why = said.length > 0 ? said.join('; ') : output.trimEnd().split('\n').slice(-3).join(' | ');
  return new EngineError(`${options.install.name} ${how}${why === '' ? '' : `: ${why}`}`, { ...exit, output });
}
