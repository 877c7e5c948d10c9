/**
 * Loki, `POST /loki/api/v1/push` (https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs): a stream
 * for each set of labels, of which there are few; the id is structured metadata. Loki keeps a line once that comes
 * twice with the same time and the same labels.
 */
import type { Alert } from './alert.ts';
import { COMMON, filled, type Format } from './format.ts';

export const loki: Format = {
  ...COMMON,
  batches: true,
  body(alerts, { labels }) {
    const streams = new Map<string, { stream: object; values: unknown[] }>();
    // Loki takes lines in the order of their times only, where it is told to.
    for (const alert of alerts.toSorted((a, b) => a.timestamp.localeCompare(b.timestamp))) {
      const stream = { ...labelsOf(alert), ...labels };
      const key = JSON.stringify(stream);
      const entry = streams.get(key) ?? { stream, values: [] };
      entry.values.push([nanoseconds(alert), alert.json, { event_id: alert.id }]);
      streams.set(key, entry);
    }
    return JSON.stringify({ streams: [...streams.values()] });
  },
};

function labelsOf({ level, cluster, node, namespace }: Alert): Record<string, unknown> {
  return filled({ job: 'dpi-agent', level, cluster, node, namespace });
}

/** A number would lose digits. */
export function nanoseconds({ time, timestamp }: Pick<Alert, 'time' | 'timestamp'>): string {
  const [, micros = ''] = /\.\d{3}(\d{1,6})Z$/.exec(timestamp) ?? [];
  return `${Math.floor(time)}${micros.padEnd(6, '0')}`;
}
