/**
 * Writes this node's entry into the status of resources, which the agents of all nodes share.
 *
 * Invariants: level-triggered: only the newest status given for a resource is written, however many came before. Each
 * write is of the array that was read just before, with the version it was read at, so no other node's entry is lost or
 * changed, whatever it holds; the sums are of all entries of the same write. A resource that was deleted, or deleted
 * and made again (another UID), is never written to.
 *
 * An entry that says the same as the server's is not written; `active.lastUpdated` alone is no change. It is the time
 * when `success` last changed, also over restarts of the agent. Calico's documentation says "time when the active field
 * was updated": https://docs.tigera.io/calico-enterprise/latest/reference/resources/deeppacketinspection
 *
 * Not promised: that an entry comes back at once when somebody else removes it (it does with the next change), that a
 * cluster's own schema keeps the fields that Calico does not have, and that anything is written before a deadline: a
 * server that refuses is asked again later.
 */
import type { Logger } from 'pino';
import { holdingClock, type Clock } from '../files/clock.ts';
import { ApiError, type ApiClient, type ApiObject } from './api.ts';
import { list, record } from './fields.ts';
import { resourcePath, type NodeStatus, type ResourceApi } from './resources.ts';
import { countsOf, isSame, keptSince, normalize, sumsOf } from './status-entry.ts';

/**
 * A resource's interval grows by this for each node with an entry: every write reaches the agents of all nodes, so all
 * together shall write ten times a second at most, however many they are.
 */
const NODE_MILLIS = 100;
/** Resources that are written at the same time. */
const PARALLEL = 8;
/**
 * First and longest wait after a conflict, in milliseconds, each wait between none and all of it: others write the same
 * object. In a simulation, 200 nodes that begin at once, with requests of 10 ms, are all done after 8 s and some 10
 * requests each.
 */
const CONFLICT_MILLIS = [100, 5_000] as const;
/** First and longest wait after another failure, each between half and all of it. */
const FAILURE_MILLIS = [1_000, 60_000] as const;
/** Longest wait while closing. */
const CLOSING_MILLIS = 250;
const MIN_INTERVAL_MILLIS = 3_000;
const CLOSE_MILLIS = 5_000;

export interface StatusWriterOptions {
  client: ApiClient;
  /** This node's name: the key of its entries. */
  node: string;
  log?: Pick<Logger, 'info' | 'warn'>;
  /** Shortest time between two writes of one resource, longer where it has many nodes; the first is at once. */
  minIntervalMillis?: number;
  /** How long close() goes on writing. */
  closeMillis?: number;
  clock?: Clock;
  random?: () => number;
}

export interface StatusResource {
  namespace: string;
  name: string;
  uid: string;
}

export interface StatusWriter {
  /**
   * The status of a resource on this node from now on. Undefined: it has none, and an entry that is there (an earlier
   * agent's, too) is removed. The newest 10 errors are taken, with their messages cut and made printable.
   */
  set(resource: StatusResource, api: ResourceApi, status: Omit<NodeStatus, 'node'> | undefined): void;
  /** The resource is gone: nothing is written, nothing is remembered. */
  forget(resource: StatusResource, api: ResourceApi): void;
  /** Tries now to write all that waits. Resolves when each was written or refused; the latter is tried again later. */
  flush(): Promise<void>;
  /**
   * Writes what waits, for at most `closeMillis`, and then nothing any more. To remove this node's entries, set them to
   * undefined before.
   */
  close(): Promise<void>;
}

interface Entry {
  resource: StatusResource;
  api: ResourceApi;
  /** Null: none. */
  wanted: NodeStatus | null;
  /** What the server has, as far as is known; undefined: not known. */
  written: NodeStatus | null | undefined;
  /** When to try; undefined when nothing is to be done. */
  due: number | undefined;
  running: boolean;
  /** When a request was last sent. */
  lastAttempt: number;
  /** Nodes that had an entry when the resource was last read. */
  nodes: number;
  conflicts: number;
  failures: number;
  /** Called after the next attempt that is not a conflict. */
  waiting: (() => void)[];
}

type Outcome = 'written' | 'conflict' | 'gone' | 'failed';

interface State {
  readonly options: StatusWriterOptions;
  readonly clock: Clock;
  readonly random: () => number;
  readonly entries: Map<string, Entry>;
  readonly ended: AbortController;
  /** Writes under way. */
  running: number;
  closing: Promise<void> | undefined;
  /** Calls off what is to come next. */
  callOff: () => void;
}

export function createStatusWriter(options: StatusWriterOptions): StatusWriter {
  const { clock = holdingClock, random = Math.random } = options;
  const entries: State['entries'] = new Map();
  const ended = new AbortController();
  const state: State = {
    options,
    clock,
    random,
    entries,
    ended,
    running: 0,
    closing: undefined,
    callOff: () => undefined,
  };
  ended.signal.addEventListener('abort', () => {
    state.callOff();
    for (const entry of entries.values()) release(entry);
  });
  return {
    set(resource, api, status) {
      if (state.closing === undefined) set(state, resource, api, status);
    },
    forget(resource, api) {
      const entry = entries.get(keyOf({ api, resource }));
      if (entry?.resource.uid !== resource.uid) return;
      entries.delete(keyOf(entry));
      release(entry);
    },
    flush: () => flush(state),
    close: () => (state.closing ??= close(state)),
  };
}

function set(
  state: State,
  resource: StatusResource,
  api: ResourceApi,
  status: Omit<NodeStatus, 'node'> | undefined,
): void {
  const { options, entries, clock } = state;
  const wanted = status === undefined ? null : { node: options.node, ...normalize(status) };
  const key = keyOf({ api, resource });
  const entry = entries.get(key);
  if (entry?.resource.uid !== resource.uid) {
    // Whoever waits for the one that is gone waits for its successor.
    const waiting = entry?.waiting.splice(0) ?? [];
    entries.set(key, { ...NEW, resource, api, wanted, waiting, due: clock.now() });
  } else if (isSame(entry.wanted, wanted)) {
    return;
  } else {
    change(state, entry, wanted);
  }
  pump(state);
}

function change(state: State, entry: Entry, wanted: NodeStatus | null): void {
  entry.wanted = wanted;
  if (!entry.running && isSame(entry.written, wanted)) {
    entry.due = undefined;
    release(entry);
  } else {
    entry.due ??= nextWrite(state, entry);
  }
}

/** Starts what is due, and comes back for the next. */
function pump(state: State): void {
  state.callOff();
  if (state.ended.signal.aborted) return;
  const waiting = [...state.entries.values()]
    .filter((entry) => !entry.running && entry.due !== undefined)
    .sort((a, b) => (a.due ?? 0) - (b.due ?? 0));
  for (const entry of waiting) {
    if (state.running === PARALLEL) return;
    const millis = (entry.due ?? 0) - state.clock.now();
    if (millis > 0) {
      state.callOff = state.clock.after(millis, () => pump(state));
      return;
    }
    void attempt(state, entry);
  }
}

async function attempt(state: State, entry: Entry): Promise<void> {
  const { log } = state.options;
  entry.running = true;
  entry.lastAttempt = state.clock.now();
  state.running++;
  const { wanted } = entry;
  let outcome: Outcome;
  try {
    outcome = await write(state, entry, wanted);
  } catch (error) {
    outcome = error instanceof ApiError && error.status === 409 ? 'conflict' : 'failed';
    if (outcome === 'failed' && !state.ended.signal.aborted && entry.failures === 0)
      log?.warn({ resource: keyOf(entry), err: error }, 'status cannot be written');
  }
  state.running--;
  entry.running = false;
  settle(state, entry, wanted, outcome);
  pump(state);
}

function settle(state: State, entry: Entry, wanted: NodeStatus | null, outcome: Outcome): void {
  const { clock, random, entries } = state;
  switch (outcome) {
    case 'conflict':
      entry.due = clock.now() + random() * backoff(state, CONFLICT_MILLIS, entry.conflicts++);
      return;
    case 'failed':
      // The server may have written it all the same.
      entry.written = undefined;
      entry.due = clock.now() + (0.5 + random() / 2) * backoff(state, FAILURE_MILLIS, entry.failures++);
      break;
    case 'gone':
      if (entries.get(keyOf(entry)) === entry) entries.delete(keyOf(entry));
      break;
    case 'written':
      settleWritten(state, entry, wanted);
      // It changed meanwhile. Who waits for it, waits on.
      if (entry.due !== undefined) return;
  }
  release(entry);
}

function settleWritten(state: State, entry: Entry, wanted: NodeStatus | null): void {
  if (entry.failures > 0) state.options.log?.info({ resource: keyOf(entry) }, 'status is written again');
  entry.written = wanted;
  entry.conflicts = 0;
  entry.failures = 0;
  if (isSame(entry.wanted, wanted)) entry.due = undefined;
  else entry.due = entry.waiting.length > 0 ? state.clock.now() : nextWrite(state, entry);
}

function nextWrite({ options }: State, { lastAttempt, nodes }: Entry): number {
  return lastAttempt + Math.max(options.minIntervalMillis ?? MIN_INTERVAL_MILLIS, nodes * NODE_MILLIS);
}

function backoff({ closing }: State, [first, last]: readonly [number, number], times: number): number {
  return Math.min(first * 2 ** times, closing === undefined ? last : CLOSING_MILLIS);
}

/** @throws ApiError. */
async function write({ options, ended }: State, entry: Entry, wanted: NodeStatus | null): Promise<Outcome> {
  const { client, node } = options;
  const { resource, api } = entry;
  const path = resourcePath(api, resource.namespace, resource.name);
  const { signal } = ended;
  try {
    const { metadata, status } = await client.get<ApiObject & { status?: unknown }>(path, undefined, signal);
    if (metadata.uid !== resource.uid) return 'gone';
    const before = record(status)['nodes'];
    entry.nodes = list(before).length;
    const nodes = mergeNodes(before, node, wanted);
    if (nodes === undefined) return 'written';
    const patch = {
      metadata: { resourceVersion: metadata.resourceVersion },
      status: { nodes, ...sumsOf(nodes.map(countsOf)) },
    };
    await client.mergePatch(`${path}/status`, patch, signal).catch(async (error: unknown) => {
      if (!isNotFound(error)) throw error;
      // The resource is gone meanwhile, or its CRD has no such subresource. Asking first: the right to patch the
      // resource itself may be missing.
      await client.get(path, undefined, signal);
      return client.mergePatch(path, patch, signal);
    });
    return 'written';
  } catch (error) {
    if (isNotFound(error)) return 'gone';
    throw error;
  }
}

function pending({ entries }: State): Entry[] {
  return [...entries.values()].filter((entry) => entry.due !== undefined);
}

async function flush(state: State): Promise<void> {
  if (state.ended.signal.aborted) return;
  const attempts = pending(state).map((entry) => new Promise<void>((resolve) => entry.waiting.push(resolve)));
  for (const entry of pending(state)) entry.due = state.clock.now();
  pump(state);
  await Promise.all(attempts);
}

async function close(state: State): Promise<void> {
  const { options, ended, clock } = state;
  const endInTime = clock.after(options.closeMillis ?? CLOSE_MILLIS, () => ended.abort());
  await flush(state);
  while (pending(state).length > 0 && !ended.signal.aborted) {
    await clock.wait(CLOSING_MILLIS, ended.signal);
    await flush(state);
  }
  endInTime();
  ended.abort();
}

const NEW = {
  written: undefined,
  running: false,
  lastAttempt: 0,
  nodes: 0,
  conflicts: 0,
  failures: 0,
} satisfies Partial<Entry>;

function keyOf({ api, resource }: Pick<Entry, 'api' | 'resource'>): string {
  return `${api}/${resource.namespace}/${resource.name}`;
}

function release(entry: Entry): void {
  for (const resolve of entry.waiting.splice(0)) resolve();
}

function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

/** `status.nodes` with this node's entry, or without it; undefined where it is so already. No list counts as empty. */
function mergeNodes(value: unknown, node: string, wanted: NodeStatus | null): unknown[] | undefined {
  const nodes = list(value);
  const isOwn = (entry: unknown): boolean => record(entry)['node'] === node;
  const [own, ...further] = nodes.filter(isOwn);
  if (wanted === null) return own === undefined ? undefined : nodes.filter((entry) => !isOwn(entry));
  if (further.length === 0 && isSame(own as NodeStatus | undefined, wanted)) return undefined;

  const active = keptSince(record(own)['active'], wanted.active);
  const index = own === undefined ? nodes.length : nodes.indexOf(own);
  return [
    ...nodes.slice(0, index).filter((entry) => !isOwn(entry)),
    { ...wanted, active },
    ...nodes.slice(index).filter((entry) => !isOwn(entry)),
  ];
}
