/**
 * Names of the workloads behind addresses that are not on this node: pods of other nodes, and Services.
 *
 * Invariants: an answer is never later than its deadline; nothing throws; the API server gets at most 2 requests for an
 * address, for at most 20 addresses at once and then 5 a second, however many addresses an attacker sends from; memory
 * is bounded. What is not found out is absent, and what was refused for these bounds is counted.
 *
 * A pod is named as Calico's flow logs name it. Calico has no name of its own for a Service as the end of a flow (it
 * writes `-` and `pvt`, and the Service beside it): here, its name stands in both fields, as Calico writes an
 * endpoint's name that nothing generated.
 *
 * Not promised: the second address of a dual-stack pod or Service (the API server can select by the first one only, as
 * of Kubernetes 1.34), addresses of nodes and of pods in their network, load balancers' and external addresses. A name
 * is up to a minute old: an address that goes from one pod to another within it has the former's name.
 */
import { LRUCache } from 'lru-cache';
import { BlockList, isIPv6 } from 'node:net';
import type { Logger } from 'pino';
import type { ApiClient, ApiList, ApiObject } from './api.ts';
import { canonicalAddress, text } from './fields.ts';
import { toPod, type ApiPod } from './pods.ts';

const CACHED = 4096;
/** How long a name is used, and for how long an address that has none is not asked for again. */
const FOUND_MILLIS = 60_000;
const NOT_FOUND_MILLIS = 30_000;
/** Token bucket of lookups. */
const BURST = 20;
const PER_SECOND = 5;
/** No lookups for this time after one failed. */
const PAUSE_MILLIS = 5_000;
/** A lookup that takes longer has failed. */
const LOOKUP_MILLIS = 5_000;

export interface Peer {
  namespace: string;
  name: string;
  /** `backend-7d4b-*`, or `-`; a Service's name. */
  nameAggr: string;
}

export interface PeerNamesOptions {
  client: ApiClient;
  /** Who has an address on this node. Asked first, each time. */
  local: (ip: string) => Peer | undefined;
  log?: Pick<Logger, 'warn'>;
  /** Milliseconds of a clock that is never set back. */
  now?: () => number;
}

export interface PeerNames {
  /** What is known without asking, by address as given. */
  lookup(ips: string[]): Map<string, Peer>;
  /**
   * Asks for those that are not known. Resolves after `deadlineMillis` (200 unless given) at the latest; what comes
   * later is known to the next call. Never rejects.
   */
  resolve(ips: string[], deadlineMillis?: number): Promise<Map<string, Peer>>;
  stats(): PeerNamesStats;
  /** Asks no more; a request that is under way ends within 5 seconds. */
  close(): void;
}

/** Counts of addresses since the start, but for `cached`. */
export interface PeerNamesStats {
  /** The API server was asked. */
  asked: number;
  /** Of these, it did not answer. */
  failed: number;
  /** Not asked, as too many were asked before, or as the API server failed a moment ago. */
  refused: number;
  /** Addresses in the cache now, with a name or without. */
  cached: number;
}

/** Addresses that no pod or Service has: this network, loopback, link-local, multicast, reserved. */
const NEVER = new BlockList();
NEVER.addSubnet('0.0.0.0', 8, 'ipv4');
NEVER.addSubnet('127.0.0.0', 8, 'ipv4');
NEVER.addSubnet('169.254.0.0', 16, 'ipv4');
NEVER.addSubnet('224.0.0.0', 3, 'ipv4');
NEVER.addSubnet('fe80::', 10, 'ipv6');
NEVER.addSubnet('ff00::', 8, 'ipv6');

interface State {
  readonly options: PeerNamesOptions;
  readonly now: () => number;
  /** By canonical address. */
  readonly cache: LRUCache<string, { peer: Peer | undefined; until: number }>;
  readonly asking: Map<string, Promise<void>>;
  readonly counts: Omit<PeerNamesStats, 'cached'>;
  tokens: number;
  filledAt: number;
  pausedUntil: number;
  isFailing: boolean;
  isClosed: boolean;
}

export function createPeerNames(options: PeerNamesOptions): PeerNames {
  const { now = () => performance.now() } = options;
  const state: State = {
    options,
    now,
    cache: new LRUCache({ max: CACHED }),
    asking: new Map(),
    counts: { asked: 0, failed: 0, refused: 0 },
    tokens: BURST,
    filledAt: now(),
    pausedUntil: -Infinity,
    isFailing: false,
    isClosed: false,
  };
  return {
    lookup: (ips) => lookup(state, ips),
    async resolve(ips, deadlineMillis = 200) {
      await askAll(state, ips, deadlineMillis);
      return lookup(state, ips);
    },
    stats: () => ({ ...state.counts, cached: state.cache.size }),
    close() {
      state.isClosed = true;
    },
  };
}

function lookup(state: State, ips: string[]): Map<string, Peer> {
  const peers = new Map<string, Peer>();
  for (const ip of ips) {
    const address = canonicalAddress(ip);
    const peer = address === undefined ? undefined : knownOf(state, address)?.peer;
    if (peer !== undefined) peers.set(ip, peer);
  }
  return peers;
}

/** Asks for those that are not known, and waits for answers until the deadline. */
async function askAll(state: State, ips: string[], deadlineMillis: number): Promise<void> {
  const askable = new Set(ips.flatMap((ip) => canonicalAddress(ip) ?? []).filter((address) => isAskable(address)));
  const unknown = [...askable].filter((address) => knownOf(state, address) === undefined);
  const answers = unknown.flatMap((address) => ask(state, address) ?? []);
  if (answers.length === 0) return;
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise((resolve) => (timer = setTimeout(resolve, deadlineMillis)));
  await Promise.race([Promise.all(answers), deadline]);
  clearTimeout(timer);
}

function knownOf({ options, cache, now }: State, address: string): { peer: Peer | undefined } | undefined {
  const peer = options.local(address);
  if (peer !== undefined) return { peer };
  const cached = cache.get(address);
  if (cached === undefined || cached.until > now()) return cached;
  cache.delete(address);
  return undefined;
}

/** Undefined when it is refused. Never rejects. */
function ask(state: State, address: string): Promise<void> | undefined {
  const { options, asking, counts } = state;
  const running = asking.get(address);
  if (running !== undefined) return running;
  if (!takeToken(state)) {
    counts.refused++;
    return undefined;
  }
  counts.asked++;
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), LOOKUP_MILLIS);
  const answer = find(options.client, address, giveUp.signal)
    .then((peer) => noteFound(state, address, peer))
    .catch((error: unknown) => noteFailure(state, error))
    .finally(() => {
      clearTimeout(timer);
      asking.delete(address);
    });
  asking.set(address, answer);
  return answer;
}

function takeToken(state: State): boolean {
  const time = state.now();
  state.tokens = Math.min(BURST, state.tokens + ((time - state.filledAt) * PER_SECOND) / 1000);
  state.filledAt = time;
  if (time < state.pausedUntil || state.tokens < 1 || state.isClosed) return false;
  state.tokens--;
  return true;
}

function noteFound(state: State, address: string, peer: Peer | undefined): void {
  state.isFailing = false;
  state.cache.set(address, { peer, until: state.now() + (peer === undefined ? NOT_FOUND_MILLIS : FOUND_MILLIS) });
}

function noteFailure(state: State, error: unknown): void {
  if (state.isClosed) return;
  state.counts.failed++;
  state.pausedUntil = state.now() + PAUSE_MILLIS;
  if (!state.isFailing)
    state.options.log?.warn({ err: error }, 'names of remote peers cannot be looked up: they are - in events');
  state.isFailing = true;
}

function isAskable(address: string): boolean {
  // `::`, `::1`, and IPv4 in disguise; a BlockList would take the latter for IPv4.
  return !address.startsWith('::') && !NEVER.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** @throws ApiError. */
async function find(client: ApiClient, address: string, signal: AbortSignal): Promise<Peer | undefined> {
  // Version 0 is what the API server has in its cache. A pod that has ended keeps its address in its status.
  const query = { resourceVersion: '0', limit: 10 };
  const isRunning = 'status.phase!=Succeeded,status.phase!=Failed';
  const [pods, services] = await Promise.all([
    client.get<ApiList<ApiPod>>(
      '/api/v1/pods',
      { ...query, fieldSelector: `status.podIP=${address},${isRunning}` },
      signal,
    ),
    client.get<ApiList<ApiObject>>(
      '/api/v1/services',
      { ...query, fieldSelector: `spec.clusterIP=${address}` },
      signal,
    ),
  ]);
  const peers = [
    ...pods.items.map(toPod).filter((pod) => !pod.hostNetwork),
    ...services.items.map(({ metadata }) => ({
      namespace: text(metadata.namespace),
      name: text(metadata.name),
      nameAggr: text(metadata.name),
    })),
  ];
  // Two: whose packet it was, nobody can tell.
  const [peer] = peers;
  if (peer === undefined || peers.length > 1) return undefined;
  return { namespace: peer.namespace, name: peer.name, nameAggr: peer.nameAggr };
}
