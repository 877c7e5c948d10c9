import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { MAX_RECORD } from '../../../agent/engine/readers/unified2-records.ts';
import { createUnified2Decoder } from '../../../agent/engine/readers/unified2.ts';
import type { Decoded } from '../../../agent/engine/alert.ts';
import {
  EVENT,
  V6,
  alertsOf,
  classicEvent,
  cutsArbitrary,
  damageOf,
  decode,
  event3,
  expectOrderly,
  extraData,
  noiseOf,
  packetRecord,
  record,
  tcpFrame,
} from './support.ts';

const sample = readFileSync(new URL('fixtures/snort-unified2.log', import.meta.url));
const legacySample = readFileSync(new URL('fixtures/snort-unified2-legacy.log', import.meta.url));

function read(...records: Buffer[]): Decoded[] {
  return decode(createUnified2Decoder(), Buffer.concat(records));
}

const ALERT = {
  timeMicros: 1_795_308_067_123_456,
  vlan: 7,
  gid: 1,
  sid: 21_562,
  rev: 7,
  message: '',
  classification: '',
  priority: 3,
  protocol: 'TCP',
  source: { ip: '10.0.0.1', port: 40_000 },
  destination: { ip: '10.0.0.2', port: 80 },
};
const ALERT6 = { ...ALERT, source: { ip: 'fd00::1', port: 40_000 }, destination: { ip: 'fd00::2', port: 80 } };

describe('a unified2 event', () => {
  test.each([
    ['EVENT3', event3(), ALERT],
    ['EVENT3 of IPv6', event3(V6), ALERT6],
    ['7', classicEvent(7, 'none'), { ...ALERT, vlan: 0 }],
    ['72', classicEvent(72, 'none', V6), { ...ALERT6, vlan: 0 }],
    ['99', classicEvent(99, 'mpls'), { ...ALERT, vlan: 0 }],
    ['99 with VLAN', classicEvent(99, 'vlan'), { ...ALERT, vlan: 0 }],
    ['100', classicEvent(100, 'mpls', V6), { ...ALERT6, vlan: 0 }],
    ['104 of Snort 2', classicEvent(104, 'vlan'), ALERT],
    ['104 of Snort 2 with an application', classicEvent(104, 'app16'), ALERT],
    ['104 of Snort 3', classicEvent(104, 'app64'), ALERT],
    ['105 of Snort 2', classicEvent(105, 'vlan', V6), ALERT6],
    ['105 of Snort 3', classicEvent(105, 'app64', V6), ALERT6],
  ])('of type %s gives every field it has', (_, bytes, alert) => {
    expect(read(bytes)).toEqual([{ kind: 'alert', start: 0, end: bytes.length, alert }]);
  });

  test('is read as Snort 3.12.2 wrote it', () => {
    const items = read(sample);
    expect(damageOf(items)).toEqual([]);
    const alerts = alertsOf(items);
    expect(alerts.map(({ gid, sid, vlan, protocol }) => `${gid}:${sid} ${vlan} ${protocol}`)).toEqual([
      '1:1000001 7 TCP',
      '1:1000002 7 TCP',
      '1:1000001 7 TCP',
      '1:1000001 8 TCP',
      '1:1000003 9 UDP',
      '1:1000003 12 UDP',
      '1:1000004 9 ICMP',
      '1:1000004 9 ICMP',
      '1:1000007 0 UDP',
      '116:3 13 ',
    ]);
    expect(alerts.slice(2, 8).map(({ payload }) => payload?.toString().split('\r\n')[0])).toEqual([
      'smk=1234',
      'POST /evil HTTP/1.1',
      'udp-evil-data',
      'udp-evil-qinq',
      'icmp-evil-data',
      'icmp-evil-data',
    ]);
    expect(alerts[3]).toMatchObject({ source: { ip: 'fd00::1', port: 40_001 } });
    expect(alerts[6]).toMatchObject({ source: { ip: '10.0.0.3' }, timeMicros: 1_795_308_067_343_608 });
    expect(alerts[9]).toMatchObject({ source: { ip: '' }, destination: { ip: '' } });
    expect(items.at(-1)?.end).toBe(sample.length);
  });

  test('is read as Snort 3.12.2 wrote it with legacy_events', () => {
    const items = read(legacySample);
    expect(damageOf(items)).toEqual([]);
    expect(alertsOf(items).map(({ gid, sid, vlan, source }) => `${gid}:${sid} ${vlan} ${source.ip}`)).toEqual([
      '1:1000001 7 10.0.0.1',
      '1:1000002 7 10.0.0.1',
      '1:1000001 7 10.0.0.1',
      '1:1000001 8 fd00::1',
      '1:1000004 9 fd00::3',
      '116:3 13 ',
    ]);
  });

  test.each([
    ['microsecond', event3({ microseconds: 1_000_000 }), 'the microsecond is not an integer from 0 to 999999'],
    ['VLAN id', event3({ vlan: 4096 }), 'the VLAN id is not an integer from 0 to 4095'],
    ['generator id', event3({ gid: 0 }), 'the generator id is not an integer from 1 to 4294967295'],
    ['signature id', event3({ sid: 0 }), 'the signature id is not an integer from 1 to 4294967295'],
    ['IP version', event3({ source: [] }), 'the IP version is neither 4 nor 6'],
  ])('with a %s out of range is damage, and the next is read', (_, bytes, reason) => {
    expect(read(bytes, event3({ id: 2 }))).toMatchObject([
      { kind: 'damage', reason, start: 0, end: bytes.length },
      { kind: 'alert', start: bytes.length },
    ]);
  });

  test('of a protocol without ports has none', () => {
    expect(alertsOf(read(event3({ protocol: 1, sourcePort: 8 })))).toMatchObject([
      { protocol: 'ICMP', source: { ip: '10.0.0.1' } },
    ]);
    expect(alertsOf(read(event3({ protocol: 47 })))[0]?.source).toEqual({ ip: '10.0.0.1' });
    expect(alertsOf(read(event3({ protocol: 47 })))[0]?.protocol).toBe('IP');
  });
});

describe('the records of an event', () => {
  const data = Buffer.from('smk=1234');
  const packet = packetRecord(1, tcpFrame(data));

  test('give it the transport payload of its first packet', () => {
    const bytes = [event3(), extraData(1, data), packet];
    expect(read(...bytes, packetRecord(1, tcpFrame(Buffer.from('second'))))).toEqual([
      { kind: 'alert', start: 0, end: Buffer.concat(bytes).length, alert: { ...ALERT, payload: data } },
    ]);
  });

  test('give it a buffer as it is', () => {
    expect(alertsOf(read(event3(), packetRecord(1, data, { type: 3 })))).toEqual([{ ...ALERT, payload: data }]);
  });

  test('give it a payload of at most 65,535 bytes, and none when there is none', () => {
    const long = packetRecord(1, Buffer.alloc(70_000), { type: 3 });
    expect(alertsOf(read(event3(), long))[0]?.payload).toHaveLength(65_535);
    expect(alertsOf(read(event3(), packetRecord(1, tcpFrame(Buffer.alloc(0)))))[0]).not.toHaveProperty('payload');
  });

  test('are passed over when they belong to another event', () => {
    expect(read(packet, extraData(1, data), event3({ id: 2 }), packet)).toMatchObject([
      { kind: 'alert', start: packet.length + extraData(1, data).length, alert: { sid: EVENT.sid } },
    ]);
    expect(alertsOf(read(event3({ id: 2 }), packet))[0]).not.toHaveProperty('payload');
  });

  test('give the event out at once: with its packet, with the next event, or with flush()', () => {
    const decoder = createUnified2Decoder();
    expect(decoder.push(event3())).toEqual([]);
    expect(decoder.push(packet)).toHaveLength(1);
    expect(decoder.push(event3({ id: 2 }))).toEqual([]);
    expect(decoder.push(event3({ id: 3 }))).toHaveLength(1);
    expect(decoder.flush()).toHaveLength(1);
    expect(decoder.flush()).toEqual([]);
    expect(decoder.push(packetRecord(3, data))).toEqual([]);
    expect(decoder.push(event3({ id: 4 }))).toEqual([]);
    expect(decoder.end()).toHaveLength(1);
  });

  test('go on counting offsets after end()', () => {
    const decoder = createUnified2Decoder();
    decoder.push(event3().subarray(0, 50));
    expect(decoder.end()).toMatchObject([{ kind: 'damage', start: 0, end: 50 }]);
    decoder.push(event3());
    expect(decoder.end()).toMatchObject([{ kind: 'alert', start: 50, end: 50 + event3().length }]);
  });
});

describe('damage in unified2', () => {
  const next = [2, 3].flatMap((id) => [
    classicEvent(104, 'vlan', { id, sid: id }),
    packetRecord(id, tcpFrame(Buffer.from(String(id)))),
  ]);
  const good = Buffer.concat(next);

  test.each([
    ['an event', classicEvent(104, 'vlan', { sid: 1 })],
    ['a packet', packetRecord(1, tcpFrame(Buffer.from('smk=1234')))],
    ['extra data', extraData(1, Buffer.from('example.com'))],
  ])('%s torn anywhere is one damage, and everything behind it is read, in chunks of any size', (_, torn) => {
    for (let cut = 1; cut < torn.length; cut++) {
      const bytes = Buffer.concat([torn.subarray(0, cut), good]);
      for (const size of [bytes.length, torn.length, 1]) {
        const cuts = Array.from({ length: Math.ceil(bytes.length / size) }, (__, i) => i * size);
        const items = decode(createUnified2Decoder(), bytes, cuts);
        expectOrderly(items, bytes.length);
        expect(damageOf(items)).toMatchObject(size === bytes.length ? [{ start: 0, end: cut }] : [{ start: 0 }]);
        expect(alertsOf(items)).toMatchObject([
          { sid: 2, payload: Buffer.from('2') },
          { sid: 3, payload: Buffer.from('3') },
        ]);
      }
    }
  });

  test('a torn packet that was given out with the start of the next record still leaves that to be read', () => {
    const event = event3();
    const packet = packetRecord(1, Buffer.alloc(200), { type: 3 });
    const bytes = Buffer.concat([event, packet.subarray(0, 150), good]);
    const decoder = createUnified2Decoder();
    // The chunk ends where the torn record seems to.
    const first = decoder.push(bytes.subarray(0, event.length + packet.length));
    const rest = [...decoder.push(bytes.subarray(event.length + packet.length)), ...decoder.end()];
    const items = [...first, ...rest];
    expectOrderly(items, bytes.length);
    expect(damageOf(items)).toHaveLength(1);
    expect(alertsOf(items).map(({ sid }) => sid)).toEqual([EVENT.sid, 2, 3]);
  });

  test('a torn record that ends just where a later one does is noticed by its values', () => {
    const torn = event3({ id: 1, microseconds: 0xffffffff }).subarray(0, 1040 - classicEvent(104, 'vlan').length);
    const items = read(torn, classicEvent(104, 'vlan', { id: 2, sid: 2 }), good);
    expect(damageOf(items)).toMatchObject([{ start: 0, end: torn.length }]);
    expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2, 2, 3]);
  });

  test('a torn packet gives its event no payload when what follows shows that it is torn', () => {
    const packet = packetRecord(1, Buffer.alloc(200), { type: 3 });
    const event = event3();
    expect(read(event, packet.subarray(0, 150), good)).toMatchObject([
      { kind: 'alert', start: 0, end: event.length, alert: ALERT },
      { kind: 'damage', start: event.length, end: event.length + 150 },
      { kind: 'alert' },
      { kind: 'alert' },
    ]);
  });

  test('torn extra data is no part of its event, even when the chunk ends where it seems to', () => {
    const event = event3();
    const extra = extraData(1, Buffer.alloc(200));
    const bytes = Buffer.concat([event, extra.subarray(0, 150), good]);
    expect(decode(createUnified2Decoder(), bytes, [event.length + extra.length])).toMatchObject([
      { kind: 'alert', start: 0, end: event.length },
      { kind: 'damage', start: event.length, end: event.length + 150 },
      { kind: 'alert' },
      { kind: 'alert' },
    ]);
  });

  test('a torn record is judged when enough of the next one is there', () => {
    const torn = classicEvent(104, 'vlan').subarray(0, 58);
    // Of the packet behind it, 22 bytes come in the first chunk: its header, not the length that it repeats.
    const bytes = Buffer.concat([torn, packetRecord(9, Buffer.alloc(90)), good]);
    const items = decode(createUnified2Decoder(), bytes, [80]);
    expect(damageOf(items)).toMatchObject([{ start: 0, end: 58 }]);
    expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2, 3]);
  });

  test('a record before garbage is kept, and an event before it is given out first', () => {
    const items = read(event3(), Buffer.alloc(30), good);
    expect(items.map(({ kind }) => kind)).toEqual(['alert', 'damage', 'alert', 'alert']);
    expect(damageOf(items)).toEqual([{ reason: 'not a record', start: event3().length, end: event3().length + 30 }]);
  });

  test.each([
    ['of an unknown type', record(9, Buffer.alloc(52))],
    ['with a length its type does not have', record(7, Buffer.alloc(53))],
    ['beyond the limit', packetRecord(1, Buffer.alloc(MAX_RECORD - 27))],
    ['whose lengths contradict each other', record(2, Buffer.alloc(60))],
    ['of extra data whose lengths contradict each other', record(110, Buffer.alloc(60))],
  ])('a record %s is one damage', (_, bytes) => {
    const items = read(good, bytes, good);
    expect(alertsOf(items)).toHaveLength(4);
    expect(damageOf(items)).toMatchObject([{ start: good.length, end: good.length + bytes.length }]);
  });

  test('a packet of the limit is read', () => {
    expect(alertsOf(read(event3(), packetRecord(1, Buffer.alloc(MAX_RECORD - 28)), good))).toHaveLength(3);
  });

  test('a record cut off at the end is damage', () => {
    const items = read(good, event3().subarray(0, 900));
    expect(damageOf(items)).toEqual([{ reason: 'a record is broken off', start: good.length, end: good.length + 900 }]);
  });
});

describe('any unified2', () => {
  test('gives the same items however it is cut into chunks', () => {
    fc.assert(
      fc.property(cutsArbitrary, (cuts) => {
        for (const bytes of [sample, legacySample])
          expect(decode(createUnified2Decoder(), bytes, cuts)).toEqual(decode(createUnified2Decoder(), bytes));
      }),
      { numRuns: 40 },
    );
  });

  test('never throws and has orderly spans', () => {
    fc.assert(
      fc.property(fc.oneof(noiseOf(sample), noiseOf(legacySample)), cutsArbitrary, (bytes, cuts) => {
        expectOrderly(decode(createUnified2Decoder(), bytes, cuts), bytes.length);
      }),
      { numRuns: 500 },
    );
  });

  test('with a part cut out, overwritten or put in, keeps every alert of later records', () => {
    const pairs = Array.from({ length: 8 }, (_, i) => [
      i % 2 === 0 ? event3({ id: i, sid: i + 1 }) : classicEvent(104, 'app64', { id: i, sid: i + 1 }),
      packetRecord(i, tcpFrame(Buffer.from(`payload ${i}`))),
    ]);
    const records = pairs.map((pair) => Buffer.concat(pair));
    const boundaries = pairs.flat().map((_, i) => Buffer.concat(pairs.flat().slice(0, i + 1)).length);
    const valid = Buffer.concat(records);
    const starts = records.map((_, i) => Buffer.concat(records.slice(0, i)).length);
    fc.assert(
      fc.property(
        fc.nat({ max: valid.length - 1 }),
        fc.nat({ max: 2500 }),
        fc.uint8Array({ maxLength: 300 }),
        cutsArbitrary,
        (at, removed, put, cuts) => {
          const end = Math.min(valid.length, at + removed);
          const bytes = Buffer.concat([valid.subarray(0, at), put, valid.subarray(end)]);
          const items = decode(createUnified2Decoder(), bytes, cuts);
          expectOrderly(items, bytes.length);
          // A record that took in whole records, to their very end, shows nothing.
          const moved = (boundary: number): number => boundary - end + at + put.length;
          const aligned = items.some(
            (item) =>
              item.start <= at &&
              starts.some((start) => start >= end && moved(start) < item.end) &&
              boundaries.some((boundary) => moved(boundary) === item.end),
          );
          fc.pre(!aligned);
          const sids = alertsOf(items).map(({ sid }) => sid);
          const before = starts.flatMap((start, i) => (start + (records[i]?.length ?? 0) <= at ? [i + 1] : []));
          const after = starts.flatMap((start, i) => (start >= end ? [i + 1] : []));
          expect(sids.slice(0, before.length)).toEqual(before);
          expect(after.length === 0 ? [] : sids.slice(-after.length)).toEqual(after);
        },
      ),
      { numRuns: 300 },
    );
  });
});
