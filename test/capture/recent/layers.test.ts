import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { createLayer, firstLayer, readLayer, readOnlyLayer } from '../../../agent/capture/recent/layers.ts';
import { ethernet, ipFragments, ipPacket, PROTOCOL, udpPacket } from '../../support/packets.ts';

const ENDS = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 1, destinationPort: 4789 };
const inner = udpPacket({ ...ENDS, destinationPort: 53, payload: 'x'.repeat(40) });
const SEEDS = [
  ethernet(inner, { vlans: [5, 6] }),
  ethernet(inner),
  ethernet(udpPacket({ ...ENDS, destinationPort: 8472, payload: Buffer.concat([Buffer.alloc(8), ethernet(inner)]) })),
  ethernet(udpPacket({ ...ENDS, payload: Buffer.concat([Buffer.alloc(8), ethernet(inner)]) })),
  ethernet(ipPacket({ ...ENDS, protocol: PROTOCOL.gre }, Buffer.concat([Buffer.from('30006558', 'hex'), inner]))),
  ethernet(udpPacket({ ...ENDS, source: 'fd00::1', destination: 'fd00::2', payload: 'six' })),
  ...ipFragments(udpPacket({ ...ENDS, source: 'fd00::1', destination: 'fd00::2', payload: 'x'.repeat(99) }), 48).map(
    (fragment) => ethernet(fragment),
  ),
];
const hostile = fc
  .tuple(fc.constantFrom(...SEEDS), fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 6 }), fc.nat(160))
  .map(([seed, changes, length]) => {
    const bytes = Buffer.from(seed);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes.subarray(0, length);
  });

test('whatever the bytes are, every offset is in the frame, and layers follow each other', () => {
  fc.assert(
    fc.property(hostile, fc.constantFrom('ethernet', 'raw', 'ppp', 'linux-sll', 'pppoe'), (frame, link) => {
      // What is around it is not the frame's.
      const room = Buffer.alloc(64, 0x45);
      const bytes = Buffer.concat([room, frame, room]);
      const [start, end] = [room.length, room.length + frame.length];
      const layer = createLayer();
      for (let at = firstLayer(bytes, start, end, link); at >= 0 && readLayer(layer, bytes, at, end);) {
        const { source, destination, size, ports, payload, inner: next } = layer;
        expect(Math.max(source, destination) + size).toBeLessThanOrEqual(end);
        expect(ports + 4).toBeLessThanOrEqual(end);
        expect(payload).toBeGreaterThan(at);
        expect(payload).toBeLessThanOrEqual(end);
        if (next >= 0) expect(next).toBeGreaterThan(at);
        at = next;
      }
    }),
    { numRuns: 5000 },
  );
});

test('what is read at one look is what is read layer by layer', () => {
  let plain = 0;
  fc.assert(
    fc.property(hostile, (frame) => {
      const [soon, slow] = [createLayer(), createLayer()];
      if (!readOnlyLayer(soon, frame, 0, frame.length)) return;
      plain++;
      expect(readLayer(slow, frame, firstLayer(frame, 0, frame.length, 'ethernet'), frame.length)).toBe(true);
      expect(soon).toEqual(slow);
    }),
    { numRuns: 5000 },
  );
  expect(plain).toBeGreaterThan(100);
});

test('a tunnel shows its own ends, then those of what it carries', () => {
  const layer = createLayer();
  const frame = SEEDS[3] ?? Buffer.alloc(0);
  const ends: number[] = [];
  for (let at = firstLayer(frame, 0, frame.length, 'ethernet'); at >= 0; at = layer.inner) {
    expect(readLayer(layer, frame, at, frame.length)).toBe(true);
    ends.push(frame.readUInt16BE(layer.ports + 2));
  }
  expect(ends).toEqual([4789, 53]);
});
