/**
 * PagerDuty's Events API v2 (https://developer.pagerduty.com/docs/events-api-v2/trigger-events). Alerts that the flood
 * control would fold, of one signature at one pod for one resource, have the same `dedup_key`: they are one incident,
 * however often one comes.
 */
import { createHash } from 'node:crypto';
import type { Level } from '../../events/level.ts';
import type { Alert } from './alert.ts';
import { SendError } from '../destination.ts';
import { COMMON, cut, filled, single, type Format } from './format.ts';
import { toMessage } from './message.ts';

const MAX_SUMMARY = 1024;
const SEVERITIES: Record<Level, string> = { critical: 'critical', high: 'error', medium: 'warning', low: 'info' };

export const pagerduty: Format = {
  ...COMMON,
  batches: false,
  secret: 'body',
  body(alerts, { secret }) {
    const alert = single(alerts);
    const { title, flow } = toMessage(alert);
    return JSON.stringify({
      routing_key: routingKey(secret),
      event_action: 'trigger',
      dedup_key: dedupKey(alert),
      client: 'dpi-agent',
      ...(alert.url === '' ? {} : { client_url: alert.url }),
      payload: {
        summary: cut(`${title}: ${flow}`, MAX_SUMMARY),
        source: alert.pod || alert.node || 'dpi-agent',
        severity: SEVERITIES[alert.level],
        timestamp: alert.timestamp,
        component: alert.destination.owner || alert.destination.ip,
        group: alert.resource,
        class: alert.class || alert.signature,
        custom_details: detailsOf(alert),
      },
      links: [
        ...(alert.url === '' ? [] : [{ href: alert.url, text: 'The alert' }]),
        ...(alert.acknowledgeUrl === '' ? [] : [{ href: alert.acknowledgeUrl, text: 'Acknowledge' }]),
        ...alert.links.slice(0, 5).map((href) => ({ href, text: 'Reference' })),
      ],
    });
  },
};

/** Ends the incident of alerts that somebody took care of on the page. */
export const pagerdutyResolve: Format = {
  ...COMMON,
  batches: false,
  secret: 'body',
  body(alerts, { secret }) {
    return JSON.stringify({
      routing_key: routingKey(secret),
      event_action: 'resolve',
      dedup_key: dedupKey(single(alerts)),
    });
  },
};

/** PagerDuty refuses events for a key that can be none, as if they were wrong themselves. @throws SendError */
function routingKey(secret: string): string {
  if (/^[A-Za-z0-9]{32}$/.test(secret)) return secret;
  throw new SendError('unauthorized', "the sink's secretFile holds no routing key, which has 32 letters and digits");
}

/** At most 255 characters. */
export function dedupKey({ cluster, resource, gid, sid, pod }: Alert): string {
  return `dpi-agent-${createHash('sha256')
    .update(JSON.stringify([cluster, resource, gid, sid, pod]))
    .digest('hex')}`;
}

/** What a person wants to know, beside the summary. */
function detailsOf(alert: Alert): object {
  return filled({
    event_id: alert.id,
    signature: alert.signature,
    severity: alert.severity,
    source: alert.source.text,
    destination: alert.destination.text,
    count: alert.count,
    last: alert.last,
    tactic: alert.tactic,
    techniques: alert.techniques,
    cves: alert.cves,
    cluster: alert.cluster,
    node: alert.node,
    alert: alert.fast,
  });
}
