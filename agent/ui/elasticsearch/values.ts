/** The most frequent values of a field, and since when there are alerts. */
import type { FacetValue, Span, ValueField } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { FIELDS } from '../language/fields.ts';
import { mostFrequent } from '../counting.ts';
import { narrowedBy, type AlertQuery, type Scope } from '../query.ts';
import { fields, text, type Fields } from '../row.ts';
import type { ValueRequest } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { bucketsOf, countOf, podAggregations, podBuckets, type Aggregations } from './counts.ts';
import { selected } from './filters.ts';

/** Looked through for those that begin so. */
const LOOKED_THROUGH = 200;

export async function listValues(
  { field, search }: AlertIndex,
  { field: of, prefix, limit }: ValueRequest,
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<FacetValue[]> {
  // Where the language can say it, alerts that have no such value are left out.
  const condition = prefix === '' ? undefined : FIELDS.get(of)?.equals([prefix, '']);
  const filter = selected(field, condition === undefined ? query : narrowedBy(query, condition), scope);
  const aggs = aggregationsOf(field, of, prefix === '' ? limit : LOOKED_THROUGH);
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs }, signal);
  const counts = new Map<string, number>();
  for (const [value, bucket] of valuesOf(field, of, fields(answer.aggregations)))
    counts.set(value, (counts.get(value) ?? 0) + countOf(bucket));
  if (of === 'technique' && field.texts[of].names.length > 1) leaveOutWholes(counts);
  return mostFrequent(counts, prefix, limit);
}

/** Where a document that has a technique's part (T1071.001) has the technique, too, that one is not a value by itself. */
function leaveOutWholes(counts: Map<string, number>): void {
  for (const [value, count] of counts) {
    const [whole = '', part] = value.split('.');
    const left = (counts.get(whole) ?? 0) - count;
    if (part === undefined) continue;
    if (left > 0) counts.set(whole, left);
    else counts.delete(whole);
  }
}

function aggregationsOf(field: FieldNames, of: ValueField, size: number): Aggregations {
  if (of === 'source.pod') return { source: podAggregations(field, size)['source'] ?? {} };
  if (of === 'destination.pod') return { destination: podAggregations(field, size)['destination'] ?? {} };
  return Object.fromEntries(
    namesOf(field, of).map((name, index) => [`values${index}`, { terms: { field: name, size } }]),
  );
}

function namesOf(field: FieldNames, of: Exclude<ValueField, 'source.pod' | 'destination.pod'>): readonly string[] {
  if (of === 'source.ip') return [field.sourceIp];
  if (of === 'destination.ip') return [field.destinationIp];
  if (of === 'destination.port') return [field.numbers['destination.port'].name];
  return field.texts[of].names;
}

function valuesOf(field: FieldNames, of: ValueField, aggregations: Fields): [string, Fields][] {
  if (of === 'source.pod' || of === 'destination.pod') return podBuckets(aggregations);
  const { before = '', none } =
    of === 'source.ip' || of === 'destination.ip' || of === 'destination.port' ? {} : field.texts[of];
  return Object.values(aggregations)
    .flatMap(bucketsOf)
    .flatMap((bucket): [string, Fields][] => {
      const value = String(bucket['key']);
      if (value === none || value === '') return [];
      const plain = value.startsWith(before) ? value.slice(before.length) : value;
      // One schema has it in small letters.
      return [[of === 'protocol' ? plain.toUpperCase() : plain, bucket]];
    });
}

export async function spanOf(
  { field, search }: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<Span> {
  const format = 'strict_date_optional_time_nanos';
  const aggs: Aggregations = {
    all: {
      filter: { bool: { filter: selected(field, query, scope) } },
      aggs: { first: { min: { field: field.time, format } }, last: { max: { field: field.time, format } } },
    },
  };
  const answer = await search({ size: 0, aggs }, signal);
  const all = fields(fields(answer.aggregations)['all']);
  const [first, last] = [all['first'], all['last']].map((value) => text(fields(value)['value_as_string']));
  return { count: countOf(all), ...(first && last ? { first, last } : {}) };
}
