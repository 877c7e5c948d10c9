/** Alerts counted by signature, or by pod. */
import { levelOf } from '../../events/level.ts';
import { LEVELS, type Group } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { fields, text, type Fields } from '../row.ts';
import { GROUPS } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import {
  countOf,
  podAggregations,
  podBuckets,
  signatureAggregation,
  signatureBuckets,
  type Aggregations,
} from './counts.ts';
import { selected } from './filters.ts';
import { nameSignatures } from './rows.ts';

export async function groupAlerts(
  index: AlertIndex,
  by: 'signature' | 'pod',
  query: AlertQuery,
  scope: Scope,
  signal: AbortSignal,
): Promise<Group[]> {
  const { field, search, messages } = index;
  const filter = selected(field, query, scope);
  const answer = await search({ size: 0, query: { bool: { filter } }, aggs: aggregationsOf(field, by) }, signal);
  const aggregations = fields(answer.aggregations);
  if (by === 'pod') return groupsOf(podBuckets(aggregations));
  const groups = groupsOf(signatureBuckets(aggregations['values']));
  await nameSignatures(
    index,
    groups.map(({ key }) => key),
    signal,
  );
  return groups.map((group) => ({ ...group, label: messages.get(group.key) ?? '' }));
}

function aggregationsOf(field: FieldNames, by: 'signature' | 'pod'): Aggregations {
  const about: Aggregations = {
    newest: { max: { field: field.time, format: 'strict_date_optional_time' } },
    severity: { max: { field: field.severity } },
  };
  return by === 'pod' ? podAggregations(field, GROUPS, about) : { values: signatureAggregation(field, GROUPS, about) };
}

/** The most frequent ones first. A pod is in two buckets: alerts from it, and alerts to it. */
function groupsOf(buckets: readonly [string, Fields][]): Group[] {
  const groups = new Map<string, Group>();
  for (const [key, bucket] of buckets) {
    const newest = text(fields(bucket['newest'])['value_as_string']);
    const level = levelOf(Number(fields(bucket['severity'])['value'] ?? 0));
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { key, label: key, count: countOf(bucket), level, newest });
    else {
      known.count += countOf(bucket);
      if (newest > known.newest) known.newest = newest;
      if (LEVELS.indexOf(level) < LEVELS.indexOf(known.level)) known.level = level;
    }
  }
  return [...groups.values()].toSorted((a, b) => b.count - a.count).slice(0, GROUPS);
}
