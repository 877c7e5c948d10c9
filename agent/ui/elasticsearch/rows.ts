/** Alerts as documents hold them. */
import type { estypes } from '@elastic/elasticsearch';
import type { Act, AlertRow, Order } from '../api.ts';
import type { FieldNames } from '../fields.ts';
import { actOf, fields, reasonOf, rowOf, text, type Mark } from '../row.ts';
import type { AlertIndex } from './alert-index.ts';
import { signatureFilter } from './filters.ts';

const TIME_FORMAT = 'strict_date_optional_time_nanos';

/** Of a document, what a row is made from. */
const FOR_ROWS = { excludes: ['record.payload', 'record.rule', 'dpi_agent.payload'] };

/** How rows are asked for: with their times as texts, as numbers would lose microseconds. */
export function newestFirst(
  field: FieldNames,
  order: Order = 'time',
): Pick<estypes.SearchRequest, 'sort' | '_source' | 'docvalue_fields'> {
  const time = { [field.time]: { order: 'desc', unmapped_type: 'date_nanos' } };
  const severity = { [field.severity]: { order: 'desc', unmapped_type: 'long' } };
  return {
    sort: (order === 'time' ? [time] : [severity, time]) as estypes.Sort,
    // OpenSearch knows no format of what is sorted by.
    docvalue_fields: [{ field: field.time, format: TIME_FORMAT }],
    _source: FOR_ROWS,
  };
}

/** Where in that order: a time; by severity, one behind the severity. */
export function placeOf(field: FieldNames, order: Order, hit: estypes.SearchHit | undefined): string {
  const [time] = (hit?.fields?.[field.time] ?? []) as unknown[];
  return order === 'time' ? text(time) : `${String(hit?.sort?.[0])}~${text(time)}`;
}

export function rowsOf({ field, messages }: AlertIndex, hits: readonly estypes.SearchHit[]): AlertRow[] {
  return hits.flatMap(({ _source }) => {
    const row = rowOf(field.document(_source), markOf(field, _source));
    if (row === undefined) return [];
    messages.set(`${row.gid}:${row.sid}`, row.message);
    return [row];
  });
}

export async function getAlerts(
  { field, search }: AlertIndex,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<{ row: AlertRow; event: unknown; history: Act[] }[]> {
  const answer = await search({ size: ids.length, query: { ids: { values: [...ids] } } }, signal);
  return answer.hits.hits.flatMap(({ _source }) => {
    const event = field.document(_source);
    const row = rowOf(event, markOf(field, _source));
    return row === undefined ? [] : [{ row, event, history: historyOf(field, _source) }];
  });
}

function markOf(field: FieldNames, source: unknown): Mark {
  const mark = field.markOf(source);
  const by = text(mark['handled_by']);
  const at = text(mark['handled_at']);
  const reason = reasonOf(mark['reason']);
  const assignee = text(mark['assignee']);
  return {
    state: mark['dismissed'] === true ? 'dismissed' : mark['acknowledged'] === true ? 'acknowledged' : 'open',
    ...(by === '' ? {} : { by }),
    ...(at === '' ? {} : { at }),
    ...(reason === undefined ? {} : { reason }),
    ...(assignee === '' ? {} : { assignee }),
  };
}

function historyOf(field: FieldNames, source: unknown): Act[] {
  const { history } = field.markOf(source);
  return Array.isArray(history) ? history.flatMap((value) => actOf(value) ?? []) : [];
}

/** What signatures are called: of those that no alert so far told, one document each is looked at. */
export async function nameSignatures(index: AlertIndex, keys: readonly string[], signal: AbortSignal): Promise<void> {
  const { alias, field, messages } = index;
  const unknown = keys.filter((key) => !messages.has(key));
  if (unknown.length === 0) return;
  const searches = unknown.flatMap((key) => {
    const query = signatureFilter(field, key);
    return [
      { index: alias, ignore_unavailable: true, allow_no_indices: true },
      { size: 1, terminate_after: 1, track_total_hits: false, query, _source: [field.messageText] },
    ];
  });
  const answer = await index.ask(signal, (client) => client.msearch({ searches }, { signal }));
  for (const [number, key] of unknown.entries()) {
    const response = answer.responses[number];
    const [hit] = response !== undefined && 'hits' in response ? response.hits.hits : [];
    const message = field.messageText.split('.').reduce<unknown>((value, name) => fields(value)[name], hit?._source);
    messages.set(key, text(message));
  }
}
