/**
 * The agent's side of a capture process: starts it again when it dies, with every endpoint that was attached, and keeps
 * the endpoints' counters over its deaths. What died with it, or came while none had the interface open, is told by the
 * interface's own counters (unseen.ts).
 */
import { fork, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { Accepted, Handed } from './output.ts';
import {
  addCounters,
  inRingOf,
  zeroCounters,
  type AttachSpec,
  type CaptureSettings,
  type Counters,
  type FromCapture,
  type LibraryName,
  type Report,
  type ToCapture,
} from './protocol.ts';
import { REBUILD } from '../native.ts';
import { watchUnseen } from './unseen.ts';

const BACKOFF_FIRST_MILLIS = 100;
const BACKOFF_LAST_MILLIS = 10_000;
const HEALTHY_MILLIS = 60_000;
/** A process that says nothing for this long, though it reports every second, hangs. */
const SILENCE_MILLIS = 15_000;
const STOP_MILLIS = 1_500;
/** What a capture process drops is soon forgotten: V8 of Node 24 would let 100 MB of it gather. In MiB. */
const YOUNG_HEAP = '--max-semi-space-size=4';
/** With so many bytes in rings that node-pcap does not release, the process is replaced. */
const MAX_DEAD_RINGS = 32 << 20;
/** A successor must be ready, and the old process have handed over, within this; else all stays for a while. */
const RENEW_MILLIS = 15_000;
const RENEW_AGAIN_MILLIS = 60_000;

export type EndpointState =
  { is: 'starting' } | { is: 'capturing'; ifindex: number; linkType: string } | { is: 'waiting'; reason: string };

export interface CaptureEvents {
  endpoint(id: string, state: EndpointState): void;
  /** No process can start, for this reason, which names the remedy; undefined: one has started again. */
  failed(reason: string | undefined): void;
  outputOpen(path: string): void;
  /** Frames are dropped and counted until there is another output. `by`: whose end of the FIFO went first. */
  outputClosed(path: string, reason: string, by: 'engine' | 'capture'): void;
  /** What became of a frame of the agent's own. Not called when the process died with it. */
  injected(number: number, accepted: Accepted): void;
}

export interface Capture {
  attach(spec: AttachSpec): void;
  /** Resolves with the endpoint's last counters when its capture has ended. */
  detach(id: string): Promise<Counters>;
  setOutput(path: string | undefined): void;
  /** Writes a frame of the agent's own, a UDP datagram with this payload. */
  inject(number: number, payload: string): void;
  counters(): Map<string, Counters>;
  /** Records in a FIFO so far, or in the queue before it, the agent's own frames too; as last reported. */
  handed(path: string): number | undefined;
  states(): Map<string, EndpointState>;
  /** When the counters were last reported, in milliseconds since the epoch; undefined before the first report. */
  countedAt(): number | undefined;
  pid(): number | undefined;
  /** What packets are captured by; undefined until a process has started. `instead`: why not by the first choice. */
  library(): { name: LibraryName; instead?: string } | undefined;
  /** Why no process can start, with the remedy. */
  failure(): string | undefined;
  /** Ends the process; queued records are written first, for up to a second. */
  stop(): Promise<void>;
}

export function superviseCapture(settings: CaptureSettings, events: CaptureEvents, log: Logger): Capture {
  const specs = new Map<string, AttachSpec>();
  const states = new Map<string, EndpointState>();
  /** What dead processes counted. */
  const before = new Map<string, Counters>();
  const latest = new Map<string, Counters>();
  const unseen = watchUnseen();
  let library: ReturnType<Capture['library']>;
  let failure: string | undefined;
  /** Of the FIFO that is open: by processes that handed it over, and by the one that runs. */
  let handed: { path: string; before: number; latest: number } | undefined;
  const detaching = new Map<string, (counters: Counters) => void>();
  let output: string | undefined;
  /** Once a process has opened an output, another one can't go on in the middle of its stream. */
  let outputUsed = false;
  let child: ChildProcess | undefined;
  let lastHeard = performance.now();
  let countedAt: number | undefined;
  let stopping = false;
  /** While a process is replaced: what was asked for meanwhile. */
  let waiting: (() => void)[] | undefined;
  /** On the clock of performance.now(). */
  let renewFrom = 0;
  let backoff = BACKOFF_FIRST_MILLIS;
  const watchdog = setInterval(() => {
    if (child !== undefined && performance.now() - lastHeard > SILENCE_MILLIS) {
      log.error(
        { pid: child.pid, silentMillis: Math.round(performance.now() - lastHeard) },
        'capture process hangs and is killed',
      );
      child.kill('SIGKILL');
    }
  }, 1_000);

  start();

  function start(): void {
    const started = launch();
    child = started;
    for (const spec of specs.values()) send({ type: 'attach', spec });
    if (output !== undefined && !outputUsed) send({ type: 'output', path: output });
  }

  function launch(...args: string[]): ChildProcess {
    const startedAt = performance.now();
    lastHeard = startedAt;
    const started = fork(fileURLToPath(new URL('./main.js', import.meta.url)), [JSON.stringify(settings), ...args], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [YOUNG_HEAP],
    });
    log.debug({ pid: started.pid }, 'capture process');
    started.on('message', (message) => {
      if (started === child) receive(message as FromCapture);
    });
    started.on('error', (error) => log.error({ err: error }, 'capture process'));
    started.once('exit', (code, signal) => {
      if (started === child) void restart(startedAt, code, signal);
    });
    return started;
  }

  /** Moves to a new process, which goes on in the engine's input. What comes between the two is lost, and counted. */
  async function renew(): Promise<void> {
    const old = child;
    const path = output;
    if (old === undefined || stopping || waiting !== undefined || (path !== undefined && !outputUsed)) return;
    if (performance.now() < renewFrom) return;
    waiting = [];
    const next = launch();
    try {
      await until(next, ({ type }) => type === 'started');
      const handedOver = until(old, ({ type }) => type === 'handed-over');
      old.send({ type: 'hand-over' } satisfies ToCapture);
      const last = await handedOver;
      if (last.type !== 'handed-over') return;
      take(last);
      if (last.handed !== undefined) count(last.handed, true);
      child = next;
      endCounts();
      for (const spec of specs.values()) send({ type: 'attach', spec });
      // The engine may have ended meanwhile.
      if (output !== undefined) send({ type: 'output', path: output, behind: output === path });
      log.debug({ pid: next.pid, before: old.pid }, 'capture process was replaced');
      if (next.exitCode !== null || next.signalCode !== null)
        void restart(performance.now(), next.exitCode, next.signalCode);
    } catch (error) {
      log.warn({ err: error }, 'capture process could not be replaced');
      next.kill('SIGKILL');
      renewFrom = performance.now() + RENEW_AGAIN_MILLIS;
    } finally {
      const late = waiting;
      waiting = undefined;
      for (const call of late) call();
    }
  }

  /**
   * What the process that ended had counted stays; what lay in its rings died with it, and what comes until another one
   * captures is unseen.
   */
  function endCounts(): void {
    for (const [id, counters] of latest) {
      const sum = addCounters(before.get(id) ?? zeroCounters(), counters);
      sum.droppedCaptureDied += inRingOf(counters);
      before.set(id, sum);
    }
    latest.clear();
    unseen.processEnded();
  }

  /** The first message of a process that satisfies `test`. Rejects when it ends before, or takes too long. */
  function until(
    process: ChildProcess,
    test: (message: FromCapture) => boolean,
    millis = RENEW_MILLIS,
  ): Promise<FromCapture> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => done(new Error('it took too long')), millis);
      const onExit = (): void => done(new Error('it ended'));
      const onMessage = (message: unknown): void => {
        if (test(message as FromCapture)) done(message as FromCapture);
      };
      function done(result: FromCapture | Error): void {
        clearTimeout(timer);
        process.off('exit', onExit).off('message', onMessage);
        if (result instanceof Error) reject(result);
        else resolve(result);
      }
      process.on('exit', onExit).on('message', onMessage);
    });
  }

  async function restart(startedAt: number, code: number | null, signal: string | null): Promise<void> {
    child = undefined;
    endCounts();
    for (const [id, resolve] of detaching) resolve(before.get(id) ?? zeroCounters());
    detaching.clear();
    if (output !== undefined && outputUsed) {
      const path = output;
      output = undefined;
      events.outputClosed(path, 'the capture process ended', 'capture');
    }
    if (stopping) return;
    const reason = failure ?? 'the capture process starts again';
    for (const id of specs.keys()) setState(id, { is: 'waiting', reason });
    if (performance.now() - startedAt > HEALTHY_MILLIS) backoff = BACKOFF_FIRST_MILLIS;
    // Why it can't start was said, once.
    if (failure === undefined) log.error({ code, signal, retryMillis: backoff }, 'capture process ended');
    await sleep(backoff);
    backoff = Math.min(backoff * 2, BACKOFF_LAST_MILLIS);
    if (!stopping) start();
  }

  function receive(message: FromCapture): void {
    lastHeard = performance.now();
    switch (message.type) {
      case 'attached':
        if (!specs.has(message.id)) return;
        unseen.attached(message.id, message.ifindex);
        return setState(message.id, { is: 'capturing', ifindex: message.ifindex, linkType: message.linkType });
      case 'waiting':
        if (!specs.has(message.id)) return;
        return setState(message.id, { is: 'waiting', reason: message.reason });
      case 'started': {
        const { library: name, instead } = message;
        if (instead !== undefined && library?.instead !== instead)
          log.warn({ reason: instead, remedy: `run  ${REBUILD}` }, `packets are captured by ${name}`);
        library = { name, ...(instead === undefined ? {} : { instead }) };
        return setFailure(undefined);
      }
      case 'failed':
        return setFailure(`nothing can be captured: ${message.reason}: run  ${REBUILD}`);
      case 'stats':
        countedAt = Date.now();
        take(message);
        if (message.handed !== undefined) count(message.handed);
        if (message.deadRings > MAX_DEAD_RINGS) void renew();
        return;
      case 'handed-over':
        return;
      case 'injected':
        return events.injected(message.number, message.accepted);
      case 'detached': {
        const total = addCounters(before.get(message.id) ?? zeroCounters(), message.counters);
        detaching.get(message.id)?.(total);
        detaching.delete(message.id);
        if (message.deadRings > MAX_DEAD_RINGS) void renew();
        return;
      }
      case 'output-open':
        if (message.path !== output) return;
        outputUsed = true;
        return events.outputOpen(message.path);
      case 'output-closed':
        if (message.path !== output) return;
        output = undefined;
        return events.outputClosed(message.path, message.reason, 'engine');
      case 'log':
        return log[message.level]({ endpoint: message.id }, message.message);
    }
  }

  function take({ counters: reported, seen }: Report): void {
    for (const [id, counters] of Object.entries(reported)) {
      if (!specs.has(id)) continue;
      latest.set(id, counters);
      const found = seen[id];
      const packets = found === undefined ? 0 : unseen.report(id, found);
      if (packets === 0) continue;
      const sum = before.get(id) ?? zeroCounters();
      sum.received += packets;
      sum.droppedCaptureDied += packets;
      before.set(id, sum);
    }
  }

  function count({ path, records }: Handed, final = false): void {
    if (handed?.path !== path) handed = { path, before: 0, latest: 0 };
    if (final) {
      handed.before += records;
      handed.latest = 0;
    } else {
      handed.latest = records;
    }
  }

  function send(message: ToCapture): void {
    if (child?.connected === true) child.send(message, () => undefined);
  }

  function setFailure(reason: string | undefined): void {
    if (reason === failure) return;
    failure = reason;
    if (reason === undefined) log.info('packets can be captured again');
    else log.error(reason);
    events.failed(reason);
  }

  function setState(id: string, state: EndpointState): void {
    if (isDeepStrictEqual(states.get(id), state)) return;
    states.set(id, state);
    events.endpoint(id, state);
  }

  function totals(id: string): Counters {
    return addCounters(addCounters(zeroCounters(), before.get(id) ?? zeroCounters()), latest.get(id) ?? zeroCounters());
  }

  return {
    attach(spec) {
      if (waiting !== undefined) {
        waiting.push(() => this.attach(spec));
        return;
      }
      const isNew = !specs.has(spec.id);
      specs.set(spec.id, spec);
      if (isNew) states.set(spec.id, { is: 'starting' });
      send({ type: 'attach', spec });
    },
    async detach(id) {
      const pending = waiting;
      if (pending !== undefined) await new Promise<void>((resolve) => pending.push(resolve));
      if (!specs.delete(id)) return zeroCounters();
      states.delete(id);
      const counters = await new Promise<Counters>((resolve) => {
        if (child?.connected !== true) return resolve(totals(id));
        detaching.set(id, resolve);
        send({ type: 'detach', id });
      });
      before.delete(id);
      latest.delete(id);
      unseen.forget(id);
      return counters;
    },
    setOutput(path) {
      if (waiting !== undefined) {
        waiting.push(() => this.setOutput(path));
        return;
      }
      output = path;
      outputUsed = false;
      send({ type: 'output', path });
    },
    inject(number, payload) {
      if (waiting !== undefined) {
        waiting.push(() => this.inject(number, payload));
        return;
      }
      send({ type: 'inject', number, payload });
    },
    handed: (path) => (handed?.path === path ? handed.before + handed.latest : undefined),
    counters: () => new Map([...specs.keys()].map((id) => [id, totals(id)])),
    states: () => new Map(states),
    countedAt: () => countedAt,
    pid: () => child?.pid,
    library: () => library,
    failure: () => failure,
    async stop() {
      stopping = true;
      const pending = waiting;
      if (pending !== undefined) await new Promise<void>((resolve) => pending.push(resolve));
      clearInterval(watchdog);
      const running = child;
      if (running === undefined) return;
      const exited = new Promise((resolve) => running.once('exit', resolve));
      send({ type: 'stop' });
      const timer = setTimeout(() => running.kill('SIGKILL'), STOP_MILLIS);
      await exited;
      clearTimeout(timer);
    },
  };
}
