/** Stores what was done with alerts, in their documents. */
import type { Act } from '../api.ts';
import { fields, text } from '../row.ts';
import { SourceError } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';

/** Acts that a document keeps; of more, the oldest go. */
const MAX_ACTS = 50;

/** Painless, as Elasticsearch and OpenSearch have it. */
const SCRIPT = `
  if (ctx._source[params.place] == null) { ctx._source[params.place] = [:]; }
  def inside = ctx._source[params.place];
  for (def entry : params.inside.entrySet()) { inside[entry.getKey()] = entry.getValue(); }
  for (def entry : params.top.entrySet()) { ctx._source[entry.getKey()] = entry.getValue(); }
  if (inside['history'] == null) { inside['history'] = []; }
  inside['history'].add(params.act);
  while (inside['history'].size() > params.most) { inside['history'].remove(0); }`;

export async function markAlerts({ field, search, ask }: AlertIndex, ids: readonly string[], act: Act): Promise<void> {
  // The alias has several indices, and a document is updated in its own.
  const { hits } = (await search({ size: ids.length, query: { ids: { values: [...ids] } }, _source: false })).hits;
  const script = { source: SCRIPT, params: { ...changesOf(field.mark, act), act, most: MAX_ACTS } };
  const operations = hits.flatMap(({ _index, _id = '' }) => [
    { update: { _index, _id, retry_on_conflict: 3 } },
    { script },
  ]);
  const answer = await ask(undefined, (client) => client.bulk({ refresh: 'wait_for', operations }));
  const failed = answer.items.find(({ update }) => update?.error !== undefined)?.update?.error;
  if (failed === undefined) return;
  throw new SourceError(
    `Elasticsearch did not store it: ${text(fields(failed.caused_by)['reason']) || (failed.reason ?? failed.type)}. The page's user needs the index privilege "write"`,
  );
}

/** What of a document changes. */
function changesOf(
  { place, dismissedOnTop }: AlertIndex['field']['mark'],
  { state, by, at, reason, assignee }: Act,
): { place: string; inside: object; top: object } {
  const dismissed = { dismissed: state === 'dismissed' };
  const acknowledged = state === 'acknowledged';
  const handled = { acknowledged, handled_by: by, handled_at: at, reason: reason ?? null };
  const inside = state === undefined ? {} : { ...handled, ...(dismissedOnTop ? {} : dismissed) };
  const top = state !== undefined && dismissedOnTop ? dismissed : {};
  return { place, inside: { ...inside, ...(assignee === undefined ? {} : { assignee }) }, top };
}
