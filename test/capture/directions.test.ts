import { describe, expect, test } from '@jest/globals';
import { watchDirections, type Directions } from '../../agent/capture/directions.ts';
import { zeroCounters, type Counters } from '../../agent/capture/protocol.ts';
import {
  ethernet,
  ipBytes,
  ipFragments,
  mergeFrames,
  tcpConversation,
  tcpPacket,
  udpPacket,
  type Frame,
  type TcpConversationOptions,
} from '../support/packets.ts';
import { seeded } from '../support/random.ts';

const POD = '10.65.0.2';
const PEER = '10.65.0.3';
const POD6 = 'fd65::2';
const PEER6 = 'fd65::3';

/** What is counted of frames. `own`: addresses of the pod. */
function watch(
  flows = true,
  own = [POD, POD6],
): { counters: Counters; directions: Directions; see: (...frames: Buffer[]) => void } {
  const counters = zeroCounters();
  const directions = watchDirections(own, flows, counters);
  if (directions === undefined) throw new Error('nothing is watched');
  return {
    counters,
    directions,
    see: (...frames) => frames.forEach((frame) => directions.look(frame, 0, frame.length, 'ethernet')),
  };
}

const udp = (source: string, destination: string): Buffer =>
  ethernet(udpPacket({ source, destination, sourcePort: 1, destinationPort: 2, payload: 'x' }));

/** A conversation in which both ends say something, twice. The pod is its server. */
function conversation(options: Partial<TcpConversationOptions> = {}): Frame[] {
  return tcpConversation({
    client: PEER,
    server: POD,
    exchange: [
      { from: 'client', data: 'a question' },
      { from: 'server', data: 'an answer' },
      { from: 'client', data: 'another' },
      { from: 'server', data: 'and its answer' },
    ],
    ...options,
  });
}

/** The half of a conversation that comes from an address. */
function half(frames: Frame[], from: string): Buffer[] {
  const bytes = from.includes(':') ? ipBytes(from, 6) : ipBytes(from, 4);
  const at = from.includes(':') ? 22 : 26;
  return frames.map(({ data }) => data).filter((frame) => frame.subarray(at, at + bytes.length).equals(bytes));
}

describe('an endpoint is seen to send and to receive', () => {
  test.each([
    ['IPv4', POD, PEER],
    ['IPv6', POD6, PEER6],
  ])('%s, once a second each', (_, pod, peer) => {
    const { counters, directions, see } = watch();
    see(udp(pod, peer), udp(pod, peer), udp(peer, pod), udp(pod, peer));
    expect(counters).toMatchObject({ sentSeconds: 1, receivedSeconds: 1 });
    directions.tick();
    see(udp(peer, pod));
    expect(counters).toMatchObject({ sentSeconds: 1, receivedSeconds: 2 });
  });

  test('what is not its own says nothing: other addresses, ARP, a broadcast, a short frame', () => {
    const { counters, see } = watch();
    see(
      udp('10.65.0.9', PEER),
      udp(PEER, '255.255.255.255'),
      ethernet(Buffer.alloc(46), { type: 0x0806 }),
      udp(POD, PEER).subarray(0, 30),
      Buffer.alloc(14),
      Buffer.alloc(0),
    );
    expect(counters).toEqual(zeroCounters());
  });

  test('nothing is known without its addresses', () => {
    expect(watchDirections([], true, zeroCounters())).toBeUndefined();
  });

  test('a frame without Ethernet header is read where its IP header begins', () => {
    const { counters, directions } = watch();
    const packet = udp(POD, PEER).subarray(14);
    directions.look(packet, 0, packet.length, 'raw');
    const cooked = Buffer.concat([Buffer.alloc(16), udp(PEER6, POD6).subarray(14)]);
    directions.look(cooked, 0, cooked.length, 'linux-sll');
    expect(counters).toMatchObject({ sentSeconds: 1, receivedSeconds: 1 });
  });

  test('what the pod says to its own address, by its loopback, is neither direction, and no flow of one', () => {
    const { counters, directions, see } = watch();
    for (const frame of conversation({ client: POD, server: POD })) {
      see(frame.data);
      directions.tick();
    }
    expect(counters).toEqual(zeroCounters());
  });

  test('is not curious any more once all is known, until the next second', () => {
    const { directions, see } = watch();
    see(...conversation().map(({ data }) => data));
    expect(directions.curious).toBe(false);
    directions.tick();
    expect(directions.curious).toBe(true);
  });
});

describe('of one flow a second, both directions are seen or not', () => {
  test('a whole conversation is seen both ways', () => {
    const { counters, see } = watch();
    see(...conversation().map(({ data }) => data));
    expect(counters).toMatchObject({ flowsBothWays: 1, flowsSentOnly: 0, flowsReceivedOnly: 0 });
  });

  test.each([
    ['IPv4', POD, PEER],
    ['IPv6', POD6, PEER6],
  ])('%s: an end that acknowledges more and more, without anything from the other', (_, pod, peer) => {
    const sends = watch();
    const frames = conversation({ client: peer, server: pod });
    sends.see(...half(frames, pod));
    expect(sends.counters).toMatchObject({ flowsBothWays: 0, flowsSentOnly: 1, flowsReceivedOnly: 0 });
    const receives = watch();
    receives.see(...half(frames, peer));
    expect(receives.counters).toMatchObject({ flowsBothWays: 0, flowsSentOnly: 0, flowsReceivedOnly: 1 });
  });

  test('acknowledgement numbers wrap around', () => {
    const { counters, see } = watch();
    see(...half(conversation({ clientSequence: 2 ** 32 - 5 }), POD));
    expect(counters).toMatchObject({ flowsSentOnly: 1 });
  });

  const tcp = (flags: string, acknowledgement: number, sourcePort = 80, payload = ''): Buffer =>
    ethernet(
      tcpPacket({
        source: POD,
        destination: PEER,
        sourcePort,
        destinationPort: 40_000,
        flags,
        acknowledgement,
        payload,
      }),
    );

  test.each<[string, Buffer[]]>([
    ['a SYN that nobody answers', [tcp('S', 0), tcp('S', 0), tcp('S', 0)]],
    ['SYN/ACKs to a scanner that is gone', [tcp('SA', 100), tcp('SA', 100), tcp('SA', 200)]],
    ['data sent again to a peer that is gone', [tcp('PA', 100, 80, 'x'), tcp('PA', 100, 80, 'x')]],
    ['an older acknowledgement behind a newer one', [tcp('A', 100), tcp('A', 50)]],
    ['a reset with a number of its own', [tcp('A', 100), tcp('RA', 500)]],
    ['acknowledgements of different flows', [tcp('A', 100, 80), tcp('A', 200, 81), tcp('A', 300, 82)]],
    ['UDP without an answer', [udp(POD, PEER), udp(POD, PEER)]],
    ['a piece of a datagram', ipFragments(udp(POD, PEER).subarray(14), 8).map((packet) => ethernet(packet))],
  ])('%s proves nothing', (_, frames) => {
    const { counters, see } = watch();
    see(...frames);
    expect(counters).toMatchObject({ flowsBothWays: 0, flowsSentOnly: 0, flowsReceivedOnly: 0 });
  });

  test('a flow that proves nothing is given up for another, some seconds later', () => {
    const { counters, directions, see } = watch();
    see(tcp('A', 100, 79));
    for (let second = 0; second < 10; second++) {
      directions.tick();
      see(...half(conversation(), POD));
    }
    expect(counters.flowsSentOnly).toBe(0);
    directions.tick();
    see(...half(conversation(), POD));
    expect(counters.flowsSentOnly).toBe(1);
  });

  test('two flows at once are not taken for one', () => {
    const { counters, see } = watch();
    const one = half(conversation({ clientPort: 40_001 }), POD).map((data, index) => ({ timeMicros: index, data }));
    const other = half(conversation({ clientPort: 40_002 }), PEER).map((data, index) => ({ timeMicros: index, data }));
    see(...mergeFrames(one, other).map(({ data }) => data));
    expect(counters).toMatchObject({ flowsBothWays: 0, flowsSentOnly: 1 });
  });

  test('with a filter, flows are not looked at: their other half may be filtered', () => {
    const { counters, directions, see } = watch(false);
    see(...half(conversation(), POD), udp(PEER, POD));
    expect(counters).toMatchObject({ sentSeconds: 1, receivedSeconds: 1, flowsSentOnly: 0 });
    expect(directions.curious).toBe(false);
  });

  test('whatever the bytes are, nothing throws', () => {
    const { directions } = watch();
    const number = seeded(1);
    const random = (below: number): number => Math.floor(number() * below);
    const model = conversation()[3]?.data ?? Buffer.alloc(60);
    for (let round = 0; round < 20_000; round++) {
      const frame = Buffer.from(model);
      for (let index = 0; index < 4; index++) frame[random(frame.length)] = random(256);
      directions.look(frame, 0, random(frame.length + 1), 'ethernet');
      if (round % 10 === 0) directions.tick();
    }
  });
});
