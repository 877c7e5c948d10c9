/** An event that is none: marked as a test in every form that a destination gives it. */
import { randomBytes } from 'node:crypto';
import type { EeEvent } from '../events/event.ts';

const SAMPLE_MESSAGE = 'TEST of dpi-agent: nothing was found, and there is nothing to do';

/** @param now Milliseconds since the Unix epoch. @param id 40 hexadecimal digits; each test has its own. */
export function createSample(node: string, now: number, id: string = randomBytes(20).toString('hex')): EeEvent {
  const timestamp = new Date(now).toISOString().replace('Z', '000Z');
  const priority = 5;
  return {
    type: 'deep_packet_inspection',
    origin: 'dpi.default/dpi-agent-test',
    severity: 20,
    attack_vector: 'Network',
    description: SAMPLE_MESSAGE,
    time: Math.floor(now / 1000),
    host: node,
    // Documentation's own: RFC 5737.
    source_ip: '192.0.2.1',
    source_port: 40_000,
    source_name: 'test-client',
    source_name_aggr: 'test-client',
    source_namespace: 'default',
    dest_ip: '192.0.2.2',
    dest_port: 80,
    dest_name: 'test-server',
    dest_name_aggr: 'test-server',
    dest_namespace: 'default',
    mitre_tactic: 'n/a',
    record: {
      snort_signature_id: '0',
      snort_signature_revision: '0',
      snort_alert: `[**] [1:0:0] "${SAMPLE_MESSAGE}" [**] [Priority: ${priority}] {TCP} 192.0.2.1:40000 -> 192.0.2.2:80`,
      event_id: id,
      position: 'test:0',
      timestamp,
      generator_id: '1',
      message: SAMPLE_MESSAGE,
      priority,
      protocol: 'TCP',
      engine: { name: 'dpi-agent', version: 'test' },
      seen_at: [{ namespace: 'default', name: 'test-server', interface: 'test' }],
    },
  };
}
