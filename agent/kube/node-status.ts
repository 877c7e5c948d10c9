/**
 * Writes what this node says of all resources into its own object, for a cluster whose operator sums the objects up.
 *
 * Invariants: no other agent sees a write, so all together cost what their own writes cost. Level-triggered: only the
 * newest is written, all resources in one request. Each agent has its turn every 10 s, at a random moment of its own,
 * since what changes on all nodes changes at the same moment: a change is written within 10 s, by one request however
 * many follow it until then. What the server has already is not written, and nothing is read again after the first
 * time. An agent that has nothing to say has no object.
 *
 * Not promised: that the object comes back at once when somebody else removes it (it does with the next change).
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { holdingClock, type Clock } from '../files/clock.ts';
import { ApiError } from './api.ts';
import {
  fitting,
  inspectionsOf,
  nodeObject,
  nodeObjectPath,
  NODE_OBJECTS,
  type Inspection,
  type NodeObject,
} from './node-object.ts';
import { isSame, keptSince, normalize, type Entry } from './status-entry.ts';
import type { ResourceApi } from './resources.ts';
import type { StatusResource, StatusWriter, StatusWriterOptions } from './status.ts';

const INTERVAL_MILLIS = 10_000;
/** First and longest wait after a failure, each between half and all of it. */
const FAILURE_MILLIS = [1_000, 60_000] as const;
const CLOSING_MILLIS = 250;
const CLOSE_MILLIS = 5_000;

export interface NodeStatusOptions extends Omit<StatusWriterOptions, 'minIntervalMillis'> {
  /** From one turn to write to the next. Default 10,000. */
  intervalMillis?: number;
}

interface State {
  readonly options: NodeStatusOptions;
  readonly clock: Clock;
  readonly log: Pick<Logger, 'info' | 'warn'> | undefined;
  readonly ended: AbortController;
  /** By API and key of the resource. */
  readonly wanted: Map<string, Inspection>;
  /** What the server has; undefined: not known, null: no object. */
  written: { uid: string; inspections: Partial<Inspection>[] } | null | undefined;
  /** Something may be another than what is written. */
  changed: boolean;
  running: Promise<void> | undefined;
  /** A moment of the past at which it was this agent's turn. */
  readonly turn: number;
  failures: number;
  closing: Promise<void> | undefined;
  /** Calls the next write off; undefined: none is planned. */
  callOff: (() => void) | undefined;
}

export function createNodeStatusWriter(options: NodeStatusOptions): StatusWriter {
  const { clock = holdingClock, random = Math.random, intervalMillis = INTERVAL_MILLIS } = options;
  const state: State = {
    options,
    clock,
    log: options.log,
    ended: new AbortController(),
    wanted: new Map(),
    written: undefined,
    changed: false,
    running: undefined,
    turn: clock.now() - random() * intervalMillis,
    failures: 0,
    closing: undefined,
    callOff: undefined,
  };
  return {
    set(resource, api, status) {
      if (state.closing === undefined) set(state, resource, api, status);
    },
    forget(resource, api) {
      const key = keyOf(resource, api);
      if (state.wanted.get(key)?.uid !== resource.uid) return;
      state.wanted.delete(key);
      change(state);
    },
    flush: () => flush(state),
    close: () => (state.closing ??= close(state)),
  };
}

function set(state: State, resource: StatusResource, api: ResourceApi, status: Entry | undefined): void {
  const { wanted, written } = state;
  const key = keyOf(resource, api);
  const before = wanted.get(key);
  if (status === undefined) {
    // The first time, an earlier agent's object may say something.
    if (!wanted.delete(key) && written !== undefined) return;
  } else {
    const { namespace, name, uid } = resource;
    const next: Inspection = { api, namespace, name, uid, ...normalize(status) };
    if (isSame(before, next)) return;
    wanted.set(key, next);
  }
  change(state);
}

function change(state: State): void {
  state.changed = true;
  plan(state);
}

function plan(state: State): void {
  const { options, clock, callOff, running, ended } = state;
  if (callOff !== undefined || running !== undefined || ended.signal.aborted) return;
  const { random = Math.random } = options;
  const [first, last] = FAILURE_MILLIS;
  const pause = state.failures === 0 ? 0 : (0.5 + random() / 2) * Math.min(last, first * 2 ** (state.failures - 1));
  state.callOff = clock.after(pause + untilTurn(state, clock.now() + pause), () => {
    state.callOff = undefined;
    void attempt(state);
  });
}

/** Milliseconds from that time to this agent's next turn. */
function untilTurn({ options, turn }: State, from: number): number {
  const { intervalMillis = INTERVAL_MILLIS } = options;
  return intervalMillis === 0 ? 0 : intervalMillis - ((from - turn) % intervalMillis);
}

/** One at a time; whoever comes while one runs gets that one. */
function attempt(state: State): Promise<void> {
  state.callOff?.();
  state.callOff = undefined;
  state.running ??= attemptOnce(state).finally(() => {
    state.running = undefined;
    if (state.changed && state.closing === undefined) plan(state);
  });
  return state.running;
}

async function attemptOnce(state: State): Promise<void> {
  const { options, log, ended } = state;
  state.changed = false;
  try {
    await write(state);
    if (state.failures > 0) log?.info({ node: options.node }, 'status is written again');
    state.failures = 0;
  } catch (error) {
    // The server may have written it all the same.
    state.written = undefined;
    state.changed = true;
    if (state.failures++ === 0 && !ended.signal.aborted) {
      log?.warn({ node: options.node, err: error }, 'status of this node cannot be written');
    }
  }
}

/** @throws ApiError */
async function write(state: State): Promise<void> {
  const { client, node } = state.options;
  const { signal } = state.ended;
  // Mostly there is no object: an agent that ended took it away.
  if (state.written === undefined && state.wanted.size > 0 && (await isMade(state))) return;
  state.written ??= await read(state);
  const inspections = fitting([...state.wanted.values()].map((one) => sinceOf(state, one)));
  if (state.written === null) {
    if (inspections.length > 0) await make(state, inspections);
  } else if (state.closing !== undefined && inspections.length === 0) {
    await client.remove(nodeObjectPath(node), state.written.uid, signal);
    state.written = null;
  } else if (!isDeepStrictEqual(state.written.inspections, inspections)) {
    const { metadata } = await client.mergePatch<NodeObject>(nodeObjectPath(node), { inspections }, signal);
    state.written = { uid: metadata.uid, inspections };
  }
}

async function isMade(state: State): Promise<boolean> {
  try {
    await make(state, fitting([...state.wanted.values()]));
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 409) return false;
    throw error;
  }
}

async function make(state: State, inspections: Inspection[]): Promise<void> {
  const { options, ended } = state;
  const object = nodeObject(options.node, inspections);
  const { metadata } = await options.client.create<NodeObject>(NODE_OBJECTS, object, ended.signal);
  state.written = { uid: metadata.uid, inspections };
}

async function read({ options, ended }: State): Promise<NonNullable<State['written']> | null> {
  try {
    const object = await options.client.get<NodeObject>(nodeObjectPath(options.node), undefined, ended.signal);
    return { uid: object.metadata.uid, inspections: inspectionsOf(object) };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** `lastUpdated` is when `success` last changed, also over restarts of the agent. */
function sinceOf({ written }: State, one: Inspection): Inspection {
  const before = written?.inspections.find(({ uid, api }) => uid === one.uid && api === one.api);
  return before === undefined ? one : { ...one, active: keptSince(before.active, one.active) };
}

async function flush(state: State): Promise<void> {
  if (state.ended.signal.aborted) return;
  await state.running;
  if (state.changed) await attempt(state);
}

async function close(state: State): Promise<void> {
  const { options, clock, ended } = state;
  const endInTime = clock.after(options.closeMillis ?? CLOSE_MILLIS, () => ended.abort());
  await state.running;
  // An object that says nothing goes.
  state.changed ||= state.written !== null && state.wanted.size === 0;
  while (state.changed && !ended.signal.aborted) {
    await attempt(state);
    if (state.changed) await clock.wait(CLOSING_MILLIS, ended.signal);
  }
  endInTime();
  ended.abort();
  state.callOff?.();
}

function keyOf({ namespace, name }: StatusResource, api: ResourceApi): string {
  return `${api}/${namespace}/${name}`;
}
