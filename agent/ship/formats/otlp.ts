/**
 * OpenTelemetry's logs over HTTP in JSON, `POST /v1/logs`
 * (https://opentelemetry.io/docs/specs/otlp/#otlphttp-request). The event's id is `log.record.uid`. A collector that
 * refuses a part does not say which: it is found by halves, and the others may come twice.
 */
import type { Level } from '../../events/level.ts';
import { isRecord } from '../../files/record.ts';
import { SendError } from '../destination.ts';
import type { Alert } from './alert.ts';
import { COMMON, filled, type Format } from './format.ts';
import { nanoseconds } from './loki.ts';
import { toMessage } from './message.ts';

/** https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber */
const SEVERITIES: Record<Level, [number, string]> = {
  critical: [21, 'FATAL'],
  high: [17, 'ERROR'],
  medium: [13, 'WARN'],
  low: [9, 'INFO'],
};

export const otlp: Format = {
  ...COMMON,
  batches: true,
  body(alerts, { labels }) {
    // All are of one agent, which is on one node.
    const [first] = alerts;
    const resource = { 'service.name': 'dpi-agent', 'k8s.cluster.name': first?.cluster, 'k8s.node.name': first?.node };
    return JSON.stringify({
      resourceLogs: [
        {
          resource: { attributes: attributes({ ...filled(resource), ...labels }) },
          scopeLogs: [{ scope: { name: 'dpi-agent' }, logRecords: alerts.map(toRecord) }],
        },
      ],
    });
  },
  refusal(answer, events) {
    const partial = partialOf(answer);
    if (partial === undefined) return undefined;
    const rejected = Number(partial['rejectedLogRecords'] ?? 0);
    if (!(rejected > 0)) return undefined;
    const reason = `${rejected} of ${events} records were rejected: ${String(partial['errorMessage'])}`;
    return new SendError('refused', reason);
  },
};

function toRecord(alert: Alert): object {
  const [severityNumber, severityText] = SEVERITIES[alert.level];
  const { title, flow } = toMessage(alert);
  const time = nanoseconds(alert);
  return {
    timeUnixNano: time,
    observedTimeUnixNano: time,
    severityNumber,
    severityText,
    eventName: 'dpi-agent.alert',
    body: { stringValue: `${title}: ${flow}` },
    attributes: attributes(
      filled({
        'log.record.uid': alert.id,
        'source.address': alert.source.ip,
        'source.port': alert.source.port,
        'destination.address': alert.destination.ip,
        'destination.port': alert.destination.port,
        'network.transport': alert.protocol.toLowerCase(),
        'k8s.namespace.name': alert.namespace,
        'k8s.pod.name': alert.pod.split('/')[1],
        'dpi.signature': alert.signature,
        'dpi.class': alert.class,
        'dpi.severity': alert.severity,
        'dpi.tactic': alert.tactic,
        'dpi.resource': alert.resource,
        'dpi.count': alert.count,
        'dpi.event': alert.json,
      }),
    ),
  };
}

/** Integers are texts in the JSON of protocol buffers. */
function attributes(values: Record<string, unknown>): object[] {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? { intValue: String(Math.round(value)) } : { stringValue: String(value) },
  }));
}

function partialOf(answer: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(answer);
    return isRecord(value) && isRecord(value['partialSuccess']) ? value['partialSuccess'] : undefined;
  } catch {
    // An answer without words is a whole success.
    return undefined;
  }
}
