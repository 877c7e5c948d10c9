/**
 * Stores what was done with alerts, in their documents, without a script: some clusters run none. A document that
 * somebody else changed meanwhile is read again.
 */
import type { Act } from '../api.ts';
import { SourceError } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';

/** Acts that a document keeps; of more, the oldest go. */
const MAX_ACTS = 50;
const TRIES = 5;
const CONFLICT = 409;

interface Place {
  _index: string;
  _id: string;
}

export async function markAlerts(index: AlertIndex, ids: readonly string[], act: Act): Promise<void> {
  // The alias has several indices, and a document is updated in its own.
  const { hits } = (await index.search({ size: ids.length, query: { ids: { values: [...ids] } }, _source: false }))
    .hits;
  let left: Place[] = hits.map(({ _index, _id = '' }) => ({ _index, _id }));
  for (let tries = TRIES; left.length > 0; tries -= 1) {
    if (tries === 0) throw new SourceError('others change these alerts all the time: try it again in a moment');
    left = await update(index, left, act);
  }
}

/** @returns those that somebody else changed meanwhile. */
async function update({ field, ask }: AlertIndex, places: readonly Place[], act: Act): Promise<Place[]> {
  const { place } = field.mark;
  const { docs } = await ask(undefined, (client) =>
    client.mget({ docs: places.map((one) => ({ ...one, _source: [`${place}.history`] })) }),
  );
  const operations = docs.flatMap((doc) => {
    if (!('_source' in doc)) return [];
    const { _index, _id, _seq_no: if_seq_no, _primary_term: if_primary_term } = doc;
    if (if_seq_no === undefined || if_primary_term === undefined) return [];
    const { history } = field.markOf(doc._source);
    const acts: unknown[] = [...(Array.isArray(history) ? history : []), act].slice(-MAX_ACTS);
    return [{ update: { _index, _id, if_seq_no, if_primary_term } }, { doc: changesOf(field.mark, act, acts) }];
  });
  if (operations.length === 0) return [];
  const { items } = await ask(undefined, (client) => client.bulk({ refresh: 'wait_for', operations }));
  const failed = items.flatMap((item) => (item.update?.error === undefined ? [] : [item.update]));
  const bad = failed.find(({ status }) => status !== CONFLICT)?.error;
  if (bad === undefined) return failed.map(({ _index, _id }) => ({ _index, _id: _id ?? '' }));
  throw new SourceError(
    `Elasticsearch did not store it: ${bad.reason ?? bad.type}. The page's user needs the index privilege "write"`,
  );
}

/** What of a document changes. */
function changesOf(
  { place, dismissedOnTop }: AlertIndex['field']['mark'],
  { state, by, at, reason, assignee }: Act,
  history: readonly unknown[],
): object {
  const dismissed = { dismissed: state === 'dismissed' };
  const acknowledged = state === 'acknowledged';
  const handled = { acknowledged, handled_by: by, handled_at: at, reason: reason ?? null };
  const inside = state === undefined ? {} : { ...handled, ...(dismissedOnTop ? {} : dismissed) };
  const top = state !== undefined && dismissedOnTop ? dismissed : {};
  return { ...top, [place]: { ...inside, ...(assignee === undefined ? {} : { assignee }), history } };
}
