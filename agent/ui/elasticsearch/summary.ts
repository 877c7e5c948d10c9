/** How many alerts there are: over time, by level, and by each value that can be filtered by. */
import { LEVELS, STATES, type Bucket, type FacetName, type FacetValue, type Summary } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { barsOf, type AlertQuery, type Scope } from '../query.ts';
import { fields, type Fields } from '../row.ts';
import { FACET_VALUES } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import {
  bucketsOf,
  countOf,
  levelCounts,
  levels,
  podAggregations,
  podBuckets,
  signatureAggregation,
  signatureBuckets,
  sum,
  type Aggregations,
} from './counts.ts';
import { facetFilters, selectedBeforeFacets } from './filters.ts';
import { stateFilter, type Query } from './queries.ts';
import { nameSignatures } from './rows.ts';

export async function summarize(
  index: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<Summary> {
  const { field, search, messages } = index;
  const filter = selectedBeforeFacets(field, query, scope);
  const span = await spanOf(index, query, filter, signal);
  const bars = barsOf(span.from, span.to);
  const aggs = aggregationsOf(field, query, bars.interval);
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs }, signal);
  const aggregations = fields(answer.aggregations);
  const all = fields(aggregations['all']);
  const buckets = bucketsOf(all['time']).map((bucket) => ({
    start: Number(bucket['key']),
    counts: levelCounts(bucket['level']),
  }));
  const facets = facetsOf(aggregations, query);
  await nameSignatures(
    index,
    facets.signature.map(({ value }) => value),
    signal,
  );
  const signature = facets.signature.map((value) => ({ ...value, label: messages.get(value.value) ?? '' }));
  return {
    total: Number(all['doc_count'] ?? 0),
    counts: totalOf(buckets),
    histogram: { ...bars, buckets },
    facets: { ...facets, signature },
  };
}

/** The time that the histogram shows: as asked, else of all alerts. */
async function spanOf(
  { field, search, now }: AlertIndex,
  query: AlertQuery,
  filter: Query[],
  signal: AbortSignal,
): Promise<{ from: number; to: number }> {
  if (query.from !== undefined) return { from: query.from, to: query.to ?? now() };
  const aggs = { from: { min: { field: field.time } } };
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs }, signal);
  const first = fields(fields(answer.aggregations)['from'])['value'];
  const to = query.to ?? now();
  return { from: typeof first === 'number' ? Math.min(first, to - 1000) : to - 3_600_000, to };
}

/** @param interval Of the histogram, in milliseconds. */
function aggregationsOf(field: FieldNames, query: AlertQuery, interval: number): Aggregations {
  const under = (except: FacetName | undefined, aggs: Aggregations): Aggregations[string] => ({
    filter: { bool: { filter: facetFilters(field, query, except) } },
    aggs,
  });
  const states = Object.fromEntries(STATES.map((state) => [state, stateFilter(field, state)]));
  return {
    all: under(undefined, {
      time: {
        date_histogram: { field: field.time, fixed_interval: `${interval}ms`, min_doc_count: 1 },
        aggs: { level: levels(field) },
      },
    }),
    namespace: under('namespace', { values: { terms: { field: field.origin, size: 500 } } }),
    pod: under('pod', podAggregations(field, FACET_VALUES)),
    signature: under('signature', { values: signatureAggregation(field, FACET_VALUES) }),
    level: under('level', { values: levels(field) }),
    tactic: under('tactic', { values: { terms: { field: field.tactic, size: FACET_VALUES, missing: 'n/a' } } }),
    state: under('state', { values: { filters: { filters: states } } }),
  };
}

function totalOf(buckets: readonly Bucket[]): Summary['counts'] {
  const counts = levelCounts(undefined);
  for (const bucket of buckets) for (const level of LEVELS) counts[level] += bucket.counts[level];
  return counts;
}

/** Signatures are without what they are called. */
function facetsOf(aggregations: Fields, query: AlertQuery): Summary['facets'] {
  const valuesOf = (name: FacetName): unknown => fields(aggregations[name])['values'];
  const byLevel = levelCounts(valuesOf('level'));
  const byState = fields(fields(valuesOf('state'))['buckets']);
  const named = (name: FacetName, nameOf: (key: unknown) => string): FacetValue[] =>
    sum(bucketsOf(valuesOf(name)).map((bucket) => [nameOf(bucket['key']), countOf(bucket)]));
  const pods = sum(countsOf(podBuckets(fields(aggregations['pod']))));
  const signatures = countsOf(signatureBuckets(valuesOf('signature'))).map(([value, count]) => ({ value, count }));
  const tactics = query.tactic.map((tactic) => tactic || 'none');
  return {
    namespace: withChosen(named('namespace', namespaceOf), query.namespace),
    pod: withChosen(pods, query.pod).slice(0, FACET_VALUES + query.pod.length),
    signature: withChosen(signatures, query.signature),
    level: LEVELS.map((value) => ({ value, count: byLevel[value] })),
    tactic: withChosen(named('tactic', tacticOf), tactics),
    state: STATES.map((value) => ({ value, count: countOf(fields(byState[value])) })),
  };
}

function countsOf(buckets: readonly [string, Fields][]): [string, number][] {
  return buckets.map(([value, bucket]) => [value, countOf(bucket)]);
}

function namespaceOf(origin: unknown): string {
  return /^dpi\.([^/]+)\//.exec(String(origin))?.[1] ?? '';
}

function tacticOf(value: unknown): string {
  return value === 'n/a' ? 'none' : String(value);
}

/** With those that are chosen and have no alerts. */
function withChosen(values: readonly FacetValue[], wanted: readonly string[]): FacetValue[] {
  const missing = wanted.filter((value) => !values.some((known) => known.value === value));
  return [...values, ...missing.map((value) => ({ value, count: 0 }))];
}
