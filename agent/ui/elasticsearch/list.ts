/** Alerts, newest first, a page at a time. */
import type { estypes } from '@elastic/elasticsearch';
import type { Page } from '../api.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { PAGE_ROWS } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { iso, selected, type Query } from './filters.ts';
import { newestFirst, rowsOf } from './rows.ts';

const DAY_MILLIS = 86_400_000;
/** Ids in `next`, of alerts of one moment; an address has room for so many. */
const MOST_SHOWN = 200;

interface Asked {
  query: AlertQuery;
  scope: Scope;
  /** The time that the page before ended at, and ids of what was shown of it. */
  last: string | undefined;
  seen: string[];
  signal: AbortSignal;
}

export async function listAlerts(
  index: AlertIndex,
  query: AlertQuery,
  scope: Scope,
  after: string | undefined,
  signal: AbortSignal,
): Promise<Page> {
  const [last, ...seen] = after?.split(',') ?? [];
  const hits = await newest(index, { query, scope, last, seen, signal });
  const shown = hits.slice(0, PAGE_ROWS);
  const rows = rowsOf(index, shown);
  if (hits.length <= PAGE_ROWS) return { rows };
  // A second key of the order, which tells alerts of one moment apart, would make each page ten times as slow:
  // their ids do.
  const time = timeOf(hits[PAGE_ROWS - 1]);
  const ids = shown.flatMap((hit) => (timeOf(hit) === time ? [hit._id ?? ''] : []));
  return { rows, next: [time, ...[...(time === last ? seen : []), ...ids].slice(-MOST_SHOWN)].join(',') };
}

/**
 * In order of time, Elasticsearch looks at all that match. The newest day mostly has enough; where little more than a
 * day is asked for, it is no gain.
 */
async function newest(index: AlertIndex, asked: Asked): Promise<estypes.SearchHit[]> {
  const { query, last } = asked;
  const day = (last === undefined ? (query.to ?? index.now()) : Date.parse(last)) - DAY_MILLIS;
  const isShort = query.from !== undefined && query.from >= day - DAY_MILLIS;
  if (!isShort) {
    const hits = await find(index, asked, { range: { [index.field.time]: { gte: iso(day) } } });
    if (hits.length > PAGE_ROWS) return hits;
  }
  return find(index, asked);
}

/** A page, and one more where there is one. */
async function find({ field, search }: AlertIndex, asked: Asked, ...more: Query[]): Promise<estypes.SearchHit[]> {
  const { query, scope, last, seen, signal } = asked;
  const until = last === undefined ? [] : [{ range: { [field.time]: { lte: last } } }];
  const filter = [...selected(field, query, scope), ...until, ...more];
  const must_not = seen.length === 0 ? [] : [{ ids: { values: seen } }];
  const request = { size: PAGE_ROWS + 1, query: { bool: { filter, must_not } }, ...newestFirst(field) };
  return (await search(request, signal)).hits.hits;
}

function timeOf(hit: estypes.SearchHit | undefined): string {
  return String(hit?.sort?.[0]);
}
