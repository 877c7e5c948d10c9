/** What begins like encryption and goes on in the clear is inspected. */
import { expect, test } from '@jest/globals';
import { array, assert, constantFrom, nat, property } from 'fast-check';
import type { Frame } from '../../support/packets.ts';
import { echo, SSH_EXCHANGE, SSH_VERSION, TCP_FAKES, tcpFrames, TLS_ANSWER, UDP_FAKES, udpFrames } from './fakes.ts';
import {
  clearPacket,
  quicInitial,
  SSH_KEXINIT,
  SSH_NEWKEYS,
  wireguardInitiation,
  wireguardResponse,
} from './starts.ts';
import { CHANGE_CIPHER_SPEC, CLIENT_HELLO, createHarness, dataRecord, noise, serverHello } from './support.ts';

function verdictsOf(frames: Frame[]): string[] {
  const { look } = createHarness({ firstBytes: 0 });
  return [...new Set(frames.map((frame) => look(frame).verdict))];
}

test.each(Object.entries(TCP_FAKES))('over TCP: %s', (_, begin) => {
  expect(verdictsOf(tcpFrames(begin))).toEqual(['forward']);
});

test.each(Object.entries(UDP_FAKES))('over UDP: %s', (_, begin) => {
  expect(verdictsOf(udpFrames(begin))).toEqual(['forward']);
});

test('over TCP: whatever is said to an echo, however late it comes', () => {
  const part = constantFrom(
    SSH_VERSION,
    SSH_EXCHANGE,
    clearPacket(SSH_KEXINIT, 300),
    clearPacket(SSH_NEWKEYS, 8),
    CLIENT_HELLO,
    TLS_ANSWER,
    serverHello({ version13: false }),
    CHANGE_CIPHER_SPEC,
    dataRecord(300),
    Buffer.from('text\r\n'),
  );
  assert(
    property(array(part, { maxLength: 10 }), array(part, { maxLength: 6 }), nat(6), (first, second, late) => {
      expect(verdictsOf(tcpFrames([...echo(first), ...echo(second, late)]))).toEqual(['forward']);
    }),
    { numRuns: 200 },
  );
});

const IDS = [noise(8, 1), noise(8, 2), noise(3, 3), Buffer.alloc(0)];

test.each([
  ['QUIC', IDS.flatMap((to) => IDS.map((from) => quicInitial(to, from)))],
  [
    'WireGuard',
    [7, 8].flatMap((sender) => [
      wireguardInitiation(sender),
      wireguardResponse(sender, 7),
      wireguardResponse(sender, 8),
    ]),
  ],
])('over UDP: whatever of %s is said to an echo, however late it comes', (_, parts) => {
  const part = constantFrom(...parts);
  assert(
    property(array(part, { maxLength: 8 }), array(part, { maxLength: 6 }), nat(6), (first, second, late) => {
      expect(verdictsOf(udpFrames([...echo(first), ...echo(second, late)]))).toEqual(['forward']);
    }),
    { numRuns: 200 },
  );
});
