/**
 * Prometheus' Alertmanager, `POST /api/v2/alerts`
 * (https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml). Alerts with the same labels are one alert:
 * those of one signature between the same pods. It is resolved when none came for Alertmanager's `resolve_timeout`.
 */
import type { Alert } from './alert.ts';
import { COMMON, cut, filled, type Format } from './format.ts';
import { toMessage } from './message.ts';

const SEVERITIES: Record<Alert['level'], string> = {
  critical: 'critical',
  high: 'critical',
  medium: 'warning',
  low: 'info',
};
const MAX_VALUE = 1024;

export const alertmanager: Format = {
  ...COMMON,
  batches: true,
  body: (alerts, { labels }) => JSON.stringify(alerts.map((alert) => toEntry(alert, labels))),
};

function toEntry(alert: Alert, labels: Readonly<Record<string, string>>): object {
  const { title, flow } = toMessage(alert);
  return {
    labels: {
      ...filled({
        alertname: 'DpiAgentAlert',
        severity: SEVERITIES[alert.level],
        signature: `${alert.gid}:${alert.sid}`,
        class: alert.classtype,
        resource: alert.resource,
        namespace: alert.namespace,
        source: nameOf(alert.source),
        destination: nameOf(alert.destination),
        cluster: alert.cluster,
        node: alert.node,
      }),
      ...labels,
    },
    annotations: filled({
      summary: cut(title, MAX_VALUE),
      description: cut(flow, MAX_VALUE),
      event_id: alert.id,
      count: String(alert.count),
      url: alert.url,
    }),
    startsAt: alert.timestamp,
    ...(alert.url === '' ? {} : { generatorURL: alert.url }),
  };
}

/** Without the port, which is another for each connection. */
function nameOf({ namespace, name, ip }: Alert['source']): string {
  return name === '' ? ip : [namespace, name].filter(Boolean).join('/');
}
