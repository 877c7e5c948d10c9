import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { transportPayload } from '../../../agent/engine/readers/frame.ts';
import { ethernet, ipv4, tcpFrame } from './support.ts';

const data = Buffer.from('payload');

function ipv6(next: number, body: Buffer): Buffer {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(body.length, 4);
  header[6] = next;
  return Buffer.concat([header, body]);
}

describe('the transport payload', () => {
  test.each([[[]], [[7]], [[7, 12]]])('stands behind Ethernet with the tags %j', (tags) => {
    expect(transportPayload(1, tcpFrame(data, tags))).toEqual(data);
  });

  test('ends where the IP packet ends, not where the frame is padded', () => {
    expect(transportPayload(1, Buffer.concat([tcpFrame(data), Buffer.alloc(9)]))).toEqual(data);
  });

  test('is the rest of the frame when the total length is 0', () => {
    const header = ipv4(17, 0);
    header.writeUInt16BE(0, 2);
    expect(transportPayload(101, Buffer.concat([header, Buffer.alloc(8), data]))).toEqual(data);
  });

  test.each([12, 101, 228])('of raw IP (link type %i) stands behind UDP and ICMP headers', (linkType) => {
    for (const protocol of [1, 17])
      expect(
        transportPayload(linkType, Buffer.concat([ipv4(protocol, 8 + data.length), Buffer.alloc(8), data])),
      ).toEqual(data);
  });

  test('of a Linux cooked frame stands behind its 16 bytes', () => {
    const frame = Buffer.concat([
      Buffer.alloc(14),
      Buffer.from([8, 0]),
      ipv4(17, 8 + data.length),
      Buffer.alloc(8),
      data,
    ]);
    expect(transportPayload(113, frame)).toEqual(data);
  });

  test('of a later fragment stands behind the IP header', () => {
    expect(transportPayload(101, Buffer.concat([ipv4(17, data.length, 0x2001), data]))).toEqual(data);
  });

  test('of IPv6 stands behind its extension headers', () => {
    const udp = Buffer.concat([Buffer.alloc(8), data]);
    const hop = Buffer.from([60, 1, ...Array<number>(14).fill(0)]);
    const options = Buffer.from([44, 0, 0, 0, 0, 0, 0, 0]);
    const first = Buffer.from([17, 0, 0, 1, 0, 0, 0, 9]);
    expect(transportPayload(229, ipv6(0, Buffer.concat([hop, options, first, udp])))).toEqual(data);
    const later = Buffer.from([17, 0, 0, 9, 0, 0, 0, 9]);
    expect(transportPayload(229, ipv6(44, Buffer.concat([later, data])))).toEqual(data);
    const authentication = Buffer.from([17, 4, ...Array<number>(22).fill(0)]);
    expect(transportPayload(229, ipv6(51, Buffer.concat([authentication, udp])))).toEqual(data);
  });

  test.each([
    ['an unknown link type', 147, tcpFrame(data)],
    ['no IP', 1, Buffer.concat([ethernet([7], 0x0806), data])],
    ['a TCP header that is cut off', 101, Buffer.concat([ipv4(6, 10), Buffer.alloc(10)])],
    ['a wrong IP length', 101, Buffer.concat([ipv4(17, -15), data])],
    ['an IP header longer than the frame', 101, Buffer.concat([Buffer.from([0x4f]), ipv4(17, 8).subarray(1), data])],
    ['too few bytes', 1, Buffer.alloc(5)],
  ])('of a frame with %s is the whole frame', (_, linkType, frame) => {
    expect(transportPayload(linkType, frame)).toEqual(frame);
  });

  test('never throws and is within the frame, whatever the frame is', () => {
    const start = fc.constantFrom(tcpFrame(data), ipv6(0, Buffer.alloc(30)), ipv4(17, 30));
    fc.assert(
      fc.property(
        fc.constantFrom(0, 1, 12, 113),
        start,
        fc.nat(60),
        fc.uint8Array({ maxLength: 80 }),
        (linkType, bytes, cut, more) => {
          const frame = Buffer.concat([bytes.subarray(0, cut), more]);
          expect(transportPayload(linkType, frame).length).toBeLessThanOrEqual(frame.length);
        },
      ),
    );
  });
});
