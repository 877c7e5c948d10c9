/**
 * A lane: capture process → FIFO → engine → alert files → reader. Composes these and nothing else.
 *
 * A FIFO is written by one capture process only: when that dies, its generation of the engine ends too, because another process
 * can't go on in the middle of a record. When the engine dies, the capture goes on and counts what nobody reads.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { superviseCapture, type Capture, type EndpointState } from './capture/supervisor.ts';
import type { CaptureSettings } from './capture/protocol.ts';
import type { Decoded, Decoder } from './engine/alert.ts';
import {
  leftGenerations,
  processesOf,
  type Generation,
  type GenerationOptions,
  type GenerationRecord,
} from './engine/generation.ts';
import { widenFifo } from './engine/sandbox.ts';
import { createTail, type Tail } from './engine/readers/tail.ts';
import { superviseEngine, type EngineError, type EngineSupervisor } from './engine/supervisor.ts';

/** An engine that closed its input but does not end is ended after this. */
const HANGING_MILLIS = 5_000;
/** An engine that an earlier agent left gets this long to finish. */
const ORPHAN_MILLIS = 5_000;

export interface LaneEvents {
  /** Alerts and damage of one generation, in order. The next ones are read when the promise resolves. */
  alerts(generation: string, items: Decoded[]): Promise<void>;
  endpoint: (id: string, state: EndpointState) => void;
  /** The engine reads packets. */
  ready(generation: Generation): void;
  /** All alerts of the generation were given out and taken; resolves when they are on disk, and its folder can go. */
  finished(generation: string): Promise<void>;
  engineFailed(error: EngineError): void;
}

export interface LaneOptions extends Omit<GenerationOptions, 'mode'> {
  capture: CaptureSettings;
  /** Offset to go on at in the alerts of a generation that an earlier agent left, from what the journal says. */
  resumeAt(generation: string): number;
  createDecoder(record: Pick<GenerationRecord, 'engine' | 'output'>): Decoder;
}

export interface LaneStatus {
  lane: string;
  /** `since`: when it began to read packets, in milliseconds since the epoch; undefined while it does not. */
  engine: { pid?: number; since?: number; restarts: number };
  capture: { pid?: number };
  /** When the endpoints' counters were last reported, in milliseconds since the epoch. */
  countedAt?: number;
}

export interface Lane {
  readonly name: string;
  readonly capture: Capture;
  readonly engine: EngineSupervisor;
  /** Deletes what was read up to this offset of the generation's alerts, as far as the engine has put it aside. */
  consumed(generation: string, offset: number): Promise<void>;
  status(): LaneStatus;
  /** Ends capture and engine, and resolves when their last alert was given out. */
  stop(): Promise<void>;
}

export async function startLane(options: LaneOptions, events: LaneEvents, log: Logger): Promise<Lane> {
  // Before a generation of our own is in the folder.
  const left = await leftGenerations(options.laneDirectory);
  const tails = new Map<string, { tail: Tail; done: Promise<void> }>();
  let running: Generation | undefined;
  let readingSince: number | undefined;
  let stopping = false;

  const capture = superviseCapture(
    options.capture,
    {
      endpoint: events.endpoint,
      outputOpen() {
        if (running === undefined) return;
        widenFifo(running.fifo);
        readingSince = Date.now();
        events.ready(running);
      },
      outputClosed(path, reason, by) {
        if (stopping || running?.fifo !== path) return;
        if (by === 'capture') {
          void engine.replace();
          return;
        }
        log.warn({ lane: options.lane, reason }, 'engine no longer reads packets');
        const { kill } = running;
        const timer = setTimeout(() => kill('SIGKILL'), HANGING_MILLIS);
        void running.exited.then(() => clearTimeout(timer));
      },
    },
    log,
  );

  const engine = superviseEngine(
    { ...options, mode: 'live' },
    {
      started(generation) {
        running = generation;
        capture.setOutput(generation.fifo);
        follow(generation, generation.directory, generation.command.createDecoder(), 0);
      },
      ended(generation, error) {
        running = undefined;
        readingSince = undefined;
        if (!stopping) capture.setOutput(undefined);
        tails.get(generation.name)?.tail.finish();
        if (error !== undefined) events.engineFailed(error);
      },
    },
    log,
  );

  const recovered = recover();

  function follow(
    generation: Pick<Generation, 'name'> & { command: { alertFile: string; stamped: boolean } },
    directory: string,
    decoder: Decoder,
    from: number,
  ): Tail {
    const tail = createTail({
      directory: join(directory, 'output'),
      stateDirectory: join(directory, 'state'),
      base: generation.command.alertFile,
      stamped: generation.command.stamped,
      decoder,
      from,
    });
    tails.set(generation.name, { tail, done: readAll(generation.name, tail, directory) });
    return tail;
  }

  async function readAll(generation: string, tail: Tail, directory: string): Promise<void> {
    try {
      for await (const batch of tail) await events.alerts(generation, batch);
      await events.finished(generation);
      await rm(directory, { recursive: true, force: true });
    } catch (error) {
      // The folder stays: the next agent reads it from where the journal ends.
      log.error({ lane: options.lane, generation, err: error }, 'alerts cannot be read on');
    }
    tails.delete(generation);
  }

  /** Reads what earlier agents left, once their engines are gone. */
  async function recover(): Promise<void> {
    for (const record of left) {
      const { name, directory } = record;
      await endOrphans(directory);
      const from = options.resumeAt(name);
      log.info({ lane: options.lane, generation: name, from }, 'reading the alerts that an earlier agent left');
      follow({ name, command: record }, directory, options.createDecoder(record), from).finish();
      await tails.get(name)?.done;
    }
  }

  async function endOrphans(directory: string): Promise<void> {
    for (const deadline = performance.now() + ORPHAN_MILLIS; performance.now() < deadline; await sleep(50)) {
      if ((await processesOf(directory)).length === 0) return;
    }
    for (const pid of await processesOf(directory)) {
      log.warn({ pid, directory }, 'ending an engine that an earlier agent left');
      process.kill(pid, 'SIGKILL');
    }
    await sleep(100);
  }

  return {
    name: options.lane,
    capture,
    engine,
    async consumed(generation, offset) {
      await tails.get(generation)?.tail.deleteConsumed(offset);
    },
    status() {
      const pids = { engine: engine.pid(), capture: capture.pid() };
      const countedAt = capture.countedAt();
      return {
        lane: options.lane,
        engine: {
          ...(pids.engine === undefined ? {} : { pid: pids.engine }),
          ...(readingSince === undefined ? {} : { since: readingSince }),
          restarts: engine.restarts(),
        },
        capture: pids.capture === undefined ? {} : { pid: pids.capture },
        ...(countedAt === undefined ? {} : { countedAt }),
      };
    },
    async stop() {
      stopping = true;
      // Together: the engine must know that its input ends on purpose.
      await Promise.all([capture.stop(), engine.stop()]);
      await recovered;
      await Promise.all([...tails.values()].map(({ done }) => done));
    },
  };
}
