/** Alerts, newest or most severe first, a page at a time. */
import type { estypes } from '@elastic/elasticsearch';
import type { AlertRow, Order, Page } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import type { AlertQuery, Scope } from '../query.ts';
import type { PageRequest } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { selected } from './filters.ts';
import { anyOf, iso, type Query } from './queries.ts';
import { newestFirst, placeOf, rowsOf } from './rows.ts';

const DAY_MILLIS = 86_400_000;
/** Ids in `next`, of alerts of one place in the order; an address has room for so many. */
const MOST_SHOWN = 200;

interface Asked {
  query: AlertQuery;
  scope: Scope;
  order: Order;
  size: number;
  /** Where in the order the page before ended, and ids of what was shown of that place. */
  last: string | undefined;
  seen: string[];
  signal: AbortSignal;
}

export async function listAlerts(
  index: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  { after, size, order }: PageRequest,
  signal: AbortSignal,
): Promise<Page> {
  const [last, ...seen] = after?.split(',') ?? [];
  const asked: Asked = { query, scope, order, size, last, seen, signal };
  const hits = await (order === 'time' ? newest(index, asked) : find(index, asked));
  const shown = hits.slice(0, size);
  const rows = rowsOf(index, shown);
  if (hits.length <= size) return { rows };
  // A further key of the order, which tells alerts of one moment apart, would make each page ten times as slow:
  // their ids do.
  const place = placeOf(index.field, order, hits[size - 1]);
  const ids = shown.flatMap((hit) => (placeOf(index.field, order, hit) === place ? [hit._id ?? ''] : []));
  return { rows, next: [place, ...[...(place === last ? seen : []), ...ids].slice(-MOST_SHOWN)].join(',') };
}

/** The newest that match. */
export async function matchingAlerts(
  index: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  limit: number,
  signal: AbortSignal,
): Promise<AlertRow[]> {
  const { field, search } = index;
  const filter = selected(field, query, scope);
  const request = { size: limit, query: { bool: { filter } }, ...newestFirst(field) };
  return rowsOf(index, (await search(request, signal)).hits.hits);
}

/**
 * In order of time, Elasticsearch looks at all that match. The newest day mostly has enough; where little more than a
 * day is asked for, it is no gain.
 */
async function newest(index: AlertIndex, asked: Asked): Promise<estypes.SearchHit[]> {
  const { query, last, size } = asked;
  const day = (last === undefined ? (query.to ?? index.now()) : Date.parse(last)) - DAY_MILLIS;
  const isShort = query.from !== undefined && query.from >= day - DAY_MILLIS;
  if (!isShort) {
    const hits = await find(index, asked, { range: { [index.field.time]: { gte: iso(day) } } });
    if (hits.length > size) return hits;
  }
  return find(index, asked);
}

/** A page, and one more where there is one. */
async function find({ field, search }: AlertIndex, asked: Asked, ...more: Query[]): Promise<estypes.SearchHit[]> {
  const { query, scope, order, size, last, seen, signal } = asked;
  const until = last === undefined ? [] : [notBefore(field, last)];
  const filter = [...selected(field, query, scope), ...until, ...more];
  const must_not = seen.length === 0 ? [] : [{ ids: { values: seen } }];
  const request = { size: size + 1, query: { bool: { filter, must_not } }, ...newestFirst(field, order) };
  return (await search(request, signal)).hits.hits;
}

/** What comes at a place in the order, or behind it. */
function notBefore({ severity, time }: FieldNames, place: string): Query {
  const [level, moment] = place.split('~');
  if (moment === undefined) return { range: { [time]: { lte: place } } };
  return anyOf([
    { range: { [severity]: { lt: Number(level) } } },
    { bool: { filter: [{ term: { [severity]: Number(level) } }, { range: { [time]: { lte: moment } } }] } },
  ]);
}
