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

/** @param defaults The sets of an id that has no others. */
export function createCombinations(defaults: () => readonly string[]): Combinations {
  const byVlan = new Map<number, string>();
  const ids = new Map<string, number>();
  const keyOf = (sets: readonly string[]): string => [...new Set(sets)].toSorted().join();
  const current = (vlan: number): string => byVlan.get(vlan) ?? keyOf(defaults());

  function set(vlan: number, key: string): void {
    if (key === keyOf(defaults())) byVlan.delete(vlan);
    else byVlan.set(vlan, key);
  }

  /** The lowest id that no other combination has. */
  function idOf(key: string): number {
    const known = ids.get(key);
    if (known !== undefined) return known;
    const used = new Set(ids.values());
    let id = FIRST_ID;
    while (used.has(id)) id++;
    ids.set(key, id);
    return id;
  }

  return {
    accepts(sets) {
      const key = keyOf(sets);
      return (vlan) => current(vlan) === key;
    },
    claim(spare, sets) {
      const key = keyOf(sets);
      let left = CLAIM;
      for (const vlan of spare) {
        if (left-- === 0) return;
        set(vlan, key);
      }
    },
    move(vlan, sets) {
      const key = keyOf(sets);
      if (current(vlan) === key) return false;
      set(vlan, key);
      return true;
    },
    trim(leased) {
      const used = new Set([...leased].map(current));
      const size = byVlan.size;
      for (const [vlan, key] of byVlan) if (!used.has(key)) byVlan.delete(vlan);
      return byVlan.size < size;
    },
    list() {
      const vlans = new Map<string, number[]>();
      for (const [vlan, key] of byVlan) {
        const list = vlans.get(key);
        if (list === undefined) vlans.set(key, [vlan]);
        else list.push(vlan);
      }
      for (const key of ids.keys()) if (!vlans.has(key)) ids.delete(key);
      return [...vlans].map(([key, list]) => ({
        id: idOf(key),
        sets: key === '' ? [] : key.split(','),
        vlans: list.toSorted((a, b) => a - b),
      }));
    },
  };
}
