import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { fromEcs, toEcs } from '../../agent/events/ecs.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import { indexBody, namesOf } from '../../agent/ship/elasticsearch/template.ts';
import { alertEvent } from '../support/alerts.ts';

const TIME = Date.parse('2026-11-25T12:00:00Z');

/** The first alert of a kind. */
function alertOf(sid: string): EeEvent {
  for (let number = 0; number < 1000; number += 1) {
    const event = alertEvent(number, TIME);
    if (event.record.snort_signature_id === sid) return event;
  }
  throw new Error(`no alert of ${sid}`);
}

test('an alert has the fields that Elastic Security reads', () => {
  const event = alertOf('1000104');
  expect(toEcs(event, 'prod')).toMatchObject({
    '@timestamp': event.record.timestamp,
    event: {
      kind: 'alert',
      category: ['intrusion_detection', 'network'],
      module: 'dpi_agent',
      id: event.record.event_id,
      severity: 100,
    },
    rule: {
      id: '1000104',
      name: 'SERVER-WEBAPP Log4j JNDI lookup in a request header',
      category: 'Attempted Administrator Privilege Gain',
      reference: 'https://nvd.nist.gov/vuln/detail/CVE-2021-44228',
    },
    source: { ip: event.source_ip, port: event.source_port },
    destination: { ip: event.dest_ip, port: 8080 },
    network: { transport: 'tcp', type: 'ipv4', protocol: 'http' },
    threat: {
      framework: 'MITRE ATT&CK',
      tactic: { id: ['TA0001'], name: ['Initial Access'] },
      technique: { id: ['T1190'] },
    },
    vulnerability: { id: ['CVE-2021-44228'] },
    observer: { type: 'ids', product: 'dpi-agent', name: event.host },
    orchestrator: {
      cluster: { name: 'prod' },
      namespace: event.dest_namespace,
      resource: { type: 'pod', name: event.dest_name },
    },
  });
});

test('a part of a technique is a subtechnique of it', () => {
  expect(toEcs(alertOf('21562'), 'prod')).toMatchObject({
    threat: { technique: { id: ['T1071'], subtechnique: { id: ['T1071.001'] } } },
  });
});

test('a rule that names no technique gives no threat', () => {
  expect(toEcs(alertOf('408'), 'prod')).not.toHaveProperty('threat');
});

test('nothing is lost: the event comes back', () => {
  fc.assert(
    fc.property(fc.nat(5000), fc.option(fc.string(), { nil: undefined }), (number, service) => {
      const event = alertEvent(number, TIME, service === undefined ? {} : { record: { service, count: 7 } });
      expect(fromEcs(JSON.parse(JSON.stringify(toEcs(event, 'c'))))).toEqual(event);
    }),
  );
});

test.each([undefined, null, {}, { event: { original: 7 } }, { event: { original: '{' } }])(
  'what is no such document is no event: %j',
  (document) => {
    expect(fromEcs(document)).toBeUndefined();
  },
);

test('every field that is written has a mapping', () => {
  const { mappings } = indexBody(namesOf('c', 'ecs')) as { mappings: Mapping };
  for (const sid of ['21562', '1000104', '408']) {
    const folded = { count: 3, last_timestamp: '2026-11-25T12:01:00.000000Z' };
    const event = alertOf(sid);
    const document = toEcs({ ...event, record: { ...event.record, ...folded } }, 'c');
    expect(unmapped(document, mappings)).toEqual([]);
  }
});

interface Mapping {
  properties?: Record<string, Mapping>;
  type?: string;
}

function unmapped(value: unknown, mapping: Mapping | undefined, path = ''): string[] {
  if (mapping === undefined) return [path];
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return mapping.type === undefined ? [path] : [];
  return Object.entries(value).flatMap(([key, inner]) => unmapped(inner, mapping.properties?.[key], `${path}.${key}`));
}
