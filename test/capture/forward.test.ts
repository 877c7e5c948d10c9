import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createTail } from '../../agent/capture/cut.ts';
import { createForwarder, createOrigin, goOnBehind, keepTail, type Origin } from '../../agent/capture/forward.ts';
import { tagFrame } from '../../agent/capture/frame.ts';
import { linkTypeFromDlt } from '../../agent/capture/frame/link.ts';
import { pcapFileHeader } from '../../agent/capture/record.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { lostOf, zeroCounters, type Counters } from '../../agent/capture/protocol.ts';
import type { Shunt } from '../../agent/capture/shunt/shunt.ts';
import { createFakeOutput, putRecord, type FakeOutput, type Packet } from '../support/capture.ts';
import { ethernet, LINKTYPE, tcpPacket } from '../support/packets.ts';

const VLAN = 77;
const ARENA = 4 << 20;

const anOrigin = (dlt: number = LINKTYPE.ethernet): Origin & { counters: Counters } => {
  const counters = zeroCounters();
  return { ...createOrigin({ vlan: VLAN, counters, directions: undefined }, dlt), counters };
};

/** Puts packets into the arena, as one source's turn does, and forwards them. */
function forward(output: FakeOutput, origin: Origin, packets: readonly Packet[], shunt?: Shunt): void {
  const from = output.arena.reserve(1);
  let to = from;
  for (const packet of packets) to = putRecord(output.arena.bytes, to, origin.room, packet);
  origin.marks.counters.received += packets.length;
  createForwarder(output, shunt).forward(origin, from, to);
}

/** Bytes as a text, which is compared quickly. */
const readable = ({ frame, ...rest }: Packet): object => ({ ...rest, frame: frame.toString('latin1') });

function parse(records: Buffer): Packet[] {
  const packets: Packet[] = [];
  const parser = createPcapParser((seconds, micros, captured, length, _link, buffer, start) => {
    packets.push({ seconds, micros, length, frame: Buffer.from(buffer.subarray(start, start + captured)) });
  });
  parser.push(Buffer.concat([pcapFileHeader(), records]));
  expect(parser.end()).toMatchObject({ damageCount: 0 });
  return packets;
}

/** What tagging alone makes of a packet; undefined: it is refused. */
function tagged(packet: Packet, dlt: number): Packet | undefined {
  const link = linkTypeFromDlt(dlt);
  if (link === undefined) return undefined;
  const bytes = Buffer.concat([Buffer.alloc(32), packet.frame]);
  const first = tagFrame(bytes, 32, packet.frame.length, link, VLAN);
  if (first < 0) return undefined;
  const frame = bytes.subarray(first);
  return { ...packet, frame, length: Math.max(frame.length, packet.length + 32 - first) };
}

const HEADERS = 14 + 40;
const TRIMMED = 20;

/** Shunts by the frame's last byte: 1 whole, 2 some bytes behind the headers. */
function createFakeShunt(): Shunt {
  const shunt: Shunt = {
    start: 0,
    captured: 0,
    length: 0,
    protocol: 0,
    bytes: 0,
    look(bytes, start, _ip, captured, length) {
      const verdict = (bytes[start + captured - 1] ?? 0) % 4;
      if (verdict === 1) {
        shunt.bytes = length;
        return 'shunted';
      }
      if (verdict !== 2 || captured < HEADERS + TRIMMED) return 'forward';
      bytes.copyWithin(start + TRIMMED, start, start + HEADERS);
      Object.assign(shunt, { start: start + TRIMMED, captured: captured - TRIMMED, length: length - TRIMMED });
      shunt.bytes = TRIMMED;
      return 'trimmed';
    },
    forget: () => undefined,
  };
  return shunt;
}

/** What it leaves of a packet. */
function shunted(packet: Packet): Packet | undefined {
  const { frame, length } = packet;
  const isIp = frame.length >= 34 && frame.readUInt16BE(12) === 0x0800;
  const verdict = isIp ? (frame.at(-1) ?? 0) % 4 : 0;
  if (verdict === 1) return undefined;
  if (verdict !== 2 || frame.length < HEADERS + TRIMMED) return packet;
  return {
    ...packet,
    frame: Buffer.concat([frame.subarray(0, HEADERS), frame.subarray(HEADERS + TRIMMED)]),
    length: length - TRIMMED,
  };
}

const tcp = (payload: Buffer): Buffer =>
  ethernet(
    tcpPacket({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 443,
      destinationPort: 40_000,
      flags: 'A',
      payload,
    }),
  );
const payload = fc.oneof(
  { weight: 5, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
  // Around what is moved, and the largest that a veth gives.
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(16_000, 16_300, 16_310, 16_320, 16_400, 65_000), fc.nat(100), fc.nat(255))
      .map(([size, more, fill]) => Buffer.alloc(size + more, fill)),
  },
);
const frame = fc.oneof(
  { weight: 6, arbitrary: payload.map(tcp) },
  { weight: 1, arbitrary: payload.map((bytes) => ethernet(bytes, { type: 0x8137, vlans: [5] })) },
  // Too short for a link header, or of no protocol.
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 13 }).map((bytes) => Buffer.from(bytes)) },
);
const packets = fc.array(
  fc.record({
    seconds: fc.nat(2 ** 32 - 1),
    micros: fc.nat(999_999),
    frame,
    more: fc.oneof(fc.constant(0), fc.nat(100_000)),
  }),
  { maxLength: 40 },
);
const whole = (list: { seconds: number; micros: number; frame: Buffer; more: number }[]): Packet[] =>
  list.map(({ more, ...packet }) => ({ ...packet, length: packet.frame.length + more }));

describe('what the engine gets', () => {
  test.each(Object.entries({ ...LINKTYPE, 'of a type that no engine reads': 105 }))(
    'of frames (%s) is each that can be tagged, as tagging alone makes it, in order',
    (_name, dlt) => {
      fc.assert(
        fc.property(packets, (list) => {
          const sent = whole(list);
          const output = createFakeOutput(ARENA);
          const origin = anOrigin(dlt);
          forward(output, origin, sent);
          const expected = sent.flatMap((packet) => tagged(packet, dlt) ?? []);
          expect(parse(output.read()).map(readable)).toEqual(expected.map(readable));
          expect(output.added.reduce((sum, count) => sum + count, 0)).toBe(expected.length);
          expect(origin.counters).toMatchObject({
            received: sent.length,
            receivedBytes: sent.reduce((sum, { length }) => sum + length, 0),
            forwarded: expected.length,
            unsupported: sent.length - expected.length,
            truncated: sent.filter(({ frame: { length: captured }, length }) => captured < length).length,
          });
        }),
        { numRuns: 60 },
      );
    },
  );

  test('is without what was shunted, and nothing around it changes', () => {
    fc.assert(
      fc.property(packets, (list) => {
        const sent = whole(list);
        const output = createFakeOutput(ARENA);
        const origin = anOrigin();
        forward(output, origin, sent, createFakeShunt());
        const left = sent.flatMap((packet) => shunted(packet) ?? []);
        const expected = left.flatMap((packet) => tagged(packet, LINKTYPE.ethernet) ?? []);
        expect(parse(output.read()).map(readable)).toEqual(expected.map(readable));
        const { received, forwarded, shunted: gone, unsupported, tlsPackets, ...bytes } = origin.counters;
        expect(gone).toBe(sent.length - left.length);
        expect(received).toBe(forwarded + gone + unsupported);
        expect(tlsPackets).toBe(sent.filter((packet) => shunted(packet) !== packet).length);
        const refused = left.filter((packet) => tagged(packet, LINKTYPE.ethernet) === undefined);
        const refusedBytes = refused.reduce((sum, { length }) => sum + length, 0);
        expect(bytes.receivedBytes).toBe(bytes.forwardedBytes + bytes.tlsBytes + refusedBytes);
      }),
      { numRuns: 200 },
    );
  });

  test('small records behind a gap are moved, and a large one begins a piece of its own', () => {
    const gap = { seconds: 0, micros: 0, frame: Buffer.alloc(5), length: 5 };
    const small = { ...gap, frame: tcp(Buffer.alloc(100)), length: 154 };
    const large = { ...gap, frame: tcp(Buffer.alloc(20_000)), length: 20_054 };
    const pieces = (list: Packet[]): number[] => {
      const output = createFakeOutput(ARENA);
      forward(output, anOrigin(), list);
      return output.added;
    };
    expect(pieces([small, gap, small, gap, gap, small])).toEqual([3]);
    expect(pieces([small, gap, large, gap, small])).toEqual([1, 2]);
    expect(pieces([gap, large, large, small])).toEqual([3]);
    expect(pieces([gap, gap])).toEqual([]);
  });

  test('in turn after turn through an arena that is used again, is all there', () => {
    const output = createFakeOutput(100_000);
    const origin = anOrigin();
    let sent = 0;
    const got: number[] = [];
    for (let turn = 0; turn < 300; turn++) {
      const list = Array.from({ length: turn % 7 }, () => ({
        seconds: sent++,
        micros: 0,
        frame: tcp(Buffer.alloc(1 + (turn % 11) * 300)),
        length: 0,
      }));
      forward(output, origin, list);
      got.push(...parse(output.read()).map(({ seconds }) => seconds));
    }
    expect(got).toEqual(Array.from({ length: sent }, (_, index) => index));
  });
});

describe('what the engine does not get', () => {
  const some = ['a', 'b', 'a', 'c'].map((text, index) => ({
    seconds: 10,
    micros: index * 10,
    frame: tcp(Buffer.from(text)),
    length: 60,
  }));

  test('is lost while there is none', () => {
    const output = createFakeOutput(ARENA);
    output.isOpen = false;
    const origin = anOrigin();
    forward(output, origin, some);
    expect(output.read()).toHaveLength(0);
    expect(origin.counters).toMatchObject({ received: 4, droppedEngineDown: 4, forwarded: 0 });
    expect(lostOf(origin.counters)).toBe(4);
  });

  test('is what another interface of the endpoint has given; it is counted once', () => {
    const output = createFakeOutput(ARENA);
    const old = anOrigin();
    const tail = keepTail(old, 0);
    expect(keepTail(old, 1)).toBe(tail);
    forward(output, old, some.slice(0, 2));
    const origin = anOrigin();
    goOnBehind(origin, [tail.cut(), createTail(0).cut()]);
    forward(output, origin, some);
    const later = { ...some[0], seconds: 11, micros: 0, frame: tcp(Buffer.from('a')), length: 60 };
    forward(output, origin, [later]);
    expect(parse(output.read()).map(({ frame: { length }, micros }) => [length, micros])).toEqual(
      [some[0], some[1], some[2], some[3], later].map((packet) => [(packet?.frame.length ?? 0) + 4, packet?.micros]),
    );
    expect(origin.counters).toMatchObject({ received: 3, forwarded: 3 });
    expect(origin.overlap).toBeUndefined();
  });
});

test('directions are looked at before frames change, while there is anything to learn', () => {
  const output = createFakeOutput(ARENA);
  output.isOpen = false;
  const seen: Buffer[] = [];
  const directions = {
    curious: true,
    look: (bytes: Buffer, at: number, captured: number) => seen.push(Buffer.from(bytes.subarray(at, at + captured))),
    tick: () => undefined,
  };
  const origin = createOrigin({ vlan: VLAN, counters: zeroCounters(), directions }, LINKTYPE.ethernet);
  const first = { seconds: 0, micros: 0, frame: tcp(Buffer.from('x')), length: 55 };
  forward(output, origin, [first]);
  directions.curious = false;
  forward(output, origin, [first]);
  expect(seen).toEqual([first.frame]);
});
