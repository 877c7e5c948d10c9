/** Destinations of http with settings as the configuration gives them, and events. */
import { loadConfig } from '../../../agent/config/load.ts';
import { sinkEntries, type SinkEntry } from '../../../agent/config/sinks.ts';
import type { EeEvent } from '../../../agent/events/event.ts';
import { SendError, type Destination, type Item } from '../../../agent/ship/destination.ts';
import { createHttp } from '../../../agent/ship/http/http.ts';
import { createSample } from '../../../agent/ship/sample.ts';

export const { signal: NEVER } = new AbortController();

/** A sink of the list, as the configuration is read. */
export function entryOf(sink: Record<string, unknown>): SinkEntry {
  const loaded = loadConfig({ env: {}, flags: { sinks: [{ name: 'test', ...sink }] } }, () => 'node');
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  const [entry] = sinkEntries(loaded.config.sinks);
  if (entry === undefined) throw new Error('no sink');
  return entry;
}

export async function httpSink(http: Record<string, unknown>, publicUrl?: string): Promise<Destination> {
  const entry = entryOf({ http });
  if (entry.kind !== 'http') throw new Error('no http');
  return createHttp({
    settings: entry.settings,
    cluster: 'lab',
    ...(publicUrl === undefined ? {} : { publicUrl }),
  });
}

/** An alert as people see them. */
export function eventOf(number = 0, more: Partial<EeEvent> = {}, record: Partial<EeEvent['record']> = {}): EeEvent {
  const sample = createSample('node-1', Date.UTC(2026, 0, 2, 3, 4, 5, 678) + number, String(number).padStart(40, '0'));
  return {
    ...sample,
    origin: 'dpi.shop/web',
    severity: 100,
    source_namespace: 'shop',
    source_name: 'cart-1',
    source_name_aggr: 'cart-*',
    dest_namespace: 'shop',
    dest_name: 'db-0',
    dest_name_aggr: 'db-*',
    mitre_tactic: 'TA0011',
    mitre_ids: ['T1071'],
    ...more,
    record: {
      ...sample.record,
      generator_id: '1',
      snort_signature_id: '21562',
      snort_signature_revision: '3',
      message: 'MALWARE-CNC <!channel> *beacon* & [more](http://evil.example)',
      classification: 'A Network Trojan was detected',
      classtype: 'trojan-activity',
      priority: 1,
      engine: { name: 'snort', version: '3.1.84' },
      seen_at: [{ namespace: 'shop', name: 'db-0', interface: 'cali1' }],
      ...record,
    },
  };
}

export function itemOf(event: EeEvent, number = 0): Item {
  return { number, id: event.record.event_id, json: JSON.stringify(event) };
}

export function items(count: number): Item[] {
  return Array.from({ length: count }, (_, number) => itemOf(eventOf(number), number));
}

/** What a send fails with. */
export async function failureOf(sending: Promise<unknown>): Promise<SendError> {
  try {
    await sending;
  } catch (error) {
    if (error instanceof SendError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
