/** Counts rows in memory: values of fields, who attacks whom, and since when. */
import {
  type AlertRow,
  type FacetValue,
  type Flows,
  type Level,
  type Pair,
  type Span,
  type Talker,
  type ValueField,
} from './api.ts';
import { podOf } from './row.ts';
import { PAIR_ENDS, TALKERS, type ValueRequest } from './source.ts';

const VALUES: Record<ValueField, (row: AlertRow) => readonly (string | undefined)[]> = {
  'source.ip': ({ source }) => [source.ip],
  'destination.ip': ({ destination }) => [destination.ip],
  'source.pod': ({ source }) => [podOf(source)],
  'destination.pod': ({ destination }) => [podOf(destination)],
  'source.namespace': ({ source }) => [source.namespace],
  'destination.namespace': ({ destination }) => [destination.namespace],
  'destination.port': ({ destination }) => [destination.port?.toString()],
  protocol: (row) => [row.protocol],
  service: (row) => [row.service],
  node: (row) => [row.node],
  class: (row) => [row.classification],
  cve: (row) => row.cves,
  technique: (row) => row.techniques,
  resource: (row) => [row.resource],
  assignee: (row) => [row.assignee],
};

export function listValues(rows: Iterable<AlertRow>, { field, prefix, limit }: ValueRequest): FacetValue[] {
  const counts = new Map<string, number>();
  for (const row of rows)
    for (const value of VALUES[field](row))
      if (value !== undefined && value !== '') counts.set(value, (counts.get(value) ?? 0) + 1);
  return mostFrequent(counts, prefix, limit);
}

/** Those that begin so; of equal counts in the order of their names. */
export function mostFrequent(counts: ReadonlyMap<string, number>, prefix: string, limit: number): FacetValue[] {
  return [...counts]
    .filter(([value]) => value.toLowerCase().startsWith(prefix))
    .map(([value, count]) => ({ value, count }))
    .toSorted((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1))
    .slice(0, limit);
}

export function flowsOf(rows: Iterable<AlertRow>): Flows {
  const pairs = new Map<string, Pair>();
  const talkers = new Map<string, Talker>();
  for (const { source, destination, level } of rows) {
    const [from, to] = [source.namespace ?? '', destination.namespace ?? ''];
    const pair = pairs.get(`${from} ${to}`) ?? { source: from, destination: to, counts: noCounts() };
    pairs.set(`${from} ${to}`, pair);
    pair.counts[level] += 1;
    // Rows come newest first: its last name is the one that counts.
    const { ip, name, namespace } = source;
    const named = name === undefined || namespace === undefined ? {} : { name, namespace };
    const talker = talkers.get(ip) ?? { ip, ...named, counts: noCounts() };
    talkers.set(ip, talker);
    talker.counts[level] += 1;
  }
  return shownFlows([...pairs.values()], [...talkers.values()]);
}

/** Of the namespaces with the most alerts, and of the sources. */
export function shownFlows(pairs: readonly Pair[], talkers: readonly Talker[]): Flows {
  const ends = (side: 'source' | 'destination'): Set<string> => {
    const sums = new Map<string, number>();
    for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) ?? 0) + sumOf(pair.counts));
    return new Set(mostFrequent(sums, '', PAIR_ENDS).map(({ value }) => value));
  };
  const [sources, destinations] = [ends('source'), ends('destination')];
  return {
    pairs: pairs
      .filter(({ source, destination }) => sources.has(source) && destinations.has(destination))
      .toSorted((a, b) => sumOf(b.counts) - sumOf(a.counts) || keyOf(a).localeCompare(keyOf(b))),
    talkers: talkers.toSorted((a, b) => sumOf(b.counts) - sumOf(a.counts) || (a.ip < b.ip ? -1 : 1)).slice(0, TALKERS),
  };
}

function keyOf({ source, destination }: Pair): string {
  return `${source} ${destination}`;
}

export function sumOf(counts: Record<Level, number>): number {
  return counts.critical + counts.high + counts.medium + counts.low;
}

function noCounts(): Record<Level, number> {
  return { critical: 0, high: 0, medium: 0, low: 0 };
}

/** @param rows Newest first. */
export function spanOf(rows: Iterable<AlertRow>): Span {
  let count = 0;
  let last: string | undefined;
  let first: string | undefined;
  for (const { timestamp } of rows) {
    count += 1;
    last ??= timestamp;
    first = timestamp;
  }
  return { count, ...(first === undefined || last === undefined ? {} : { first, last }) };
}
