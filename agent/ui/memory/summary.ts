/** Counts a table's alerts in one pass: by level, over time, and by the values of each facet. */
import { FACETS, LEVELS, STATES, type Bucket, type FacetName, type FacetValue, type Summary } from '../api.ts';
import { mostFrequent, noCounts } from '../counting.ts';
import { barsOf, type AlertQuery, type Scope } from '../query.ts';
import { FACET_VALUES } from '../source.ts';
import { podNumbers, type Pods } from './pods.ts';
import { blocksOf, FACET_BITS, HIDDEN, type Block } from './select.ts';
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

/** @returns the slots that all filters select, the newest first; and the time of the first that time and words leave. */
function countAll(
  table: Table,
  query: AlertQuery,
  scope: Scope,
  counters: Counters,
  pods: Pods,
): { first: number | undefined; selected: Uint32Array } {
  const { rule, place, mark } = table.numbers;
  const narrowing = FACETS.filter((name) => name === 'state' || query[name].length > 0);
  const columns = { namespace: place, signature: rule, level: rule, tactic: rule, state: mark };
  const selected = new Uint32Array(table.size);
  let found = 0;
  /** The histogram stays where it is when a facet is chosen. */
  let oldest: number | undefined;
  for (const block of blocksOf(table, query, scope)) {
    oldest = oldestSeen(block) ?? oldest;
    for (const name of narrowing) {
      const besides = picked(block, FACET_BITS[name], selected.subarray(found));
      if (name === 'pod') countPods(counters.pod.besides, table, pods, besides);
      else countColumn(counters[name].besides, columns[name], besides);
    }
    const all = picked(block, 0, selected.subarray(found));
    found += all.length;
    for (const name of ['level', 'namespace', 'state'] as const) countColumn(counters[name].all, columns[name], all);
    countPods(counters.pod.all, table, pods, all);
  }
  const first = oldest === undefined ? undefined : table.time[oldest];
  return { first, selected: selected.subarray(0, found) };
}

/** The slots of a block that these filters leave out, and no others. @param into Where there is room for them. */
function picked({ slots, failing, says }: Block, bits: number, into: Uint32Array): Uint32Array {
  let count = 0;
  for (let index = 0; index < slots.length; index += 1) {
    if (failing[index] !== bits || says[index] === 0) continue;
    into[count] = slots[index] ?? 0;
    count += 1;
  }
  return into.subarray(0, count);
}

/** Whatever the filters say. */
function oldestSeen({ slots, failing, says }: Block): number | undefined {
  for (let index = slots.length - 1; index >= 0; index -= 1)
    if (says[index] === 1 && (failing[index] ?? HIDDEN) < HIDDEN) return slots[index];
  return undefined;
}

function countColumn(counts: Uint32Array, column: Uint32Array, slots: Uint32Array): void {
  for (const slot of slots) {
    const number = column[slot] ?? 0;
    counts[number] = (counts[number] ?? 0) + 1;
  }
}

/** One that is at both ends of an alert counts once. */
function countPods(counts: Uint32Array, { numbers }: Table, pods: Pods, slots: Uint32Array): void {
  const { source, destination } = numbers;
  for (const slot of slots) {
    const from = pods.sources[source[slot] ?? 0] ?? -1;
    const to = pods.destinations[destination[slot] ?? 0] ?? -1;
    if (from >= 0) counts[from] = (counts[from] ?? 0) + 1;
    if (to >= 0 && to !== from) counts[to] = (counts[to] ?? 0) + 1;
  }
}

function bucketsOf(table: Table, selected: Uint32Array, interval: number): Bucket[] {
  const { time, parts } = table;
  const { rule } = table.numbers;
  const levels = Uint8Array.from(parts.rule.values, ({ level }) => LEVELS.indexOf(level));
  const found: { start: number; counts: Uint32Array }[] = [];
  let counts = new Uint32Array(LEVELS.length);
  let start = Infinity;
  for (const slot of selected) {
    const at = time[slot] ?? 0;
    // They are in the order of time.
    if (at < start) {
      start = Math.floor(at / interval) * interval;
      counts = new Uint32Array(LEVELS.length);
      found.push({ start, counts });
    }
    const level = levels[rule[slot] ?? 0] ?? 0;
    counts[level] = (counts[level] ?? 0) + 1;
  }
  return found.toReversed().map(({ start: from, counts: numbers }) => {
    const byLevel = Object.fromEntries(LEVELS.map((level, index) => [level, numbers[index] ?? 0]));
    return { start: from, counts: byLevel as Bucket['counts'] };
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
