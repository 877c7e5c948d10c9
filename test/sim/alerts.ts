/**
 * Holds the obligations of alerts' way from an engine's file to the journal, and of leases. It knows which packet of
 * which pod each alert in an engine's file stands for, and reads the journal by itself.
 *
 * 7. Each alert that an engine wrote is, for each resource of its pod, in one event: as the event itself, merged into
 * it, or folded into it.
 *    Only what a policy may suppress can be in none, and the counts say how many are.
 * 8. An event names the pod at which its packet was captured, and resources that select it. What is merged was the same
 * packet at both ends of
 *    its flow, as far as bytes and addresses say. A fold counts what it holds.
 * 9. Of an engine's files none is deleted before its alerts are in the journal.
 * 10. When all is read, `read + copies` is the sum of what became of the alerts.
 * 11. A VLAN id has one owner at a time.
 *
 * What a power cut took from an engine's files was no alert. It may take leases too: an alert may then have no owner,
 * and never another one.
 */
import type { AlertCounts } from '../../agent/alerts/books.ts';
import type { Stimulus } from './engine.ts';
import type { Disk } from './disk.ts';
import { SUPPRESSIBLE } from './node.ts';

export interface AlertOracle {
  broken(): string | undefined;
  wrote: (stimulus: Stimulus) => void;
  attached: (vlan: number, endpointId: string) => void;
  detached: (endpointId: string) => void;
  /** Lines are in the journal: by `append`'s word, or by its files. */
  journaled(lines: Iterable<string>): void;
  /** Retention takes the lines. */
  evicting(lines: Iterable<string>): void;
  /** A file is deleted. */
  unlinking(path: string): void;
  /** No event could be made of an alert. */
  failed(error: unknown): void;
  /** A process begins, which counts so. */
  counting(counts: () => AlertCounts): void;
  /** Its alerts' way ends. @param settled whether nothing is held any more. */
  counted(settled: boolean): void;
  /** The process has ended. @param lossy whether the disk lost what it said it had. */
  ended(how: string, lossy: boolean): void;
  /** All is read. @param lines of the journal. */
  settled(lines: Iterable<string>): void;
  facts(): { alerts: number; merged: number; folded: number; suppressed: number };
}

interface Found {
  id: string;
  origin: string;
  position: string;
  merged: readonly string[];
  sid: number;
  endpoint: string;
  fold: { from: number; until: number; count: number } | undefined;
  seenAt: readonly string[];
  evicted: boolean;
}

/** Alerts in no event: at least so many were suppressed, had no owner, or either. */
interface Absent {
  suppressed: number;
  unattributed: number;
  either: number;
}

/** What is known of a generation. */
interface Generation {
  stimuli: Map<number, Stimulus>;
  /** Its leases may be lost. */
  wasCut: boolean;
  /** Nothing is known of it any more. */
  isLost: boolean;
}

interface State {
  readonly disk: Disk;
  readonly lanes: string;
  readonly isCrowded: boolean;
  readonly generations: Map<string, Generation>;
  /** By their ids; where one was evicted and came again, the last one. */
  found: Map<string, Found>;
  /** By VLAN id. */
  readonly owners: Map<number, string>;
  /** A power cut took them before they were read, or after. */
  readonly voided: WeakSet<Stimulus>;
  /** Of processes that have ended. */
  readonly sums: { suppressed: number; unattributed: number };
  count: (() => AlertCounts) | undefined;
  alerts: number;
  broken: string | undefined;
}

/**
 * @param isCrowded Whether ids are so few that an alert which is read late may be of a lease that is forgotten: it has
 *   no owner then.
 */
export function createAlertOracle(disk: Disk, lanes: string, isCrowded: boolean): AlertOracle {
  const state: State = {
    disk,
    lanes,
    isCrowded,
    generations: new Map(),
    found: new Map(),
    owners: new Map(),
    voided: new WeakSet(),
    sums: { suppressed: 0, unattributed: 0 },
    count: undefined,
    alerts: 0,
    broken: undefined,
  };
  return {
    broken: () => state.broken,
    wrote: (stimulus) => noteWritten(state, stimulus),
    attached: (vlan, endpointId) => noteAttached(state, vlan, endpointId),
    detached(endpointId) {
      for (const [vlan, owner] of state.owners) if (owner === endpointId) state.owners.delete(vlan);
    },
    journaled: (lines) => add(state, lines),
    evicting: (lines) => noteEvicted(state, lines),
    unlinking: (path) => checkUnlinking(state, path),
    failed: (error) => fail(state, 7, `no event could be made of an alert: ${String(error)}`),
    counting: (counts) => void (state.count = counts),
    counted: (settled) => checkCounts(state, settled),
    ended: (how, lossy) => noteEnd(state, how, lossy),
    settled: (lines) => checkSettled(state, lines),
    facts: () => factsOf(state),
  };
}

function fail(state: State, obligation: number, message: string): void {
  state.broken ??= `obligation ${obligation}: ${message}`;
}

function noteWritten(state: State, stimulus: Stimulus): void {
  const { generations } = state;
  state.alerts += 1;
  const known = generations.get(stimulus.generation);
  const generation = known ?? { stimuli: new Map<number, Stimulus>(), wasCut: false, isLost: false };
  generations.set(stimulus.generation, generation);
  generation.stimuli.set(stimulus.start, stimulus);
}

function noteAttached(state: State, vlan: number, endpointId: string): void {
  const owner = state.owners.get(vlan);
  if (owner !== undefined && owner !== endpointId) fail(state, 11, `${vlan} is ${endpointId}'s, and ${owner}'s`);
  state.owners.set(vlan, endpointId);
}

function noteEvicted({ found }: State, lines: Iterable<string>): void {
  for (const line of lines) {
    const event = readEvent(line);
    if (event !== undefined) found.set(event.id, { ...event, evicted: true });
  }
}

function checkUnlinking(state: State, path: string): void {
  if (!path.startsWith(`${state.lanes}/`) || !path.includes('/output/')) return;
  const ino = state.disk.facts(path)?.ino;
  void compare(state, (stimulus) => stimulus.file.ino === ino);
}

function checkCounts(state: State, settled: boolean): void {
  const { sums } = state;
  const counts = state.count?.();
  if (counts === undefined) return;
  state.count = undefined;
  sums.suppressed += counts.suppressed;
  sums.unattributed += counts.unattributed;
  const { read, copies, ...became } = counts;
  const sum = Object.values(became).reduce((total, one) => total + one, 0);
  const isRight = settled ? sum === read + copies : sum <= read + copies;
  if (!isRight) fail(state, 10, `the counts are ${JSON.stringify(counts)}`);
}

function noteEnd({ disk, lanes, owners, generations, voided }: State, how: string, lossy: boolean): void {
  owners.clear();
  if (how !== 'power cut') return;
  const sizes = sizesOf(disk, lanes);
  for (const generation of generations.values()) {
    generation.wasCut = true;
    if (lossy) generation.isLost = true;
    for (const stimulus of generation.stimuli.values()) {
      const size = sizes.get(stimulus.file.ino) ?? 0;
      if (stimulus.endsAt > stimulus.file.start + size) voided.add(stimulus);
    }
  }
}

function checkSettled(state: State, lines: Iterable<string>): void {
  const evicted = [...state.found.values()].filter((event) => event.evicted);
  state.found = new Map(evicted.map((event) => [event.id, event]));
  add(state, lines);
  compareFolds(
    state,
    compare(state, () => true),
  );
}

function factsOf({ found, alerts, sums }: State): ReturnType<AlertOracle['facts']> {
  const events = [...found.values()];
  return {
    alerts,
    merged: events.reduce((sum, { merged }) => sum + merged.length, 0),
    folded: events.reduce((sum, { fold }) => sum + (fold === undefined ? 0 : fold.count - 1), 0),
    suppressed: sums.suppressed,
  };
}

function add(state: State, lines: Iterable<string>): void {
  for (const line of lines) {
    const event = readEvent(line);
    if (event === undefined) continue;
    state.found.set(event.id, event);
    check(state, event);
  }
}

/** What an event says, by itself. */
function check(state: State, { position, merged, origin, seenAt, id }: Found): void {
  const { generations } = state;
  if (generations.get(generationIn(position))?.isLost === true) return;
  const stimuli = [position, ...merged].map((place) => stimulusAt(state, place));
  for (const [index, stimulus] of stimuli.entries()) {
    const name = `${id} at ${[position, ...merged][index] ?? ''}`;
    if (stimulus === undefined) {
      fail(state, 7, `${name} is of no alert that an engine wrote`);
      continue;
    }
    const { endpoint } = stimulus;
    if (seenAt[index] !== endpoint.id) fail(state, 8, `${name} is of ${endpoint.id}, and it names ${seenAt.join(' ')}`);
    if (!endpoint.resources.includes(origin.slice('dpi.'.length)))
      fail(state, 8, `${name} is for ${origin}, which selects it not`);
  }
  const [first, ...others] = stimuli.flatMap((stimulus) => stimulus ?? []);
  for (const other of others) if (first !== undefined) checkTwins(state, first, other, id);
}

function stimulusAt({ generations }: State, position: string): Stimulus | undefined {
  const [name = '', offset] = position.split(':');
  return generations.get(name)?.stimuli.get(Number(offset));
}

function checkTwins(state: State, first: Stimulus, other: Stimulus, id: string): void {
  const [a, b] = [first.packet, other.packet];
  const same =
    a.sid === b.sid &&
    a.source.ip === b.source.ip &&
    a.source.port === b.source.port &&
    a.destination.ip === b.destination.ip &&
    // An alert without bytes is taken for one whose format has none.
    (a.payload.length === 0 || b.payload.length === 0 || a.payload.equals(b.payload));
  const known = first.endpoint.addresses.length > 0 && other.endpoint.addresses.length > 0;
  const isTwin = first.endpoint !== other.endpoint && (!known || first.end !== other.end || isLoop(first));
  if (!same || !isTwin) {
    fail(state, 8, `${id} merges alerts at ${first.generation}:${first.start} and ${other.generation}:${other.start}`);
  }
}

/** Its two ends have the same address: nobody can tell them apart. */
function isLoop({ packet }: Stimulus): boolean {
  return packet.source.ip === packet.destination.ip;
}

/** Looks for alerts in all events that are there, or were. @returns folds, with the alerts that each holds. */
function compare(state: State, isMeant: (stimulus: Stimulus) => boolean): Map<Found, number> {
  const { found, generations, voided } = state;
  const index = indexOf(found.values());
  const members = new Map<Found, number>();
  const absent: Absent = { suppressed: 0, unattributed: 0, either: 0 };
  for (const generation of generations.values()) {
    if (generation.isLost) continue;
    for (const stimulus of generation.stimuli.values()) {
      if (!isMeant(stimulus)) continue;
      const { resources } = stimulus.endpoint;
      const missing = resources.filter((resource) => !isTold(state, index, stimulus, resource, members));
      if (missing.length > 0 && !voided.has(stimulus)) addAbsent(state, absent, generation, stimulus, missing);
    }
  }
  compareCounts(state, absent);
  return members;
}

/** @param members Of folds, which are counted. */
function isTold(
  state: State,
  index: Index,
  stimulus: Stimulus,
  resource: string,
  members: Map<Found, number>,
): boolean {
  const { generation, start, packet, endpoint } = stimulus;
  const own = index.places.get(`dpi.${resource} ${generation}:${start}`) ?? [];
  const folds = (index.folds.get(`dpi.${resource} ${packet.sid} ${endpoint.id} ${generation}`) ?? []).filter(
    ({ fold }) => fold !== undefined && fold.from <= start && start <= fold.until,
  );
  const events = own.length > 0 ? own : folds;
  if (own.length === 0) for (const event of folds) members.set(event, (members.get(event) ?? 0) + 1);
  if (events.filter(({ evicted }) => !evicted).length > 1) {
    fail(state, 7, `the alert at ${generation}:${start} is in the events ${events.map(({ id }) => id).join(' and ')}`);
  }
  return events.length > 0;
}

function addAbsent(
  state: State,
  absent: Absent,
  { wasCut }: Generation,
  { packet, endpoint, generation, start }: Stimulus,
  missing: readonly string[],
): void {
  const mayHaveNoOwner = (wasCut || state.isCrowded) && missing.length === endpoint.resources.length;
  const isSuppressible = packet.sid >= SUPPRESSIBLE;
  if (isSuppressible && mayHaveNoOwner) absent.either += 1;
  else if (isSuppressible) absent.suppressed += missing.length;
  else if (mayHaveNoOwner) absent.unattributed += 1;
  else fail(state, 7, `the alert at ${generation}:${start} is in no event of ${missing.join(' and ')}`);
}

function compareCounts(state: State, absent: Absent): void {
  const { sums, count } = state;
  const suppressed = sums.suppressed + (count?.().suppressed ?? 0);
  const unattributed = sums.unattributed + (count?.().unattributed ?? 0);
  const all = absent.suppressed + absent.unattributed + absent.either;
  if (absent.suppressed > suppressed || absent.unattributed > unattributed || all > suppressed + unattributed) {
    const counts = `${suppressed} were counted as suppressed, ${unattributed} as unattributed`;
    fail(state, 7, `of the alerts in no event, there are ${JSON.stringify(absent)}; ${counts}`);
  }
}

function compareFolds(state: State, members: ReadonlyMap<Found, number>): void {
  const { found, generations, isCrowded } = state;
  // What was read again after its event was evicted is in another fold.
  if ([...found.values()].some(({ evicted }) => evicted)) return;
  for (const [{ id, sid, position, fold }, held] of members) {
    const isSure = sid < SUPPRESSIBLE && !isCrowded && generations.get(generationIn(position))?.wasCut === false;
    if (isSure && fold?.count !== held) fail(state, 8, `${id} counts ${fold?.count ?? 0} alerts, and is of ${held}`);
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}

/** By resource and place, and by what alerts of a fold have in common. */
interface Index {
  places: Map<string, Found[]>;
  folds: Map<string, Found[]>;
}

function indexOf(events: Iterable<Found>): Index {
  const index: Index = { places: new Map(), folds: new Map() };
  for (const event of events) {
    const { origin, sid, endpoint, position, merged, fold } = event;
    for (const place of fold === undefined ? [position, ...merged] : merged) {
      push(index.places, `${origin} ${place}`, event);
    }
    if (fold !== undefined) push(index.folds, `${origin} ${sid} ${endpoint} ${generationIn(position)}`, event);
  }
  return index;
}

const generationIn = (position: string): string => position.split(':')[0] ?? '';

/** Of all alert files that are there, by their inodes. */
function sizesOf(disk: Disk, lanes: string): Map<number, number> {
  const sizes = new Map<number, number>();
  for (const lane of disk.list(lanes)) {
    for (const generation of disk.list(`${lanes}/${lane}`)) {
      const output = `${lanes}/${lane}/${generation}/output`;
      for (const name of disk.list(output)) {
        const facts = disk.facts(`${output}/${name}`);
        if (facts !== undefined) sizes.set(facts.ino, facts.size);
      }
    }
  }
  return sizes;
}

interface Line {
  origin: string;
  record: {
    event_id: string;
    position: string;
    merged_positions?: string[];
    count?: number;
    last_position?: string;
    snort_signature_id: string;
    seen_at: { namespace: string; name: string }[];
  };
}

function readEvent(line: string): Found | undefined {
  let event: Line;
  try {
    event = JSON.parse(line) as Line;
  } catch {
    return undefined;
  }
  const { event_id: id, position, merged_positions: merged = [], count, last_position: last } = event.record;
  const seenAt = event.record.seen_at.map(({ namespace, name }) => `${namespace}/${name}`);
  const offsetOf = (text: string): number => Number(text.split(':')[1]);
  return {
    id,
    origin: event.origin,
    position,
    merged,
    sid: Number(event.record.snort_signature_id),
    endpoint: seenAt[0] ?? '',
    fold:
      count === undefined || last === undefined
        ? undefined
        : { from: offsetOf(position), until: offsetOf(last), count },
    seenAt,
    evicted: false,
  };
}
