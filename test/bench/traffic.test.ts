import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
// For what is checked in each of many packets: expect() takes longer than all the rest.
import { equal, ok } from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { writeTraffic, type Mix, type Traffic } from '../../bench/traffic.ts';
import { MARKER } from '../support/agent.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpi-traffic-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Segment {
  /** `address:port > address:port` */
  flow: string;
  reverse: string;
  port: number;
  flags: number;
  sequence: number;
  acknowledgement: number;
  data: Buffer;
  length: number;
}

const FIN = 1;
const SYN = 2;
const ACK = 16;

function segmentsOf(path: string): { segments: Segment[]; datagrams: Buffer[] } {
  const segments: Segment[] = [];
  const datagrams: Buffer[] = [];
  const parser = createPcapParser((_s, _us, caplen, _length, _link, buffer, start) => {
    const frame = Buffer.from(buffer.subarray(start, start + caplen));
    equal(frame.readUInt16BE(16), frame.length - 14);
    const [source, destination] = [26, 30].map((at) => frame.subarray(at, at + 4).join('.'));
    const tcp = frame.subarray(34);
    if (frame[23] === 17) {
      datagrams.push(tcp.subarray(8));
      return;
    }
    const [from, to] = [`${source}:${tcp.readUInt16BE(0)}`, `${destination}:${tcp.readUInt16BE(2)}`];
    segments.push({
      flow: `${from} > ${to}`,
      reverse: `${to} > ${from}`,
      port: Math.min(tcp.readUInt16BE(0), tcp.readUInt16BE(2)),
      flags: tcp.readUInt8(13),
      sequence: tcp.readUInt32BE(4),
      acknowledgement: tcp.readUInt32BE(8),
      data: tcp.subarray((tcp.readUInt8(12) >> 4) * 4),
      length: frame.length,
    });
  });
  parser.push(readFileSync(path));
  expect(parser.end()).toMatchObject({ kind: 'read', damageCount: 0 });
  return { segments, datagrams };
}

/** Each direction's bytes, put together; every number is checked on the way. */
function streamsOf(segments: Segment[]): Map<string, Buffer> {
  const next = new Map<string, number>();
  const acknowledged = new Map<string, number>();
  const parts = new Map<string, Buffer[]>();
  for (const { flow, reverse, flags, sequence, acknowledgement, data } of segments) {
    if (flags & SYN) equal(next.has(flow), false);
    else equal(sequence, next.get(flow));
    next.set(flow, (sequence + data.length + (flags & (SYN | FIN) ? 1 : 0)) >>> 0);
    if (flags & ACK) {
      equal(acknowledgement, next.get(reverse));
      acknowledged.set(reverse, acknowledgement);
    }
    parts.set(flow, [...(parts.get(flow) ?? []), data]);
  }
  expect(acknowledged).toEqual(next);
  return new Map([...parts].map(([flow, list]) => [flow, Buffer.concat(list)]));
}

function recordTypes(stream: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at < stream.length; at += 5 + stream.readUInt16BE(at + 3)) {
    equal(stream.readUInt16BE(at + 1), 0x0303);
    ok(stream.readUInt16BE(at + 3) <= 16_384 + 24);
    ok(at + 5 + stream.readUInt16BE(at + 3) <= stream.length);
    types.push(stream.readUInt8(at));
  }
  return types;
}

function write(mix: Mix, name: string): Promise<Traffic> {
  return writeTraffic(join(directory, name), mix, mix === 'small' ? { packets: 2_000 } : { bytes: 12e6 }, 10);
}

describe('TLS', () => {
  let segments: Segment[] = [];
  beforeAll(async () => {
    await write('tls', 'tls.pcap');
    ({ segments } = segmentsOf(join(directory, 'tls.pcap')));
  });

  test('sequence and acknowledgement numbers are right, and all is acknowledged', () => {
    const streams = streamsOf(segments);
    expect(segments.filter(({ flags }) => flags & FIN)).toHaveLength(streams.size);
  });

  test('each direction is whole records, from its handshake on, and nearly all bytes are data', () => {
    let data = 0;
    let all = 0;
    for (const stream of streamsOf(segments).values()) {
      const types = recordTypes(stream);
      expect(types[0]).toBe(22);
      expect([21, 23]).toContain(types.at(-1));
      data += types.filter((type) => type === 23).length;
      all += types.length;
    }
    expect(data / all).toBeGreaterThan(0.8);
  });

  test('the receiver acknowledges each one or two of the large frames', () => {
    const large = segments.filter(({ data }) => data.length > 50_000).length;
    const pure = segments.filter(({ data, flags }) => data.length === 0 && !(flags & (SYN | FIN))).length;
    expect(large).toBeGreaterThan(100);
    expect(pure / large).toBeGreaterThan(0.5);
    expect(pure / large).toBeLessThan(1.3);
  });
});

test('a mix has its shares of bytes, and its conversations alternate', async () => {
  await write('mixed', 'mixed.pcap');
  const { segments } = segmentsOf(join(directory, 'mixed.pcap'));
  streamsOf(segments);
  const bytes = (list: Segment[]): number => list.reduce((sum, { length }) => sum + length, 0);
  const tls = segments.filter(({ port }) => port === 443);
  // The conversations that are open at the end shift the shares of a small file.
  expect(bytes(tls) / bytes(segments)).toBeGreaterThan(0.6);
  expect(bytes(tls) / bytes(segments)).toBeLessThan(0.85);
  const half = segments.slice(0, Math.floor(segments.length / 2));
  expect(bytes(half.filter(({ port }) => port === 443)) / bytes(half)).toBeCloseTo(0.7, 1);
  const open = new Set<string>();
  let most = 0;
  for (const { flow, reverse, flags } of segments) {
    open.add([flow, reverse].sort().join());
    most = Math.max(most, open.size);
    if (flags & FIN) open.delete([flow, reverse].sort().join());
  }
  expect(most).toBeGreaterThan(8);
});

test.each<Mix>(['small', 'clear', 'tls', 'mixed'])(
  '%s: as many markers as it says, and the same bytes again',
  async (mix) => {
    const one = await write(mix, 'one.pcap');
    const other = await write(mix, 'other.pcap');
    expect(readFileSync(one.path).equals(readFileSync(other.path))).toBe(true);
    const { segments, datagrams } = segmentsOf(one.path);
    expect(segments.length + datagrams.length).toBe(one.packets);
    expect(datagrams.filter((data) => data.includes(MARKER))).toHaveLength(one.markers);
    const text = (word: string): number => segments.filter(({ data }) => data.includes(word)).length;
    expect(text('dpi-hello')).toBe(one.hellos);
    expect(text('dpi-deep')).toBe(one.deep);
  },
);
