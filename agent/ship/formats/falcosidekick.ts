/**
 * An alert as Falco sends it to falcosidekick (https://github.com/falcosecurity/falcosidekick), which hands it on to
 * what it knows. `output_fields` has flat names and values.
 */
import { createHash } from 'node:crypto';
import type { Level } from '../../events/level.ts';
import { COMMON, filled, single, type Format } from './format.ts';
import { toMessage } from './message.ts';

/** https://falco.org/docs/reference/rules/rule-fields/: priorities. */
const PRIORITIES: Record<Level, string> = { critical: 'Critical', high: 'Error', medium: 'Warning', low: 'Notice' };

export const falcosidekick: Format = {
  ...COMMON,
  batches: false,
  body(alerts) {
    const alert = single(alerts);
    const { title, flow } = toMessage(alert);
    const tags = [alert.classtype, alert.tactic && `mitre_${alert.tactic.toLowerCase().replaceAll(' ', '_')}`];
    return JSON.stringify({
      uuid: uuidOf(alert.id),
      output: `${title}: ${flow}`,
      priority: PRIORITIES[alert.level],
      rule: alert.message,
      time: alert.timestamp,
      source: 'dpi-agent',
      hostname: alert.node,
      tags: ['dpi-agent', ...tags.filter(Boolean)],
      output_fields: filled({
        'evt.id': alert.id,
        'dpi.signature': alert.signature,
        'dpi.severity': alert.severity,
        'dpi.class': alert.class,
        'dpi.count': alert.count,
        'dpi.resource': alert.resource,
        'dpi.cluster': alert.cluster,
        'fd.sip': alert.source.ip,
        'fd.sport': alert.source.port,
        'fd.dip': alert.destination.ip,
        'fd.dport': alert.destination.port,
        'dpi.source': alert.source.text,
        'dpi.destination': alert.destination.text,
        'k8s.ns.name': alert.pod.split('/')[0],
        'k8s.pod.name': alert.pod.split('/')[1],
        'dpi.url': alert.url,
      }),
    });
  },
};

/** Version 8 of RFC 9562, of the id: the same alert has the same one. */
function uuidOf(id: string): string {
  const hex = createHash('sha256').update(id).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}
