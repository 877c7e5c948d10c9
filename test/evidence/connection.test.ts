import { expect, test } from '@jest/globals';
import { oneConnection } from '../../agent/evidence/connection.ts';
import type { FlowPacket } from '../../agent/evidence/packet.ts';
import { DEFAULT_START_MICROS, tcpConversation, udpExchange, type Frame } from '../support/packets.ts';

const asPackets = (frames: readonly Frame[]): FlowPacket[] =>
  frames.map(({ timeMicros, data }) => ({ time: timeMicros, frame: data, length: data.length, linkType: 1 }));

const connection = (start: number, clientSequence: number): FlowPacket[] =>
  asPackets(tcpConversation({ start, clientSequence, exchange: [{ from: 'client', data: `from ${start}` }] }));

const [one, two, three] = [0, 1, 2].map((number) =>
  connection(DEFAULT_START_MICROS + number * 1e6, 1000 * (number + 1)),
) as [FlowPacket[], FlowPacket[], FlowPacket[]];
const timeIn = (packets: readonly FlowPacket[]): number => packets[3]?.time ?? 0;

test.each([
  ['the first', one],
  ['one between others', two],
  ['the last', three],
])('of connections by the same ports, %s is the one of the time', (_, wanted) => {
  expect(oneConnection([...one, ...two, ...three], timeIn(wanted))).toEqual({ packets: wanted, isOne: true });
});

test('a SYN that is sent again begins no other connection', () => {
  const again = [...one.slice(0, 1), ...one];
  expect(oneConnection(again, timeIn(one))).toEqual({ packets: again, isOne: true });
});

test('the rest of a connection is all there is of it', () => {
  const rest = one.slice(2);
  expect(oneConnection(rest, timeIn(one))).toEqual({ packets: rest, isOne: false });
  expect(oneConnection([...rest, ...two], timeIn(one))).toEqual({ packets: rest, isOne: false });
});

test('what is not TCP has no connections', () => {
  const packets = asPackets(
    udpExchange({
      exchange: [
        { from: 'client', data: 'ask' },
        { from: 'server', data: 'answer' },
      ],
    }),
  );
  expect(oneConnection(packets, 0)).toEqual({ packets, isOne: false });
});
