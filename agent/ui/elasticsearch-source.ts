/**
 * The alerts in Elasticsearch, of all nodes. Each question is one request, or two, whose cost does not grow with the
 * answer: at most 200 documents, without their payload and rule; counts by aggregations; none counts hits. New alerts
 * are looked for every 2 s while somebody looks on: those of the last 15 minutes by their time; what is delivered later
 * shows when the list is loaded again.
 *
 * Marks are fields of the event's document. An agent only creates documents, so what it sends again undoes no mark.
 */
import { openAlertIndex, type AlertIndexOptions } from './elasticsearch/alert-index.ts';
import { groupAlerts } from './elasticsearch/groups.ts';
import { listAlerts, matchingAlerts } from './elasticsearch/list.ts';
import { watchAlerts } from './elasticsearch/live.ts';
import { markAlerts } from './elasticsearch/marks.ts';
import { findPackets } from './elasticsearch/packets.ts';
import { getAlerts } from './elasticsearch/rows.ts';
import { flowsOf } from './elasticsearch/flows.ts';
import { listValues, spanOf } from './elasticsearch/values.ts';
import { summarize } from './elasticsearch/summary.ts';
import type { AlertSource } from './source.ts';

export function openElasticsearchSource(options: AlertIndexOptions): AlertSource {
  const index = openAlertIndex(options);
  const live = watchAlerts(index);
  return {
    about: {
      kind: 'elasticsearch',
      url: options.config.nodes[0] ?? '',
      index: index.alias,
      idField: index.field.id,
    },
    list: (query, scope, page, signal) => listAlerts(index, query, scope, page, signal),
    matching: (query, scope, limit, signal) => matchingAlerts(index, query, scope, limit, signal),
    summary: (query, scope, signal) => summarize(index, query, scope, signal),
    groups: (by, query, scope, signal) => groupAlerts(index, by, query, scope, signal),
    values: (of, query, scope, signal) => listValues(index, of, query, scope, signal),
    flows: (query, scope, signal) => flowsOf(index, query, scope, signal),
    span: (query, scope, signal) => spanOf(index, query, scope, signal),
    get: (ids, signal) => getAlerts(index, ids, signal),
    packets: (row, signal) => findPackets(index, row, signal),
    mark: (ids, act) => markAlerts(index, ids, act),
    subscribe: (listener) => live.subscribe(listener),
    async close() {
      live.stop();
      await index.close();
    },
  };
}
