/**
 * Which version of a set which node gets. A new version is proven by one node before the others take it.
 *
 *     new ── a node has the lease ──> proven    it inspects there: all nodes get it
 *                                 └─> stopped   it was refused there, or no node that took it came back
 *
 * Invariants: at most one node has the lease of a version; a version that is not proven goes to that node alone, but
 * for nodes that inspect by nothing. A lease ends by its time, not by renewal, so a node that dies, or never says what
 * became of it, holds nothing up for longer; MAX_PROVERS of them end the version. A version that nodes had before this
 * server forgot about them is proven by what they say. Bounded: nodes, which are forgotten after some leases.
 *
 * Not promised: that a lease outlives this process, so after its restart a second node may prove the same version; that
 * a node tells the truth: a token says which node it is of, where the cluster puts that into it.
 */
import { LRUCache } from 'lru-cache';
import type { FollowRequest, HeldBack, HeldSet, ServedSet } from '../rulesets/served.ts';

const MAX_NODES = 10_000;
/** Nodes that had the lease and did not say what became of the version. */
const MAX_PROVERS = 3;
/** Leases, after which a node that was not heard of is nobody's hope. */
const FORGET_LEASES = 2;

export type VersionState = 'new' | 'proven' | 'stopped';

export interface ServedVersion {
  digest: string;
  version: string;
  bytes: number;
  rules: number;
  /** Engines of the server's image, and why one does not take it. */
  engines: { name: FollowRequest['engine']; version: string; problem?: string }[];
  /** RFC 3339. */
  since: string;
  state: VersionState;
  /** Who proved or stopped it. */
  node?: string;
  /** Why it is stopped. */
  reason?: string;
  /** That had the lease. */
  provers: string[];
}

export interface SetVersions {
  /** What the source has, or what it was rolled back to. */
  target: string;
  /** The last one that was proven. */
  proven?: string;
  /** The newest last. */
  versions: ServedVersion[];
}

interface Lease {
  digest: string;
  node: string;
  /** Milliseconds, by the clock that is given. */
  until: number;
}

interface KnownNode {
  at: number;
  engine: FollowRequest['engine'];
  sets: FollowRequest['sets'];
}

export interface RollOut {
  /** What the node is to have. */
  answer(request: FollowRequest, now: number): ServedSet[];
  /** Of a set, while a node proves its target. */
  prover(set: string, now: number): string | undefined;
  /** Nodes that were heard of of late, by the version that they have of a set. */
  nodes(set: string, now: number): ReadonlyMap<string | undefined, number>;
}

interface State {
  readonly sets: ReadonlyMap<string, SetVersions>;
  readonly leaseMillis: number;
  readonly onChange: (set: string, version: ServedVersion) => void;
  readonly nodes: LRUCache<string, KnownNode>;
  readonly leases: Map<string, Lease>;
}

/** @param sets What is served, which this changes. @param onChange A version became another state. */
export function createRollOut(
  sets: ReadonlyMap<string, SetVersions>,
  leaseMillis: number,
  onChange: (set: string, version: ServedVersion) => void,
): RollOut {
  const state: State = { sets, leaseMillis, onChange, nodes: new LRUCache({ max: MAX_NODES }), leases: new Map() };
  return {
    answer(request, now) {
      const { node, engine, sets: held } = request;
      state.nodes.set(node, { at: now, engine, sets: held });
      return [...sets].map(([set, versions]) => answerFor(state, set, versions, request, now));
    },
    prover: (set, now) => leaseOf(state, set, sets.get(set)?.target, now)?.node,
    nodes: (set, now) => nodesBy(state, set, now),
  };
}

export const versionOf = ({ versions }: SetVersions, digest: string | undefined): ServedVersion | undefined =>
  versions.find((version) => version.digest === digest);

function answerFor(state: State, set: string, versions: SetVersions, request: FollowRequest, now: number): ServedSet {
  const held = request.sets[set];
  if (held !== undefined) learn(state, set, versions, { ...request, held });
  const target = versionOf(versions, versions.target);
  const proven = versionOf(versions, versions.proven);
  if (target === undefined) return { set };
  const unfit = problemFor(target, request.engine);
  if (unfit !== undefined) return { set, next: { ...nameOf(target), state: 'stopped', reason: unfit } };
  if (target.state === 'proven') return { set, take: { ...offerOf(target), prove: false } };
  if (held !== undefined && mayProve(state, set, target, request, now))
    return { set, take: { ...offerOf(target), prove: true } };
  const next = heldBack(target, leaseOf(state, set, target.digest, now)?.node);
  // Who inspects by nothing has nothing to lose.
  const take = proven ?? (request.inspects || target.state === 'stopped' ? undefined : target);
  return { set, next, ...(take === undefined ? {} : { take: { ...offerOf(take), prove: false } }) };
}

/** What the node says of versions that are not decided yet. */
function learn(
  state: State,
  set: string,
  versions: SetVersions,
  { node, held }: { node: string; held: HeldSet },
): void {
  const refused = versionOf(versions, held.refused?.digest);
  if (refused?.state === 'new') stop(state, set, refused, { node, reason: held.refused?.reason ?? '' });
  const has = versionOf(versions, held.digest);
  if (has?.state !== 'new') return;
  has.state = 'proven';
  has.node = node;
  // A former one that comes up late does not go before.
  if (has.digest === versions.target || versions.proven === undefined) versions.proven = has.digest;
  decided(state, set, has);
}

function stop(state: State, set: string, version: ServedVersion, why: { node: string; reason: string }): void {
  Object.assign(version, { state: 'stopped', ...why } satisfies Partial<ServedVersion>);
  decided(state, set, version);
}

function decided({ leases, onChange }: State, set: string, version: ServedVersion): void {
  if (leases.get(set)?.digest === version.digest) leases.delete(set);
  onChange(set, version);
}

/** Whether the node has the lease of a new version, or gets it now. */
function mayProve(
  state: State,
  set: string,
  target: ServedVersion,
  { node }: Pick<FollowRequest, 'node'>,
  now: number,
): boolean {
  const { leases, leaseMillis, onChange } = state;
  if (target.state !== 'new') return false;
  const lease = leaseOf(state, set, target.digest, now);
  if (lease !== undefined) return lease.node === node;
  if (target.provers.length >= MAX_PROVERS) {
    const reason = `${target.provers.length} times a node took it and did not say that it inspects`;
    stop(state, set, target, { node: target.provers.at(-1) ?? node, reason });
    return false;
  }
  if (!isBest(state, set, target, node, now)) return false;
  leases.set(set, { digest: target.digest, node, until: now + leaseMillis });
  target.provers.push(node);
  onChange(set, target);
  return true;
}

function leaseOf({ leases }: State, set: string, digest: string | undefined, now: number): Lease | undefined {
  const lease = leases.get(set);
  return lease?.digest === digest && lease !== undefined && lease.until > now ? lease : undefined;
}

/** Whether no other node that was heard of of late is better suited. */
function isBest(state: State, set: string, target: ServedVersion, node: string, now: number): boolean {
  const ranks = [...recent(state, now)].map(([name, known]) => ({ name, rank: rankOf(known, name, set, target) }));
  const own = ranks.find(({ name }) => name === node)?.rank ?? Infinity;
  return own !== Infinity && ranks.every(({ rank }) => rank >= own);
}

/** Lower is better: who is inspected by the set proves more, and who had the lease may have died of it. */
function rankOf({ sets, engine }: KnownNode, node: string, set: string, target: ServedVersion): number {
  const held = sets[set];
  if (held === undefined || held.pinned || problemFor(target, engine) !== undefined) return Infinity;
  return (held.used ? 0 : 2) + (target.provers.includes(node) ? 1 : 0);
}

function* recent({ nodes, leaseMillis }: State, now: number): Generator<[string, KnownNode]> {
  for (const [name, known] of nodes.entries()) if (now - known.at < FORGET_LEASES * leaseMillis) yield [name, known];
}

function nodesBy(state: State, set: string, now: number): Map<string | undefined, number> {
  const counts = new Map<string | undefined, number>();
  for (const [, { sets }] of recent(state, now)) {
    const digest = sets[set]?.digest;
    counts.set(digest, (counts.get(digest) ?? 0) + 1);
  }
  return counts;
}

/** Why the engine does not take it; undefined where it does, or the server has no such engine. */
function problemFor({ engines }: ServedVersion, engine: FollowRequest['engine']): string | undefined {
  return engines.find(({ name }) => name === engine)?.problem;
}

const nameOf = ({ digest, version }: ServedVersion) => ({ digest, version });

const offerOf = ({ digest, version, bytes, rules }: ServedVersion) => ({ digest, version, bytes, rules });

function heldBack(target: ServedVersion, prover: string | undefined): HeldBack {
  const { state, node, reason } = target;
  if (state === 'stopped') {
    return {
      ...nameOf(target),
      state: 'stopped',
      ...(node === undefined ? {} : { node }),
      ...(reason === undefined ? {} : { reason }),
    };
  }
  return prover === undefined
    ? { ...nameOf(target), state: 'waiting' }
    : { ...nameOf(target), state: 'proving', node: prover };
}
