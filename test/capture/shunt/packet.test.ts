/** Frames of other forms than Ethernet, IPv4, TCP: IPv6, VLAN tags, options, more than 64 KB. */
import { expect, test } from '@jest/globals';
import { ethernet, tcpPacket, type Frame } from '../../support/packets.ts';
import {
  alertRecord,
  CLIENT_HELLO,
  createHarness,
  dataRecord,
  serverHello,
  type Looked,
  type Side,
} from './support.ts';

const V6 = { client: 'fd00::1', server: 'fd00::2' };
const V4 = { client: '10.0.0.1', server: '10.0.0.2' };
/** No operation, and record route: no TCP data begins there. */
const IP_OPTIONS = Buffer.from([1, 7, 3, 4]);

/** Sends a handshake, one frame of early data, and then `payload`; all frames go through `change`. */
function last(addresses: typeof V4, payload: Buffer, change: (packet: Buffer) => Frame['data']): Looked {
  const { look } = createHarness({ firstBytes: 100 });
  const next = { client: 1, server: 1 };
  const send = (side: Side, bytes: Buffer): Looked => {
    const peer = side === 'client' ? 'server' : 'client';
    const packet = tcpPacket({
      source: addresses[side],
      destination: addresses[peer],
      sourcePort: side === 'client' ? 40_000 : 443,
      destinationPort: side === 'client' ? 443 : 40_000,
      flags: 'PA',
      sequence: next[side],
      acknowledgement: next[peer],
      payload: bytes.subarray(0, 60_000),
    });
    next[side] += bytes.length;
    return look({ timeMicros: 0, data: change(Buffer.concat([packet, bytes.subarray(60_000)])) });
  };
  send('client', CLIENT_HELLO);
  send('server', serverHello());
  send('server', dataRecord(200));
  return send('server', payload);
}

const large = Buffer.concat([...[1, 2, 3, 4, 5, 6].map((seed) => dataRecord(16_000, seed)), alertRecord()]);
const small = Buffer.concat([dataRecord(3000), alertRecord()]);

const withIpOptions = (packet: Buffer): Buffer => {
  packet.writeUInt8(0x46, 0);
  packet.writeUInt16BE(packet.length + 4, 2);
  return ethernet(Buffer.concat([packet.subarray(0, 20), IP_OPTIONS, packet.subarray(20)]));
};
/** Linux, of frames of more than 64 KB: a total length of zero, and the option of a jumbogram. */
const bigIpv4 = (packet: Buffer): Buffer => {
  if (packet.length > 0xffff) packet.writeUInt16BE(0, 2);
  return ethernet(packet);
};
const bigIpv6 = (packet: Buffer): Buffer => {
  if (packet.length <= 0xffff) return ethernet(packet);
  packet.writeUInt16BE(0, 4);
  packet.writeUInt8(0, 6);
  const option = Buffer.from([6, 0, 0xc2, 4, 0, 0, 0, 0]);
  option.writeUInt32BE(packet.length - 40 + 8, 4);
  return ethernet(Buffer.concat([packet.subarray(0, 40), option, packet.subarray(40)]));
};

test.each<[string, typeof V4, Buffer, (packet: Buffer) => Buffer, number]>([
  ['IPv4', V4, small, ethernet, 34],
  ['IPv6', V6, small, ethernet, 54],
  ['two VLAN tags', V4, small, (packet) => ethernet(packet, { vlans: [5, 6] }), 42],
  ['IP options', V4, small, withIpOptions, 38],
  ['padding of the link layer', V4, small, (packet) => Buffer.concat([ethernet(packet), Buffer.alloc(6)]), 34],
  ['IPv4 of 96 KB', V4, large, bigIpv4, 34],
  ['IPv6 of 96 KB', V6, large, bigIpv6, 62],
])('%s: what stays is behind the headers, and the lengths say so', (_, addresses, payload, change, transport) => {
  const { verdict, frame } = last(addresses, payload, change);
  expect(verdict).toBe('trimmed');
  const data = frame?.data ?? Buffer.alloc(0);
  expect(data.subarray(transport + 20)).toEqual(alertRecord());
  const isV6 = addresses === V6;
  const ip = transport - (isV6 ? (transport === 62 ? 48 : 40) : transport === 38 ? 24 : 20);
  expect(isV6 ? data.readUInt16BE(ip + 4) + 40 : data.readUInt16BE(ip + 2)).toBe(data.length - ip);
  // Six bytes of padding take the jumbogram's option's place.
  if (transport === 62) expect(data.subarray(54, 62)).toEqual(Buffer.from([6, 0, 1, 4, 0, 0, 0, 0]));
});

test.each<[string, (packet: Buffer) => Buffer]>([
  ['a total length of zero', (packet) => (packet.writeUInt16BE(0, 2), packet)],
  ['a total length beyond the frame', (packet) => (packet.writeUInt16BE(packet.length + 1, 2), packet)],
  ['a total length within the headers', (packet) => (packet.writeUInt16BE(30, 2), packet)],
  ['an IP header of 16 bytes', (packet) => (packet.writeUInt8(0x44, 0), packet)],
  ['a TCP header of 16 bytes', (packet) => (packet.writeUInt8(0x40, 32), packet)],
  ['a TCP header beyond the packet', (packet) => (packet.writeUInt8(0xf0, 32), packet.subarray(0, 50))],
  ['version 5', (packet) => (packet.writeUInt8(0x55, 0), packet)],
])('a frame with %s is forwarded as it is', (_, change) => {
  let frame: Buffer = Buffer.alloc(0);
  const looked = last(
    V4,
    small,
    (packet) => (frame = packet.length < 2000 ? ethernet(packet) : ethernet(change(packet), { type: 0x0800 })),
  );
  expect(looked.verdict).toBe('forward');
  expect(looked.frame?.data).toEqual(frame);
});
