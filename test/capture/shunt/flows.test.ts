import { expect, test } from '@jest/globals';
import { createFlowTable, findFlow, forgetFlows, insertFlow } from '../../../agent/capture/shunt/flows.ts';
import { createPacket, read } from '../../../agent/capture/shunt/packet.ts';
import { tcpPacket } from '../../support/packets.ts';

test('10,000 flows have their places in a table for 32,768, in both directions, and those of an endpoint go together', () => {
  const table = createFlowTable(32_768);
  const packet = createPacket();
  const bytesOf = (flow: number, back = false): Buffer => {
    const here = { address: `10.1.${flow >> 8}.${flow & 255}`, port: 1024 + (flow % 7) };
    const there = { address: '10.0.0.1', port: 443 };
    const [from, to] = back ? [there, here] : [here, there];
    const ends = { source: from.address, destination: to.address, sourcePort: from.port, destinationPort: to.port };
    const bytes = tcpPacket({ ...ends, flags: 'A' });
    if (!read(packet, bytes, 0, bytes.length, false)) throw new Error('not read');
    return bytes;
  };
  const vlanOf = (flow: number): number => 1 + (flow & 1);
  const numbers = Array.from({ length: 10_000 }, (_, index) => index);
  const flows = numbers.map((number) => {
    const bytes = bytesOf(number);
    return findFlow(table, bytes, packet, vlanOf(number)) ?? insertFlow(table, bytes, packet, vlanOf(number));
  });
  const found = (): number[] =>
    numbers.filter((number) => findFlow(table, bytesOf(number, true), packet, vlanOf(number)) === flows[number]);
  expect(new Set(flows).size).toBeGreaterThan(9_990);
  expect(found().length).toBeGreaterThan(9_990);
  expect(
    numbers.filter((number) => findFlow(table, bytesOf(number), packet, 3 - vlanOf(number)) !== undefined),
  ).toEqual([]);
  forgetFlows(table, 1);
  const left = found();
  expect(left.every((number) => number % 2 === 1)).toBe(true);
  expect(left.length).toBeGreaterThan(4_990);
});
