/** What the readers' tests share: reading in chunks, checks on spans, and an encoder of unified2 records. */
import { expect } from '@jest/globals';
import * as fc from 'fast-check';
import type { Alert, Decoded, Decoder } from '../../../agent/engine/alert.ts';

/** Everything a decoder finds in `bytes`, given to it in chunks that end at `cuts`. */
export function decode(decoder: Decoder, bytes: Buffer, cuts: number[] = []): Decoded[] {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  const items: Decoded[] = [];
  let from = 0;
  for (const end of ends) {
    // A buffer that is overwritten afterwards: decoders may not hold on to it.
    const chunk = Buffer.from(bytes.subarray(from, end));
    items.push(...decoder.push(chunk));
    chunk.fill(0x7b);
    from = end;
  }
  return [...items, ...decoder.end()];
}

export function alertsOf(items: Decoded[]): Alert[] {
  return items.flatMap((item) => (item.kind === 'alert' ? [item.alert] : []));
}

export function damageOf(items: Decoded[]): { reason: string; start: number; end: number }[] {
  return items.flatMap((item) =>
    item.kind === 'damage' ? [{ reason: item.reason, start: item.start, end: item.end }] : [],
  );
}

/** Spans follow each other, don't overlap and lie within the input. */
export function expectOrderly(items: Decoded[], size: number): void {
  let end = 0;
  for (const item of items) {
    expect(item.start).toBeGreaterThanOrEqual(end);
    expect(item.end).toBeGreaterThanOrEqual(item.start);
    end = item.end;
  }
  expect(end).toBeLessThanOrEqual(size);
}

export const cutsArbitrary = fc.array(fc.nat({ max: 20_000 }), { maxLength: 30 });

/** Bytes that resemble the format: pieces of a valid stream and of noise, in any order. */
export function noiseOf(valid: Buffer): fc.Arbitrary<Buffer> {
  const piece = fc
    .tuple(fc.nat({ max: valid.length - 1 }), fc.nat({ max: 400 }))
    .map(([start, length]) => valid.subarray(start, start + length));
  const random = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes));
  return fc.array(fc.oneof(piece, random), { maxLength: 12 }).map((pieces) => Buffer.concat(pieces));
}

export function record(type: number, body: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(type, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

const words = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => bytes.writeUInt32BE(value, 4 * i));
  return bytes;
};
const halves = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, i) => bytes.writeUInt16BE(value, 2 * i));
  return bytes;
};

export interface EventFields {
  id: number;
  seconds: number;
  microseconds: number;
  gid: number;
  sid: number;
  rev: number;
  classId: number;
  priority: number;
  source: number[];
  destination: number[];
  sourcePort: number;
  destinationPort: number;
  protocol: number;
  vlan: number;
}

export const EVENT: EventFields = {
  id: 1,
  seconds: 1_795_308_067,
  microseconds: 123_456,
  gid: 1,
  sid: 21_562,
  rev: 7,
  classId: 29,
  priority: 3,
  source: [10, 0, 0, 1],
  destination: [10, 0, 0, 2],
  sourcePort: 40_000,
  destinationPort: 80,
  protocol: 6,
  vlan: 7,
};

export const V6 = {
  source: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  destination: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
};

function versionOf(address: number[]): number {
  return address.length === 0 ? 0 : address.length === 4 ? 4 : 6;
}

function padded(address: number[]): Buffer {
  return Buffer.from([...Array<number>(16 - address.length).fill(0), ...address]);
}

/** UNIFIED2_EVENT3. */
export function event3(fields: Partial<EventFields> = {}): Buffer {
  const event = { ...EVENT, ...fields };
  return record(
    114,
    Buffer.concat([
      words(0, event.id, event.seconds, event.microseconds, event.gid, event.sid, event.rev, event.classId),
      words(event.priority, 1, 1, 1),
      padded(event.source),
      padded(event.destination),
      words(0),
      halves(event.sourcePort, event.destinationPort, event.vlan, 0),
      Buffer.from([(versionOf(event.source) << 4) | versionOf(event.destination), event.protocol, 0, 0]),
      Buffer.alloc(64 + 8 + 80 + 16 + 256 + 256 + 256),
    ]),
  );
}

/**
 * The events of Snort 2, and of Snort 3 with `legacy_events`; `tail` follows the common part: MPLS label, VLAN id,
 * policy, application.
 */
export function classicEvent(
  type: number,
  tail: 'none' | 'mpls' | 'vlan' | 'app16' | 'app64',
  fields: Partial<EventFields> = {},
): Buffer {
  const event = { ...EVENT, ...fields };
  const vlan = Buffer.concat([words(0), halves(event.vlan, 1)]);
  const tails = {
    none: Buffer.alloc(0),
    mpls: words(3),
    vlan,
    app16: Buffer.concat([vlan, Buffer.alloc(16)]),
    app64: Buffer.concat([vlan, Buffer.alloc(64)]),
  };
  return record(
    type,
    Buffer.concat([
      words(
        0,
        event.id,
        event.seconds,
        event.microseconds,
        event.sid,
        event.gid,
        event.rev,
        event.classId,
        event.priority,
      ),
      Buffer.from([...event.source, ...event.destination]),
      halves(event.sourcePort, event.destinationPort),
      Buffer.from([event.protocol, 0, 0, 0]),
      tails[tail],
    ]),
  );
}

/** UNIFIED2_PACKET (2) or UNIFIED2_BUFFER (3). */
export function packetRecord(id: number, data: Buffer, { type = 2, linkType = 1 } = {}): Buffer {
  return record(
    type,
    Buffer.concat([words(0, id, EVENT.seconds, EVENT.seconds, EVENT.microseconds, linkType, data.length), data]),
  );
}

/** UNIFIED2_EXTRA_DATA, here an HTTP host name. */
export function extraData(id: number, data: Buffer): Buffer {
  return record(110, Buffer.concat([words(4, 32 + data.length, 0, id, EVENT.seconds, 10, 1, 8 + data.length), data]));
}

/** Ethernet, VLAN tags, IPv4 without options, TCP without options. */
export function tcpFrame(payload: Buffer, tags: number[] = [7]): Buffer {
  const tcp = Buffer.alloc(20);
  tcp[12] = 0x50;
  return Buffer.concat([ethernet(tags, 0x0800), ipv4(6, 20 + payload.length), tcp, payload]);
}

export function ethernet(tags: number[], type: number): Buffer {
  return Buffer.concat([Buffer.alloc(12, 2), ...tags.map((tag) => halves(0x8100, tag)), halves(type)]);
}

export function ipv4(protocol: number, bodyLength: number, fragment = 0): Buffer {
  const header = Buffer.from([0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  header.writeUInt16BE(20 + bodyLength, 2);
  header.writeUInt16BE(fragment, 6);
  return header;
}
