/** Parts that queries are made of. */
import type { estypes } from '@elastic/elasticsearch';
import type { FieldNames } from '../fields.ts';

export type Query = estypes.QueryDslQueryContainer;

export function anyOf(should: Query[]): Query {
  return { bool: { should, minimum_should_match: 1 } };
}

export function stateFilter(field: FieldNames, state: string): Query {
  const dismissed = { term: { [field.dismissed]: true } };
  const acknowledged = { term: { [field.acknowledged]: true } };
  if (state === 'dismissed') return dismissed;
  if (state === 'acknowledged') return { bool: { filter: [acknowledged], must_not: [dismissed] } };
  return { bool: { must_not: [dismissed, acknowledged] } };
}

export function iso(millis: number): string {
  return new Date(millis).toISOString();
}
