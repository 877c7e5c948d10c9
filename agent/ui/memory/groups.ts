/** A table's alerts in groups. */
import { LEVELS, type Group } from '../api.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { podOf } from '../row.ts';
import { GROUPS } from '../source.ts';
import { selected } from './select.ts';
import { podNumbers } from './pods.ts';
import { compareSlots, rowAt, type Table } from './table.ts';

/** By number of a part. */
interface Counted {
  counts: Uint32Array;
  /** The newest slot. */
  newest: Int32Array;
  /** The most severe level, as a place in LEVELS. */
  level: Uint8Array;
}

interface Part {
  key: string;
  counted: Counted;
  number: number;
}

export function groupRows(table: Table, by: 'signature' | 'pod', query: AlertQuery, scope: Scope): Group[] {
  const { parts } = table;
  if (by === 'signature') {
    const rules = countBy(table, 'rule', selected(table, query, scope));
    return groupsOf(
      table,
      parts.rule.values.map(({ gid, sid }, number) => ({ key: `${gid}:${sid}`, counted: rules, number })),
      (slot) => rowAt(table, slot).message,
    );
  }
  const [sources, destinations] = countEnds(table, selected(table, query, scope));
  const pods = [
    ...parts.source.values.map(({ source }, number) => ({ key: podOf(source) ?? '', counted: sources, number })),
    ...parts.destination.values.map(({ destination }, number) => ({
      key: podOf(destination) ?? '',
      counted: destinations,
      number,
    })),
  ];
  return groupsOf(
    table,
    pods.filter(({ key }) => key !== ''),
  );
}

function createCounted(size: number): Counted {
  return {
    counts: new Uint32Array(size),
    newest: new Int32Array(size).fill(-1),
    level: new Uint8Array(size).fill(LEVELS.length),
  };
}

function countBy(table: Table, name: 'rule', blocks: Iterable<Uint32Array>): Counted {
  const counted = createCounted(table.parts[name].values.length);
  const add = createAdd(table);
  const numbers = table.numbers[name];
  for (const slots of blocks) for (const slot of slots) add(counted, numbers[slot] ?? 0, slot);
  return counted;
}

/** A pod that is at both ends of an alert counts once. */
function countEnds(table: Table, blocks: Iterable<Uint32Array>): [Counted, Counted] {
  const { parts, numbers } = table;
  const sources = createCounted(parts.source.values.length);
  const destinations = createCounted(parts.destination.values.length);
  const add = createAdd(table);
  const pods = podNumbers(table);
  for (const slots of blocks)
    for (const slot of slots) {
      const source = numbers.source[slot] ?? 0;
      const destination = numbers.destination[slot] ?? 0;
      add(sources, source, slot);
      const pod = pods.destinations[destination] ?? -1;
      if (pod === -1 || pod !== pods.sources[source]) add(destinations, destination, slot);
    }
  return [sources, destinations];
}

function createAdd({ parts, numbers }: Table): (counted: Counted, number: number, slot: number) => void {
  const levels = Uint8Array.from(parts.rule.values, ({ level }) => LEVELS.indexOf(level));
  return ({ counts, newest, level }, number, slot) => {
    counts[number] = (counts[number] ?? 0) + 1;
    if (newest[number] === -1) newest[number] = slot;
    level[number] = Math.min(level[number] ?? LEVELS.length, levels[numbers.rule[slot] ?? 0] ?? LEVELS.length);
  };
}

/** The most frequent first. @param labelOf The group's newest slot; without it, the key is the label. */
function groupsOf(table: Table, parts: readonly Part[], labelOf?: (slot: number) => string): Group[] {
  const groups = new Map<string, { count: number; newest: number; level: number }>();
  for (const { key, counted, number } of parts) {
    const count = counted.counts[number] ?? 0;
    if (count === 0) continue;
    const group = groups.get(key) ?? { count: 0, newest: -1, level: LEVELS.length };
    groups.set(key, group);
    group.count += count;
    const newest = counted.newest[number] ?? -1;
    if (group.newest === -1 || compareSlots(table, newest, group.newest) > 0) group.newest = newest;
    group.level = Math.min(group.level, counted.level[number] ?? LEVELS.length);
  }
  return [...groups]
    .toSorted(([keyA, a], [keyB, b]) => b.count - a.count || (keyA < keyB ? -1 : 1))
    .slice(0, GROUPS)
    .map(([key, { count, newest, level }]) => ({
      key,
      label: labelOf?.(newest) ?? key,
      count,
      level: LEVELS[level] ?? 'low',
      newest: rowAt(table, newest).timestamp,
    }));
}
