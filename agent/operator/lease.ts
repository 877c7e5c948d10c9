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

export function holdLease(options: LeaseOptions): Lease {
  const { client, namespace, name, identity, onChange, log, now = () => performance.now() } = options;
  const { durationMillis = DURATION_MILLIS, renewMillis = RENEW_MILLIS, retryMillis = RETRY_MILLIS } = options;
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const path = `${collection}/${name}`;
  const stopping = new AbortController();
  let term = new AbortController();
  term.abort();
  let heldUntil = -Infinity;
  let holder = '';
  let timer: NodeJS.Timeout | undefined;
  /** The Lease as it was when it last changed, and when that was seen. */
  let seen: { version: string; at: number } | undefined;
  let failing = false;
  const running = run();

  const isLeader = (): boolean => now() < heldUntil;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await attempt();
        if (failing) log.info({ lease: name }, 'the lease can be had again');
        failing = false;
      } catch (error) {
        // Another was faster.
        const isRace = error instanceof ApiError && error.status === 409;
        if (!isRace && !stopping.signal.aborted && !failing) {
          failing = true;
          log.warn({ lease: name, err: error }, 'the lease can be neither read nor renewed');
        }
      }
      await sleep(retryMillis * (0.8 + Math.random() * 0.4), undefined, { signal: stopping.signal }).catch(
        () => undefined,
      );
    }
  }

  async function attempt(): Promise<void> {
    const sentAt = now();
    const deadline = AbortSignal.any([stopping.signal, AbortSignal.timeout(renewMillis)]);
    const existing = await client.get<ApiLease>(path, undefined, deadline).catch((error: unknown) => {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    });
    if (existing === undefined) {
      const metadata = { name, namespace };
      await client.create(collection, { ...KIND, metadata, spec: claim(0) }, deadline);
      return won(sentAt);
    }
    const { metadata, spec = {} } = existing;
    holder = spec.holderIdentity ?? '';
    const own = holder === identity;
    if (seen?.version !== metadata.resourceVersion) seen = { version: metadata.resourceVersion, at: now() };
    // Its holder says how long it may stay silent.
    const patience = Math.max(durationMillis, (spec.leaseDurationSeconds ?? 0) * 1000);
    if (!own && holder !== '' && now() - seen.at < patience) {
      if (isLeader()) lost('another holds it');
      return;
    }
    const transitions = spec.leaseTransitions ?? 0;
    const patch = {
      metadata: { resourceVersion: metadata.resourceVersion },
      spec: claim(own ? transitions : transitions + 1, !own),
    };
    await client.mergePatch(path, patch, deadline);
    won(sentAt);
  }

  function claim(leaseTransitions: number, acquired = true): object {
    const time = new Date().toISOString().replace(/Z$/, '000Z');
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(durationMillis / 1000),
      leaseTransitions,
      renewTime: time,
      ...(acquired ? { acquireTime: time } : {}),
    };
  }

  function won(sentAt: number): void {
    if (stopping.signal.aborted) return;
    const before = isLeader();
    holder = identity;
    heldUntil = sentAt + renewMillis;
    clearTimeout(timer);
    timer = setTimeout(() => lost('it could not be renewed in time'), Math.max(0, heldUntil - now()));
    if (before) return;
    term = new AbortController();
    log.info({ lease: name, identity }, 'leading');
    onChange();
  }

  function lost(reason: string): void {
    clearTimeout(timer);
    heldUntil = -Infinity;
    if (term.signal.aborted) return;
    term.abort();
    log.warn({ lease: name, identity, reason }, 'no longer leading');
    onChange();
  }

  async function stop(): Promise<void> {
    const led = isLeader();
    clearTimeout(timer);
    heldUntil = -Infinity;
    term.abort();
    stopping.abort();
    await running;
    if (!led) return;
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

  return { isLeader, holder: () => holder, signal: () => term.signal, stop };
}

const KIND = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };
