import { describe, expect, test } from '@jest/globals';
import {
  array,
  assert,
  boolean,
  constantFrom,
  integer,
  nat,
  option,
  property,
  record,
  tuple,
  uint8Array,
  type Arbitrary,
} from 'fast-check';
import { createPcapParser, MAX_CAPTURED_BYTES, type PcapOutcome } from '../../agent/replay/pcap-file.ts';
import { writePcap, writePcapng, type Frame, type PcapngInterface } from '../support/packets.ts';

interface Packet {
  timeMicros: number;
  data: string;
  originalLength: number;
  linkType: number;
}

function parse(...chunks: Buffer[]): { packets: Packet[]; outcome: PcapOutcome } {
  const packets: Packet[] = [];
  const parser = createPcapParser((seconds, micros, caplen, originalLength, linkType, buffer, start) => {
    expect(start + caplen).toBeLessThanOrEqual(buffer.length);
    expect(micros >= 0 && micros < 1e6 && seconds >= 0 && seconds < 2 ** 32).toBe(true);
    const data = buffer.toString('hex', start, start + caplen);
    packets.push({ timeMicros: seconds * 1e6 + micros, data, originalLength, linkType });
  });
  for (const chunk of chunks) if (!parser.push(chunk)) break;
  return { packets, outcome: parser.end() };
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const packet = (timeMicros: number, data: string, originalLength = data.length / 2, linkType = 1): Packet => ({
  timeMicros,
  data,
  originalLength,
  linkType,
});
const read = (format: 'pcap' | 'pcapng', packets: number, ...damages: [offset: number, reason: string][]) => ({
  kind: 'read',
  format,
  packets,
  damages: damages.map(([offset, reason]) => ({ offset, reason: expect.stringContaining(reason) })),
  damageCount: damages.length,
});
const notPcap = (reason: string) => ({ kind: 'not-pcap', reason: expect.stringContaining(reason) });

/** 2023-11-14 22:13:20.123456 UTC */
const TIME = 1_700_000_000_123_456;
const frame = (text: string, more: Partial<Frame> = {}): Frame => ({
  timeMicros: TIME,
  data: Buffer.from(text),
  ...more,
});

// Literal files, made by hand: the writers in test/support could share a mistake with the reader.
const HEADER = 'd4c3b2a1 0200 0400 00000000 00000000 00000400 01000000';
const RECORD = '00f15365 40e20100 03000000 05000000 616263';
const SECTION = '0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000';
const FACE = '01000000 14000000 0100 0000 00000000 14000000';
const ticks = (value: bigint): string => {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(Number(value >> 32n), 0);
  bytes.writeUInt32LE(Number(value & 0xffff_ffffn), 4);
  return bytes.toString('hex');
};
const ENHANCED = `06000000 24000000 00000000 ${ticks(BigInt(TIME))} 03000000 05000000 61626300 24000000`;

const readsAs = (format: 'pcap' | 'pcapng', text: string, expected: Packet[]): void => {
  expect(parse(hex(text))).toEqual({ packets: expected, outcome: read(format, expected.length) });
};
const reads = (text: string, ...expected: Packet[]): void => readsAs('pcap', text, expected);
const readsNg = (text: string, ...expected: Packet[]): void => readsAs('pcapng', text, expected);
const damaged = (text: string, count: number, ...damages: [number, string][]): void => {
  const { packets, outcome } = parse(hex(text));
  expect(packets).toHaveLength(count);
  expect(outcome).toEqual(read('pcapng', count, ...damages));
};

describe('a classic pcap', () => {
  test('little-endian in microseconds', () =>
    reads(HEADER + RECORD + RECORD, packet(TIME, '616263', 5), packet(TIME, '616263', 5)));
  test('big-endian in microseconds', () =>
    reads(
      'a1b2c3d4 0002 0004 00000000 00000000 00040000 00000065  6553f100 0001e240 00000002 00000002 6162',
      packet(TIME, '6162', 2, 101),
    ));
  test('little-endian in nanoseconds', () =>
    reads(
      '4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000  00f15365 e7cd5b07 01000000 01000000 61',
      packet(TIME, '61'),
    ));
  test('big-endian in nanoseconds', () =>
    reads(
      'a1b23c4d 0002 0004 00000000 00000000 00040000 00000114  6553f100 075bcde7 00000001 00000001 61',
      packet(TIME, '61', 1, 276),
    ));
  test('modified, with 24 bytes before each packet', () =>
    reads(
      '34cdb2a1 0200 0400 00000000 00000000 00000400 01000000  00f15365 40e20100 01000000 01000000 02000000 0800 00 00 61',
      packet(TIME, '61'),
    ));
  test('without packets', () => reads(HEADER));
  test('with the length of a check sequence beside the link type', () =>
    reads(HEADER.replace('01000000', '01000014') + RECORD, packet(TIME, '616263', 5)));
  test('with more than a second of microseconds, or less on the wire than captured', () =>
    reads(`${HEADER} 01000000 80841e00 01000000 00000000 61`, packet(3_000_000, '61', 1)));

  test('that ends in a record is read up to it', () => {
    const whole = HEADER + RECORD;
    for (const rest of ['00', RECORD.slice(0, 34), RECORD.slice(0, -2)]) {
      const { packets, outcome } = parse(hex(whole + rest));
      expect(packets).toHaveLength(1);
      expect(outcome).toEqual(read('pcap', 1, [43, 'ends inside a record']));
    }
  });

  test('stops where zeros are, or another file begins, and says which', () => {
    const whole = writePcap([frame('abc')]);
    for (const tail of [16, 17, 4096]) {
      expect(parse(Buffer.concat([whole, Buffer.alloc(tail)]))).toMatchObject({
        packets: [packet(TIME, '616263')],
        outcome: read('pcap', 1, [whole.length, 'zeros: the rest was not written']),
      });
    }
    expect(parse(whole, whole).outcome).toEqual(read('pcap', 1, [whole.length, 'another capture file begins here']));
    const blocks = writePcapng([frame('abc')]);
    expect(parse(blocks, Buffer.alloc(100)).outcome).toEqual(read('pcapng', 1, [blocks.length, 'zeros']));
  });
  test('stops at a record of impossible length', () => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(MAX_CAPTURED_BYTES + 1);
    const impossible = `00f15365 40e20100 ${length.toString('hex')} 05000000`;
    const { packets, outcome } = parse(hex(HEADER + RECORD + impossible + RECORD));
    expect(packets).toHaveLength(1);
    expect(outcome).toEqual(read('pcap', 1, [43, '262145 captured bytes']));
  });

  test('may have a record of the greatest length', () => {
    const data = Buffer.alloc(MAX_CAPTURED_BYTES, 'x');
    expect(parse(writePcap([{ timeMicros: 0, data }])).packets[0]?.originalLength).toBe(MAX_CAPTURED_BYTES);
  });
});

describe('a pcapng', () => {
  const abc = packet(TIME, '616263', 5);

  test('with an enhanced packet', () => readsNg(SECTION + FACE + ENHANCED, abc));
  test('with an obsolete packet', () =>
    readsNg(
      `${SECTION} ${FACE} 02000000 24000000 0000 ffff ${ticks(BigInt(TIME))} 03000000 05000000 61626300 24000000`,
      abc,
    ));
  test('with a simple packet, cut to the snaplen', () =>
    readsNg(
      `${SECTION} 01000000 14000000 0100 0000 03000000 14000000  03000000 14000000 05000000 61626300 14000000`,
      packet(0, '616263', 5),
    ));
  test('with a simple packet and its padding', () =>
    readsNg(`${SECTION} ${FACE} 03000000 14000000 02000000 61620000 14000000`, packet(0, '6162', 2)));
  test('with unknown blocks between', () =>
    readsNg(
      `${SECTION} ${FACE} ad0b0000 0c000000 0c000000 ad0b0000 14000000 06000000 24000000 14000000 ${ENHANCED}`,
      abc,
    ));
  test('big-endian, behind a little-endian section with another interface', () =>
    readsNg(
      `${SECTION} ${FACE} ${ENHANCED}` +
        '0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c' +
        '00000001 00000014 0065 0000 00000000 00000014' +
        '00000006 00000024 00000000 00060a24 182024c0 00000001 00000001 61000000 00000024',
      abc,
      packet(0x060a24182024c0, '61', 1, 101),
    ));
  test('whose interface counts in nanoseconds, from an offset', () => {
    const face =
      '01000000 2c000000 0100 0000 00000000 0900 0100 09000000 0e00 0800 100e000000000000 0000 0000 2c000000';
    const time = ticks(BigInt(TIME) * 1000n + 999n - 3_600_000_000_000n);
    readsNg(SECTION + face + ENHANCED.replace(ticks(BigInt(TIME)), time), abc);
  });

  const resolutions = [0, 3, 6, 7, 9, 10, 12, 18, 0x80, 0x80 + 10, 0x80 + 20, 0x80 + 33, 0x80 + 34, 0x80 + 63];
  test.each(resolutions)('computes times exactly at resolution %p', (tsresol) => {
    assert(
      property(integer({ min: 0, max: 2 ** 32 - 1 }), nat(999_999), nat(2 ** 32 - 1), (seconds, fraction, extra) => {
        const perSecond = tsresol < 0x80 ? 10n ** BigInt(tsresol) : 2n ** BigInt(tsresol - 0x80);
        const within = (BigInt(fraction) * perSecond) / 1_000_000n + (perSecond > 2n ** 40n ? BigInt(extra) : 0n);
        const value = BigInt.asUintN(64, BigInt(seconds) * perSecond + (within < perSecond ? within : 0n));
        const whole = value / perSecond;
        const micros = ((value % perSecond) * 1_000_000n) / perSecond;
        const face = writePcapng([], { interfaces: [{ tsresol }] });
        const { packets } = parse(Buffer.concat([face, hex(ENHANCED.replace(ticks(BigInt(TIME)), ticks(value)))]));
        expect(packets[0]?.timeMicros).toBe(Number(whole) * 1e6 + Number(micros));
      }),
    );
  });

  test('clamps times that do not fit', () => {
    const early = writePcapng([], { interfaces: [{ tsoffset: -1_800_000_000 }] });
    const late = writePcapng([], { interfaces: [{ tsoffset: 3_000_000_000 }] });
    expect(parse(early, hex(ENHANCED)).packets[0]?.timeMicros).toBe(0);
    expect(parse(late, hex(ENHANCED)).packets[0]?.timeMicros).toBe(2 ** 32 * 1e6 - 1);
  });

  // The section and the interface are 48 bytes.
  test('stops at an impossible block length', () => {
    for (const length of ['00000000', '08000000', '26000000', 'ffffffff']) {
      const text = `${SECTION} ${FACE} ${ENHANCED} 06000000 ${length} ${ENHANCED}`;
      damaged(text, 1, [84, `block claims ${hex(length).readUInt32LE()} bytes`]);
    }
  });
  test('stops where a block ends with another length', () => {
    damaged(SECTION + FACE + ENHANCED.replace(/24000000$/, '28000000') + ENHANCED, 0, [48, 'another length']);
    damaged(`${SECTION} ${FACE} ad0b0000 0c000000 10000000 ${ENHANCED}`, 0, [48, 'another length']);
    damaged(`${SECTION.slice(0, -8)} 20000000 ${FACE} ${ENHANCED}`, 0, [0, 'another length']);
  });
  test('skips a packet that is longer than its block', () =>
    damaged(SECTION + FACE + ENHANCED.replace(' 03000000 ', ' 05000000 ') + ENHANCED, 1, [48, '5 captured bytes']));
  test('skips a packet block that is too short', () =>
    damaged(`${SECTION} ${FACE} 06000000 10000000 00000000 10000000 ${ENHANCED}`, 1, [48, 'too short']));
  test('skips a packet of an interface that was not described in its section', () => {
    damaged(SECTION + FACE + ENHANCED.replace('24000000 00000000', '24000000 01000000') + ENHANCED, 1, [
      48,
      'interface 1',
    ]);
    damaged(SECTION + FACE + SECTION + ENHANCED, 0, [76, 'interface 0']);
    damaged(
      `${SECTION} 01000000 10000000 01000000 10000000 ${FACE} ${ENHANCED}`,
      0,
      [28, 'too short'],
      [64, 'interface 0'],
    );
  });
  test('skips packet and interface blocks that are too long to hold', () => {
    const long = (type: string): Buffer =>
      Buffer.concat([hex(`${type} 00000600`), Buffer.alloc(0x60000 - 12), hex('00000600')]);
    const { packets, outcome } = parse(
      hex(SECTION),
      long('01000000'),
      hex(FACE),
      long('06000000'),
      hex(ENHANCED),
      hex(ENHANCED.replace('24000000 00000000', '24000000 01000000')),
    );
    expect(packets).toEqual([abc]);
    expect(outcome).toEqual(
      read('pcapng', 1, [28, 'too long'], [28 + 0x60000 + 20, 'too long'], [48 + 2 * 0x60000, 'interface 0']),
    );
  });
  test('stops at a later section that cannot be read', () => {
    damaged(SECTION + FACE + ENHANCED + SECTION.replace('4d3c2b1a', '4d3c2b1b'), 1, [84, 'byte order']);
    damaged(SECTION + FACE + ENHANCED + SECTION.replace('0100 0000', '0200 0000'), 1, [84, 'version 2.0']);
    damaged(SECTION + FACE + ENHANCED + SECTION.replace('1c000000', '10000000'), 1, [84, '16 bytes']);
  });
  test('that ends in a block is read up to it', () => {
    const whole = hex(SECTION + FACE + ENHANCED);
    const unknown = hex('ad0b0000 14000000 0000000000000000 14000000');
    for (let cut = 1; cut < 36; cut++) {
      const { outcome } = parse(whole, whole.subarray(48, 48 + cut));
      expect(outcome).toEqual(read('pcapng', 1, [84, 'ends inside a block']));
    }
    for (let cut = 1; cut < 20; cut++) {
      expect(parse(whole, unknown.subarray(0, cut)).outcome).toEqual(read('pcapng', 1, [84, 'ends inside a block']));
    }
  });
  test('keeps a hundred damages and counts the rest', () => {
    const bad = ENHANCED.replace(' 03000000 ', ' 05000000 ');
    const { outcome } = parse(hex(SECTION + FACE + bad.repeat(150) + ENHANCED));
    expect(outcome).toMatchObject({ packets: 1, damageCount: 150 });
    expect(outcome.kind === 'read' && outcome.damages).toHaveLength(100);
  });
  test('describes at most 65,536 interfaces', () => {
    const faces = Buffer.alloc(20 * 65_537, hex(FACE));
    expect(parse(hex(SECTION), faces, hex(ENHANCED)).outcome).toEqual(
      read('pcapng', 1, [28 + 20 * 65_536, '65536 interfaces']),
    );
  });
});

describe('what is not a capture file', () => {
  test.each([
    ['', 'empty file'],
    ['d4c3', 'ends inside its header'],
    [HEADER.slice(0, -2), 'ends inside its header'],
    [SECTION.slice(0, 20), 'ends inside its header'],
    ['28b52ffd 00', 'zstd'],
    ['fd377a58 5a00', 'xz'],
    ['425a6839', 'bzip2'],
    ['504b0304', 'zip'],
    ['3c21444f 4354595045', 'HTML'],
    ['68656c6c 6f', 'text'],
    ['00000000 00', 'unknown bytes 00000000'],
    [HEADER.replace('0200 0400', '0200 0200'), 'pcap version 2.2'],
    [SECTION.replace('4d3c2b1a', '00000000'), 'byte order'],
    [SECTION.replace('0100 0000', '0300 0000'), 'pcapng version 3.0'],
    [SECTION.replace('1c000000', '1d000000'), '29 bytes'],
  ])('%p is named: %s', (text, reason) => expect(parse(hex(text)).outcome).toEqual(notPcap(reason)));

  test('gzip is told apart, for the caller to decompress', () =>
    expect(parse(hex('1f8b0800')).outcome).toEqual({ kind: 'gzip' }));

  test('nothing more is asked for once that is known', () => {
    const parser = createPcapParser(() => undefined);
    expect([parser.push(hex('1f')), parser.push(hex('8b0800')), parser.push(hex(HEADER))]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

// --- Properties ------------------------------------------------------------------------------------------------------

const interfaces: PcapngInterface[] = [
  {},
  { linkType: 101, tsresol: 9 },
  { linkType: 113, tsresol: 0x80 + 30, tsoffset: 3600 },
  { linkType: 276, tsresol: 10, tsoffset: -5 },
];
const anyFrame: Arbitrary<Frame> = record({
  timeMicros: integer({ min: 3_600_000_000, max: 1_800_000_000_000_000 }),
  data: uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
  originalLength: integer({ min: 80, max: 100_000 }),
});
const anyFile = tuple(
  array(anyFrame, { maxLength: 8 }),
  boolean(),
  boolean(),
  boolean(),
  constantFrom(...interfaces.keys()),
).map(([frames, isNg, bigEndian, flag, index]) => {
  const linkType = interfaces[index]?.linkType ?? 1;
  const placed = frames.map((each) => ({ ...each, interface: index }));
  const block = flag ? 'enhanced' : 'obsolete';
  const file = isNg
    ? writePcapng(placed, { bigEndian, interfaces, block, otherBlocks: flag })
    : writePcap(frames, { bigEndian, nanoseconds: flag, modified: !flag && index === 3, linkType });
  return { frames, file, isNg, linkType, resolution: isNg && index === 2 };
});
/** Cuts bytes into chunks at arbitrary places; empty chunks too. */
const cut = (file: Buffer, places: number[]): Buffer[] => {
  const sorted = [0, ...places.map((place) => place % (file.length + 1)), file.length].toSorted((a, b) => a - b);
  return sorted.slice(1).map((end, index) => Buffer.from(file.subarray(sorted[index], end)));
};
const anyCuts = array(nat(), { maxLength: 12 });

describe('any file', () => {
  test('that was written is read as it was', () => {
    assert(
      property(anyFile, anyCuts, ({ frames, file, isNg, linkType, resolution }, cuts) => {
        const { packets, outcome } = parse(...cut(file, cuts));
        expect(outcome).toEqual(read(isNg ? 'pcapng' : 'pcap', frames.length));
        for (const [index, { timeMicros, data, originalLength = 0 }] of frames.entries()) {
          const got = packets[index];
          // 2^-30 s is no whole number of microseconds: writing rounds down.
          expect(timeMicros - (got?.timeMicros ?? 0)).toBeLessThanOrEqual(resolution ? 1 : 0);
          expect({ ...got, timeMicros }).toEqual(packet(timeMicros, data.toString('hex'), originalLength, linkType));
        }
      }),
    );
  });

  test('gives the same, byte by byte', () => {
    const file = writePcapng([frame('abc'), frame('defgh')], { interfaces, otherBlocks: true });
    for (const bytes of [file, writePcap([frame('abc'), frame('defgh')])]) {
      expect(parse(...Array.from(bytes, (byte) => Buffer.from([byte])))).toEqual(parse(bytes));
    }
  });

  test('that is damaged, cut or made up gives the same in any chunks, never throws, and keeps what lies before the damage', () => {
    const anyDamage = array(tuple(nat(), nat(255)), { maxLength: 6 });
    const anyTail = uint8Array({ maxLength: 60 });
    assert(
      property(
        anyFile,
        anyDamage,
        anyTail,
        option(nat(), { nil: undefined }),
        anyCuts,
        ({ file, isNg }, flips, tail, end, cuts) => {
          const bytes = Buffer.concat([file, tail]).subarray(
            0,
            end === undefined ? undefined : end % (file.length + 60),
          );
          const whole = parse(file).packets;
          let first = Math.min(bytes.length, file.length);
          for (const [place, value] of flips) {
            const at = place % Math.max(1, bytes.length);
            if (at >= bytes.length || bytes[at] === value) continue;
            bytes[at] = value;
            first = Math.min(first, at);
          }
          const result = parse(bytes);
          expect(parse(...cut(bytes, cuts))).toEqual(result);
          const intact = parse(file.subarray(0, first)).packets;
          expect(result.packets.slice(0, intact.length)).toEqual(intact);
          expect(whole.slice(0, intact.length)).toEqual(intact);
          if (result.outcome.kind === 'read') {
            expect(result.outcome.packets).toBe(result.packets.length);
            expect(result.outcome.format === 'pcapng' || !isNg || first < 4).toBe(true);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('of arbitrary bytes behind a valid beginning never throws', () => {
    const beginning = constantFrom(HEADER, SECTION, SECTION + FACE, `${SECTION} ${FACE} 06000000`, '', 'a1b23c4d').map(
      hex,
    );
    assert(
      property(beginning, uint8Array({ maxLength: 200 }), anyCuts, (head, tail, cuts) => {
        const bytes = Buffer.concat([head, tail]);
        expect(parse(...cut(bytes, cuts))).toEqual(parse(bytes));
      }),
      { numRuns: 500 },
    );
  });
});

test('a packet within one chunk is handed out in place', () => {
  const file = writePcap([frame('abc'), frame('defgh')]);
  const buffers: Buffer[] = [];
  const parser = createPcapParser((_seconds, _micros, _caplen, _length, _link, buffer) => buffers.push(buffer));
  parser.push(file);
  expect(buffers.map((buffer) => buffer === file)).toEqual([true, true]);
});
