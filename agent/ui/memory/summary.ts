/** Counts a table's alerts in one pass: by level, over time, and by the values of each facet. */
import { FACETS, LEVELS, STATES, type Bucket, type FacetName, type FacetValue, type Summary } from '../api.ts';
import { mostFrequent, noCounts } from '../counting.ts';
import { barsOf, type AlertQuery, type Scope } from '../query.ts';
import { podOf } from '../row.ts';
import { FACET_VALUES } from '../source.ts';
import { FACET_BITS, HIDDEN, select } from './select.ts';
import type { Table } from './table.ts';

/** By number of a part, or a pod: of alerts that all filters select, and of those that only one facet's leaves out. */
interface Counted {
  all: Uint32Array;
  besides: Uint32Array;
}

/** For each facet, the numbers whose alerts are counted. */
type Counters = Record<FacetName, Counted>;

export function summarize(table: Table, query: AlertQuery, scope: Scope, now: number): Summary {
  const pods = podNumbers(table);
  const counters = createCounters(table, pods.names.length);
  const { first, selected } = countAll(table, query, scope, counters, pods);
  const bars = barsOf(query.from ?? first ?? now - 3_600_000, query.to ?? now);
  const counts = noCounts();
  const levels = table.parts.rule.values.map(({ level }) => level);
  let total = 0;
  for (const [number, count] of counters.level.all.entries()) {
    total += count;
    counts[levels[number] ?? 'low'] += count;
  }
  const buckets = bucketsOf(table, selected, bars.interval);
  return { total, counts, histogram: { ...bars, buckets }, facets: facetsOf(table, query, counters, pods.names) };
}

function createCounters({ parts }: Table, pods: number): Counters {
  const of = (size: number): Counted => ({ all: new Uint32Array(size), besides: new Uint32Array(size) });
  const [rules, places, marks] = [
    of(parts.rule.values.length),
    of(parts.place.values.length),
    of(parts.mark.values.length),
  ];
  const again = ({ all }: Counted): Counted => ({ all, besides: new Uint32Array(all.length) });
  return {
    namespace: places,
    pod: of(pods),
    signature: rules,
    level: again(rules),
    tactic: again(rules),
    state: marks,
  };
}

interface Pods {
  names: readonly string[];
  /** By number of the end's part; -1: no pod is known. */
  sources: Int32Array;
  destinations: Int32Array;
}

function podNumbers({ parts }: Table): Pods {
  const numbers = new Map<string, number>();
  const numberOf = (pod: string | undefined): number => {
    if (pod === undefined) return -1;
    const number = numbers.get(pod) ?? numbers.size;
    numbers.set(pod, number);
    return number;
  };
  const sources = Int32Array.from(parts.source.values, ({ source }) => numberOf(podOf(source)));
  const destinations = Int32Array.from(parts.destination.values, ({ destination }) => numberOf(podOf(destination)));
  return { names: [...numbers.keys()], sources, destinations };
}

/** @returns the slots that all filters select, the oldest first; and the time of the first that time and words leave. */
function countAll(
  table: Table,
  query: AlertQuery,
  scope: Scope,
  counters: Counters,
  pods: Pods,
): { first: number | undefined; selected: Uint32Array } {
  const { order, time } = table;
  const { from, to, failing, says } = select(table, query, scope);
  const facetOf = new Map(FACETS.map((name) => [FACET_BITS[name], name]));
  const add = createAdd(table, counters, pods);
  const selected = new Uint32Array(to - from);
  let found = 0;
  /** The histogram stays where it is when a facet is chosen. */
  let first: number | undefined;
  for (let index = from; index < to; index += 1) {
    const slot = order[index] ?? 0;
    const failed = failing(slot);
    const facet = failed === 0 ? undefined : facetOf.get(failed);
    if (failed >= HIDDEN || (failed !== 0 && facet === undefined && first !== undefined) || !says(slot)) continue;
    first ??= time[slot];
    if (failed === 0) {
      add.all(slot);
      selected[found] = slot;
      found += 1;
    } else if (facet !== undefined) add.besides(slot, facet);
  }
  return { first, selected: selected.subarray(0, found) };
}

function createAdd({ numbers }: Table, counters: Counters, { sources, destinations }: Pods) {
  const { rule, place, mark, source, destination } = numbers;
  const one = (counts: Uint32Array, number = 0): void => {
    counts[number] = (counts[number] ?? 0) + 1;
  };
  const addPods = (counts: Uint32Array, slot: number): void => {
    const [from, to] = [sources[source[slot] ?? 0] ?? -1, destinations[destination[slot] ?? 0] ?? -1];
    if (from >= 0) one(counts, from);
    if (to >= 0 && to !== from) one(counts, to);
  };
  return {
    all(slot: number): void {
      one(counters.level.all, rule[slot]);
      one(counters.namespace.all, place[slot]);
      one(counters.state.all, mark[slot]);
      addPods(counters.pod.all, slot);
    },
    besides(slot: number, facet: FacetName): void {
      const { besides } = counters[facet];
      if (facet === 'pod') addPods(besides, slot);
      else if (facet === 'namespace') one(besides, place[slot]);
      else one(besides, facet === 'state' ? mark[slot] : rule[slot]);
    },
  };
}

function bucketsOf(table: Table, selected: Uint32Array, interval: number): Bucket[] {
  const { time, parts } = table;
  const { rule } = table.numbers;
  const levels = Uint8Array.from(parts.rule.values, ({ level }) => LEVELS.indexOf(level));
  const found: { start: number; counts: Uint32Array }[] = [];
  let counts = new Uint32Array(LEVELS.length);
  let end = -Infinity;
  for (const slot of selected) {
    const at = time[slot] ?? 0;
    // They are in the order of time.
    if (at >= end) {
      const start = Math.floor(at / interval) * interval;
      end = start + interval;
      counts = new Uint32Array(LEVELS.length);
      found.push({ start, counts });
    }
    const level = levels[rule[slot] ?? 0] ?? 0;
    counts[level] = (counts[level] ?? 0) + 1;
  }
  return found.map(({ start, counts: numbers }) => {
    const byLevel = Object.fromEntries(LEVELS.map((level, index) => [level, numbers[index] ?? 0]));
    return { start, counts: byLevel as Bucket['counts'] };
  });
}

function facetsOf({ parts }: Table, query: AlertQuery, counters: Counters, pods: readonly string[]): Summary['facets'] {
  const rules = parts.rule.values;
  const labels = new Map(rules.map(({ gid, sid, message }) => [`${gid}:${sid}`, message]));
  const sums = (name: FacetName, valueOf: (number: number) => string | undefined): Map<string, number> =>
    sumsOf(counters[name], valueOf);
  const fixed = (values: readonly string[], counts: ReadonlyMap<string, number>): FacetValue[] =>
    values.map((value) => ({ value, count: counts.get(value) ?? 0 }));
  const signatures = sums('signature', (number) => signatureOf(rules[number]));
  return {
    namespace: listed(
      sums('namespace', (number) => parts.place.values[number]?.namespace),
      query.namespace,
    ),
    pod: listed(
      sums('pod', (number) => pods[number]),
      query.pod,
    ),
    signature: listed(signatures, query.signature).map((one) => ({ ...one, label: labels.get(one.value) ?? '' })),
    level: fixed(
      LEVELS,
      sums('level', (number) => rules[number]?.level),
    ),
    tactic: listed(
      sums('tactic', (number) => rules[number]?.tactic ?? 'none'),
      query.tactic.map((tactic) => tactic || 'none'),
    ),
    state: fixed(
      STATES,
      sums('state', (number) => parts.mark.values[number]?.state),
    ),
  };
}

function signatureOf(rule: { gid: string; sid: string } | undefined): string | undefined {
  return rule === undefined ? undefined : `${rule.gid}:${rule.sid}`;
}

function sumsOf({ all, besides }: Counted, valueOf: (number: number) => string | undefined): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [number, count] of all.entries()) {
    const sum = count + (besides[number] ?? 0);
    const value = sum === 0 ? undefined : valueOf(number);
    if (value !== undefined) sums.set(value, (sums.get(value) ?? 0) + sum);
  }
  return sums;
}

/** The most frequent, and those that are chosen whatever their number. */
function listed(counts: ReadonlyMap<string, number>, chosen: readonly string[]): FacetValue[] {
  const shown = mostFrequent(counts, '', FACET_VALUES);
  const missing = chosen.filter((value) => !shown.some((one) => one.value === value));
  return [...shown, ...missing.map((value) => ({ value, count: counts.get(value) ?? 0 }))];
}
