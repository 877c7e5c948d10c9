import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createAlertJsonDecoder } from '../../../agent/engine/readers/alert-json.ts';
import { MAX_ITEM } from '../../../agent/engine/readers/json-lines.ts';
import type { Decoded } from '../../../agent/engine/alert.ts';
import { alertsOf, cutsArbitrary, damageOf, decode, expectOrderly, noiseOf } from './support.ts';

const sample = readFileSync(new URL('fixtures/snort-alert_json.txt', import.meta.url));

const FIELDS: Record<string, string> = {
  timestamp: '"26/11/22-00:41:07.123456"',
  seconds: '1795308067',
  pkt_num: '4',
  vlan: '7',
  gid: '1',
  sid: '21562',
  rev: '3',
  msg: '"MALWARE-CNC evil"',
  class: '"Misc activity"',
  priority: '3',
  proto: '"TCP"',
  src_addr: '"10.0.0.1"',
  src_port: '40000',
  dst_addr: '"10.0.0.2"',
  dst_port: '80',
  service: '"http"',
  b64_data: '"c21rPTEyMzQ="',
  tcp_seq: '1001',
  dir: '"C2S"',
  pkt_gen: '"raw"',
};

/** A line as Snort writes it; a field that is undefined is left out. */
function line(changes: Record<string, string | undefined> = {}): string {
  const fields = Object.entries({ ...FIELDS, ...changes }).filter(([, value]) => value !== undefined);
  return `{${fields.map(([label, value]) => ` "${label}" : ${value}`).join(',')} }\n`;
}

function read(input: string | Buffer): Decoded[] {
  return decode(createAlertJsonDecoder(), Buffer.from(input));
}

function readOne(changes: Record<string, string | undefined>): unknown {
  const items = read(line(changes));
  expect(items).toHaveLength(1);
  const [item] = items;
  return item?.kind === 'alert' ? item.alert : item?.reason;
}

describe('a line of alert_json', () => {
  test('of a packet after 2038 has its time, though Snort writes a negative one', () => {
    const times = { timestamp: '"01/12/14--3:-14:-3.000003"', seconds: '-2147483643' };
    expect(readOne({ ...times, flowstart_time: '-2147483648' })).toMatchObject({
      timeMicros: 2_147_483_653_000_003,
      flow: { startMicros: 2_147_483_648_000_000 },
    });
    expect(readOne({ ...times, seconds: '-1' })).toMatchObject({ timeMicros: 4_294_967_295_000_003 });
    expect(readOne({ ...times, seconds: '-2147483649' })).toBe(
      'seconds is not an integer from 2147483648 to 4294967295',
    );
  });

  test('gives every field of the alert, and its span without the line end', () => {
    expect(read(line())).toEqual([
      {
        kind: 'alert',
        start: 0,
        end: line().length - 1,
        alert: {
          timeMicros: 1_795_308_067_123_456,
          vlan: 7,
          gid: 1,
          sid: 21_562,
          rev: 3,
          message: 'MALWARE-CNC evil',
          classification: 'Misc activity',
          priority: 3,
          protocol: 'TCP',
          source: { ip: '10.0.0.1', port: 40_000 },
          destination: { ip: '10.0.0.2', port: 80 },
          packetNumber: 4,
          rebuilt: false,
          payload: Buffer.from('smk=1234'),
          service: 'http',
        },
      },
    ]);
  });

  test('says whether it is of a packet or of what was put together', () => {
    expect(['"raw"', '"stream_tcp"', undefined].map((value) => readOne({ pkt_gen: value }))).toEqual([
      expect.objectContaining({ rebuilt: false }),
      expect.objectContaining({ rebuilt: true }),
      expect.not.objectContaining({ rebuilt: expect.anything() }),
    ]);
  });

  test('has the summary of its flow, in both directions', () => {
    expect(
      readOne({
        client_pkts: '3',
        client_bytes: '277',
        server_pkts: '2',
        server_bytes: '140',
        flowstart_time: '1795308060',
      }),
    ).toMatchObject({
      flow: {
        startMicros: 1_795_308_060_000_000,
        isWholeSecond: true,
        packetsToServer: 3,
        packetsToClient: 2,
        bytesToServer: 277,
        bytesToClient: 140,
      },
    });
    expect(readOne({ flowstart_time: '1', client_pkts: '-1' })).toMatch(/client_pkts is not an integer/);
  });

  test('reads what Snort 3.12.2 wrote, line ends and quotes in messages included', () => {
    const items = read(sample);
    expect(damageOf(items)).toEqual([]);
    const alerts = alertsOf(items);
    expect(alerts.map(({ gid, sid, vlan }) => `${gid}:${sid} ${vlan}`)).toEqual([
      '1:1000001 7',
      '1:1000002 7',
      '1:1000001 7',
      '1:1000005 7',
      '1:1000001 8',
      '1:1000002 8',
      '1:1000001 8',
      '1:1000005 8',
      '1:1000003 9',
      '1:1000003 12',
      '1:1000004 9',
      '1:1000004 9',
      '1:1000007 0',
      '1:1000003 0',
      '116:3 13',
    ]);
    expect(alerts[0]?.message).toBe('evil POST "quoted" semi; colon: back\\slash n\uFFFDew t\uFFFDab xA end');
    expect(alerts[8]?.message).toBe('udp é { "a" : 1 }, "sid" : 5 }');
    expect(alerts[12]?.message).toBe('raw \uFFFD byte');
    expect(alerts[4]?.source).toEqual({ ip: 'fd00::1', port: 40_001 });
    expect(alerts[10]?.source).toEqual({ ip: '10.0.0.3' });
    expect(alerts[3]).toMatchObject({ classification: '', priority: 0, service: 'http' });
    expect(alerts[14]).toMatchObject({ protocol: 'VLAN', source: { ip: '' }, destination: { ip: '' } });
  });

  test('may leave out what a packet does not have', () => {
    const icmp = readOne({
      proto: '"ICMP"',
      src_port: undefined,
      dst_port: undefined,
      icmp_type: '8',
      b64_data: undefined,
      tcp_seq: undefined,
    });
    expect(icmp).toMatchObject({ protocol: 'ICMP', source: { ip: '10.0.0.1' }, destination: { ip: '10.0.0.2' } });
    expect(icmp).not.toHaveProperty('payload');
    expect(
      readOne({ proto: '"ARP"', src_addr: undefined, src_port: undefined, dst_addr: undefined, dst_port: undefined }),
    ).toMatchObject({
      protocol: 'ARP',
      source: { ip: '' },
      destination: { ip: '' },
    });
    expect(readOne({ service: '"unknown"', class: '"none"' })).toMatchObject({ classification: '' });
    expect(readOne({ service: '"unknown"' })).not.toHaveProperty('service');
    expect(read(`{,${line().slice(line().indexOf(','))}`)).toHaveLength(1);
  });

  test('has its time from seconds and the fraction of timestamp, or from timestamp alone', () => {
    expect(readOne({ timestamp: '"11/22-00:41:07.000042"' })).toMatchObject({ timeMicros: 1_795_308_067_000_042 });
    expect(readOne({ timestamp: undefined })).toMatchObject({ timeMicros: 1_795_308_067_000_000 });
    expect(readOne({ seconds: undefined })).toMatchObject({ timeMicros: 1_795_308_067_123_456 });
    expect(readOne({ seconds: undefined, timestamp: '"11/22-00:41:07.000042"' })).toBe('there is no time with a year');
    expect(readOne({ seconds: undefined, timestamp: '"26/02/30-00:41:07.000042"' })).toBe(
      'the timestamp is not a time',
    );
    expect(readOne({ timestamp: '"yesterday"' })).toBe('the timestamp is not a time');
  });

  test.each([
    ['sid', '4294967296', 'sid is not an integer from 1 to 4294967295'],
    ['sid', undefined, 'sid is not an integer from 1 to 4294967295'],
    ['gid', '-1', 'gid is not an integer from 1 to 4294967295'],
    ['rev', '"NaN"', 'rev is not an integer from 0 to 4294967295'],
    ['vlan', '4096', 'vlan is not an integer from 0 to 4095'],
    ['src_port', '65536', 'source port is not an integer from 0 to 65535'],
    ['src_addr', '"10.0.0.256"', 'source address is not an IP address'],
    ['src_addr', undefined, 'source address is not an IP address'],
    ['dst_addr', '"fe80::1%eth0"', 'destination address is not an IP address'],
    ['b64_data', '"c21r!"', 'b64_data is not base64'],
    ['rev', '1.5', 'broken off or damaged between two fields'],
    ['rev', 'NaN', 'rev is broken off or damaged'],
    ['msg', '5', 'msg is broken off or damaged'],
  ])('with %s %s is damage', (field, value, reason) => {
    expect(readOne({ [field]: value })).toBe(reason);
  });

  test('without addresses is damage when its protocol stands on IP', () => {
    expect(readOne({ src_addr: undefined, dst_addr: undefined })).toBe('source address is not an IP address');
  });

  test('has a message of at most 1,024 characters, without control characters', () => {
    expect(readOne({ msg: `"${'é'.repeat(2000)}"` })).toMatchObject({ message: 'é'.repeat(1024) });
    expect(readOne({ msg: '"a\x1b[31mb\u202ec"' })).toMatchObject({ message: 'a\uFFFD[31mb\uFFFDc' });
    expect(readOne({ msg: '""' })).toMatchObject({ message: '' });
  });

  test('has a payload of at most 65,535 bytes', () => {
    const payload = Buffer.alloc(65_600, 1).toString('base64');
    expect(readOne({ b64_data: `"${payload}"` })).toMatchObject({ payload: Buffer.alloc(65_535, 1) });
  });

  test('has escapes in the strings that Snort escapes only', () => {
    expect(readOne({ class: String.raw`"a \"b\" \\ \n"` })).toMatchObject({ classification: String.raw`a "b" \ \n` });
    expect(readOne({ msg: String.raw`"a \ b\"` })).toMatchObject({ message: String.raw`a \ b\ `.trim() });
  });
});

describe('damage in alert_json', () => {
  const good = line({ sid: '2' });

  test('a torn line with the next object glued on behind it is one damage, wherever it was torn', () => {
    const torn = line({ sid: '1', msg: '"with { brace and "quotes""' });
    for (let cut = 1; cut < torn.length - 2; cut++) {
      const items = read(torn.slice(0, cut) + good);
      expect(damageOf(items)).toMatchObject([{ start: 0, end: cut }]);
      expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2]);
    }
  });

  test('a torn line that has its line end is one damage, wherever it was torn', () => {
    const torn = line({ sid: '1' });
    for (let cut = 1; cut < torn.length - 2; cut++) {
      const items = read(`${torn.slice(0, cut)}\n${good}`);
      expect(damageOf(items)).toMatchObject([{ start: 0 }]);
      expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2]);
    }
  });

  test('several torn objects glued together are one damage', () => {
    const items = read(line().slice(0, 100) + line().slice(0, 120) + good);
    expect(damageOf(items)).toMatchObject([{ start: 0, end: 220 }]);
    expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2]);
  });

  test('an object torn within msg is noticed when msg is the first field too', () => {
    const first = line({ msg: undefined }).replace('{', '{ "msg" : "evil",');
    const items = read(first.slice(0, 12) + first);
    expect(items).toMatchObject([
      { kind: 'damage', end: 12 },
      { kind: 'alert', start: 12, alert: { message: 'evil' } },
    ]);
  });

  test('an object with a field twice is none', () => {
    expect(damageOf(read(line().replace('"rev"', '"sid"')))).toMatchObject([
      { reason: 'sid stands twice in one object' },
    ]);
  });

  test('objects without line ends between them are read', () => {
    expect(alertsOf(read(good.trimEnd() + good.trimEnd() + good))).toHaveLength(3);
    const items = read(`${good.trimEnd()}\xff\x00${good}`);
    expect(items.map(({ kind }) => kind)).toEqual(['alert', 'damage', 'alert']);
  });

  test('a line beyond the limit is one damage to its end', () => {
    const long = `{ "timestamp" : "${'x'.repeat(MAX_ITEM)}${good.trimEnd()}`;
    const items = read(`${good}${long}\n${good}`);
    expect(items.map(({ kind }) => kind)).toEqual(['alert', 'damage', 'alert']);
    expect(damageOf(items)).toEqual([
      { reason: `longer than ${MAX_ITEM} bytes`, start: good.length, end: good.length + Buffer.byteLength(long) },
    ]);
  });

  test('a line at the limit is read', () => {
    const rest = line({ app_id: '""' }).length - 1;
    expect(alertsOf(read(line({ app_id: `"${'x'.repeat(MAX_ITEM - rest)}"` })))).toHaveLength(1);
    expect(alertsOf(read(line({ app_id: `"${'x'.repeat(MAX_ITEM - rest + 1)}"` })))).toHaveLength(0);
  });

  test('what is left at the end is damage when it is cut off, an alert when only the line end is missing', () => {
    expect(read(good.trimEnd()).map(({ kind }) => kind)).toEqual(['alert']);
    expect(read(good.slice(0, -3)).map(({ kind }) => kind)).toEqual(['damage']);
    expect(read(line({ msg: '"a\nb"' }).slice(0, 150)).map(({ kind }) => kind)).toEqual(['damage']);
    expect(read('\n \r\n')).toEqual([]);
  });

  test('a message that never ends takes in a bounded number of lines', () => {
    const open = good.slice(0, good.indexOf('evil'));
    const items = read(`${open}${'\nx'.repeat(100)}\n${good}`);
    expect(damageOf(items)[0]).toMatchObject({ start: 0, end: open.length + 2 * 15 });
    expect(alertsOf(items)).toHaveLength(1);
    expect(items.at(-1)?.kind).toBe('alert');
  });

  test('goes on counting offsets after end()', () => {
    const decoder = createAlertJsonDecoder();
    decoder.push(Buffer.from(good.slice(0, 50)));
    expect(decoder.end()).toMatchObject([{ kind: 'damage', start: 0, end: 50 }]);
    expect(decoder.push(Buffer.from(good))).toMatchObject([{ kind: 'alert', start: 50, end: 49 + good.length }]);
  });

  test('a line full of beginnings is given up after a bounded number of attempts', () => {
    const items = read(`${'{ "a" : 1'.repeat(20_000)}${good}${good}`);
    expect(damageOf(items)).toHaveLength(1);
    expect(alertsOf(items).length).toBeGreaterThanOrEqual(1);
  });
});

describe('any alert_json', () => {
  test('gives the same items however it is cut into chunks', () => {
    fc.assert(
      fc.property(noiseOf(sample), cutsArbitrary, (noise, cuts) => {
        for (const bytes of [sample, noise])
          expect(decode(createAlertJsonDecoder(), bytes, cuts)).toEqual(decode(createAlertJsonDecoder(), bytes));
      }),
      { numRuns: 40 },
    );
  });

  test('never throws and has orderly spans', () => {
    fc.assert(
      fc.property(noiseOf(sample), cutsArbitrary, (bytes, cuts) => {
        expectOrderly(decode(createAlertJsonDecoder(), bytes, cuts), bytes.length);
      }),
    );
  });

  test('with a part cut out, overwritten or put in, keeps every alert on later lines', () => {
    const lines = Array.from({ length: 8 }, (_, i) => line({ sid: String(i + 1) }));
    const valid = Buffer.from(lines.join(''));
    const starts = lines.map((_, i) => lines.slice(0, i).join('').length);
    fc.assert(
      fc.property(
        fc.nat({ max: valid.length - 1 }),
        fc.nat({ max: 600 }),
        fc.uint8Array({ maxLength: 300 }),
        cutsArbitrary,
        (at, removed, put, cuts) => {
          const end = Math.min(valid.length, at + removed);
          const bytes = Buffer.concat([valid.subarray(0, at), put, valid.subarray(end)]);
          const items = decode(createAlertJsonDecoder(), bytes, cuts);
          expectOrderly(items, bytes.length);
          // The line that the damage ends in may be lost; all that begin behind it are there, and so are those before.
          const sids = alertsOf(items).map(({ sid }) => sid);
          const before = starts.flatMap((start, i) => (start + (lines[i]?.length ?? 0) <= at ? [i + 1] : []));
          const after = starts.flatMap((start, i) =>
            start > end || (start === end && put.length === 0) ? [i + 1] : [],
          );
          expect(sids.slice(0, before.length)).toEqual(before);
          expect(after.length === 0 ? [] : sids.slice(-after.length)).toEqual(after);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('with garbage between lines, has all alerts and at least one damage', () => {
    const garbage = fc
      .uint8Array({ minLength: 1, maxLength: 200 })
      .map((bytes) => Buffer.from(bytes.map((byte) => byte | 0x80)));
    fc.assert(
      fc.property(fc.array(garbage, { minLength: 1, maxLength: 8 }), cutsArbitrary, (pieces, cuts) => {
        const bytes = Buffer.concat(pieces.flatMap((piece) => [piece, Buffer.from(line())]));
        const items = decode(createAlertJsonDecoder(), bytes, cuts);
        expect(alertsOf(items)).toHaveLength(pieces.length);
        expect(damageOf(items)).toHaveLength(pieces.length);
      }),
    );
  });
});
