/** Stores what was made of alerts, in their documents. */
import type { State } from '../api.ts';
import { SourceError } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';

export async function markAlerts(
  { field, search, ask }: AlertIndex,
  ids: readonly string[],
  state: State,
  by: string,
  at: Date,
): Promise<void> {
  // The alias has several indices, and a document is updated in its own.
  const { hits } = (await search({ size: ids.length, query: { ids: { values: [...ids] } }, _source: false })).hits;
  const doc = field.mark({
    dismissed: state === 'dismissed',
    acknowledged: state === 'acknowledged',
    handled_by: by,
    handled_at: at.toISOString(),
  });
  const operations = hits.flatMap(({ _index, _id = '' }) => [
    { update: { _index, _id, retry_on_conflict: 3 } },
    { doc },
  ]);
  const answer = await ask(undefined, (client) => client.bulk({ refresh: 'wait_for', operations }));
  const failed = answer.items.find(({ update }) => update?.error !== undefined)?.update?.error;
  if (failed === undefined) return;
  throw new SourceError(
    `Elasticsearch did not store it: ${failed.reason ?? failed.type}. The page's user needs the index privilege "write"`,
  );
}
