/**
 * Leases VLAN ids to endpoints. The id in an alert, and the packet's time, tell whose alert it is.
 *
 * Invariants: an id belongs to one endpoint at a time; a freed id is leased again only after all ids that were freed
 * earlier or never used, of those that the endpoint may have, so that it rests for as long as possible; a lease's owner
 * can be asked for as long as its id was not leased three times more. Where the clock was set while a lease ran, it has
 * an entry for before and one for after. Each change is on the disk before it is used: a later agent reads the alerts
 * that this one left.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Endpoint } from './endpoint.ts';
import {
  FIRST_ID,
  LAST_ID,
  nodeFiles,
  readLeases,
  rewriteLeases,
  saveLease,
  type Lease,
  type LeaseFile,
} from './lease-file.ts';

/** Past owners that are remembered for each id. */
const HISTORY = 3;
/** A packet may be older than its lease by this: the clocks of capture and agent are read at different moments. */
const SLACK_MICROS = 1_000_000;

export interface Leases {
  /**
   * The endpoint's id, a new one when it has none.
   * @param accepted Whether an id may be leased to it. @throws Error when all 4,093 ids are in use, none is accepted,
   * or the file can't be written.
   */
  acquire(endpoint: Endpoint, accepted?: (vlan: number) => boolean): number;
  /** Ids that nobody holds, in the order in which they should be leased. */
  spare(): number[];
  /** Of an endpoint that has one. */
  idOf(endpointId: string): number | undefined;
  /**
   * Replaces what is known of an endpoint that keeps its id (labels, resources); what its resources asked for until now
   * stays known.
   */
  update(endpoint: Endpoint): void;
  free(endpointId: string): void;
  /** The clock was set, so many microseconds ago at most: packets of running leases may be older than the leases. */
  clockMoved(ago: number): void;
  /** Whose packet had this id at this time (microseconds since the epoch). */
  owner(vlan: number, timeMicros: number): Endpoint | undefined;
  /** The endpoints that held an id at this time (microseconds since the epoch). */
  at(timeMicros: number): Endpoint[];
  /** The endpoints that hold an id now. */
  active(): Endpoint[];
}

interface State {
  /** Undefined: only in memory. */
  readonly file: LeaseFile | undefined;
  /** Microseconds since the epoch. */
  readonly now: () => number;
  readonly byVlan: Map<number, Lease[]>;
  readonly byEndpoint: Map<string, Lease>;
  /** Leases that ran when an earlier agent ended. When it did is not known, and the clock may have been set since. */
  readonly left: WeakSet<Lease>;
  /** Ids that were freed, the one that rests longest first. */
  resting: number[];
  next: number;
  /** Ids below `next` that were never used. */
  readonly skipped: Set<number>;
}

/**
 * @param path Where the leases are kept; undefined: only in memory. Leases that were running in it are ended.
 * @throws Error when the file can't be read or written.
 * @param now Microseconds since the epoch.
 */
export function openLeases(
  path: string | undefined,
  now: () => number = () => Date.now() * 1000,
  files = nodeFiles,
): Leases {
  const state: State = {
    file: path === undefined ? undefined : { path, files, lines: 0, isTorn: false },
    now,
    byVlan: new Map(),
    byEndpoint: new Map(),
    left: new WeakSet(),
    resting: [],
    next: FIRST_ID,
    skipped: new Set(),
  };
  if (state.file !== undefined) takeOver(state, state.file);
  const { byVlan, byEndpoint } = state;
  return {
    acquire: (endpoint, accepted = () => true) => acquire(state, endpoint, accepted),
    spare: () => [...spareIds(state)],
    idOf: (endpointId) => byEndpoint.get(endpointId)?.vlan,
    update: (endpoint) => update(state, endpoint),
    free: (endpointId) => free(state, endpointId),
    clockMoved(ago) {
      for (const lease of byEndpoint.values()) renew(state, lease, lease.endpoint, now() - ago);
      if (state.file !== undefined) rewriteLeases(state.file, all(state));
    },
    owner: (vlan, timeMicros) => ownerOf(state, vlan, timeMicros),
    at: (timeMicros) => [...byVlan.values()].flatMap((leases) => heldAt(leases, timeMicros) ?? []),
    active: () => [...byEndpoint.values()].map((lease) => lease.endpoint),
  };
}

/** What an earlier agent left. */
function takeOver(state: State, file: LeaseFile): void {
  const { now, left, byVlan } = state;
  for (const saved of readLeases(file)) {
    const lease = { ...saved, until: saved.until ?? Math.max(now(), saved.since) };
    if (saved.until === undefined) left.add(lease);
    remember(state, lease);
    state.next = Math.max(state.next, lease.vlan + 1);
  }
  const lastUse = (vlan: number): number => byVlan.get(vlan)?.at(-1)?.until ?? 0;
  // Ids below the highest that the file does not name rest too.
  state.resting = Array.from({ length: state.next - FIRST_ID }, (_, index) => FIRST_ID + index).sort(
    (a, b) => lastUse(a) - lastUse(b),
  );
  rewriteLeases(file, all(state));
}

function acquire(state: State, endpoint: Endpoint, accepted: (vlan: number) => boolean): number {
  const { byEndpoint, byVlan, now } = state;
  const known = byEndpoint.get(endpoint.id);
  if (known !== undefined) {
    known.endpoint = endpoint;
    save(state, known);
    return known.vlan;
  }
  const vlan = spareId(state, endpoint, accepted);
  const past = byVlan.get(vlan) ?? [];
  const lease: Lease = { vlan, endpoint, since: now() };
  remember(state, lease);
  byEndpoint.set(endpoint.id, lease);
  try {
    save(state, lease);
  } catch (error) {
    // Nobody was told of it.
    byEndpoint.delete(endpoint.id);
    byVlan.set(vlan, past);
    throw error;
  }
  occupy(state, vlan);
  return vlan;
}

function update(state: State, endpoint: Endpoint): void {
  const lease = state.byEndpoint.get(endpoint.id);
  if (lease === undefined) return;
  if (isDeepStrictEqual(lease.endpoint.ruleSets, endpoint.ruleSets)) {
    lease.endpoint = endpoint;
    return save(state, lease);
  }
  const renewed = renew(state, lease, endpoint, state.now());
  save(state, lease);
  save(state, renewed);
}

function free(state: State, endpointId: string): void {
  const { byEndpoint, now, resting } = state;
  const lease = byEndpoint.get(endpointId);
  if (lease === undefined) return;
  byEndpoint.delete(endpointId);
  // The clock may have been set back since it was taken.
  lease.until = Math.max(now(), lease.since);
  resting.push(lease.vlan);
  save(state, lease);
}

/** Ends a lease's entry and begins another of the same id; neither is saved. */
function renew(state: State, lease: Lease, endpoint: Endpoint, since: number): Lease {
  const renewed: Lease = { vlan: lease.vlan, endpoint, since };
  // The entry for before: with a clock that was set back, it is of a time that is yet to come.
  lease.until = Math.max(lease.since, since);
  remember(state, renewed);
  state.byEndpoint.set(endpoint.id, renewed);
  return renewed;
}

function ownerOf({ byVlan, left }: State, vlan: number, timeMicros: number): Endpoint | undefined {
  const leases = byVlan.get(vlan) ?? [];
  const last = leases.at(-1);
  const held = heldAt(leases, timeMicros);
  if (held !== undefined || last === undefined || !left.has(last)) return held;
  // The lease before it may be missing in a damaged file, and with it who held the id then.
  return timeMicros < last.since - SLACK_MICROS ? undefined : last.endpoint;
}

function remember({ byVlan }: State, lease: Lease): void {
  byVlan.set(lease.vlan, [...(byVlan.get(lease.vlan) ?? []), lease].slice(-(HISTORY + 1)));
}

function save(state: State, lease: Lease): void {
  const { file, byVlan } = state;
  if (file !== undefined) saveLease(file, lease, byVlan.size * (HISTORY + 1), () => all(state));
}

function all({ byVlan }: State): Lease[] {
  return [...byVlan.values()].flat();
}

function* spareIds({ skipped, next, resting }: State): Generator<number> {
  yield* skipped;
  for (let vlan = next; vlan <= LAST_ID; vlan++) yield vlan;
  yield* resting;
}

/** @throws Error when there is none. */
function spareId(state: State, endpoint: Endpoint, accepted: (vlan: number) => boolean): number {
  let isAnySpare = false;
  for (const vlan of spareIds(state)) {
    if (accepted(vlan)) return vlan;
    isAnySpare = true;
  }
  const why = isAnySpare ? 'no VLAN id is free for its rule sets' : `all ${LAST_ID} VLAN ids are in use`;
  throw new Error(`${why}: ${endpoint.id} is not inspected`);
}

function occupy(state: State, vlan: number): void {
  if (vlan >= state.next) {
    for (let id = state.next; id < vlan; id++) state.skipped.add(id);
    state.next = vlan + 1;
    return;
  }
  state.skipped.delete(vlan);
  state.resting = state.resting.filter((id) => id !== vlan);
}

/** Who held an id, of its leases in the order in which they were taken. */
function heldAt(leases: readonly Lease[], timeMicros: number): Endpoint | undefined {
  const held = (slack: number): Lease | undefined =>
    leases.findLast((l) => l.since - slack <= timeMicros && timeMicros <= (l.until ?? Infinity) + slack);
  // Exactly first: the slack of a lease reaches into the one before.
  return (held(0) ?? held(SLACK_MICROS))?.endpoint;
}
