/**
 * Leadership among the replicas by a Lease (coordination.k8s.io/v1).
 *
 * At most one leads at a time, as long as clocks run at the same speed: a leader stops `DURATION - RENEW` before
 * anybody else may take over, counted from the moment at which it sent its last successful request, while the others
 * count from when they saw it. Only monotonic clocks are compared with themselves; the times in the Lease are for
 * people. A process that was stopped finds out when it asks isLeader(), which is to be asked before each write.
 *
 * Not promised: a request that the network holds back for longer than that may arrive when another leads.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ApiError, type ApiClient, type ApiObject } from '../kube/api.ts';

/** How long a Lease holds after it was seen renewed, how long its holder relies on it, how often it is looked at. */
const DURATION_MILLIS = 15_000;
const RENEW_MILLIS = 10_000;
const RETRY_MILLIS = 2_000;
/** What the release may take when the process ends. */
const RELEASE_MILLIS = 3_000;

export interface LeaseOptions {
  client: ApiClient;
  namespace: string;
  name: string;
  /** Of this process, and no other. */
  identity: string;
  /** Leadership was won or lost. */
  onChange: () => void;
  log: Pick<Logger, 'info' | 'warn'>;
  durationMillis?: number;
  renewMillis?: number;
  retryMillis?: number;
  /** Milliseconds of a clock that is never set back. */
  now?: () => number;
}

export interface Lease {
  isLeader(): boolean;
  /** The holder as last seen; empty: none. */
  holder(): string;
  /** Aborted when the leadership that is held now ends. */
  signal(): AbortSignal;
  /** Gives the leadership up, so that another need not wait. */
  stop(): Promise<void>;
}

interface ApiLease extends ApiObject {
  spec?: { holderIdentity?: string; leaseDurationSeconds?: number; leaseTransitions?: number; renewTime?: string };
}

const KIND = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };

interface State {
  readonly options: LeaseOptions;
  readonly collection: string;
  readonly path: string;
  readonly millis: { duration: number; renew: number; retry: number };
  readonly now: () => number;
  readonly stopping: AbortController;
  /** Aborted while another leads, or nobody. */
  term: AbortController;
  heldUntil: number;
  holder: string;
  timer: NodeJS.Timeout | undefined;
  /** The Lease as it was when it last changed, and when that was seen. */
  seen: { version: string; at: number } | undefined;
  failing: boolean;
}

export function holdLease(options: LeaseOptions): Lease {
  const { namespace, name, now = () => performance.now() } = options;
  const { durationMillis = DURATION_MILLIS, renewMillis = RENEW_MILLIS, retryMillis = RETRY_MILLIS } = options;
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const state: State = {
    options,
    collection,
    path: `${collection}/${name}`,
    millis: { duration: durationMillis, renew: renewMillis, retry: retryMillis },
    now,
    stopping: new AbortController(),
    term: new AbortController(),
    heldUntil: -Infinity,
    holder: '',
    timer: undefined,
    seen: undefined,
    failing: false,
  };
  state.term.abort();
  const running = run(state);
  return {
    isLeader: () => isLeader(state),
    holder: () => state.holder,
    signal: () => state.term.signal,
    stop: () => stop(state, running),
  };
}

function isLeader({ now, heldUntil }: State): boolean {
  return now() < heldUntil;
}

async function run(state: State): Promise<void> {
  const { stopping, millis, options } = state;
  const { log, name } = options;
  while (!stopping.signal.aborted) {
    try {
      await attempt(state);
      if (state.failing) log.info({ lease: name }, 'the lease can be had again');
      state.failing = false;
    } catch (error) {
      // Another was faster.
      const isRace = error instanceof ApiError && error.status === 409;
      if (!isRace && !stopping.signal.aborted && !state.failing) {
        state.failing = true;
        log.warn({ lease: name, err: error }, 'the lease can be neither read nor renewed');
      }
    }
    const pause = millis.retry * (0.8 + Math.random() * 0.4);
    await sleep(pause, undefined, { signal: stopping.signal }).catch(() => undefined);
  }
}

/** @throws ApiError */
async function attempt(state: State): Promise<void> {
  const { options, collection, path, millis, now, stopping } = state;
  const { client, namespace, name, identity } = options;
  const sentAt = now();
  const deadline = AbortSignal.any([stopping.signal, AbortSignal.timeout(millis.renew)]);
  const existing = await client.get<ApiLease>(path, undefined, deadline).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  });
  if (existing === undefined) {
    const metadata = { name, namespace };
    await client.create(collection, { ...KIND, metadata, spec: claim(state, 0) }, deadline);
    return noteWon(state, sentAt);
  }
  const { metadata, spec = {} } = existing;
  state.holder = spec.holderIdentity ?? '';
  const own = state.holder === identity;
  const isRecent = isHeld(state, existing);
  if (!own && isRecent) {
    if (isLeader(state)) noteLost(state, 'another holds it');
    return;
  }
  const transitions = spec.leaseTransitions ?? 0;
  const patch = {
    metadata: { resourceVersion: metadata.resourceVersion },
    spec: claim(state, own ? transitions : transitions + 1, !own),
  };
  await client.mergePatch(path, patch, deadline);
  noteWon(state, sentAt);
}

/** Whether its holder has renewed it lately. */
function isHeld(state: State, { metadata, spec = {} }: ApiLease): boolean {
  const { now, millis, holder } = state;
  state.seen =
    state.seen?.version === metadata.resourceVersion ? state.seen : { version: metadata.resourceVersion, at: now() };
  // Its holder says how long it may stay silent.
  const patience = Math.max(millis.duration, (spec.leaseDurationSeconds ?? 0) * 1000);
  return holder !== '' && now() - state.seen.at < patience;
}

function claim({ options, millis }: State, leaseTransitions: number, acquired = true): object {
  const time = new Date().toISOString().replace(/Z$/, '000Z');
  return {
    holderIdentity: options.identity,
    leaseDurationSeconds: Math.ceil(millis.duration / 1000),
    leaseTransitions,
    renewTime: time,
    ...(acquired ? { acquireTime: time } : {}),
  };
}

/** @param sentAt When the request was sent that won or renewed it. */
function noteWon(state: State, sentAt: number): void {
  const { stopping, options, millis, now } = state;
  const { log, name, identity, onChange } = options;
  if (stopping.signal.aborted) return;
  const before = isLeader(state);
  state.holder = identity;
  state.heldUntil = sentAt + millis.renew;
  clearTimeout(state.timer);
  const left = Math.max(0, state.heldUntil - now());
  state.timer = setTimeout(() => noteLost(state, 'it could not be renewed in time'), left);
  if (before) return;
  state.term = new AbortController();
  log.info({ lease: name, identity }, 'leading');
  onChange();
}

function noteLost(state: State, reason: string): void {
  const { log, name, identity, onChange } = state.options;
  clearTimeout(state.timer);
  state.heldUntil = -Infinity;
  if (state.term.signal.aborted) return;
  state.term.abort();
  log.warn({ lease: name, identity, reason }, 'no longer leading');
  onChange();
}

async function stop(state: State, running: Promise<void>): Promise<void> {
  const led = isLeader(state);
  clearTimeout(state.timer);
  state.heldUntil = -Infinity;
  state.term.abort();
  state.stopping.abort();
  await running;
  if (led) await release(state);
}

async function release({ options, path }: State): Promise<void> {
  const { client, identity, name, log } = options;
  try {
    const signal = AbortSignal.timeout(RELEASE_MILLIS);
    const { metadata, spec } = await client.get<ApiLease>(path, undefined, signal);
    if (spec?.holderIdentity !== identity) return;
    const patch = { metadata: { resourceVersion: metadata.resourceVersion }, spec: { holderIdentity: '' } };
    await client.mergePatch(path, patch, signal);
    log.info({ lease: name, identity }, 'lease released');
  } catch (error) {
    log.warn({ lease: name, err: error }, 'the lease is not released; another takes it when it has run out');
  }
}
