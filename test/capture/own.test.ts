import { expect, test } from '@jest/globals';
import { FIRST_FRAME, udpFrame, writeOwn } from '../../agent/capture/own.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { pcapFileHeader } from '../../agent/capture/record.ts';
import { createFakeOutput } from '../support/capture.ts';
import { checksum, ethernet, udpPacket } from '../support/packets.ts';

const MACS = { destination: '02:00:00:00:00:01', source: '02:00:00:00:00:02' };

function parse(records: Buffer): { frame: Buffer; length: number; seconds: number }[] {
  const found: { frame: Buffer; length: number; seconds: number }[] = [];
  const parser = createPcapParser((seconds, _micros, captured, length, _link, buffer, start) => {
    found.push({ frame: Buffer.from(buffer.subarray(start, start + captured)), length, seconds });
  });
  parser.push(Buffer.concat([pcapFileHeader(), records]));
  expect(parser.end()).toMatchObject({ damageCount: 0 });
  return found;
}

test('a datagram is one between two addresses for documentation, with a flow of its own', () => {
  const expected = udpPacket({
    source: '192.0.2.1',
    destination: '192.0.2.2',
    sourcePort: 1024 + 7,
    destinationPort: 9,
    payload: 'canary',
  });
  const frame = udpFrame('canary', 60_007);
  expect(checksum(frame.subarray(14, 34))).toBe(0);
  expect(frame.subarray(14 + 12)).toEqual(
    Buffer.concat([expected.subarray(12, 26), Buffer.from([0, 0]), Buffer.from('canary')]),
  );
  expect(udpFrame('canary', 8).readUInt16BE(34)).toBe(1032);
});

test('frames get an id that no endpoint has, and the time of now', () => {
  const output = createFakeOutput(10_000);
  const before = Math.floor(Date.now() / 1000);
  expect([writeOwn(output, FIRST_FRAME), writeOwn(output, udpFrame('x', 1))]).toEqual(['accepted', 'accepted']);
  const [first, second] = parse(output.read());
  expect(first?.frame).toEqual(Buffer.concat([Buffer.alloc(12), Buffer.from('81000ffe88b5', 'hex'), Buffer.alloc(46)]));
  expect(second?.frame).toEqual(ethernet(udpFrame('x', 1).subarray(14), { ...MACS, vlans: [4094] }));
  expect(first?.length).toBe(first?.frame.length);
  expect(second?.seconds).toBeGreaterThanOrEqual(before);
  expect(output.added).toEqual([1, 1]);
});

test('a frame is refused where there is no engine, or no room', () => {
  const output = createFakeOutput(100);
  expect([writeOwn(output, FIRST_FRAME), writeOwn(output, FIRST_FRAME)]).toEqual(['accepted', 'queue-full']);
  output.isOpen = false;
  expect(writeOwn(output, FIRST_FRAME)).toBe('closed');
});
