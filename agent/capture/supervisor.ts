/**
 * The agent's side of a capture process: starts it again when it dies, with every endpoint that was attached, and
 * replaces it when it holds what it cannot release. The endpoints' counters are kept over that (counts.ts).
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { REBUILD } from '../native.ts';
import { firstMessage, forkCapture, mailboxOf } from './child.ts';
import { createCounts, type Counts } from './counts.ts';
import type { Accepted } from './output.ts';
import { createOwnerQueries, type OwnerQueries } from './owner-queries.ts';
import { createPacketAsking, type PacketAsking } from './packet-queries.ts';
import {
  zeroCounters,
  type AttachSpec,
  type CaptureSettings,
  type Counters,
  type FromCapture,
  type LibraryName,
  type ToCapture,
} from './protocol.ts';

const BACKOFF_FIRST_MILLIS = 100;
const BACKOFF_LAST_MILLIS = 10_000;
const HEALTHY_MILLIS = 60_000;
/** A process that says nothing for this long, though it reports every second, hangs. */
const MAX_SILENT_SECONDS = 15;
const STOP_MILLIS = 1_500;
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
  /** Of one; undefined: it is not attached. */
  countersOf(id: string): Counters | undefined;
  /** Records in a FIFO so far, or in the queue before it, the agent's own frames too; as last reported. */
  handed(path: string): number | undefined;
  /** VLAN ids of the endpoints that records of a FIFO are of, by their numbers, from 1; undefined: nobody knows. */
  ownersOf(path: string, records: readonly number[]): Promise<(number | undefined)[]>;
  packetsOf: PacketAsking['ask'];
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

type Message<Type extends FromCapture['type']> = Extract<FromCapture, { type: Type }>;

interface Supervision {
  readonly settings: CaptureSettings;
  readonly fork: typeof forkCapture;
  readonly events: CaptureEvents;
  readonly log: Logger;
  readonly specs: Map<string, AttachSpec>;
  readonly states: Map<string, EndpointState>;
  readonly counts: Counts;
  readonly owners: OwnerQueries;
  readonly packets: PacketAsking;
  countedAt: number | undefined;
  /** Who waits for an endpoint's last counters. */
  readonly detaching: Map<string, (counters: Counters) => void>;
  library: ReturnType<Capture['library']>;
  failure: string | undefined;
  output: string | undefined;
  /** Once a process has opened an output, another one can't go on in the middle of its stream. */
  outputUsed: boolean;
  child: ChildProcess | undefined;
  /** That this process has run without hearing from the other: one that was stopped itself blames nobody. */
  silentSeconds: number;
  /** Milliseconds. */
  backoff: number;
  /** While a process is replaced: what was asked for meanwhile. */
  waiting: (() => void)[] | undefined;
  /** No process is replaced before, on the clock of performance.now(). */
  renewFrom: number;
  stopping: boolean;
}

export function superviseCapture(
  settings: CaptureSettings,
  events: CaptureEvents,
  log: Logger,
  fork = forkCapture,
): Capture {
  const supervision: Supervision = {
    settings,
    fork,
    events,
    log,
    specs: new Map(),
    states: new Map(),
    counts: createCounts(),
    owners: createOwnerQueries((message) => send(supervision, message)),
    packets: createPacketAsking(settings.recentBytes, (message) => send(supervision, message)),
    countedAt: undefined,
    detaching: new Map(),
    library: undefined,
    failure: undefined,
    output: undefined,
    outputUsed: false,
    child: undefined,
    silentSeconds: 0,
    backoff: BACKOFF_FIRST_MILLIS,
    waiting: undefined,
    renewFrom: 0,
    stopping: false,
  };
  const watchdog = setInterval(() => killSilent(supervision), 1_000);
  start(supervision);
  return captureOf(supervision, watchdog);
}

function captureOf(supervision: Supervision, watchdog: NodeJS.Timeout): Capture {
  const { specs, states, counts } = supervision;
  return {
    attach: (spec) => onceReplaced(supervision, () => attach(supervision, spec)),
    detach: (id) => detach(supervision, id),
    setOutput: (path) => onceReplaced(supervision, () => setOutput(supervision, path)),
    inject: (number, payload) =>
      onceReplaced(supervision, () => send(supervision, { type: 'inject', number, payload })),
    handed: counts.handed,
    ownersOf: (path, records) => supervision.owners.ask(path, records),
    counters: () => new Map([...specs.keys()].map((id) => [id, counts.total(id)])),
    countersOf: (id) => (specs.has(id) ? counts.total(id) : undefined),
    packetsOf: supervision.packets.ask,
    states: () => new Map(states),
    countedAt: () => supervision.countedAt,
    pid: () => supervision.child?.pid,
    library: () => supervision.library,
    failure: () => supervision.failure,
    stop: () => stop(supervision, watchdog),
  };
}

function start(supervision: Supervision): void {
  supervision.child = launch(supervision);
  attachAll(supervision);
  const { output, outputUsed } = supervision;
  if (output !== undefined && !outputUsed) send(supervision, { type: 'output', path: output });
}

function attachAll(supervision: Supervision): void {
  for (const spec of supervision.specs.values()) send(supervision, { type: 'attach', spec });
}

function launch(supervision: Supervision): ChildProcess {
  const { settings, fork, log } = supervision;
  const startedAt = performance.now();
  supervision.silentSeconds = 0;
  const started = fork(settings);
  log.debug({ pid: started.pid }, 'capture process');
  started.on('message', (message) => {
    if (started === supervision.child) receive(supervision, message as FromCapture);
  });
  started.on('error', (error) => log.error({ err: error }, 'capture process'));
  started.once('exit', (code, signal) => {
    if (started === supervision.child) void restart(supervision, startedAt, code, signal);
  });
  return started;
}

/** Each second. */
function killSilent(supervision: Supervision): void {
  const { child, log } = supervision;
  const silentSeconds = ++supervision.silentSeconds;
  if (child === undefined || silentSeconds <= MAX_SILENT_SECONDS) return;
  log.error({ pid: child.pid, silentSeconds }, 'capture process hangs and is killed');
  child.kill('SIGKILL');
}

/** After the process has ended. */
async function restart(
  supervision: Supervision,
  startedAt: number,
  code: number | null,
  signal: string | null,
): Promise<void> {
  const { failure, log } = supervision;
  supervision.child = undefined;
  noteEnded(supervision);
  if (supervision.stopping) return;
  const reason = failure ?? 'the capture process starts again';
  for (const id of supervision.specs.keys()) setState(supervision, id, { is: 'waiting', reason });
  if (performance.now() - startedAt > HEALTHY_MILLIS) supervision.backoff = BACKOFF_FIRST_MILLIS;
  const retryMillis = supervision.backoff;
  // Why it can't start was said, once.
  if (failure === undefined) log.error({ code, signal, retryMillis }, 'capture process ended');
  await sleep(retryMillis);
  supervision.backoff = Math.min(retryMillis * 2, BACKOFF_LAST_MILLIS);
  if (!supervision.stopping) start(supervision);
}

/** What the process had begun is over. */
function noteEnded(supervision: Supervision): void {
  const { counts, detaching, output } = supervision;
  counts.processEnded();
  supervision.owners.processEnded();
  supervision.packets.processEnded();
  for (const [id, resolve] of detaching) resolve(counts.total(id));
  detaching.clear();
  if (output === undefined || !supervision.outputUsed) return;
  supervision.output = undefined;
  supervision.events.outputClosed(output, 'the capture process ended', 'capture');
}

/**
 * Moves to a new process, which goes on in the middle of the engine's input. What comes between the two is lost, and
 * counted.
 */
async function renew(supervision: Supervision): Promise<void> {
  const { child: old, output, log } = supervision;
  if (old === undefined || supervision.stopping || supervision.waiting !== undefined) return;
  if (output !== undefined && !supervision.outputUsed) return;
  if (performance.now() < supervision.renewFrom) return;
  supervision.waiting = [];
  const next = launch(supervision);
  try {
    await firstMessage(next, 'started', RENEW_MILLIS);
    if (supervision.child !== old) throw new Error('the process before it has ended');
    const handedOver = firstMessage(old, 'handed-over', RENEW_MILLIS);
    old.send({ type: 'hand-over' } satisfies ToCapture);
    goOver(supervision, next, await handedOver, output);
    log.debug({ pid: next.pid, before: old.pid }, 'capture process was replaced');
    if (next.exitCode !== null || next.signalCode !== null)
      void restart(supervision, performance.now(), next.exitCode, next.signalCode);
  } catch (error) {
    log.warn({ err: error }, 'capture process could not be replaced');
    next.kill('SIGKILL');
    supervision.renewFrom = performance.now() + RENEW_AGAIN_MILLIS;
  } finally {
    const late = supervision.waiting;
    supervision.waiting = undefined;
    for (const call of late) call();
  }
}

/** @param begun The FIFO that the old process was writing. */
function goOver(
  supervision: Supervision,
  next: ChildProcess,
  last: Message<'handed-over'>,
  begun: string | undefined,
): void {
  const { counts } = supervision;
  if (last.handed !== undefined) counts.handedOver(last.handed);
  supervision.child = next;
  counts.processEnded();
  supervision.owners.processEnded();
  supervision.packets.processEnded();
  attachAll(supervision);
  // The engine may have ended meanwhile.
  const { output } = supervision;
  if (output !== undefined) send(supervision, { type: 'output', path: output, behind: output === begun });
}

function receive(supervision: Supervision, message: FromCapture): void {
  const { specs, counts, events, log } = supervision;
  supervision.silentSeconds = 0;
  switch (message.type) {
    case 'started':
      return noteStarted(supervision, message);
    case 'failed':
      return setFailure(supervision, `nothing can be captured: ${message.reason}: run  ${REBUILD}`);
    case 'attached': {
      const { id, ifindex, linkType } = message;
      if (!specs.has(id)) return;
      return setState(supervision, id, { is: 'capturing', ifindex, linkType });
    }
    case 'waiting':
      if (specs.has(message.id)) setState(supervision, message.id, { is: 'waiting', reason: message.reason });
      return;
    case 'detached':
      return noteDetached(supervision, message);
    case 'stats':
      supervision.countedAt = Date.now();
      counts.report(message, specs);
      return renewIfFull(supervision, message);
    case 'output-open':
    case 'output-closed':
      return noteOutput(supervision, message);
    case 'injected':
      return events.injected(message.number, message.accepted);
    case 'owned':
      return supervision.owners.answered(message.query, message.vlans);
    case 'packets':
      return supervision.packets.received(message, mailboxOf(supervision.child));
    case 'packets-end':
      return supervision.packets.ended(message, mailboxOf(supervision.child));
    case 'passed-on':
      return supervision.owners.passedOn(message);
    case 'handed-over':
      return counts.report(message, specs);
    case 'log':
      return log[message.level]({ endpoint: message.id }, message.message);
  }
}

function noteStarted(supervision: Supervision, { library: name, instead }: Message<'started'>): void {
  if (instead !== undefined && supervision.library?.instead !== instead)
    supervision.log.warn({ reason: instead, remedy: `run  ${REBUILD}` }, `packets are captured by ${name}`);
  supervision.library = { name, ...(instead === undefined ? {} : { instead }) };
  setFailure(supervision, undefined);
}

function noteDetached(supervision: Supervision, message: Message<'detached'>): void {
  const { detaching, counts } = supervision;
  const { id, counters, seen } = message;
  counts.report({ counters: { [id]: counters }, seen: seen === undefined ? {} : { [id]: seen } }, detaching);
  detaching.get(id)?.(counts.total(id));
  detaching.delete(id);
  renewIfFull(supervision, message);
}

function renewIfFull(supervision: Supervision, { deadRings }: { deadRings: number }): void {
  if (deadRings > MAX_DEAD_RINGS) void renew(supervision);
}

function noteOutput(supervision: Supervision, message: Message<'output-open' | 'output-closed'>): void {
  if (message.path !== supervision.output) return;
  if (message.type === 'output-open') {
    supervision.outputUsed = true;
    supervision.events.outputOpen(message.path);
  } else {
    supervision.output = undefined;
    supervision.events.outputClosed(message.path, message.reason, 'engine');
  }
}

/** @returns whether there is a process. */
function send({ child }: Supervision, message: ToCapture): boolean {
  if (child?.connected !== true) return false;
  child.send(message, () => undefined);
  return true;
}

function setFailure(supervision: Supervision, reason: string | undefined): void {
  const { events, log } = supervision;
  if (reason === supervision.failure) return;
  supervision.failure = reason;
  if (reason === undefined) log.info('packets can be captured again');
  else log.error(reason);
  events.failed(reason);
}

function setState({ states, events }: Supervision, id: string, state: EndpointState): void {
  if (isDeepStrictEqual(states.get(id), state)) return;
  states.set(id, state);
  events.endpoint(id, state);
}

/** At once, or when the process that runs has been replaced. */
function onceReplaced({ waiting }: Supervision, call: () => void): void {
  if (waiting === undefined) call();
  else waiting.push(call);
}

function attach(supervision: Supervision, spec: AttachSpec): void {
  const { specs, states, counts } = supervision;
  const before = specs.get(spec.id);
  specs.set(spec.id, spec);
  if (before === undefined) states.set(spec.id, { is: 'starting' });
  else if (!isDeepStrictEqual(before.taps, spec.taps)) counts.goesOver(spec.id);
  send(supervision, { type: 'attach', spec });
}

async function detach(supervision: Supervision, id: string): Promise<Counters> {
  const { specs, states, counts, detaching, waiting } = supervision;
  if (waiting !== undefined) await new Promise<void>((resolve) => waiting.push(resolve));
  if (!specs.delete(id)) return zeroCounters();
  states.delete(id);
  const counters = await new Promise<Counters>((resolve) => {
    if (supervision.child?.connected !== true) return resolve(counts.total(id));
    detaching.set(id, resolve);
    send(supervision, { type: 'detach', id });
  });
  counts.forget(id);
  return counters;
}

function setOutput(supervision: Supervision, path: string | undefined): void {
  supervision.output = path;
  supervision.outputUsed = false;
  send(supervision, { type: 'output', path });
}

async function stop(supervision: Supervision, watchdog: NodeJS.Timeout): Promise<void> {
  const { waiting } = supervision;
  supervision.stopping = true;
  if (waiting !== undefined) await new Promise<void>((resolve) => waiting.push(resolve));
  clearInterval(watchdog);
  const running = supervision.child;
  if (running === undefined) return;
  const exited = new Promise((resolve) => running.once('exit', resolve));
  send(supervision, { type: 'stop' });
  const timer = setTimeout(() => running.kill('SIGKILL'), STOP_MILLIS);
  await exited;
  clearTimeout(timer);
}
