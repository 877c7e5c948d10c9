/**
 * A lane: capture process → FIFO → engine → alert files → reader. Composes these and nothing else.
 *
 * A FIFO is written by one capture process only: when that dies, its generation of the engine ends too, because another process
 * can't go on in the middle of a record. When the engine dies, the capture goes on and counts what nobody reads.
 */
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { superviseCapture, type Capture, type EndpointState } from './capture/supervisor.ts';
import type { CaptureSettings } from './capture/protocol.ts';
import type { Config } from './config/load.ts';
import type { Decoded, Decoder } from './engine/alert.ts';
import { readCanary } from './engine/canary.ts';
import { addEngineCounters, type EngineCounters } from './engine/counters.ts';
import type { GenerationRecord } from './engine/folder.ts';
import type { Generation, GenerationOptions } from './engine/generation.ts';
import { endOrphans, leftGenerations } from './engine/orphans.ts';
import type { EngineRules } from './engine/rules.ts';
import { createTail, type Tail } from './engine/readers/tail.ts';
import { superviseEngine, type Ending, type EngineError, type EngineSupervisor } from './engine/supervisor.ts';
import { messageOf } from './files/errors.ts';
import { replaceFile } from './files/replace.ts';
import type { EngineCount } from './observe/ledger.ts';
import type { LaneSnapshot } from './observe/snapshot.ts';
import { createCanary, type Canary, type CanaryStatus } from './observe/canary.ts';

const NONE: EngineCounters = { analysed: 0, encrypted: {} };
/** An engine that closed its input but does not end is ended after this. */
const HANGING_MILLIS = 5_000;
/** Between two frames of the agent's own while an engine goes over to other rules. */
const KICK_MILLIS = 100;

export interface LaneEvents {
  /**
   * Alerts and damage of one generation, in order; those of the canary are not among them. The next ones are read when the promise resolves.
   * `passed`: the end of what was read, where alerts of the canary were left out.
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
  /** Milliseconds between two canaries; 0 for none. */
  canaryMillis: number;
  /** Offset to go on at in the alerts of a generation that an earlier agent left, from what the journal says. */
  resumeAt(generation: string): number;
  createDecoder(record: Pick<GenerationRecord, 'engine' | 'output'>): Decoder;
}

/** What a capture process is told of the configuration. */
export function captureSettings({ capture }: Pick<Config, 'capture'>): CaptureSettings {
  return { ...capture, filter: capture.filter ?? '', shunt: capture.shunt === 'on' };
}

export interface LaneStatus {
  lane: string;
  /** `since`: when it began to read packets, in milliseconds since the epoch; undefined while it does not. */
  engine: {
    pid?: number;
    since?: number;
    restarts: number;
    endings: Readonly<Record<Ending, number>>;
  } & EngineCounters;
  capture: LaneSnapshot['capture'];
  canary: CanaryStatus;
  /** What the ledger compares; undefined while no engine reads, or before its first report. */
  ledger?: EngineCount;
  /** When the endpoints' counters were last reported, in milliseconds since the epoch. */
  countedAt?: number;
}

export interface Lane {
  readonly name: string;
  readonly capture: Capture;
  readonly engine: EngineSupervisor;
  readonly canary: Pick<Canary, 'prove' | 'status'>;
  /** Deletes what was read up to this offset of the generation's alerts, as far as the engine has put it aside. */
  consumed(generation: string, offset: number): Promise<void>;
  status(): LaneStatus;
  /**
   * Makes the engine inspect by other rules. Packets that are captured wait meanwhile, none is lost.
   * @param proofMillis How long it may take until the canary proves it.
   * @returns why the engine does not inspect by them; undefined when it does. One that does not run has them at its next start.
   */
  reload(rules: EngineRules, proofMillis: number): Promise<string | undefined>;
  /** Starts the engine anew, with the rules that it was last told. Packets that nobody reads meanwhile are counted. */
  restart(): Promise<void>;
  /** Likewise, where no event stands for what was read up to there: after a crash it is not read again. */
  passed(generation: string, offset: number): Promise<void>;
  /** Ends capture and engine, and resolves when their last alert was given out. */
  stop(): Promise<void>;
}

export async function startLane(
  options: LaneOptions,
  events: LaneEvents,
  log: Logger,
  startCapture = superviseCapture,
): Promise<Lane> {
  // Before a generation of our own is in the folder.
  const left = await leftGenerations(options.laneDirectory);
  const tails = new Map<string, { tail: Tail; directory: string; done: Promise<void> }>();
  let running: Generation | undefined;
  let readingSince: number | undefined;
  /** Beginnings and ends of changes of the rules in place. */
  let reloads = 0;
  /** What the engine was last told to inspect by, where it was. */
  let told: EngineRules | undefined;
  /** What generations counted that are over. */
  const earlier: EngineCounters = { analysed: 0, encrypted: {} };
  let onReady = (_generation: Generation): void => undefined;
  let stopping = false;

  const capture = startCapture(
    options.capture,
    {
      endpoint: events.endpoint,
      failed: events.captureFailed,
      outputOpen() {
        if (running === undefined) return;
        readingSince = Date.now();
        if (running.token !== undefined) canary.started(running.token);
        events.ready(running);
        onReady(running);
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
      injected: (number, accepted) => canary.injected(number, accepted),
    },
    log,
  );

  const engine = superviseEngine(
    { ...options, engineRules: () => told ?? options.engineRules(), mode: 'live' },
    {
      started(generation) {
        running = generation;
        capture.setOutput(generation.fifo);
        follow(generation, generation.directory, generation.command.createDecoder(), 0);
      },
      ended(generation, error) {
        running = undefined;
        readingSince = undefined;
        addEngineCounters(earlier, generation.counters() ?? NONE);
        if (!stopping) capture.setOutput(undefined);
        tails.get(generation.name)?.tail.finish();
        if (error !== undefined) events.engineFailed(error);
      },
    },
    log,
  );

  const canary = createCanary({
    intervalMillis: options.canaryMillis,
    inject: (number, payload) => capture.inject(number, payload),
    returned: (seconds) => events.canaryReturned(seconds),
    changed: (status) => events.canaryChanged(status),
  });

  const recovered = recover().catch((error: unknown) => {
    log.error({ lane: options.lane, err: error }, 'what an earlier agent left is not read; the next one tries again');
  });

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
    tails.set(generation.name, { tail, directory, done: readAll(generation.name, tail, directory) });
    return tail;
  }

  async function readAll(generation: string, tail: Tail, directory: string): Promise<void> {
    try {
      for await (const batch of tail) {
        const others = batch.filter((item) => !takeCanary(item));
        const passed = others.length < batch.length ? batch.at(-1)?.end : undefined;
        await events.alerts(generation, others, passed);
      }
      await events.finished(generation);
      await rm(directory, { recursive: true, force: true });
    } catch (error) {
      // The folder stays: the next agent reads it from where the journal ends.
      log.error({ lane: options.lane, generation, err: error }, 'alerts cannot be read on');
      if (running?.name === generation) events.unreadable(messageOf(error));
    }
    tails.delete(generation);
  }

  function counted(): EngineCounters {
    const sum: EngineCounters = { analysed: earlier.analysed, encrypted: { ...earlier.encrypted } };
    return addEngineCounters(sum, running?.counters() ?? NONE);
  }

  function captureStatus(): LaneStatus['capture'] {
    const [pid, library, failure] = [capture.pid(), capture.library(), capture.failure()];
    if (failure !== undefined) return { failure };
    return {
      ...(pid === undefined ? {} : { pid }),
      ...(library === undefined ? {} : { library: library.name }),
      ...(library?.instead === undefined ? {} : { instead: library.instead }),
    };
  }

  function ledgerOf(): EngineCount | undefined {
    if (running === undefined) return undefined;
    const handed = capture.handed(running.fifo);
    const counters = running.counters();
    if (handed === undefined || counters === undefined) return undefined;
    const { provenAt } = canary.status();
    return { lane: options.lane, generation: running.name, handed, analysed: counters.analysed, reloads, provenAt };
  }

  /** @returns whether the alert is of a frame of the agent's own. */
  function takeCanary(item: Decoded): boolean {
    const returned = item.kind === 'alert' ? readCanary(item.alert) : undefined;
    if (returned !== undefined) canary.returned(returned);
    return returned !== undefined;
  }

  /** Reads what earlier agents left, once their engines are gone. */
  async function recover(): Promise<void> {
    const { generations, unreadable } = left;
    for (const { directory, reason } of unreadable) {
      log.error(
        { lane: options.lane, directory, reason },
        'alerts that an earlier agent left cannot be read; they stay',
      );
    }
    const directories = [...generations, ...unreadable].map(({ directory }) => directory);
    await endOrphans(directories, log.child({ lane: options.lane }));
    for (const record of generations) {
      const { name, directory } = record;
      const from = Math.max(options.resumeAt(name), readPassed(directory));
      log.info({ lane: options.lane, generation: name, from }, 'reading the alerts that an earlier agent left');
      follow({ name, command: record }, directory, options.createDecoder(record), from).finish();
      await tails.get(name)?.done;
    }
  }

  /** @returns why it does not inspect by them. */
  async function reloadInPlace(
    generation: Generation,
    rules: EngineRules,
    proofMillis: number,
  ): Promise<string | undefined> {
    const givenUp = new AbortController();
    reloads++;
    try {
      const staged = generation.stage(rules);
      let isTold = false;
      const applied = staged.apply().then(() => {
        isTold = true;
      });
      const ended = generation.exited.then(() => 'its engine ended');
      // An engine with several things to do needs packets until it has done the last one.
      const proven = async (): Promise<string | undefined> => {
        for (let isLast = isTold; await canary.prove(staged.token, proofMillis, givenUp.signal); isLast = isTold) {
          if (isLast) return undefined;
          await Promise.race([applied, sleep(KICK_MILLIS)]);
        }
        return 'its canary does not prove the new rules';
      };
      return await Promise.race([applied.then(() => new Promise<never>(() => undefined)), ended, proven()]);
    } catch (error) {
      return messageOf(error);
    } finally {
      reloads++;
      givenUp.abort();
    }
  }

  async function restart(): Promise<void> {
    if (stopping) return;
    capture.setOutput(undefined);
    await engine.replace();
  }

  /** Another generation, with what it was last told. @returns why it does not inspect. */
  async function startAnew(proofMillis: number): Promise<string | undefined> {
    const ready = new Promise<Generation>((resolve) => (onReady = resolve));
    await restart();
    const timer = new AbortController();
    const next = await Promise.race([
      ready,
      sleep(proofMillis, undefined, { signal: timer.signal }).catch(() => undefined),
    ]);
    timer.abort();
    if (next?.token === undefined) return 'its engine does not start';
    return (await canary.prove(next.token, proofMillis)) ? undefined : 'its canary does not prove its start';
  }

  return {
    name: options.lane,
    capture,
    engine,
    canary,
    async consumed(generation, offset) {
      await tails.get(generation)?.tail.deleteConsumed(offset);
    },
    status() {
      const pid = engine.pid();
      const countedAt = capture.countedAt();
      const ledger = ledgerOf();
      return {
        lane: options.lane,
        engine: {
          ...(pid === undefined ? {} : { pid }),
          ...(readingSince === undefined ? {} : { since: readingSince }),
          restarts: engine.restarts(),
          endings: engine.endings(),
          ...counted(),
        },
        capture: captureStatus(),
        canary: canary.status(),
        ...(ledger === undefined ? {} : { ledger }),
        ...(countedAt === undefined ? {} : { countedAt }),
      };
    },
    async reload(rules, proofMillis) {
      told = rules;
      const generation = running;
      if (generation === undefined) return undefined;
      // Told before it reads packets, it may not listen yet.
      if (readingSince === undefined) return 'its engine is starting';
      // What overrides set, Suricata reads only when it starts, and Snort not always while it runs.
      const overridden = rules.overrides !== generation.rules().overrides;
      if (overridden && options.install.name === 'suricata') return startAnew(proofMillis);
      const failure = await reloadInPlace(generation, rules, proofMillis);
      return failure !== undefined && overridden ? startAnew(proofMillis) : failure;
    },
    restart,
    async passed(generation, offset) {
      const reading = tails.get(generation);
      if (reading === undefined) return;
      await writePassed(reading.directory, offset);
      await reading.tail.deleteConsumed(offset);
    },
    async stop() {
      stopping = true;
      canary.stop();
      // Together: the engine must know that its input ends on purpose.
      await Promise.all([capture.stop(), engine.stop()]);
      await recovered;
      await Promise.all([...tails.values()].map(({ done }) => done));
    },
  };
}

const passedFile = (directory: string): string => join(directory, 'state', 'passed');

async function writePassed(directory: string, offset: number): Promise<void> {
  await replaceFile(passedFile(directory), String(offset), 0o644);
}

/** 0 where nothing was passed over: then the journal alone says how far alerts got. */
function readPassed(directory: string): number {
  try {
    const offset = Number(readFileSync(passedFile(directory), 'latin1'));
    return Number.isSafeInteger(offset) && offset > 0 ? offset : 0;
  } catch {
    return 0;
  }
}
