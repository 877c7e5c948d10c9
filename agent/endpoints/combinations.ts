/**
 * Which VLAN ids are inspected by which rule sets. Ids that have the default sets are not in it; any other combination
 * of sets has ids of its own, some more than it needs, so that its next endpoints get one without a change of the
 * engine's configuration.
 *
 * Invariant: an id that is leased has the sets of its endpoint, but while a change is on its way to the engine.
 */

/** Ids that a combination gets at a time. */
const CLAIM = 8;
/** An engine's own id for what has no other is 1. */
const FIRST_ID = 2;

export interface Combination {
  /** It stays the same for as long as any id has these sets. */
  id: number;
  /** As resources name them, in order; sets that there are not are among them. */
  sets: readonly string[];
  vlans: readonly number[];
}

export interface Combinations {
  /** Whether an id has exactly these sets. */
  accepts(sets: readonly string[]): (vlan: number) => boolean;
  /** Gives ids that nobody holds to these sets. @param spare Ids in the order in which they should be taken. */
  claim(spare: Iterable<number>, sets: readonly string[]): void;
  /** An id that is leased has these sets from now on. @returns whether it had others. */
  move(vlan: number, sets: readonly string[]): boolean;
  /** Takes ids from combinations that none of `leased` has. @returns whether there were any. */
  trim(leased: Iterable<number>): boolean;
  list: () => Combination[];
}

interface State {
  readonly defaults: () => readonly string[];
  /** Combinations by the ids that have them, and their own ids, by their keys. */
  readonly byVlan: Map<number, string>;
  readonly ids: Map<string, number>;
}

/** @param defaults The sets of an id that has no others. */
export function createCombinations(defaults: () => readonly string[]): Combinations {
  const byVlan = new Map<number, string>();
  const state: State = { defaults, byVlan, ids: new Map() };
  return {
    accepts(sets) {
      const key = keyOf(sets);
      return (vlan) => current(state, vlan) === key;
    },
    claim(spare, sets) {
      const key = keyOf(sets);
      let left = CLAIM;
      for (const vlan of spare) {
        if (left-- === 0) return;
        set(state, vlan, key);
      }
    },
    move(vlan, sets) {
      const key = keyOf(sets);
      if (current(state, vlan) === key) return false;
      set(state, vlan, key);
      return true;
    },
    trim(leased) {
      const used = new Set([...leased].map((vlan) => current(state, vlan)));
      const size = byVlan.size;
      for (const [vlan, key] of byVlan) if (!used.has(key)) byVlan.delete(vlan);
      return byVlan.size < size;
    },
    list: () => list(state),
  };
}

function keyOf(sets: readonly string[]): string {
  return [...new Set(sets)].toSorted().join();
}

function current({ byVlan, defaults }: State, vlan: number): string {
  return byVlan.get(vlan) ?? keyOf(defaults());
}

function set({ byVlan, defaults }: State, vlan: number, key: string): void {
  if (key === keyOf(defaults())) byVlan.delete(vlan);
  else byVlan.set(vlan, key);
}

function list({ byVlan, ids }: State): Combination[] {
  const vlans = new Map<string, number[]>();
  for (const [vlan, key] of byVlan) {
    const known = vlans.get(key);
    if (known === undefined) vlans.set(key, [vlan]);
    else known.push(vlan);
  }
  for (const key of ids.keys()) if (!vlans.has(key)) ids.delete(key);
  return [...vlans].map(([key, own]) => ({
    id: idOf(ids, key),
    sets: key === '' ? [] : key.split(','),
    vlans: own.toSorted((a, b) => a - b),
  }));
}

/** The lowest id that no other combination has. */
function idOf(ids: Map<string, number>, key: string): number {
  const known = ids.get(key);
  if (known !== undefined) return known;
  const used = new Set(ids.values());
  let id = FIRST_ID;
  while (used.has(id)) id++;
  ids.set(key, id);
  return id;
}
