import { describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import type { AskedPacket } from '../../../agent/capture/packet-queries.ts';
import { CHUNK_BYTES } from '../../../agent/capture/recent/memory.ts';
import { RECORD_HEADER, writeRecordHeader } from '../../../agent/capture/record.ts';
import { createShunt } from '../../../agent/capture/shunt/shunt.ts';
import {
  DEFAULT_START_MICROS,
  ethernet,
  ipFragments,
  ipPacket,
  LINKTYPE,
  mergeFrames,
  PROTOCOL,
  tcpConversation,
  udpPacket,
  type Frame,
} from '../../support/packets.ts';
import { createRecent, TCP_FLOW, type Recent } from '../../support/recent.ts';

const ENDS = { source: '10.0.0.1', destination: '10.0.0.2' };
const VLAN = 7;
const MIB = 1 << 20;

const exchanged = (clientPort: number, bytes = 4000): Frame[] =>
  tcpConversation({
    clientPort,
    exchange: [
      { from: 'client', data: `ask ${clientPort}` },
      { from: 'server', data: Buffer.alloc(bytes, clientPort) },
    ],
  });

const asFrames = (packets: readonly AskedPacket[]): object[] =>
  packets.map(({ time, frame, length }) => ({ time, frame: frame.toString('latin1'), length }));
const expected = (frames: readonly Frame[]): object[] =>
  frames.map(({ timeMicros, data, originalLength = data.length }) => ({
    time: timeMicros,
    frame: data.toString('latin1'),
    length: originalLength,
  }));

/** Frames one microsecond apart. */
const framesOf = (frames: readonly Buffer[]): Frame[] =>
  frames.map((data, index) => ({ timeMicros: DEFAULT_START_MICROS + index, data }));

test('a flow has its packets of both directions, in order, and none of other flows', async () => {
  const recent = createRecent({ bytes: 4 * MIB });
  const own = exchanged(4000);
  recent.capture(VLAN, mergeFrames(own, exchanged(4001), exchanged(4002)), 5);
  const asked = await recent.ask(VLAN, TCP_FLOW(4000));
  expect(asFrames(asked.packets)).toEqual(expected(own));
  expect(asked).toMatchObject({ by: 'flow', skipped: false, lost: false });
});

test('the ends may be named in either order', async () => {
  const recent = createRecent({ bytes: 4 * MIB });
  recent.capture(VLAN, exchanged(4000));
  const { source, destination, sourcePort, destinationPort, protocol } = TCP_FLOW(4000);
  const turned = {
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
    protocol,
  };
  expect((await recent.ask(VLAN, turned)).packets).toHaveLength(exchanged(4000).length);
});

test('an endpoint has its own packets only, also where its flow has the same ends as that of another', async () => {
  const recent = createRecent({ bytes: 4 * MIB });
  const [here, there] = [exchanged(4000, 10), exchanged(4000, 20)];
  recent.capture(1, here);
  recent.capture(2, there);
  expect(asFrames((await recent.ask(1, TCP_FLOW(4000))).packets)).toEqual(expected(here));
  expect(asFrames((await recent.ask(2, TCP_FLOW(4000))).packets)).toEqual(expected(there));
  expect(await recent.ask(3, TCP_FLOW(4000))).toMatchObject({ packets: [], by: 'none' });
});

test('packets that come after the question are there too, until the time is over', async () => {
  const recent = createRecent({ bytes: 4 * MIB });
  const own = exchanged(4000);
  const unfinished = own.slice(0, -4);
  recent.capture(VLAN, unfinished.slice(0, 2));
  const asked = recent.ask(VLAN, TCP_FLOW(4000), { afterMillis: 300 });
  recent.capture(VLAN, exchanged(4001));
  recent.capture(VLAN, unfinished.slice(2));
  expect(asFrames((await asked).packets)).toEqual(expected(unfinished));
  expect(await asked).toMatchObject({ by: 'time', skipped: false, lost: false });
});

test('a connection that ends is not waited for', async () => {
  const recent = createRecent({ bytes: 4 * MIB });
  const own = exchanged(4000);
  recent.capture(VLAN, own.slice(0, 2));
  const asked = recent.ask(VLAN, TCP_FLOW(4000), { afterMillis: 3_600_000 });
  recent.capture(VLAN, own.slice(2));
  expect(asFrames((await asked).packets)).toEqual(expected(own));
  expect(await asked).toMatchObject({ by: 'flow' });
});

describe('other packets than plain ones', () => {
  const UDP = { sourcePort: 5353, destinationPort: 53 };
  const flow = (source: string, destination: string) => ({ source, destination, ...UDP, protocol: 17 });

  test.each([
    ['IPv4', '10.0.0.1', '10.0.0.2'],
    ['IPv6', 'fd00::1', 'fd00::2'],
  ])('fragments of %s', async (_, source, destination) => {
    const recent = createRecent({ bytes: 4 * MIB });
    const datagram = (id: number, sourcePort: number): Buffer[] =>
      ipFragments(
        udpPacket({ source, destination, ...UDP, sourcePort, id, payload: Buffer.alloc(3000, id) }),
        1480,
      ).map((fragment) => {
        if (source.includes(':')) fragment.writeUInt32BE(id, 44);
        return ethernet(fragment);
      });
    const own = datagram(11, 5353);
    const frames = framesOf([...own, ...datagram(12, 999)]);
    recent.capture(VLAN, frames);
    const asked = await recent.ask(VLAN, flow(source, destination));
    expect(asFrames(asked.packets)).toEqual(expected(frames.slice(0, own.length)));
  });

  test('tags, and what a tunnel carries', async () => {
    const recent = createRecent({ bytes: 4 * MIB });
    const inner = udpPacket({ source: '10.1.0.1', destination: '10.1.0.2', ...UDP, payload: 'inner' });
    const outer = { source: '192.0.2.1', destination: '192.0.2.2' };
    const vxlan = Buffer.concat([Buffer.from('0800000000000100', 'hex'), ethernet(inner)]);
    const gre = Buffer.concat([Buffer.from('00000800', 'hex'), inner]);
    const frames = framesOf([
      ethernet(inner, { vlans: [5, { id: 6, tpid: 0x88a8 }] }),
      ethernet(udpPacket({ ...outer, sourcePort: 1, destinationPort: 4789, payload: vxlan })),
      ethernet(ipPacket({ ...outer, protocol: PROTOCOL.gre }, gre)),
      ethernet(ipPacket({ ...outer, protocol: 4 }, inner)),
    ]);
    recent.capture(VLAN, frames);
    expect(asFrames((await recent.ask(VLAN, flow('10.1.0.1', '10.1.0.2'))).packets)).toEqual(expected(frames));
  });

  test('frames without an Ethernet header', async () => {
    const recent = createRecent({ bytes: 4 * MIB, dlt: LINKTYPE.raw });
    const frames = framesOf([udpPacket({ source: 'fd00::1', destination: 'fd00::2', ...UDP, payload: 'raw' })]);
    recent.capture(VLAN, frames);
    const { packets } = await recent.ask(VLAN, flow('fd00::1', 'fd00::2'));
    expect(asFrames(packets)).toEqual(expected(frames));
    expect(packets[0]?.linkType).toBe(LINKTYPE.raw);
  });

  test('what was not captured whole keeps its length', async () => {
    const recent = createRecent({ bytes: 4 * MIB });
    const data = ethernet(udpPacket({ source: '10.0.0.1', destination: '10.0.0.2', ...UDP, payload: 'cut' }));
    const frames: Frame[] = [{ timeMicros: DEFAULT_START_MICROS, data, originalLength: 9000 }];
    recent.capture(VLAN, frames);
    expect(asFrames((await recent.ask(VLAN, flow('10.0.0.1', '10.0.0.2'))).packets)).toEqual(expected(frames));
  });
});

describe('bounds', () => {
  const udp = (port: number, count: number, size: number): Frame[] =>
    framesOf(
      Array.from({ length: count }, () =>
        ethernet(
          udpPacket({
            source: '10.0.0.1',
            destination: '10.0.0.2',
            sourcePort: port,
            destinationPort: 9,
            payload: Buffer.alloc(size),
          }),
        ),
      ),
    );
  const flow = (sourcePort: number) => ({ ...TCP_FLOW(sourcePort), destinationPort: 9, protocol: 17 });

  test('an endpoint that floods does not take the packets of a quiet one', async () => {
    const recent = createRecent({ bytes: 16 * CHUNK_BYTES });
    const quiet = exchanged(4000, 100);
    recent.capture(1, quiet);
    const flood = udp(1, 1000, 1400);
    for (let round = 0; round < 20; round++) recent.capture(2, flood);
    expect(asFrames((await recent.ask(1, TCP_FLOW(4000))).packets)).toEqual(expected(quiet));
    expect(await recent.ask(2, flow(1), { packets: 10 })).toMatchObject({ lost: true, skipped: true });
  });

  test('of a flow with too many packets there are its first, those up to the alert, and some behind it', async () => {
    const recent = createRecent({ bytes: 64 * CHUNK_BYTES });
    const frames = udp(1, 20_000, 100);
    recent.capture(VLAN, frames);
    const alert = DEFAULT_START_MICROS + 15_000;
    const { packets, by, skipped } = await recent.ask(VLAN, flow(1), { packets: 400, time: alert });
    const places = packets.map(({ time }) => time - DEFAULT_START_MICROS);
    expect({ by, skipped, count: packets.length }).toEqual({ by: 'limit', skipped: true, count: 400 });
    expect(places.slice(0, 100)).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect(places.slice(100, 200)).toEqual(Array.from({ length: 100 }, (_, index) => 14_901 + index));
    expect(places.slice(200)).toEqual(Array.from({ length: 200 }, (_, index) => 15_001 + index));
  });

  test('bytes are bounded too', async () => {
    const recent = createRecent({ bytes: 64 * CHUNK_BYTES });
    recent.capture(VLAN, udp(1, 2000, 1400));
    const { packets } = await recent.ask(VLAN, flow(1), { bytes: 64 * 1024, time: DEFAULT_START_MICROS + 1000 });
    const sum = packets.reduce((bytes, { frame }) => bytes + frame.length, 0);
    expect(sum).toBeLessThanOrEqual(64 * 1024);
    expect(sum).toBeGreaterThan(32 * 1024);
    expect(packets.map(({ time }) => time)).toContain(DEFAULT_START_MICROS + 1000);
  });

  const small = ethernet(udpPacket({ ...ENDS, sourcePort: 1, destinationPort: 9, payload: Buffer.alloc(40) }));

  /** Small ones, a microsecond apart from `first` on. */
  function many(count: number, port: (at: number) => number, first = 0): Frame[] {
    return Array.from({ length: count }, (_, at) => {
      const data = Buffer.from(small);
      data.writeUInt16BE(port(at), 34);
      return { timeMicros: DEFAULT_START_MICROS + first + at, data };
    });
  }

  /** What is kept lies in the memory that was asked for, and in no other. */
  function expectWithin(recent: Recent, bytes: number): void {
    const { memory } = recent;
    expect(memory.bytes.length).toBeLessThanOrEqual(bytes);
    const chunks = memory.chunksOf(VLAN + 4096);
    expect(new Set(chunks.map(({ base }) => base)).size).toBe(chunks.length);
    for (const { base, used } of chunks) {
      expect(base % CHUNK_BYTES).toBe(0);
      expect(used).toBeLessThanOrEqual(CHUNK_BYTES);
      expect(base + CHUNK_BYTES).toBeLessThanOrEqual(memory.bytes.length);
    }
  }

  test('a flow of a million packets', async () => {
    const recent = createRecent({ bytes: 4 * MIB });
    recent.capture(
      VLAN,
      many(1, () => 1),
    );
    const kind = { key: VLAN + 4096, link: LINKTYPE.ethernet, room: 4 };
    const size = RECORD_HEADER + kind.room + small.length;
    const turn = Buffer.alloc(500 * size);
    const view = new DataView(turn.buffer, turn.byteOffset, turn.length);
    const start = DEFAULT_START_MICROS / 1e6;
    for (let second = 1; second <= 2000; second++) {
      for (let at = 0; at < turn.length; at += size) {
        writeRecordHeader(view, at, start + second, at / size, small.length, small.length);
        small.copy(turn, at + RECORD_HEADER + kind.room);
      }
      recent.memory.addAll(kind, turn, 0, turn.length);
      recent.memory.settle();
    }
    const time = (start + 1999) * 1e6 + 7;
    const { packets, lost, skipped } = await recent.ask(VLAN, flow(1), { time });
    expect({ count: packets.length, lost, skipped }).toEqual({ count: 1000, lost: true, skipped: true });
    expect(packets.map((packet) => packet.time)).toContain(time);
    expectWithin(recent, 4 * MIB);
  });

  test('a hundred thousand flows: each that was not overwritten is found, and of the others nothing', async () => {
    const recent = createRecent({ bytes: 8 * MIB });
    const port = (at: number): number => at % 50_000;
    recent.capture(VLAN, many(50_000, port));
    recent.capture(
      VLAN,
      many(50_000, (at) => 50_000 + (at % 15_000), 50_000),
    );
    expectWithin(recent, 8 * MIB);
    for (const last of [64_999, 60_000, 55_001]) expect((await recent.ask(VLAN, flow(last))).packets).toHaveLength(3);
    expect(await recent.ask(VLAN, flow(20_000))).toMatchObject({ packets: [], lost: true });
  });

  test('a clock that is set back or on changes no order', async () => {
    const recent = createRecent({ bytes: 4 * MIB });
    const steps = [0, 3.6e9, -3.6e9, 86_400e6];
    const frames = steps.flatMap((step) => many(5, () => 1, step));
    recent.capture(VLAN, frames);
    const { packets } = await recent.ask(VLAN, flow(1), { time: DEFAULT_START_MICROS - 3.6e9 + 2 });
    expect(asFrames(packets)).toEqual(expected(frames));
  });

  test('so many flows are followed at a time, and the others are told so', async () => {
    const recent = createRecent({ bytes: 4 * MIB });
    recent.capture(VLAN, exchanged(4000).slice(0, 2));
    const asked = Array.from({ length: 300 }, (_, index) =>
      recent.ask(VLAN, TCP_FLOW(5000 + index), { afterMillis: 100 }),
    );
    const ends = (await Promise.all(asked)).map(({ by }) => by);
    expect(ends.filter((by) => by === 'busy')).toHaveLength(300 - 256);
    expect(ends.filter((by) => by === 'time')).toHaveLength(256);
  });

  test('a flow that is followed loses nothing where the memory is used again between two looks', async () => {
    const recent = createRecent({ bytes: 4 * CHUNK_BYTES });
    const first = udp(1, 1, 100);
    recent.capture(VLAN, first);
    const asked = recent.ask(VLAN, flow(1), { afterMillis: 200, packets: 5000, bytes: 16 * MIB });
    const [own, other] = [udp(1, 10, 100), udp(2, 1000, 900)];
    for (let round = 0; round < 20; round++) {
      recent.capture(VLAN, own);
      recent.capture(VLAN, other);
    }
    expect((await asked).packets).toHaveLength(1 + 20 * 10);
  });
});

describe('what is kept', () => {
  test('of headers no byte of payload', async () => {
    const recent = createRecent({ bytes: 4 * MIB, keep: 'headers' });
    const frames = exchanged(4000);
    recent.capture(VLAN, frames);
    const { packets } = await recent.ask(VLAN, TCP_FLOW(4000));
    // A SYN has an option of 4 bytes.
    expect(packets.map(({ frame }) => frame.length)).toEqual(frames.map((_, at) => 14 + 20 + (at < 2 ? 24 : 20)));
    expect(packets.map(({ length }) => length)).toEqual(frames.map(({ data }) => data.length));
  });

  test('of large packets those up to a rate whole, and of the others the beginning', async () => {
    const recent = createRecent({ bytes: 64 * MIB, rate: 1 * MIB });
    const large = (port: number): Frame[] =>
      framesOf(
        Array.from({ length: 400 }, (_, at) =>
          ethernet(udpPacket({ ...ENDS, sourcePort: port, destinationPort: 9, payload: Buffer.alloc(60_000, at) })),
        ),
      );
    const sizes = async (vlan: number, port: number): Promise<number[]> => {
      const flow = { ...TCP_FLOW(port), destinationPort: 9, protocol: 17 };
      const { packets } = await recent.ask(vlan, flow, { bytes: 64 * MIB, time: DEFAULT_START_MICROS + 500 });
      expect(packets.every(({ length }) => length === 60_042)).toBe(true);
      return packets.map(({ frame }) => frame.length);
    };
    recent.capture(1, large(1), 4);
    const burst = Math.floor((16 * MIB) / 60_042);
    expect((await sizes(1, 1)).slice(0, burst + 50)).toEqual([
      ...Array.from({ length: burst }, () => 60_042),
      ...Array.from({ length: 50 }, () => 1024),
    ]);
    // Another endpoint has a rate of its own, and after a while it is so again.
    recent.capture(2, large(2).slice(0, 3));
    expect(await sizes(2, 2)).toEqual([60_042, 60_042, 60_042]);
    recent.pass(1000);
    recent.capture(1, large(3).slice(0, 20));
    expect((await sizes(1, 3)).filter((size) => size === 60_042)).toHaveLength(Math.floor(MIB / 60_042));
  });

  test('nothing where it is off', async () => {
    const recent = createRecent({ bytes: 4 * MIB, keep: 'off' });
    recent.capture(VLAN, exchanged(4000));
    expect((await recent.ask(VLAN, TCP_FLOW(4000))).packets).toEqual([]);
  });

  test.each([
    ['packets of the usual size, in turns', 3000 / 32, 128],
    ['packets of the usual size, one by one', 1400 / 32, 1],
    ['large frames', 20_000 / 32, 16],
  ])('of encrypted bulk the first bytes, and all of what is between: %s', async (_, words, perTurn) => {
    const shunt = createShunt({ firstBytes: 0, flows: 64 });
    const recent = createRecent({ bytes: 4 * MIB, shunt });
    const ends = { source: '10.0.0.1', destination: '10.0.0.2' };
    const esp = (number: number): Buffer => {
      const head = Buffer.from('0000cafe00000000', 'hex');
      head.writeUInt32BE(number, 4);
      const body = Array.from({ length: words }, (_word, at) =>
        createHash('sha256').update(`${number} ${at}`).digest(),
      );
      return ethernet(ipPacket({ ...ends, protocol: 50 }, Buffer.concat([head, ...body])));
    };
    const clear = ethernet(ipPacket({ ...ends, protocol: 99 }, Buffer.alloc(3000, 'clear')));
    const frames = framesOf(Array.from({ length: 60 }, (_frame, at) => (at % 4 === 3 ? clear : esp(at + 1))));
    recent.capture(VLAN, frames, perTurn);
    const of = (protocol: number) => ({ ...ends, sourcePort: -1, destinationPort: -1, protocol });
    const encrypted = (await recent.ask(VLAN, of(50))).packets;
    expect(encrypted).toHaveLength(45);
    expect(encrypted.slice(-30).map(({ frame }) => frame.length)).toEqual(Array.from({ length: 30 }, () => 256));
    for (const { time, frame, length } of encrypted) {
      const { data } = frames[time - DEFAULT_START_MICROS] ?? { data: Buffer.alloc(0) };
      expect(length).toBe(data.length);
      expect(frame.equals(data.subarray(0, frame.length))).toBe(true);
    }
    const between = (await recent.ask(VLAN, of(99))).packets;
    expect(between.map(({ frame }) => frame.equals(clear))).toEqual(Array.from({ length: 15 }, () => true));
  });
});
