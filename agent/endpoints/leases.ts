/**
 * Leases VLAN ids to endpoints. The id in an alert, and the packet's time, tell whose alert it is.
 *
 * Invariants: an id belongs to one endpoint at a time; a freed id is leased again only after all ids that were freed
 * earlier or never used, of those that the endpoint may have, so that it rests for as long as possible; a lease's owner
 * can be asked for as long as its id was not leased three times more. Where the clock was set while a lease ran, it has
 * an entry for before and one for after. Each change is in the file before it is used: a later agent reads the alerts
 * that this one left.
 *
 * The file is NDJSON, a line for each change of a lease: the last line with its id and beginning counts, and torn ones
 * do not. It is written anew when it is opened and when most of its lines are old. Not promised: that a change survives
 * a power cut.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { errorCode } from '../files/errors.ts';
import { makeDirectorySync } from '../files/folder.ts';
import { replaceFileSync } from '../files/replace.ts';
import type { Endpoint } from './endpoint.ts';

const FIRST_ID = 1;
/** 4094 is the canary's, 4095 is reserved by 802.1Q. */
const LAST_ID = 4093;
/** Past owners that are remembered for each id. */
const HISTORY = 3;
/** The file is written anew when it has so many lines, and twice as many as there are leases. */
const MAX_LINES = 10_000;
/** A packet may be older than its lease by this: the clocks of capture and agent are read at different moments. */
const SLACK_MICROS = 1_000_000;

export interface Lease {
  vlan: number;
  endpoint: Endpoint;
  /** Microseconds since the epoch; `until` is absent while the lease runs. */
  since: number;
  until?: number;
}

/** What reaches the file: it is written before anything else goes on. Errors are those of node:fs. */
export interface LeaseFiles {
  read(file: string): string;
  append(file: string, text: string): void;
  /** In one step. The folder is made where it is missing. */
  replace(file: string, text: string): void;
}

const nodeFiles: LeaseFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  append: appendFileSync,
  replace(file, text) {
    makeDirectorySync(dirname(file), 0o711);
    replaceFileSync(file, text, 0o600);
  },
};

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

/**
 * @param file Where the leases are kept; undefined: only in memory. Leases that were running in it are ended.
 * @throws Error when the file can't be read or written.
 * @param now Microseconds since the epoch.
 */
export function openLeases(
  file: string | undefined,
  now: () => number = () => Date.now() * 1000,
  files = nodeFiles,
): Leases {
  const byVlan = new Map<number, Lease[]>();
  const byEndpoint = new Map<string, Lease>();
  /** Leases that ran when an earlier agent ended. When it did is not known, and the clock may have been set since. */
  const left = new WeakSet<Lease>();
  /** Of the file. */
  let lines = 0;
  /** A write failed, and may have left a part of its line. */
  let isTorn = false;
  /** Ids that were freed, the one that rests longest first. */
  let resting: number[] = [];
  let next = FIRST_ID;
  /** Ids below `next` that were never used. */
  const skipped = new Set<number>();

  for (const saved of file === undefined ? [] : readLeases(file, files)) {
    const lease = { ...saved, until: saved.until ?? Math.max(now(), saved.since) };
    if (saved.until === undefined) left.add(lease);
    remember(lease);
    next = Math.max(next, lease.vlan + 1);
  }
  // Ids below the highest that the file does not name rest too.
  resting = Array.from({ length: next - FIRST_ID }, (_, index) => FIRST_ID + index).sort(
    (a, b) => lastUse(a) - lastUse(b),
  );

  if (file !== undefined) rewrite(file);

  function lastUse(vlan: number): number {
    return byVlan.get(vlan)?.at(-1)?.until ?? 0;
  }

  function remember(lease: Lease): void {
    const past = byVlan.get(lease.vlan) ?? [];
    past.push(lease);
    byVlan.set(lease.vlan, past.slice(-(HISTORY + 1)));
  }

  function save(lease: Lease): void {
    if (file === undefined) return;
    if (isTorn || lines > Math.max(MAX_LINES, 2 * byVlan.size * (HISTORY + 1))) return rewrite(file);
    isTorn = true;
    files.append(file, `${JSON.stringify(lease)}\n`);
    isTorn = false;
    lines++;
  }

  function rewrite(path: string): void {
    const leases = [...byVlan.values()].flat();
    files.replace(path, leases.map((lease) => `${JSON.stringify(lease)}\n`).join(''));
    lines = leases.length;
    isTorn = false;
  }

  function* spareIds(): Generator<number> {
    yield* skipped;
    for (let vlan = next; vlan <= LAST_ID; vlan++) yield vlan;
    yield* resting;
  }

  /** @throws Error when there is none. */
  function spareId(endpoint: Endpoint, accepted: (vlan: number) => boolean): number {
    let isAnySpare = false;
    for (const vlan of spareIds()) {
      if (accepted(vlan)) return vlan;
      isAnySpare = true;
    }
    const why = isAnySpare ? 'no VLAN id is free for its rule sets' : `all ${LAST_ID} VLAN ids are in use`;
    throw new Error(`${why}: ${endpoint.id} is not inspected`);
  }

  function occupy(vlan: number): void {
    if (vlan >= next) {
      for (let id = next; id < vlan; id++) skipped.add(id);
      next = vlan + 1;
      return;
    }
    skipped.delete(vlan);
    resting = resting.filter((id) => id !== vlan);
  }

  /** Ends a lease's entry and begins another of the same id. */
  function renew(lease: Lease, endpoint: Endpoint, since: number): void {
    const renewed: Lease = { vlan: lease.vlan, endpoint, since };
    // The entry for before: with a clock that was set back, it is of a time that is yet to come.
    lease.until = Math.max(lease.since, since);
    remember(renewed);
    byEndpoint.set(endpoint.id, renewed);
    save(lease);
    save(renewed);
  }

  return {
    acquire(endpoint, accepted = () => true) {
      const known = byEndpoint.get(endpoint.id);
      if (known !== undefined) {
        known.endpoint = endpoint;
        save(known);
        return known.vlan;
      }
      const vlan = spareId(endpoint, accepted);
      occupy(vlan);
      const lease: Lease = { vlan, endpoint, since: now() };
      remember(lease);
      byEndpoint.set(endpoint.id, lease);
      save(lease);
      return vlan;
    },
    spare: () => [...spareIds()],
    idOf: (endpointId) => byEndpoint.get(endpointId)?.vlan,
    update(endpoint) {
      const lease = byEndpoint.get(endpoint.id);
      if (lease === undefined) return;
      if (!isDeepStrictEqual(lease.endpoint.ruleSets, endpoint.ruleSets)) return renew(lease, endpoint, now());
      lease.endpoint = endpoint;
      save(lease);
    },
    free(endpointId) {
      const lease = byEndpoint.get(endpointId);
      if (lease === undefined) return;
      byEndpoint.delete(endpointId);
      // The clock may have been set back since it was taken.
      lease.until = Math.max(now(), lease.since);
      resting.push(lease.vlan);
      save(lease);
    },
    clockMoved(ago) {
      for (const lease of byEndpoint.values()) renew(lease, lease.endpoint, now() - ago);
    },
    owner(vlan, timeMicros) {
      const leases = byVlan.get(vlan) ?? [];
      const last = leases.at(-1);
      const held = heldAt(leases, timeMicros);
      if (held !== undefined || last === undefined || !left.has(last)) return held;
      // A power cut may have taken the lease before it from the file, and with it who held the id then.
      return timeMicros < last.since - SLACK_MICROS ? undefined : last.endpoint;
    },
    at: (timeMicros) => [...byVlan.values()].flatMap((leases) => heldAt(leases, timeMicros) ?? []),
    active: () => [...byEndpoint.values()].map((lease) => lease.endpoint),
  };
}

/** Who held an id, of its leases in the order in which they were taken. */
function heldAt(leases: readonly Lease[], timeMicros: number): Endpoint | undefined {
  const held = (slack: number): Lease | undefined =>
    leases.findLast((l) => l.since - slack <= timeMicros && timeMicros <= (l.until ?? Infinity) + slack);
  // Exactly first: the slack of a lease reaches into the one before.
  return (held(0) ?? held(SLACK_MICROS))?.endpoint;
}

/** In the order of their lines: by time, but for a clock that was set. */
function readLeases(file: string, files: LeaseFiles): Lease[] {
  let text: string;
  try {
    text = files.read(file);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
  const leases = new Map<string, Lease>();
  for (const line of text.split('\n')) {
    try {
      const lease: unknown = JSON.parse(line);
      if (isLease(lease)) leases.set(`${lease.vlan} ${lease.since}`, lease);
    } catch {
      // Torn: the agent that wrote it had not used it yet.
    }
  }
  return [...leases.values()];
}

function isLease(value: unknown): value is Lease {
  const lease = value as Partial<Lease> | null;
  return (
    typeof lease === 'object' &&
    lease !== null &&
    Number.isInteger(lease.vlan) &&
    Number(lease.vlan) >= FIRST_ID &&
    Number(lease.vlan) <= LAST_ID &&
    Number.isFinite(lease.since) &&
    (lease.until === undefined || Number.isFinite(lease.until)) &&
    typeof lease.endpoint?.id === 'string' &&
    Array.isArray(lease.endpoint.resources) &&
    Array.isArray(lease.endpoint.addresses)
  );
}
