/** Events of the journal, such as an agent writes them. */
import { createHash } from 'node:crypto';
import type { EeEvent } from '../agent/events/event.ts';
import type { EventLine } from '../agent/journal/journal.ts';

/** Like that of a packet between two pods; `number` tells it from others. */
export function eventLine(number: number): EventLine {
  const position = `lane0-20261124T000000Z-aaaaaa:${number * 465}`;
  const micros = String(number % 1_000_000).padStart(6, '0');
  const port = 32_768 + (number % 28_000);
  const event: EeEvent = {
    type: 'deep_packet_inspection',
    origin: 'dpi.default/sample-dpi',
    severity: 100,
    attack_vector: 'Network',
    description: 'Deep Packet Inspection found a matching snort rule(s) for some packets in your network',
    time: 1_795_312_693 + Math.floor(number / 1_000),
    host: 'bench-node',
    source_ip: '10.78.0.2',
    source_port: port,
    source_name: 'attacker',
    source_name_aggr: '-',
    source_namespace: 'default',
    dest_ip: '10.77.0.2',
    dest_port: 80,
    dest_name: 'backend-7d4b-x2x9z',
    dest_name_aggr: 'backend-7d4b-*',
    dest_namespace: 'default',
    mitre_ids: ['T1071.001'],
    mitre_tactic: 'TA0011',
    record: {
      snort_signature_id: '1000001',
      snort_signature_revision: '1',
      snort_alert: `26/11/22-01:58:13.${micros} [**] [1:1000001:1] "MALWARE HTTP POST of smk= with the bare User-Agent Mozilla/4.0" [**] [Classification: A Network Trojan was detected] [Priority: 1] {TCP} 10.78.0.2:${port} -> 10.77.0.2:80`,
      event_id: createHash('sha1').update(position).digest('hex'),
      position,
      timestamp: `2026-11-22T01:58:13.${micros}Z`,
      generator_id: '1',
      message: 'MALWARE HTTP POST of smk= with the bare User-Agent Mozilla/4.0',
      classification: 'A Network Trojan was detected',
      priority: 1,
      protocol: 'TCP',
      service: 'http',
      references: ['url,attack.mitre.org/techniques/T1071/001/'],
      engine: { name: 'snort', version: '3.12.2.0' },
      seen_at: [{ namespace: 'default', name: 'backend-7d4b-x2x9z', interface: 'veth0' }],
      payload: 'c21rPTEyMzQ=',
      payload_bytes: 8,
    },
  };
  return { position, json: JSON.stringify(event) };
}
