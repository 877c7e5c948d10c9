/** Counts alerts in memory: by level, over time, and by the values of each facet. */
import { FACETS, LEVELS, STATES, type AlertRow, type FacetName, type Level, type Summary } from './api.ts';
import { barsOf, failing, inScope, type AlertQuery, type Scope } from './query.ts';
import { podsOf } from './row.ts';
import { FACET_VALUES } from './source.ts';

/** An alert, and its time in milliseconds since the epoch. */
interface Entry {
  row: AlertRow;
  time: number;
}

/** @param entries By time, oldest first. */
export function summarize(entries: readonly Entry[], query: AlertQuery, scope: Scope, now: number): Summary {
  const counts = noCounts();
  const facets = Object.fromEntries(FACETS.map((name) => [name, new Map<string, Counted>()])) as Record<
    FacetName,
    Map<string, Counted>
  >;
  const selected: Entry[] = [];
  let total = 0;
  /** Of all that time and words leave, so that the histogram stays where it is when a facet is chosen. */
  let first: number | undefined;
  for (const entry of entries) {
    const { row, time } = entry;
    if (!inScope(scope, row.namespace)) continue;
    const failed = failing(query, row, time);
    if (failed === undefined) continue;
    first ??= time;
    const [only, ...others] = failed;
    if (others.length > 0) continue;
    for (const name of only === undefined ? FACETS : [only]) count(facets[name], name, row);
    if (only !== undefined) continue;
    total += 1;
    counts[row.level] += 1;
    selected.push(entry);
  }
  const bars = barsOf(query.from ?? first ?? now - 3_600_000, query.to ?? now);
  const buckets = new Map<number, Summary['histogram']['buckets'][number]>();
  for (const { row, time } of selected) {
    const start = Math.floor(time / bars.interval) * bars.interval;
    const bucket = buckets.get(start) ?? { start, counts: noCounts() };
    buckets.set(start, bucket);
    bucket.counts[row.level] += 1;
  }
  return {
    total,
    counts,
    histogram: { ...bars, buckets: [...buckets.values()] },
    facets: Object.fromEntries(
      FACETS.map((name) => [name, listed(name, facets[name], query[name])]),
    ) as Summary['facets'],
  };
}

function noCounts(): Record<Level, number> {
  return { critical: 0, high: 0, medium: 0, low: 0 };
}

interface Counted {
  count: number;
  label?: string;
}

function count(facet: Map<string, Counted>, name: FacetName, row: AlertRow): void {
  const values = {
    namespace: [row.namespace],
    pod: name === 'pod' ? podsOf(row) : [],
    signature: [`${row.gid}:${row.sid}`],
    level: [row.level],
    tactic: [row.tactic ?? 'none'],
    state: [row.state],
  }[name];
  for (const value of values) {
    const known = facet.get(value);
    if (known !== undefined) known.count += 1;
    else facet.set(value, { count: 1, ...(name === 'signature' ? { label: row.message } : {}) });
  }
}

/** The most frequent, and those that are chosen whatever their number. */
function listed(
  name: FacetName,
  facet: ReadonlyMap<string, Counted>,
  chosen: readonly string[],
): Summary['facets'][FacetName] {
  if (name === 'level') return LEVELS.map((value) => ({ value, count: facet.get(value)?.count ?? 0 }));
  if (name === 'state') return STATES.map((value) => ({ value, count: facet.get(value)?.count ?? 0 }));
  const all = [...facet].map(([value, counted]) => ({ value, ...counted })).toSorted((a, b) => b.count - a.count);
  const wanted = chosen.map((value) => value || 'none');
  return [
    ...all.slice(0, FACET_VALUES),
    ...all.slice(FACET_VALUES).filter(({ value }) => wanted.includes(value)),
    ...wanted.filter((value) => !facet.has(value)).map((value) => ({ value, count: 0 })),
  ];
}
