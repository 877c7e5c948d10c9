import { expect, test } from '@jest/globals';
import { BLOCK_HEAD, blockSize, readBlocks, writeBlock } from '../../agent/capture/packet-block.ts';
import type { FlowPacket } from '../../agent/evidence/packet.ts';
import { cutPackets, pcapng, pcapngParts, readFacts } from '../../agent/evidence/pcapng.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';

const SOURCE = { interface: 'cali1', namespace: 'shop', pod: 'web', node: 'n1', received: 9, dropped: 2 };
const packet = (time: number, text: string, linkType = 1): FlowPacket => ({
  time,
  frame: Buffer.from(text),
  length: text.length + 1,
  linkType,
});

function read(content: Buffer): object[] {
  const packets: object[] = [];
  const parser = createPcapParser((seconds, micros, captured, length, link, buffer, start) => {
    packets.push({
      time: seconds * 1e6 + micros,
      text: buffer.toString('utf8', start, start + captured),
      length,
      link,
    });
  });
  parser.push(content);
  expect(parser.end()).toMatchObject({ kind: 'read', format: 'pcapng', damageCount: 0 });
  return packets;
}

test('packets are read as they were written, whatever their lengths, times and link types', () => {
  const packets = [
    packet(0, ''),
    packet(1_700_000_000_123_456, 'one'),
    packet(4_294_967_295_999_999, 'four', 101),
    packet(1_700_000_000_000_000, 'a clock that was set back', 113),
  ];
  const expected = packets.map(({ time, frame, length, linkType }) => ({
    time,
    text: Buffer.from(frame).toString(),
    length,
    link: linkType,
  }));
  expect(read(pcapng(packets, SOURCE, []))).toEqual(expected);
});

/** As a capture process sends them. */
function asBlocks(packets: readonly FlowPacket[]): FlowPacket[] {
  const bytes = Buffer.alloc(
    packets.reduce((sum, { frame }) => sum + blockSize(frame.length), 0),
    0xff,
  );
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let at = 0;
  for (const { time, frame, length } of packets) {
    writeBlock(words, at / 4, time, frame.length, length);
    bytes.set(frame, at + BLOCK_HEAD);
    at += blockSize(frame.length);
  }
  return [...readBlocks(bytes)].map((block) => ({ ...block, linkType: 1 }));
}

test('packets that are blocks of a file are written as they are, and make the same file', () => {
  const packets = ['', 'a', 'ab', 'abc', 'abcd', 'alert', 'and more', 'of it'].map((text, index) =>
    packet(1_700_000_000_123_456 + index, text),
  );
  const blocks = asBlocks(packets);
  const comments = [{ packet: 5, text: 'alert' }];
  const other = packet(1_700_000_000_200_000, 'of another link type', 101);
  expect(pcapng([...blocks, other], SOURCE, comments, '{}')).toEqual(
    pcapng([...packets, other], SOURCE, comments, '{}'),
  );
  expect(pcapng(asBlocks([packet(1, '')]), SOURCE, [])).toEqual(pcapng([packet(1, '')], SOURCE, []));
  const [first] = blocks;
  const shared = pcapngParts(blocks, SOURCE, comments).filter(({ buffer }) => buffer === first?.frame.buffer);
  expect(shared.map(({ length }) => length)).toEqual([32 + 4 * 36, 28, 40 + 40]);
});

test("BSD's raw link types get the number that files have for them", () => {
  expect(read(pcapng([packet(1, 'raw', 12)], SOURCE, []))).toMatchObject([{ link: 101 }]);
});

test('texts are bounded and cannot move a cursor', () => {
  const content = pcapng([packet(1, 'x')], { ...SOURCE, pod: '\u001B[31mred' }, [
    { packet: 0, text: `\u001B]0;title\u0007${'y'.repeat(100_000)}` },
    { packet: undefined, text: 'of the file' },
  ]);
  expect(content.length).toBeLessThan(2000);
  expect(content.includes(0x1b)).toBe(false);
  expect(content.includes('pod shop/red on n1')).toBe(true);
  expect(content.includes('of the file')).toBe(true);
});

test('facts are read again, and those that are too long are left out', () => {
  const facts = { packets: { count: 1 }, app: 'é' };
  const of = (text: string): unknown => readFacts(pcapng([packet(1, 'x')], SOURCE, [], text).subarray(0, 64 << 10));
  expect(of(JSON.stringify(facts))).toEqual(facts);
  expect(of(JSON.stringify({ app: 'y'.repeat(60_000) }))).toBeUndefined();
  expect(of('{damaged')).toBeUndefined();
  expect(readFacts(Buffer.alloc(0))).toBeUndefined();
});

test('a file is cut to some bytes of packets: those with comments stay, and the beginning', () => {
  const packets = Array.from({ length: 10 }, (_, index) => packet(index, String(index).repeat(100)));
  const content = pcapng(packets, SOURCE, [{ packet: 7, text: 'alert' }], '{"a":1}');
  expect(cutPackets(content, 1000)).toEqual({ content, cut: false });
  const { content: part, cut } = cutPackets(content, 350);
  expect(cut).toBe(true);
  expect(read(part)).toEqual([0, 1, 7].map((index) => expect.objectContaining({ time: index })));
  expect(readFacts(part)).toEqual({ a: 1 });
  expect(cutPackets(content.subarray(0, 500), 1000).content.length).toBeLessThanOrEqual(500);
});
