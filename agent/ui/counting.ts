/** What of counts is shown: the most frequent values, and who attacks whom. */
import { LEVELS, type FacetValue, type Flows, type Level, type Pair, type Talker } from './api.ts';
import { EDGES, PAIR_ENDS, TALKERS } from './source.ts';

/** Those that begin so; of equal counts in the order of their names. */
export function mostFrequent(counts: ReadonlyMap<string, number>, prefix: string, limit: number): FacetValue[] {
  return [...counts]
    .filter(([value]) => value.toLowerCase().startsWith(prefix))
    .map(([value, count]) => ({ value, count }))
    .toSorted((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1))
    .slice(0, limit);
}

/**
 * Of the namespaces with the most alerts, of the sources, and of the pods.
 * @param edges From pod to pod. @param total Of all alerts, where these are not all.
 */
export function shownFlows(
  pairs: readonly Pair[],
  talkers: readonly Talker[],
  edges: readonly Pair[],
  total: number = edges.reduce((sum, { counts }) => sum + sumOf(counts), 0),
): Flows {
  const ends = (side: 'source' | 'destination'): Set<string> => {
    const sums = new Map<string, number>();
    for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) ?? 0) + sumOf(pair.counts));
    return new Set(mostFrequent(sums, '', PAIR_ENDS).map(({ value }) => value));
  };
  const [sources, destinations] = [ends('source'), ends('destination')];
  const shown = edges.toSorted(byCount).slice(0, EDGES);
  return {
    pairs: pairs
      .filter(({ source, destination }) => sources.has(source) && destinations.has(destination))
      .toSorted(byCount),
    edges: shown,
    others: Math.max(0, total - shown.reduce((sum, { counts }) => sum + sumOf(counts), 0)),
    talkers: talkers.toSorted((a, b) => sumOf(b.counts) - sumOf(a.counts) || (a.ip < b.ip ? -1 : 1)).slice(0, TALKERS),
  };
}

/** Those with the same ends are one. */
export function sumPairs(pairs: readonly Pair[]): Pair[] {
  const sums = new Map<string, Pair>();
  for (const pair of pairs) {
    const sum = sums.get(keyOf(pair)) ?? { ...pair, counts: noCounts() };
    sums.set(keyOf(pair), sum);
    addCounts(sum.counts, pair.counts);
  }
  return [...sums.values()];
}

export function addCounts(to: Record<Level, number>, counts: Record<Level, number>): void {
  for (const level of LEVELS) to[level] += counts[level];
}

function byCount(a: Pair, b: Pair): number {
  return sumOf(b.counts) - sumOf(a.counts) || keyOf(a).localeCompare(keyOf(b));
}

function keyOf({ source, destination }: Pair): string {
  return `${source} ${destination}`;
}

export function sumOf(counts: Record<Level, number>): number {
  return counts.critical + counts.high + counts.medium + counts.low;
}

export function noCounts(): Record<Level, number> {
  return { critical: 0, high: 0, medium: 0, low: 0 };
}
