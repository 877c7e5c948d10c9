import * as fc from 'fast-check';
import { describe, expect, test } from '@jest/globals';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import type { Alert, Position } from '../../agent/engine/alert.ts';
import { eventId, MAX_EVENT_BYTES, MAX_MERGED_POSITIONS, toEvent } from '../../agent/events/event.ts';

const backend: Endpoint = {
  id: 'shop/backend-7d4b-x2x9z',
  namespace: 'shop',
  name: 'backend-7d4b-x2x9z',
  nameAggr: 'backend-7d4b-*',
  interface: 'cali0123456789a',
  labels: { app: 'backend' },
  addresses: ['192.168.142.9'],
  resources: ['shop/backend'],
};
const client: Endpoint = {
  ...backend,
  id: 'shop/client',
  name: 'client',
  nameAggr: '-',
  interface: 'caliba987654321',
  addresses: ['192.168.142.8'],
};

const echo: Alert = {
  timeMicros: Date.UTC(2024, 8, 27, 8, 24, 10) * 1000 + 80_704,
  vlan: 7,
  gid: 1,
  sid: 408,
  rev: 8,
  message: 'PROTOCOL-ICMP Echo Reply',
  classification: 'Misc activity',
  priority: 3,
  protocol: 'ICMP',
  source: { ip: '8.8.8.8' },
  destination: { ip: '192.168.142.9' },
  packetNumber: 12,
};

const attributed = (changes: Partial<AttributedAlert> = {}, alert: Partial<Alert> = {}): AttributedAlert => ({
  alert: { ...echo, ...alert },
  position: { generation: 'lane0-20240927T000000Z-3f2a', offset: 4711 },
  mergedPositions: [],
  resource: 'shop/backend',
  seenAt: [backend],
  destination: backend,
  engine: { name: 'snort', version: '3.12.2.0' },
  node: 'worker-1',
  ...changes,
});

const evidence = { payload: true, maxBytes: 1024, rule: true };

describe('a document', () => {
  test('has the text of its rule, unless it shall not', () => {
    const text = 'alert icmp any any -> any any ( msg:"x"; sid:408; )';
    const rule = { classtype: '', references: [], links: [], cves: [], text, mitreIds: [], mitigations: [] };
    expect(toEvent(attributed({ rule }), evidence).record.rule).toBe(text);
    expect(toEvent(attributed({ rule }), { ...evidence, rule: false }).record).not.toHaveProperty('rule');
    // Decoders and inspectors have alerts without any.
    expect(toEvent(attributed(), evidence).record).not.toHaveProperty('rule');
  });

  test('a flow is summed up in the record', () => {
    const alert = {
      ...attributed().alert,
      flow: {
        startMicros: 1_700_000_000_000_001,
        packetsToServer: 3,
        packetsToClient: 2,
        bytesToServer: 277,
        bytesToClient: 140,
      },
    };
    expect(toEvent({ ...attributed(), alert }, evidence).record.flow).toEqual({
      start: '2023-11-14T22:13:20.000001Z',
      packets_to_server: 3,
      packets_to_client: 2,
      bytes_to_server: 277,
      bytes_to_client: 140,
    });
    const toTheSecond = { ...alert.flow, startMicros: 1_700_000_000_000_000, isWholeSecond: true } as const;
    expect(toEvent({ ...attributed(), alert: { ...alert, flow: toTheSecond } }, evidence).record.flow?.start).toBe(
      '2023-11-14T22:13:20Z',
    );
    expect(toEvent(attributed(), evidence).record).not.toHaveProperty('flow');
  });

  test('of an ICMP packet from outside has Calico’s fields and its line of Snort’s, and no ports', () => {
    expect(toEvent(attributed(), evidence)).toEqual({
      type: 'deep_packet_inspection',
      origin: 'dpi.shop/backend',
      severity: 60,
      attack_vector: 'Network',
      description: 'Deep Packet Inspection found a matching snort rule(s) for some packets in your network',
      time: 1727425450,
      host: 'worker-1',
      source_ip: '8.8.8.8',
      source_name: '-',
      source_name_aggr: '-',
      source_namespace: '-',
      dest_ip: '192.168.142.9',
      dest_name: 'backend-7d4b-x2x9z',
      dest_name_aggr: 'backend-7d4b-*',
      dest_namespace: 'shop',
      mitre_tactic: 'n/a',
      record: {
        snort_signature_id: '408',
        snort_signature_revision: '8',
        snort_alert:
          '24/09/27-08:24:10.080704 [**] [1:408:8] "PROTOCOL-ICMP Echo Reply" [**] [Classification: Misc activity] [Priority: 3] {ICMP} 8.8.8.8 -> 192.168.142.9',
        event_id: '71417e0a49cc6cebcccac22701fcf36a42d65e4b',
        position: 'lane0-20240927T000000Z-3f2a:4711',
        timestamp: '2024-09-27T08:24:10.080704Z',
        generator_id: '1',
        message: 'PROTOCOL-ICMP Echo Reply',
        classification: 'Misc activity',
        priority: 3,
        protocol: 'ICMP',
        packet_number: 12,
        engine: { name: 'snort', version: '3.12.2.0' },
        seen_at: [{ namespace: 'shop', name: 'backend-7d4b-x2x9z', interface: 'cali0123456789a' }],
      },
    });
  });

  test('of a TCP packet seen at both ends names both, and says what the rule says', () => {
    const alert: Partial<Alert> = {
      sid: 21562,
      rev: 12,
      message: 'MALWARE-CNC Win.Trojan.Bredolab variant outbound connection',
      classification: 'A Network Trojan was detected',
      priority: 1,
      protocol: 'TCP',
      source: { ip: '192.168.142.8', port: 40512 },
      destination: { ip: '192.168.142.9', port: 80 },
      service: 'http',
      payload: Buffer.from('POST / HTTP/1.1'),
    };
    const rule = {
      classtype: 'trojan-activity',
      references: ['url,example.org/bredolab'],
      links: ['http://example.org/bredolab'],
      cves: ['CVE-2009-3129'],
      text: 'alert tcp any any -> any 80 ( msg:"a"; sid:21562; )',
      mitreIds: ['T1071'],
      mitreTactic: 'Command and Control',
      mitreSource: 'rule' as const,
      mitigations: ['Isolate the pod.'],
    };
    const both = {
      source: client,
      seenAt: [client, backend],
      mergedPositions: [{ generation: 'lane0-20240927T000000Z-3f2a', offset: 5000 }],
      rule,
    };
    expect(toEvent(attributed(both, alert), { payload: true, maxBytes: 6, rule: true })).toEqual({
      type: 'deep_packet_inspection',
      origin: 'dpi.shop/backend',
      severity: 100,
      attack_vector: 'Network',
      description: 'Deep Packet Inspection found a matching snort rule(s) for some packets in your network',
      time: 1727425450,
      host: 'worker-1',
      source_ip: '192.168.142.8',
      source_port: 40512,
      source_name: 'client',
      source_name_aggr: '-',
      source_namespace: 'shop',
      dest_ip: '192.168.142.9',
      dest_port: 80,
      dest_name: 'backend-7d4b-x2x9z',
      dest_name_aggr: 'backend-7d4b-*',
      dest_namespace: 'shop',
      mitre_ids: ['T1071'],
      mitre_tactic: 'Command and Control',
      mitigations: ['Isolate the pod.'],
      record: {
        snort_signature_id: '21562',
        snort_signature_revision: '12',
        snort_alert:
          '24/09/27-08:24:10.080704 [**] [1:21562:12] "MALWARE-CNC Win.Trojan.Bredolab variant outbound connection" [**] [Classification: A Network Trojan was detected] [Priority: 1] {TCP} 192.168.142.8:40512 -> 192.168.142.9:80',
        event_id: '71417e0a49cc6cebcccac22701fcf36a42d65e4b',
        position: 'lane0-20240927T000000Z-3f2a:4711',
        merged_positions: ['lane0-20240927T000000Z-3f2a:5000'],
        timestamp: '2024-09-27T08:24:10.080704Z',
        generator_id: '1',
        message: 'MALWARE-CNC Win.Trojan.Bredolab variant outbound connection',
        classification: 'A Network Trojan was detected',
        priority: 1,
        protocol: 'TCP',
        packet_number: 12,
        service: 'http',
        classtype: 'trojan-activity',
        references: ['url,example.org/bredolab'],
        links: ['http://example.org/bredolab'],
        mitre_source: 'rule',
        cves: ['CVE-2009-3129'],
        rule: 'alert tcp any any -> any 80 ( msg:"a"; sid:21562; )',
        engine: { name: 'snort', version: '3.12.2.0' },
        seen_at: [
          { namespace: 'shop', name: 'client', interface: 'caliba987654321' },
          { namespace: 'shop', name: 'backend-7d4b-x2x9z', interface: 'cali0123456789a' },
        ],
        payload: 'UE9TVCAv',
        payload_bytes: 15,
        payload_truncated: true,
      },
    });
  });

  test('of an IPv6 packet with ports has them behind a colon in Snort’s line; a class that is unknown is not in it', () => {
    const event = toEvent(
      attributed(
        {},
        {
          protocol: 'UDP',
          classification: '',
          priority: 0,
          source: { ip: '2001:db8::1', port: 53 },
          destination: { ip: 'fd00::9', port: 0 },
        },
      ),
      evidence,
    );
    expect(event.record.snort_alert).toBe(
      '24/09/27-08:24:10.080704 [**] [1:408:8] "PROTOCOL-ICMP Echo Reply" [**] [Priority: 0] {UDP} 2001:db8::1:53 -> fd00::9:0',
    );
    expect(event).toMatchObject({ source_port: 53, dest_port: 0, severity: 50 });
    expect(event.record).not.toHaveProperty('classification');
  });

  test('has no control characters, terminal escapes or directional overrides from packets and rules', () => {
    const hostile = 'a\u001B[2Jb\u001B]0;title\u0007c\r\nd\u0000\u007F\u009B31me\u202Ef\uD800g';
    const event = toEvent(
      attributed(
        {
          rule: {
            classtype: hostile,
            references: [hostile, '\u0007'],
            links: [hostile],
            cves: [],
            text: hostile,
            mitreIds: [hostile],
            mitreTactic: '\u0000',
            mitigations: [],
          },
        },
        { message: hostile, classification: hostile, protocol: hostile, service: hostile, source: { ip: hostile } },
      ),
      evidence,
    );
    expect(event.record.message).toBe('abcdefg');
    expect(event.record).toMatchObject({
      references: ['abcdefg'],
      links: ['abcdefg'],
      classtype: 'abcdefg',
      rule: 'abcdefg',
    });
    expect(event).toMatchObject({ source_ip: 'abcdefg', mitre_ids: ['abcdefg'], mitre_tactic: 'n/a' });
    expect(event.record.snort_alert).toContain(
      '"abcdefg" [**] [Classification: abcdefg] [Priority: 3] {abcdefg} abcdefg ->',
    );
  });

  test.each([
    [0, 50],
    [1, 100],
    [2, 80],
    [3, 60],
    [4, 40],
    [5, 20],
    [255, 20],
  ])('of priority %d has severity %d', (priority, severity) => {
    expect(toEvent(attributed({}, { priority }), evidence).severity).toBe(severity);
  });

  test('carries payload only where asked, and says how much there was', () => {
    const payload = Buffer.alloc(100, 'x');
    const record = (options: Parameters<typeof toEvent>[1]) => toEvent(attributed({}, { payload }), options).record;
    expect(record({ payload: false, maxBytes: 1024, rule: true })).not.toHaveProperty('payload_bytes');
    expect(record(evidence)).toMatchObject({ payload: payload.toString('base64'), payload_bytes: 100 });
    expect(record(evidence)).not.toHaveProperty('payload_truncated');
    const none = record({ payload: true, maxBytes: 0, rule: true });
    expect(none).toMatchObject({ payload_bytes: 100, payload_truncated: true });
    expect(none).not.toHaveProperty('payload');
  });

  test('has an id of its position, resource and node', () => {
    const id = eventId(attributed());
    expect(id).toMatch(/^[0-9a-f]{40}$/);
    expect(toEvent(attributed({}, { message: 'other' }), evidence).record.event_id).toBe(id);
    const others = [{ position: { generation: 'x', offset: 1 } }, { resource: 'shop/other' }, { node: 'worker-2' }].map(
      (change) => eventId(attributed(change)),
    );
    expect(new Set([id, ...others]).size).toBe(4);
  });
});

const text = fc.string({ unit: 'binary', maxLength: 3000 });
const wide = fc.constantFrom('\uFFFD', '"', '\\', '\u{1F600}', '\u0001', '\uD83D').map((unit) => unit.repeat(5000));
const anyText = fc.oneof(text, wide);
const number = fc.oneof(fc.integer(), fc.double(), fc.maxSafeInteger());
const address = fc.record({ ip: anyText, port: number }, { requiredKeys: ['ip'] });
const anyAlert: fc.Arbitrary<Alert> = fc.record(
  {
    timeMicros: number,
    vlan: number,
    gid: number,
    sid: number,
    rev: number,
    message: anyText,
    classification: anyText,
    priority: number,
    protocol: anyText,
    source: address,
    destination: address,
    packetNumber: number,
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
      fc.constant(Buffer.alloc(65_535, 7)),
    ),
    service: anyText,
  },
  {
    requiredKeys: [
      'timeMicros',
      'vlan',
      'gid',
      'sid',
      'rev',
      'message',
      'classification',
      'priority',
      'protocol',
      'source',
      'destination',
    ],
  },
);
const texts = fc.oneof(
  fc.array(anyText, { maxLength: 5 }),
  wide.map((item) => Array<string>(200).fill(item)),
);
const anyPosition: fc.Arbitrary<Position> = fc.record({ generation: anyText, offset: fc.oneof(fc.nat(), fc.double()) });
const anyAttributed: fc.Arbitrary<AttributedAlert> = fc.record({
  alert: anyAlert,
  position: anyPosition,
  mergedPositions: fc.oneof(
    fc.array(anyPosition, { maxLength: 5 }),
    anyPosition.map((item) => Array<Position>(200).fill(item)),
  ),
  resource: anyText,
  seenAt: anyText.map((name) =>
    Array.from({ length: 20 }, () => ({ ...backend, name, namespace: name, interface: name })),
  ),
  source: anyText.map((name) => ({ name, namespace: name, nameAggr: name })),
  engine: fc.record({ name: anyText, version: anyText }),
  node: anyText,
  rule: fc.record({
    classtype: anyText,
    references: texts,
    links: texts,
    cves: texts,
    text: anyText,
    mitreIds: texts,
    mitreTactic: anyText,
    mitigations: texts,
  }),
});

function textsOf(value: unknown): string[] {
  const found: string[] = [];
  JSON.stringify(value, (_, item: unknown) => {
    if (typeof item === 'string') found.push(item);
    return item;
  });
  return found;
}

test('whatever the alert, the document is bounded JSON without control characters, the same each time', () => {
  fc.assert(
    fc.property(anyAttributed, fc.integer({ min: 0, max: 65_535 }), (given, maxBytes) => {
      const event = toEvent(given, { payload: true, maxBytes, rule: true });
      const json = JSON.stringify(event);
      expect(Buffer.byteLength(json)).toBeLessThan(MAX_EVENT_BYTES);
      expect(JSON.parse(Buffer.from(json).toString())).toEqual(event);
      expect(JSON.stringify(toEvent(given, { payload: true, maxBytes, rule: true }))).toBe(json);
      expect(textsOf(event).filter((item) => /[\p{Cc}\p{Cs}\u2028\u2029\u202E]/u.test(item))).toEqual([]);
      expect(event.record.event_id).toMatch(/^[0-9a-f]{40}$/);
      expect(event.severity).toBeGreaterThanOrEqual(20);
      expect(Number.isSafeInteger(event.time)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('the largest of everything still leaves room for most of the largest payload', () => {
  const long = '\u4E2D'.repeat(5000);
  const list = Array<string>(200).fill(long);
  const event = toEvent(
    attributed(
      {
        mergedPositions: Array.from({ length: 200 }, (_, offset) => ({ generation: long, offset })),
        rule: {
          classtype: long,
          references: list,
          links: list,
          cves: list,
          text: long,
          mitreIds: list,
          mitigations: list,
        },
        node: long,
      },
      { message: long, classification: long, payload: Buffer.alloc(65_535) },
    ),
    { payload: true, maxBytes: 65_535, rule: true },
  );
  expect(Buffer.byteLength(JSON.stringify(event))).toBeLessThan(MAX_EVENT_BYTES);
  expect(event.record.payload?.length).toBeGreaterThan(20_000);
  expect(event.record.merged_positions).toHaveLength(MAX_MERGED_POSITIONS);
});

test('a folded alert says for how many it stands, and until when', () => {
  const fold = {
    count: 1234,
    lastPosition: { generation: 'lane0-x', offset: 99 },
    lastTimeMicros: 1_727_425_450_080_704,
  };
  const { record } = toEvent(attributed({ fold, checkpoint: { generation: 'lane0-x', offset: 7 } }), {
    payload: true,
    maxBytes: 100,
    rule: true,
  });
  expect(record).toMatchObject({
    count: 1234,
    last_position: 'lane0-x:99',
    last_timestamp: '2024-09-27T08:24:10.080704Z',
    checkpoint: 'lane0-x:7',
  });
  expect(record.event_id).toBe(eventId(attributed()));
  expect(toEvent(attributed(), { payload: true, maxBytes: 100, rule: true }).record).not.toHaveProperty('count');
});
