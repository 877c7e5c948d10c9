/** Aggregations that several questions have, and what is read from their answers. */
import type { estypes } from '@elastic/elasticsearch';
import { LEVELS, type FacetValue, type Level } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { fields, text, type Fields } from '../row.ts';
import { levelRange } from './filters.ts';

export type Aggregation = estypes.AggregationsAggregationContainer;
export type Aggregations = Record<string, Aggregation>;

export function levels(field: FieldNames): Aggregation {
  return { range: { field: field.severity, ranges: LEVELS.map((level) => ({ key: level, ...levelRange(level) })) } };
}

export function levelCounts(aggregation: unknown): Record<Level, number> {
  const counts = { critical: 0, high: 0, medium: 0, low: 0 };
  for (const bucket of bucketsOf(aggregation)) {
    const level = LEVELS.find((name) => name === bucket['key']);
    if (level !== undefined) counts[level] = countOf(bucket);
  }
  return counts;
}

/** Names first, then their namespaces: both together would be a value for each document. */
export function podAggregations(field: FieldNames, size: number, about: Aggregations = {}): Aggregations {
  const side = ({ namespace, name }: FieldNames['sourcePod']): Aggregation => ({
    terms: { field: name, size, exclude: ['-'] },
    aggs: { namespace: { terms: { field: namespace, size: 5, exclude: ['-'] }, aggs: about } },
  });
  return { source: side(field.sourcePod), destination: side(field.destinationPod) };
}

export function podBuckets(aggregations: Fields): [string, Fields][] {
  return ['source', 'destination'].flatMap((side) =>
    bucketsOf(aggregations[side]).flatMap((bucket) =>
      bucketsOf(bucket['namespace']).map((namespace): [string, Fields] => [
        `${text(namespace['key'])}/${text(bucket['key'])}`,
        namespace,
      ]),
    ),
  );
}

/** Numbers first, then their generators. */
export function signatureAggregation(field: FieldNames, size: number, about: Aggregations = {}): Aggregation {
  return {
    terms: { field: field.sid, size },
    aggs: { gid: { terms: { field: field.gid, size: 4 }, aggs: about } },
  };
}

/** Each with its `gid:sid`. */
export function signatureBuckets(aggregation: unknown): [string, Fields][] {
  return bucketsOf(aggregation).flatMap((bucket) =>
    bucketsOf(bucket['gid']).map((gid): [string, Fields] => [`${text(gid['key'])}:${text(bucket['key'])}`, gid]),
  );
}

export function bucketsOf(aggregation: unknown): Fields[] {
  const { buckets } = fields(aggregation);
  return Array.isArray(buckets) ? buckets.map(fields) : [];
}

export function countOf(bucket: Fields): number {
  return Number(bucket['doc_count'] ?? 0);
}

/** Most first. */
export function sum(counts: readonly [string, number][]): FacetValue[] {
  const sums = new Map<string, number>();
  for (const [value, count] of counts) if (value !== '') sums.set(value, (sums.get(value) ?? 0) + count);
  return [...sums].map(([value, count]) => ({ value, count })).toSorted((a, b) => b.count - a.count);
}
