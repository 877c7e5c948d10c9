import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { readPlain } from '../../../agent/capture/frame/plain.ts';
import { createTransportReader, type FlowKey } from '../../../agent/evidence/protocol/transport.ts';
import { ethernet, ipPacket, LINKTYPE, udpPacket } from '../../support/packets.ts';

const PORTS = { sourcePort: 1000, destinationPort: 80 };
const FOUR = { source: '10.0.0.1', destination: '10.0.0.2', ...PORTS };
const SIX = { source: 'fd00::1', destination: 'fd00::2', ...PORTS };
const flowOf = (protocol: string, { source, destination }: typeof FOUR): FlowKey => ({
  protocol,
  source: { ip: source, port: PORTS.sourcePort },
  destination: { ip: destination, port: PORTS.destinationPort },
});
const segment = Buffer.concat([Buffer.from('03e80050', 'hex'), Buffer.alloc(16, 0x50), Buffer.from('data')]);
const CASES: readonly { flow: FlowKey; frame: Buffer }[] = [
  { flow: flowOf('UDP', FOUR), frame: ethernet(udpPacket({ ...FOUR, payload: 'four' })) },
  { flow: flowOf('UDP', SIX), frame: ethernet(udpPacket({ ...SIX, payload: 'six' })) },
  { flow: flowOf('TCP', FOUR), frame: ethernet(ipPacket({ ...FOUR, protocol: 6 }, segment)) },
  { flow: flowOf('TCP', SIX), frame: ethernet(ipPacket({ ...SIX, protocol: 6 }, segment)) },
];

const changed = fc
  .tuple(fc.constantFrom(...CASES), fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }), fc.nat(120))
  .map(([{ flow, frame }, changes, length]) => {
    const bytes = Buffer.from(frame);
    for (const [at, value] of changes) if (at >= 14 && at < bytes.length) bytes[at] = value;
    return { flow, frame: bytes.subarray(0, length) };
  });

test('plain frames say the same as by the way of all others', () => {
  const plain = { ip: 0, size: 0, source: 0, destination: 0, protocol: 0, transport: 0 };
  let found = 0;
  fc.assert(
    fc.property(changed, fc.boolean(), ({ flow, frame }, turned) => {
      if (!readPlain(plain, frame, 0, frame.length)) return;
      const asked = turned ? { ...flow, source: flow.destination, destination: flow.source } : flow;
      const read = createTransportReader(asked);
      const packet = { time: 1, frame, length: frame.length, linkType: LINKTYPE.ethernet };
      const soon = read(packet);
      if (soon !== undefined) found++;
      // A frame without an Ethernet header is read layer by layer.
      const raw = { ...packet, frame: frame.subarray(14), linkType: LINKTYPE.raw };
      expect(soon).toEqual(read(raw));
    }),
    { numRuns: 3000 },
  );
  expect(found).toBeGreaterThan(100);
});
