import { describe, expect, test } from '@jest/globals';
import { array, assert, constantFrom, integer, nat, property, tuple, uint8Array } from 'fast-check';
import { GROWTH, etherFrame, etherGrowth, MAX_FRAME_BYTES, tagFrame, type Found } from '../../agent/capture/frame.ts';
import { linkTypeFromDlt, linkTypeNumber, type LinkType } from '../../agent/capture/frame/link.ts';
import { WITHIN } from '../../agent/capture/frame/walk.ts';
import { pcapFileHeader, RECORD_HEADER, writeRecordHeader } from '../../agent/capture/record.ts';
import {
  ethernet,
  ETHERTYPE,
  ipFragments,
  ipPacket,
  PROTOCOL,
  tcpPacket,
  udpPacket,
  type Bytes,
} from '../support/packets.ts';

const OURS = 7;
const THEIRS = 99;

const v4 = { source: '10.0.0.1', destination: '10.0.0.2' };
const v6 = { source: 'fd00::1', destination: 'fd00::2' };
const TCP4 = tcpPacket({ ...v4, sourcePort: 40_000, destinationPort: 80, flags: 'PA', payload: 'evil' });
const TCP6 = tcpPacket({ ...v6, sourcePort: 40_000, destinationPort: 80, flags: 'PA', payload: 'evil' });

interface TagOptions {
  link?: LinkType;
  vlan?: number;
  caplen?: number;
}

/** Around a frame, so that a byte that is written there is seen. */
const MARGIN = Buffer.alloc(40, 0xee);

/** The tagged frame; the one given is not changed. `undefined`: refused. */
function tag(
  frame: Buffer,
  { link = 'ethernet', vlan = OURS, caplen = frame.length }: TagOptions = {},
): Buffer | undefined {
  const bytes = Buffer.concat([MARGIN, frame, MARGIN]);
  const untouched = Buffer.from(bytes);
  const start = MARGIN.length;
  const end = start + caplen;
  const first = tagFrame(bytes, start, caplen, link, vlan);
  if (first < 0) {
    expect(bytes.equals(untouched)).toBe(true);
    return undefined;
  }
  const grown = start - first;
  // One that begins with three tags gets no other.
  expect([GROWTH[link], GROWTH[link] - 4]).toContain(link === 'ppp' ? GROWTH.ppp : grown);
  const free = start - Math.max(0, grown);
  expect(bytes.subarray(0, free).equals(untouched.subarray(0, free))).toBe(true);
  expect(bytes.subarray(end).equals(untouched.subarray(end))).toBe(true);
  return bytes.subarray(first, end);
}

/** The frame as it is for an engine of its own. `undefined`: refused. */
function ether(frame: Buffer, link: LinkType): Buffer | undefined {
  const bytes = Buffer.concat([MARGIN, frame]);
  const first = etherFrame(bytes, MARGIN.length, frame.length, link);
  expect(first).toBeGreaterThanOrEqual(first < 0 ? first : MARGIN.length - Math.max(0, etherGrowth(link)));
  return first < 0 ? undefined : bytes.subarray(first);
}

/** Three tags, of kinds that both engines decode. */
function isFullStack(frame: Buffer): boolean {
  return [12, 16, 20].every((at) => [0x8100, 0x88a8, 0x9100].includes(frame.readUInt16BE(at)));
}

// --- Encapsulations: each puts the bytes of something into another ---------------------------------------------------

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const behind = (header: string, payload: Buffer): Buffer => Buffer.concat([hex(header), payload]);

/** UDP without a checksum: then a tag inside can change and nothing else does. */
function udp(sourcePort: number, destinationPort: number, payload: Buffer, ip: typeof v4 = v4): Buffer {
  const packet = udpPacket({ ...ip, sourcePort, destinationPort, payload });
  packet.writeUInt16BE(0, packet.length - payload.length - 2);
  return packet;
}

const extension = (next: number, body: string, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.from([next]), hex(body), payload]);
const gre = (type: string, payload: Buffer): Buffer =>
  ipPacket({ ...v4, protocol: 47 }, behind(`0000 ${type}`, payload));

/** `LLLL`: the bytes behind the header's fixed part. */
function gtp(header: string, fixed: number, payload: Buffer): Buffer {
  const length = hex(header.replace('LLLL', '0000')).length - fixed + payload.length;
  return behind(header.replace('LLLL', length.toString(16).padStart(4, '0')), payload);
}

/** Every way in which Snort 3 finds a VLAN tag, as a function of the tag's id. `tagged`: an Ethernet frame with it. */
const tagged = (id: number, inner = TCP4): Buffer => ethernet(inner, { vlans: [{ id, priority: 5 }] });
/** What follows an EtherType of 0x8100. */
const tagOnly = (id: number): Buffer => tagged(id).subarray(14);
const vxlan = (id: number): Buffer => udp(1234, 4789, behind('08000000 00002a00', tagged(id)));
const HOSTILE: Record<string, (id: number) => Buffer> = {
  'a tag of its own': tagged,
  'a provider tag': (id) => ethernet(TCP4, { vlans: [{ id, tpid: ETHERTYPE.qinq, priority: 9 }] }),
  'an old provider tag': (id) => ethernet(TCP6, { vlans: [{ id, tpid: 0x9100 }] }),
  'another old provider tag': (id) => ethernet(TCP6, { vlans: [{ id, tpid: 0x9200 }] }),
  'a third old provider tag': (id) => ethernet(TCP6, { vlans: [{ id, tpid: 0x9300 }] }),
  'twenty tags': (id) => ethernet(TCP4, { vlans: Array<number>(20).fill(id) }),
  'tags of all kinds': (id) => ethernet(TCP4, { vlans: [id, { id, tpid: 0x88a8 }, { id, tpid: 0x9200 }, id] }),
  VXLAN: (id) => ethernet(vxlan(id)),
  'VXLAN by source port': (id) => ethernet(udp(4789, 1234, behind('08000000 00002a00', tagged(id)))),
  'VXLAN over IPv6': (id) => ethernet(udp(1234, 4789, behind('08000000 00002a00', tagged(id)), v6)),
  'VXLAN behind a tag': (id) => ethernet(vxlan(id), { vlans: [id] }),
  'VXLAN in VXLAN': (id) =>
    ethernet(udp(1, 4789, behind('08000000 00002a00', ethernet(vxlan(id), { vlans: [{ id, priority: 3 }] })))),
  'VXLAN behind IP options': (id) => {
    const packet = vxlan(id);
    packet.writeUInt8(0x46, 0);
    packet.writeUInt16BE(packet.length + 4, 2);
    return ethernet(Buffer.concat([packet.subarray(0, 20), hex('01010101'), packet.subarray(20)]));
  },
  'VXLAN behind IPv6 extension headers': (id) => {
    const datagram = udp(1234, 4789, behind('08000000 00002a00', tagged(id)), v6).subarray(40);
    const options = extension(
      60,
      '00 0104 00000000',
      extension(43, '01 0104 00000000 0104 00000000 0000', Buffer.alloc(0)),
    );
    const routing = extension(
      51,
      '00 0400 00000000',
      extension(44, '04 0000 00000001 00000001 000000000000000000000000', Buffer.alloc(0)),
    );
    return ethernet(
      ipPacket({ ...v6, protocol: 0 }, Buffer.concat([options, routing, extension(17, '00 0000 00000001', datagram)])),
    );
  },
  Geneve: (id) => ethernet(udp(1234, 6081, behind('0000 6558 00002a00', tagged(id)))),
  'Geneve with options': (id) => ethernet(udp(1234, 6081, behind('0200 6558 00002a00 0102 0301 deadbeef', tagged(id)))),
  'Geneve of a tag': (id) => ethernet(udp(1234, 6081, behind('0000 8100 00002a00', tagOnly(id)))),
  'Geneve of an IP protocol': (id) => ethernet(udp(1234, 6081, behind('0000 002f 00002a00 0000 6558', tagged(id)))),
  'GRE bridging': (id) => ethernet(gre('6558', tagged(id))),
  'GRE of a tag': (id) => ethernet(gre('8100', tagOnly(id))),
  'GRE with checksum, key and sequence': (id) =>
    ethernet(ipPacket({ ...v4, protocol: 47 }, behind('b000 6558 00000000 00000001 00000002', tagged(id)))),
  'GRE with source routes': (id) =>
    ethernet(ipPacket({ ...v4, protocol: 47 }, behind('4000 6558 00000000 0800 0004 0a000001 00000000', tagged(id)))),
  'GRE version 1, PPP, GRE': (id) =>
    ethernet(
      ipPacket({ ...v4, protocol: 47 }, behind('3081 880b 00000000 00000001 00000001 0021', gre('6558', tagged(id)))),
    ),
  'ERSPAN II': (id) =>
    ethernet(ipPacket({ ...v4, protocol: 47 }, behind('1000 88be 00000001 1000 0000 00000000', tagged(id)))),
  'ERSPAN III': (id) => ethernet(gre('22eb', behind(`2000 ${'00'.repeat(18)}`, tagged(id)))),
  'IP in IP': (id) => ethernet(ipPacket({ ...v4, protocol: 4 }, gre('6558', tagged(id)))),
  'IPv6 in IPv4': (id) =>
    ethernet(ipPacket({ ...v4, protocol: 41 }, ipPacket({ ...v6, protocol: 47 }, behind('0000 6558', tagged(id))))),
  'MPLS of Ethernet': (id) => ethernet(behind('0006 4040 0006 5140', tagged(id)), { type: 0x8847 }),
  'MPLS of IPv4': (id) => ethernet(behind('0006 4140', vxlan(id)), { type: 0x8848 }),
  'MPLS with an explicit null label': (id) =>
    ethernet(behind('0000 2140', ipPacket({ ...v6, protocol: 47 }, behind('0000 6558', tagged(id)))), { type: 0x8847 }),
  'MPLS in IP': (id) => ethernet(ipPacket({ ...v4, protocol: 137 }, behind('0006 4140', tagged(id)))),
  'LLC and SNAP': (id) => ethernet(behind('aaaa03 000000 8100', tagOnly(id)), { type: 100 }),
  'LLC and SNAP behind a tag': (id) => ethernet(behind('aaaa03 000000 8100', tagOnly(id)), { type: 100, vlans: [id] }),
  PPPoE: (id) => ethernet(behind('1100 0001 0040 0021', vxlan(id)), { type: 0x8864 }),
  'PPPoE with a compressed protocol': (id) => ethernet(behind('1100 0001 0040 21', vxlan(id)), { type: 0x8864 }),
  'Cisco metadata': (id) => ethernet(behind('0101 0001 000a 8100', tagOnly(id)), { type: 0x8909 }),
  'VN-Tag in GRE': (id) => ethernet(gre('6558', ethernet(behind('00000000 8100', tagOnly(id)), { type: 0x8926 }))),
  '802.1ah in GRE': (id) =>
    ethernet(gre('6558', ethernet(behind(`00000001 ${'02'.repeat(12)} 8100`, tagOnly(id)), { type: 0x88e7 }))),
  'NSH in GRE': (id) => ethernet(gre('6558', ethernet(behind('0fc2 0203 00000100', tagged(id)), { type: 0x894f }))),
  'NSH of IPv4 in GRE': (id) =>
    ethernet(gre('6558', ethernet(behind('0fc2 0201 00000100', gre('6558', tagged(id))), { type: 0x894f }))),
  FabricPath: (id) => ethernet(behind('0000'.repeat(8), tagged(id)), { type: 0x8903 }),
  'FabricPath in VXLAN': (id) =>
    ethernet(udp(1, 4789, behind(`08000000 00002a00 ${'02'.repeat(12)} 8903 0000`, tagged(id)))),
  'GTP version 1': (id) => ethernet(udp(2152, 2152, gtp('30ff LLLL 00000001', 8, vxlan(id)))),
  'GTP version 1 with an extension': (id) =>
    ethernet(udp(1, 2152, gtp('34ff LLLL 00000001 0000 00 c0 01 0000 00', 8, vxlan(id)))),
  'GTP version 0': (id) => ethernet(udp(3386, 1, gtp(`10ff LLLL ${'00'.repeat(16)}`, 20, vxlan(id)))),
  Teredo: (id) =>
    ethernet(
      udp(
        1,
        3544,
        ipPacket({ source: '2001::1', destination: '2001::2', protocol: 47 }, behind('0000 6558', tagged(id))),
      ),
    ),
  'Teredo with indicators': (id) =>
    ethernet(
      udp(
        1,
        3544,
        behind(
          `0001 0101 aa bb ${'00'.repeat(9)} 0000 ${'00'.repeat(6)}`,
          ipPacket({ source: '2001::1', destination: '2001::2', protocol: 47 }, behind('0000 6558', tagged(id))),
        ),
      ),
    ),
};

describe('an Ethernet frame', () => {
  test('gets our tag between the addresses and the EtherType', () => {
    expect(tag(ethernet(TCP4))).toEqual(ethernet(TCP4, { vlans: [OURS] }));
  });

  test('that was truncated gets it too', () => {
    expect(tag(ethernet(TCP4), { caplen: 20 })).toEqual(ethernet(TCP4, { vlans: [OURS] }).subarray(0, 24));
  });

  test('is refused when the frame ends before its EtherType', () => {
    expect(tag(ethernet(TCP4).subarray(0, 13))).toBeUndefined();
    expect(tag(Buffer.alloc(0))).toBeUndefined();
    expect(tag(ethernet(Buffer.alloc(0), { type: 0x88cc }))).toHaveLength(18);
  });

  test('is refused when it would be longer than libpcap reads', () => {
    expect(tag(Buffer.alloc(MAX_FRAME_BYTES))).toBeDefined();
    expect(tag(Buffer.alloc(MAX_FRAME_BYTES + 1))).toBeUndefined();
  });

  test.each([0, -1, 4095, 4096, NaN])('VLAN id %p is a RangeError', (vlan) => {
    expect(() => tag(ethernet(TCP4), { vlan })).toThrow(RangeError);
  });

  test('equals the frame plus the tag, whatever it carries and whatever the id is', () => {
    const payload = uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    // IPX: nothing is looked for in it.
    assert(
      property(payload, integer({ min: 1, max: 4094 }), (bytes, vlan) => {
        const frame = ethernet(bytes, { type: 0x8137 });
        expect(tag(frame, { vlan })).toEqual(ethernet(bytes, { type: 0x8137, vlans: [vlan] }));
      }),
    );
  });
});

describe('frames without an Ethernet header', () => {
  const mac = '02:aa:bb:cc:dd:ee';
  const none = '00:00:00:00:00:00';
  const cases: [string, LinkType, string, Bytes, { type: number; source: string }][] = [
    ['raw IPv4', 'raw', '', TCP4, { type: 0x0800, source: none }],
    ['raw IPv6', 'raw', '', TCP6, { type: 0x86dd, source: none }],
    ['cooked IPv4', 'linux-sll', '0000 0001 0006 02aabbccddee 0000 0800', TCP4, { type: 0x0800, source: mac }],
    [
      'cooked IPv6 without an address',
      'linux-sll',
      '0004 0304 0000 1111111111111111 86dd',
      TCP6,
      { type: 0x86dd, source: none },
    ],
    [
      'cooked version 2',
      'linux-sll2',
      '86dd 0000 00000002 0001 00 06 02aabbccddee 0000',
      TCP6,
      { type: 0x86dd, source: mac },
    ],
    [
      'cooked version 2, no MAC',
      'linux-sll2',
      '0800 0000 00000002 0304 00 04 0a000001 00000000',
      TCP4,
      { type: 0x0800, source: none },
    ],
    ['null, little-endian', 'null', '02000000', TCP4, { type: 0x0800, source: none }],
    ['null, big-endian', 'null', '00000002', TCP4, { type: 0x0800, source: none }],
    ['null, Linux IPv6', 'null', '0a000000', TCP6, { type: 0x86dd, source: none }],
    ['null, NetBSD IPv6', 'null', '18000000', TCP6, { type: 0x86dd, source: none }],
    ['null, FreeBSD IPv6', 'null', '0000001c', TCP6, { type: 0x86dd, source: none }],
    ['loop, macOS IPv6', 'loop', '0000001e', TCP6, { type: 0x86dd, source: none }],
    ['PPP of IPv4', 'ppp', 'ff03 0021', TCP4, { type: 0x0800, source: none }],
    ['PPP of IPv6 without an address', 'ppp', '0057', TCP6, { type: 0x86dd, source: none }],
    ['PPP with a protocol of 8 bits', 'ppp', '21', TCP4, { type: 0x0800, source: none }],
    ['PPP with both', 'ppp', 'ff03 21', TCP4, { type: 0x0800, source: none }],
    ['PPP of MPLS', 'ppp', 'ff03 0281', behind('0006 4140', TCP4), { type: 0x8847, source: none }],
    ["Cisco's HDLC in PPP", 'ppp', '0f00 86dd', TCP6, { type: 0x86dd, source: none }],
    ["Cisco's HDLC", 'c-hdlc', '0f00 0800', TCP4, { type: 0x0800, source: none }],
    ['PPPoE', 'pppoe', '', behind('1100 0001 0040 0021', TCP4), { type: 0x8864, source: none }],
  ];

  test.each(cases)('%s becomes a tagged Ethernet frame', (_, link, header, packet, { type, source }) => {
    const frame = Buffer.concat([hex(header), Buffer.from(packet)]);
    const expected = ethernet(packet, { type, source, destination: none, vlans: [OURS] });
    expect(tag(frame, { link })).toEqual(expected);
  });

  test('a cooked tagged frame gets our id in its own tag too', () => {
    const header = hex('0000 0001 0006 02aabbccddee 0000 8100');
    const expected = ethernet(TCP4, { source: mac, destination: none, vlans: [OURS, { id: OURS, priority: 5 }] });
    expect(tag(Buffer.concat([header, tagOnly(THEIRS)]), { link: 'linux-sll' })).toEqual(expected);
  });

  test('a cooked frame with three tags gets our id in them, and no other tag', () => {
    const stack = (id: number): Buffer => ethernet(TCP4, { vlans: [id, { id, tpid: 0x88a8 }, id, id] }).subarray(14);
    for (const [link, header] of [
      ['linux-sll', '0000 0001 0006 02aabbccddee 0000 8100'],
      ['linux-sll2', '8100 0000 00000002 0001 00 06 02aabbccddee 0000'],
      ['c-hdlc', '0f00 8100'],
    ] as const) {
      const framed = tag(Buffer.concat([hex(header), stack(THEIRS)]), { link });
      expect(framed?.subarray(12)).toEqual(Buffer.concat([hex('8100'), stack(OURS)]));
    }
  });

  test.each(cases)('%s becomes an Ethernet frame without a tag', (_, link, header, packet, { type, source }) => {
    const frame = Buffer.concat([hex(header), Buffer.from(packet)]);
    expect(ether(frame, link)).toEqual(ethernet(packet, { type, source, destination: none }));
  });

  test('what has no EtherType becomes a frame that no engine decodes', () => {
    const ipcp = hex('ff03 8021 0101');
    expect(ether(ipcp, 'ppp')).toEqual(ethernet(hex('0101'), { type: 0x88b5, source: none, destination: none }));
    expect(ether(hex('0000'), 'loop')).toBeUndefined();
    const frame = ethernet(TCP4, { vlans: [THEIRS] });
    expect(ether(frame, 'ethernet')).toEqual(frame);
  });

  const refused: [string, LinkType, string][] = [
    ['raw of version 5', 'raw', '55000000'],
    ['an empty raw frame', 'raw', ''],
    ['cooked 802.3', 'linux-sll', '0000 0001 0006 02aabbccddee 0000 0004 aaaa03'],
    ['cooked with a short header', 'linux-sll', '0000 0001 0006 02aabbccddee 0000 08'],
    ['cooked version 2 with 802.2', 'linux-sll2', '0004 0000 00000002 0001 00 06 02aabbccddee 0000 aaaa03'],
    ['cooked version 2 with a short header', 'linux-sll2', '0800 0000 00000002 0001 00 06 02aabbccddee 00'],
    ['null of AppleTalk', 'null', '10000000 45000000'],
    ['null of a family beyond 16 bits', 'null', '02000100 45000000'],
    ['a short null header', 'loop', '000000'],
  ];
  test.each(refused)('%s is refused', (_, link, bytes) => expect(tag(hex(bytes), { link })).toBeUndefined());
});

describe('tags that a pod made', () => {
  test.each(Object.entries(HOSTILE))('%s: gets our id, and nothing else changes', (_, build) => {
    const frame = build(THEIRS);
    expect(frame).not.toEqual(build(OURS));
    const ours = build(OURS);
    const added = isFullStack(frame) ? hex('') : hex('8100 0007');
    expect(tag(frame)).toEqual(Buffer.concat([ours.subarray(0, 12), added, ours.subarray(12)]));
  });

  test('what is within a frame is told', () => {
    const of = (frame: Buffer): number => {
      const found: Found = { within: -1 };
      tagFrame(Buffer.concat([MARGIN, frame]), MARGIN.length, frame.length, 'ethernet', OURS, found);
      return found.within;
    };
    const [fragment = Buffer.alloc(0)] = ipFragments(vxlan(THEIRS), 64);
    expect([
      of(ethernet(TCP4)),
      of(ethernet(ipPacket({ ...v4, protocol: 1 }, 'echo'))),
      of(ethernet(udp(1, 53, Buffer.from('query')))),
      of(tagged(THEIRS)),
      of(ethernet(ipPacket({ ...v4, protocol: 4 }, TCP4))),
      of(ethernet(vxlan(THEIRS))),
      of(ethernet(fragment)),
    ]).toEqual([0, 0, 0, WITHIN.tag, WITHIN.tunnel, WITHIN.tag | WITHIN.tunnel, WITHIN.hidden]);
  });

  test('a frame cut anywhere keeps what is whole, and no byte behind the cut changes', () => {
    for (const [name, build] of Object.entries(HOSTILE)) {
      const frame = build(THEIRS);
      const ours = build(OURS);
      for (let caplen = 14; caplen < frame.length; caplen++) {
        const cut = tag(frame, { caplen }) ?? Buffer.alloc(0);
        const added = caplen >= 24 && isFullStack(frame) ? 0 : 4;
        const untagged = Buffer.concat([cut.subarray(0, 12), cut.subarray(12 + added)]);
        const isEither = untagged.every((byte, index) => byte === frame[index] || byte === ours[index]);
        expect({ name, caplen, length: cut.length, isEither }).toEqual({
          name,
          caplen,
          length: caplen + added,
          isEither: true,
        });
      }
    }
  });

  test('a tag of which only the id was captured is rewritten', () => {
    expect(tag(tagged(THEIRS).subarray(0, 16))?.subarray(12)).toEqual(hex('8100 0007 8100 5007'));
    expect(tag(tagged(THEIRS).subarray(0, 15))?.subarray(12)).toEqual(hex('8100 0007 8100 50'));
  });

  test('plain packets are left alone, even if their payload looks like a tag', () => {
    const payload = tagged(THEIRS);
    const packets = [
      tcpPacket({ ...v4, sourcePort: 4789, destinationPort: 4789, flags: 'A', payload }),
      udpPacket({ ...v4, sourcePort: 53, destinationPort: 1, payload }),
      udpPacket({ ...v6, sourcePort: 53, destinationPort: 1, payload }),
      // Not VXLAN, Geneve, GTP, GRE: by a flag, a version, a type.
      udp(1, 4789, behind('00000000 00002a00', payload)),
      udp(1, 6081, behind('4000 6558 00002a00', payload)),
      udp(1, 2152, behind('30fe 0000 00000001', vxlan(THEIRS))),
      udp(1, 2152, behind('20ff 0000 00000001', vxlan(THEIRS))),
      ipPacket({ ...v4, protocol: 47 }, behind('0002 6558', payload)),
      ipPacket({ ...v4, protocol: 47 }, behind('0100 6558', payload)),
      gre('2000', behind('', payload)),
    ];
    for (const packet of packets) expect(tag(ethernet(packet))).toEqual(ethernet(packet, { vlans: [OURS] }));
  });

  test('arbitrary bytes never throw, on any link type, and no byte behind the captured ones changes', () => {
    const links: LinkType[] = ['ethernet', 'raw', 'linux-sll', 'linux-sll2', 'null', 'loop'];
    const starts = Object.values(HOSTILE).map((build) => build(THEIRS));
    const start = constantFrom(Buffer.alloc(0), ...starts);
    const flips = array(tuple(nat(150), nat(255)), { maxLength: 8 });
    assert(
      property(
        start,
        flips,
        uint8Array({ maxLength: 60 }),
        nat(200),
        constantFrom(...links),
        (head, changes, tail, cut, link) => {
          const frame = Buffer.concat([head, tail]);
          for (const [at, value] of changes) if (at < frame.length) frame[at] = value;
          tag(frame, { link, caplen: Math.min(cut, frame.length) });
        },
      ),
      { numRuns: 2000 },
    );
  });
});

/** The IP packets behind our tag. */
const tagAll = (packets: Buffer[]): Buffer[] =>
  packets.map((packet) => tag(ethernet(packet))?.subarray(18) ?? Buffer.alloc(0));
const with6 = (protocol: number, payload: Buffer): Buffer => ipPacket({ ...v6, protocol }, payload);
const destinationOptions = (next: number, payload: Buffer): Buffer =>
  with6(60, extension(next, '00 0104 00000000', payload));

describe('fragments of tunnels', () => {
  const OPAQUE = 253;
  test.each([4, 41, 47, 137, 0, 43, 44, 51, 60, 135])('IPv4 protocol %p is opaque in every fragment', (protocol) => {
    const fragments = ipFragments(ipPacket({ ...v4, protocol }, Buffer.alloc(40, 0x45)), 8);
    for (const [index, packet] of tagAll(fragments).entries()) {
      const expected = Buffer.from(fragments[index] ?? '');
      expected.writeUInt8(OPAQUE, 9);
      expect(packet).toEqual(expected);
    }
  });

  test.each([4, 41, 44, 47, 137])('IPv6 next header %p is opaque in every fragment', (protocol) => {
    const packets = tagAll(ipFragments(with6(protocol, Buffer.alloc(40)), 8));
    expect(packets.map((packet) => packet.readUInt8(40))).toEqual(Array(5).fill(OPAQUE));
  });

  test.each([4789, 6081, 3544, 2152, 3386])(
    'UDP port %p becomes discard in the first fragment, on either side',
    (port) => {
      for (const ip of [v4, v6]) {
        const header = ip === v4 ? 20 : 48;
        const outbound = tagAll(ipFragments(udp(1000, port, Buffer.alloc(40), ip), 16));
        expect(outbound[0]?.readUInt32BE(header)).toBe(1000 * 0x10000 + 9);
        const inbound = tagAll(ipFragments(udp(port, 1000, Buffer.alloc(40), ip), 16));
        expect(inbound[0]?.readUInt32BE(header)).toBe(9 * 0x10000 + 1000);
        expect(outbound.slice(1)).toEqual(ipFragments(udp(1000, port, Buffer.alloc(40), ip), 16).slice(1));
      }
    },
  );

  test('a tunnel behind an extension header in the first fragment is hidden, and the extension stays', () => {
    const [greFirst, greSecond] = tagAll(ipFragments(destinationOptions(47, Buffer.alloc(32)), 16));
    expect([greFirst?.readUInt8(40), greFirst?.readUInt8(48), greSecond?.readUInt8(40)]).toEqual([60, OPAQUE, 60]);
    const datagram = udp(1, 4789, Buffer.alloc(32), v6).subarray(40);
    const [udpFirst] = tagAll(ipFragments(destinationOptions(17, datagram), 16));
    expect([udpFirst?.readUInt8(48), udpFirst?.readUInt16BE(58)]).toEqual([17, 9]);
  });

  test('what the first fragment is too short to show is hidden, whatever follows the packet in the frame', () => {
    const datagram = udp(1, 4789, Buffer.alloc(32), v6).subarray(40);
    const packet = destinationOptions(17, datagram);
    const [first = Buffer.alloc(0)] = ipFragments(packet, 8);
    const trailer = udp(1, 53, Buffer.alloc(0), v6).subarray(40);
    const [result] = tagAll([Buffer.concat([first, trailer])]);
    expect(result?.readUInt8(48)).toBe(OPAQUE);
  });

  test('no byte behind the captured ones changes', () => {
    const packets = [
      ipPacket({ ...v4, protocol: 47 }, Buffer.alloc(32)),
      udp(4789, 4789, Buffer.alloc(16)),
      udp(4789, 4789, Buffer.alloc(16), v6),
      destinationOptions(47, Buffer.alloc(32)),
      destinationOptions(60, Buffer.alloc(32)),
    ];
    for (const [first = Buffer.alloc(0)] of packets.map((packet) => ipFragments(packet, 16))) {
      for (let caplen = 14; caplen < 14 + first.length; caplen++)
        expect(tag(ethernet(first), { caplen })).toHaveLength(caplen + 4);
    }
  });

  test('other fragments are left alone', () => {
    // Four bytes that would be ports of tunnels, were they in the first fragment.
    const payload = Buffer.alloc(64, hex('12b512b5'));
    for (const ip of [v4, v6]) {
      const packets = [
        ...ipFragments(udp(1000, 53, payload, ip), 16),
        ...ipFragments(tcpPacket({ ...ip, sourcePort: 4789, destinationPort: 80, flags: 'A', payload }), 16),
        ...ipFragments(ipPacket({ ...ip, protocol: ip === v4 ? PROTOCOL.icmp : PROTOCOL.icmpv6 }, payload), 16),
      ];
      expect(tagAll(packets)).toEqual(packets);
    }
  });
});

describe('link types', () => {
  test.each([
    [1, 'ethernet'],
    [0, 'null'],
    [12, 'raw'],
    [101, 'raw'],
    [108, 'loop'],
    [113, 'linux-sll'],
    [276, 'linux-sll2'],
    [105, undefined],
  ])('number %p is %p', (dlt, link) => expect(linkTypeFromDlt(dlt)).toBe(link));

  test.each([
    ['LINKTYPE_ETHERNET', 'ethernet'],
    ['LINKTYPE_RAW', 'raw'],
    ['LINKTYPE_LINUX_SLL', 'linux-sll'],
    ['LINKTYPE_NULL', 'null'],
    ['Unknown linktype 276', 'linux-sll2'],
    ['Unknown linktype 105', undefined],
    ['LINKTYPE_IEEE802_11_RADIO', undefined],
  ])("node-pcap's %p is %p", (name, link) => expect(linkTypeFromDlt(linkTypeNumber(name))).toBe(link));
});

test('the file header is classic pcap of Ethernet in microseconds', () => {
  expect(pcapFileHeader()).toEqual(hex('d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000'));
});

test('the header of a record has its time, and both lengths, little-endian', () => {
  const bytes = Buffer.alloc(RECORD_HEADER + 2, 0xee);
  writeRecordHeader(new DataView(bytes.buffer, bytes.byteOffset), 1, 1_700_000_000, 123_456, 68, 4_000_000_000);
  expect(bytes).toEqual(hex('ee 00f15365 40e20100 44000000 00286bee ee'));
});
