/** Ways to configure the engines that tests of the shunt share. */
import type { EngineName } from '../../../agent/engine/engine.ts';

/**
 * Arguments with which an engine goes on looking at a stream that is encrypted; as usual, both stop, and see less of
 * it.
 */
export const WHOLE_INSPECTION: { [name in EngineName]: string[] } = {
  snort: ['--lua', 'wizard = {} binder = { { use = { type = "wizard" } } }'],
  suricata: ['--set', 'app-layer.protocols.tls.encryption-handling=full'],
};

const SNORT_EVENTS = [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 17, 18, 20];
const SURICATA_EVENTS = [
  'pkt_invalid_ack',
  'est_packet_out_of_window',
  'pkt_broken_ack',
  'reassembly_seq_gap',
  'reassembly_overlap_different_data',
  'fin_invalid_ack',
  'rst_invalid_ack',
  'est_invalid_ack',
  'fin_out_of_window',
  'closing_ack_wrong_seq',
];

/** Rules on what an engine finds strange about a TCP stream. */
export function streamEvents(engine: EngineName): string[] {
  return engine === 'snort'
    ? SNORT_EVENTS.map((event) => `alert (msg:"stream event ${event}"; gid:129; sid:${event}; rev:1;)`)
    : SURICATA_EVENTS.map(
        (event, index) =>
          `alert tcp any any -> any any (msg:"${event}"; stream-event:${event}; sid:${2000 + index}; rev:1;)`,
      );
}
