import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createEveDecoder } from '../../../agent/engine/readers/eve.ts';
import { MAX_ITEM } from '../../../agent/engine/readers/json-lines.ts';
import type { Decoded } from '../../../agent/engine/alert.ts';
import { alertsOf, cutsArbitrary, damageOf, decode, expectOrderly, noiseOf } from './support.ts';

const sample = readFileSync(new URL('fixtures/suricata-eve.txt', import.meta.url));

const EVENT = {
  timestamp: '2026-11-22T00:41:07.123456+0000',
  flow_id: 1,
  pcap_cnt: 4,
  event_type: 'alert',
  vlan: [7, 12],
  src_ip: '10.0.0.1',
  src_port: 40_000,
  dest_ip: '10.0.0.2',
  dest_port: 80,
  proto: 'TCP',
  alert: {
    action: 'allowed',
    gid: 1,
    signature_id: 21_562,
    rev: 3,
    signature: 'MALWARE-CNC "evil"',
    category: 'Misc activity',
    severity: 3,
  },
  app_proto: 'http',
  payload: 'c21rPTEyMzQ=',
};

function line(changes: Record<string, unknown> = {}): string {
  return `${JSON.stringify({ ...EVENT, ...changes })}\n`;
}

function withSid(sid: number): string {
  return line({ alert: { ...EVENT.alert, signature_id: sid } });
}

function read(input: string | Buffer): Decoded[] {
  return decode(createEveDecoder(), Buffer.from(input));
}

function readOne(changes: Record<string, unknown>): unknown {
  const items = read(line(changes));
  expect(items).toHaveLength(1);
  const [item] = items;
  return item?.kind === 'alert' ? item.alert : item?.reason;
}

describe('an EVE alert', () => {
  test('gives every field, and its span without the line end', () => {
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
          message: 'MALWARE-CNC "evil"',
          classification: 'Misc activity',
          priority: 3,
          protocol: 'TCP',
          source: { ip: '10.0.0.1', port: 40_000 },
          destination: { ip: '10.0.0.2', port: 80 },
          packetNumber: 4,
          payload: Buffer.from('smk=1234'),
          service: 'http',
        },
      },
    ]);
  });

  test('has the summary of its flow, in both directions', () => {
    const flow = {
      pkts_toserver: 3,
      pkts_toclient: 2,
      bytes_toserver: 277,
      bytes_toclient: 140,
      start: '2026-11-22T01:21:07.000001+0100',
      src_ip: '10.0.0.1',
    };
    expect(readOne({ flow })).toMatchObject({
      flow: {
        startMicros: 1_795_306_867_000_001,
        packetsToServer: 3,
        packetsToClient: 2,
        bytesToServer: 277,
        bytesToClient: 140,
      },
    });
    expect(readOne({ flow: { ...flow, pkts_toserver: -1 } })).toMatch(/flow.pkts_toserver is not an integer/);
    expect(readOne({ flow: {} })).not.toHaveProperty('flow');
  });

  test('is read as Suricata 7.0.10 wrote it; other events are passed over', () => {
    const items = read(sample);
    expect(damageOf(items)).toEqual([]);
    const alerts = alertsOf(items);
    expect(alerts.map(({ gid, sid, vlan }) => `${gid}:${sid} ${vlan}`)).toEqual([
      '1:1000002 7',
      '1:1000001 7',
      '1:1000003 9',
      '1:1000004 9',
      '1:1000004 9',
      '1:1000003 0',
      '1:1000002 8',
      '1:1000001 8',
      '1:1000003 9',
      '1:2200002 13',
    ]);
    expect(alerts[1]?.message).toBe('evil POST "quoted" semi; end');
    expect(alerts[4]).toMatchObject({ protocol: 'ICMP', source: { ip: 'fd00::3' }, destination: { ip: 'fd00::4' } });
    expect(alerts[9]).toMatchObject({ protocol: '', source: { ip: '' }, destination: { ip: '' } });
  });

  test('says which files the engine saw, and what it says of SMB; other forms of it are left out', () => {
    expect(alertsOf(read(sample)).flatMap(({ files }) => files ?? [])).toContainEqual({
      name: '/evil',
      size: 8,
      state: 'CLOSED',
    });
    const sha256 = 'ab'.repeat(32);
    const files = [{ filename: 'a\u001b[2Jb', size: 3, magic: 'PE32', sha256, md5: 'no hash' }, 7, { size: -1 }];
    const smb = { command: 'SMB2_COMMAND_CREATE', dialect: '3.11', filename: 'a.exe', session_id: 7, status: null };
    expect(readOne({ files, smb })).toMatchObject({
      files: [{ name: 'a\uFFFD[2Jb', size: 3, type: 'PE32', sha256 }],
      smb: { command: 'SMB2_COMMAND_CREATE', dialect: '3.11', filename: 'a.exe' },
    });
    expect(readOne({ files: 'none', smb: [] })).toEqual(readOne({}));
    expect(readOne({ files: Array.from({ length: 100 }, () => ({ filename: 'x' })) })).toMatchObject({
      files: Array.from({ length: 8 }, () => ({ name: 'x' })),
    });
  });

  test('may leave out what a packet does not have', () => {
    const bare = {
      vlan: undefined,
      payload: undefined,
      pcap_cnt: undefined,
      app_proto: 'failed',
      src_port: undefined,
      dest_port: undefined,
    };
    expect(readOne(bare)).toEqual({
      timeMicros: 1_795_308_067_123_456,
      vlan: 0,
      gid: 1,
      sid: 21_562,
      rev: 3,
      message: 'MALWARE-CNC "evil"',
      classification: 'Misc activity',
      priority: 3,
      protocol: 'TCP',
      source: { ip: '10.0.0.1' },
      destination: { ip: '10.0.0.2' },
    });
    expect(readOne({ pcap_cnt: undefined, tunnel: { pcap_cnt: 29 } })).toMatchObject({ packetNumber: 29 });
  });

  test('has its time in any zone', () => {
    expect(readOne({ timestamp: '2026-11-22T02:11:07.000001+0130' })).toMatchObject({
      timeMicros: 1_795_308_067_000_001,
    });
    expect(readOne({ timestamp: '2026-11-21T23:41:07.000001-0100' })).toMatchObject({
      timeMicros: 1_795_308_067_000_001,
    });
    expect(readOne({ timestamp: '2026-02-30T00:41:07.000001+0000' })).toBe('the timestamp is not a time');
    expect(readOne({ timestamp: '2026-11-22' })).toBe('the timestamp is not a time');
  });

  test.each([
    [{ alert: { ...EVENT.alert, signature_id: 4_294_967_296 } }, 'signature_id is not an integer from 1 to 4294967295'],
    [{ alert: { ...EVENT.alert, gid: undefined } }, 'gid is not an integer from 1 to 4294967295'],
    [{ alert: { ...EVENT.alert, rev: null } }, 'rev is not an integer from 0 to 4294967295'],
    [{ alert: { ...EVENT.alert, signature: 5 } }, 'signature is not a string'],
    [{ alert: [] }, 'alert is not an object'],
    [{ vlan: [4096] }, 'vlan is not an integer from 0 to 4095'],
    [{ vlan: 7 }, 'vlan is not a list'],
    [{ src_port: 65_536 }, 'source port is not an integer from 0 to 65535'],
    [{ src_ip: 'localhost' }, 'source address is not an IP address'],
    [{ dest_ip: undefined }, 'destination address is not an IP address'],
    [{ payload: 'c21' }, 'payload is not base64'],
    [{ event_type: undefined }, 'event_type is missing'],
  ])('with %j is damage', (changes, reason) => {
    expect(readOne(changes)).toBe(reason);
  });

  test('has strings of at most 1,024 characters, without control characters or halves of characters', () => {
    const signature = `a\u001bb\ud800c${'x'.repeat(2000)}`;
    expect(readOne({ alert: { ...EVENT.alert, signature } })).toMatchObject({
      message: `a\uFFFDb\uFFFDc${'x'.repeat(1019)}`,
    });
  });
});

describe('damage in EVE', () => {
  const good = withSid(2);

  test.each(['', '\n'])(
    'a torn line followed by %j and the next object is one damage, wherever it was torn',
    (between) => {
      const torn = line({
        alert: { ...EVENT.alert, signature: 'a', category: '' },
        http: { url: '/{"timestamp":"x"}' },
      });
      for (let cut = 1; cut < torn.length - 2; cut++) {
        const items = read(torn.slice(0, cut) + between + good);
        expect(damageOf(items)).toMatchObject([{ start: 0, end: cut }]);
        expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2]);
      }
    },
  );

  test('the rest of an object whose beginning is lost is one damage, and nothing within it is taken for an alert', () => {
    const torn = line({ event_type: 'flow', alert: { signature: 'a' } });
    for (let cut = 1; cut < torn.length - 2; cut++) {
      const items = read(torn.slice(cut) + good);
      expect(damageOf(items)).toMatchObject([{ start: 0, end: torn.length - cut - 1 }]);
      expect(alertsOf(items).map(({ sid }) => sid)).toEqual([2]);
    }
  });

  test('objects without line ends between them are read', () => {
    expect(read(`${good.trimEnd()}${good.trimEnd()}x${good}`).map(({ kind }) => kind)).toEqual([
      'alert',
      'alert',
      'damage',
      'alert',
    ]);
  });

  test('JSON that is no object is damage', () => {
    expect(read(`[1]\nnull\n"x"\n${good}`).map(({ kind }) => kind)).toEqual(['damage', 'damage', 'damage', 'alert']);
  });

  test('a line beyond the limit is one damage to its end', () => {
    const items = read(`${good}${line({ x: 'x'.repeat(MAX_ITEM) })}${good}`);
    expect(items.map(({ kind }) => kind)).toEqual(['alert', 'damage', 'alert']);
  });
});

describe('any EVE log', () => {
  test('gives the same items however it is cut into chunks', () => {
    fc.assert(
      fc.property(noiseOf(sample), cutsArbitrary, (noise, cuts) => {
        for (const bytes of [sample, noise])
          expect(decode(createEveDecoder(), bytes, cuts)).toEqual(decode(createEveDecoder(), bytes));
      }),
      { numRuns: 40 },
    );
  });

  test('never throws and has orderly spans', () => {
    fc.assert(
      fc.property(noiseOf(sample), cutsArbitrary, (bytes, cuts) => {
        expectOrderly(decode(createEveDecoder(), bytes, cuts), bytes.length);
      }),
    );
  });

  test('never throws on any JSON', () => {
    fc.assert(
      fc.property(
        fc.record({
          event_type: fc.constant('alert'),
          alert: fc.jsonValue(),
          vlan: fc.jsonValue(),
          src_ip: fc.jsonValue(),
        }),
        (value) => {
          expect(read(`${JSON.stringify(value)}\n`)).toMatchObject([{ kind: 'damage' }]);
          expect(readOne({ ...value, timestamp: EVENT.timestamp })).toEqual(expect.any(String));
        },
      ),
    );
  });

  test('with a part cut out, overwritten or put in, keeps every alert on later lines', () => {
    const lines = Array.from({ length: 8 }, (_, i) => withSid(i + 1));
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
          const items = decode(createEveDecoder(), bytes, cuts);
          expectOrderly(items, bytes.length);
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
});
