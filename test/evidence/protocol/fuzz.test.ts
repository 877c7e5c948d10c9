/** Hostile bytes: nothing throws, what is told is bounded and printable, and the time is that of the bytes. */
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { gzipSync } from 'node:zlib';
import { MAX_APP_BYTES } from '../../../agent/events/app.ts';
import { describeFlow } from '../../../agent/evidence/protocol/describe.ts';
import { createPieces } from '../../../agent/evidence/protocol/pieces.ts';
import { UNPRINTABLE } from '../../../agent/text.ts';
import { flowKey, flowPackets } from '../../support/flow.ts';
import {
  dnsQuery,
  dnsResponse,
  ethernet,
  httpRequest,
  httpResponse,
  ipFragments,
  tcpConversation,
  tcpPacket,
  udpExchange,
  type Frame,
} from '../../support/packets.ts';
import { clientHello, handshake, SERVER_NAME, VERSIONS } from '../../support/tls.ts';

const UDP = flowKey({ protocol: 'UDP', destination: { ip: '10.0.0.2', port: 53 } });
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const frame2 = (type: number, flags: number, id: number, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0, payload.length >>> 8, payload.length & 0xff, type, flags, 0, 0, 0, id]), payload]);

/** What each protocol begins with, from which bytes are changed. */
const SAMPLES: Record<string, [client: Buffer, server: Buffer]> = {
  http: [
    httpRequest({ method: 'POST', body: 'a=b', headers: { 'Content-Encoding': 'gzip' } }),
    httpResponse({ body: 'x'.repeat(200), headers: { 'Transfer-Encoding': 'chunked', 'Content-Encoding': 'br' } }),
  ],
  gzip: [
    httpRequest({}),
    Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n'), gzipSync('hello '.repeat(100))]),
  ],
  http2: [
    Buffer.concat([
      HTTP2_PREFACE,
      frame2(4, 0, 0, Buffer.alloc(0)),
      frame2(1, 5, 1, Buffer.from('828684418cf1e3c2e5f23a6ba0ab90f4ff', 'hex')),
      frame2(1, 0, 3, Buffer.from('8286', 'hex')),
      frame2(9, 4, 3, Buffer.from('84be58086e6f2d6361636865', 'hex')),
    ]),
    frame2(1, 4, 1, Buffer.from('88', 'hex')),
  ],
  tls: [
    clientHello([0x1301, 0xc02f], [SERVER_NAME, VERSIONS]),
    handshake(11, Buffer.from([0, 0, 9, 0, 0, 6, 48, 4, 2, 1, 1, 5])),
  ],
  ssh: [
    Buffer.concat([
      Buffer.from('SSH-2.0-x\r\n'),
      Buffer.from([0, 0, 0, 99, 4, 20]),
      Buffer.alloc(16),
      Buffer.from([0, 0, 0, 3, 97, 44, 98]),
    ]),
    Buffer.from('hello\r\nSSH-2.0-y\r\n'),
  ],
  smtp: [
    Buffer.from('EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n'),
    Buffer.from('220 b ESMTP\r\n250 ok\r\n'),
  ],
  ftp: [Buffer.from('USER a\r\nPASS b\r\nRETR c\r\n'), Buffer.from('220 x\r\n331 y\r\n230 z\r\n')],
};

/** Bytes put in place of others, cut out, or doubled. */
function changed(sample: Buffer): fc.Arbitrary<Buffer> {
  const change = fc.record({ at: fc.nat(), length: fc.nat({ max: 8 }), bytes: fc.uint8Array({ maxLength: 8 }) });
  return fc.tuple(fc.array(change, { maxLength: 4 }), fc.nat({ max: sample.length })).map(([changes, cut]) => {
    let bytes = sample;
    for (const { at, length, bytes: put } of changes) {
      const from = at % (bytes.length + 1);
      bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + length)]);
    }
    return cut % 3 === 0 ? bytes.subarray(0, cut) : bytes;
  });
}

function expectTame(description: unknown): void {
  const json = JSON.stringify(description);
  expect(Buffer.byteLength(json)).toBeLessThan(MAX_APP_BYTES);
  JSON.parse(json, (_key, value: unknown) => {
    if (typeof value === 'string') expect(value.search(UNPRINTABLE)).toBe(-1);
    return value;
  });
}

describe('changed bytes', () => {
  test.each(Object.entries(SAMPLES))('of %s', (_name, [client, server]) => {
    fc.assert(
      fc.property(changed(client), changed(server), fc.integer({ min: 1, max: 400 }), (asked, answered, mss) => {
        const frames = tcpConversation({
          exchange: [
            { from: 'client', data: asked },
            { from: 'server', data: answered },
          ],
          mss,
        });
        expectTame(describeFlow(flowPackets(frames), flowKey(), { timeMicros: frames.at(-1)?.timeMicros ?? 0 }));
      }),
      { numRuns: 200 },
    );
  });

  test('of DNS, over UDP', () => {
    const answer = dnsResponse('a.shop.test', [Buffer.from([192, 0, 2, 1])]);
    fc.assert(
      fc.property(changed(dnsQuery('a.shop.test')), changed(answer), (asked, answered) => {
        const exchange = [
          { from: 'client' as const, data: asked },
          { from: 'server' as const, data: answered },
        ];
        expectTame(describeFlow(flowPackets(udpExchange({ exchange })), UDP));
      }),
      { numRuns: 500 },
    );
  });

  test('of whole frames, of any link type', () => {
    const frames = tcpConversation({ exchange: [{ from: 'client', data: httpRequest({}) }], vlans: [7] });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: frames.length - 1 }), fc.nat({ max: 80 }), fc.nat({ max: 255 })), {
          maxLength: 8,
        }),
        fc.constantFrom(1, 0, 9, 12, 51, 101, 104, 108, 113, 228, 276, 4_711),
        (changes, linkType) => {
          const data = frames.map((frame) => ({ ...frame, data: Buffer.from(frame.data) }));
          for (const [index, at, value] of changes) {
            const frame = data[index]?.data;
            if (frame !== undefined && at < frame.length) frame[at] = value;
          }
          expectTame(describeFlow(flowPackets(data, linkType), flowKey()));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('what is described stays as it was', () => {
    const packets = flowPackets(
      tcpConversation({ exchange: [{ from: 'client', data: httpRequest({}) }], vlans: [7, 8] }),
    );
    const before = packets.map(({ frame }) => Buffer.from(frame));
    describeFlow(packets, flowKey());
    expect(packets.map(({ frame }) => Buffer.from(frame))).toEqual(before);
  });
});

describe('hostile DNS', () => {
  const told = (answer: Buffer) =>
    describeFlow(
      flowPackets(
        udpExchange({
          exchange: [
            { from: 'client', data: dnsQuery('shop.test') },
            { from: 'server', data: answer },
          ],
        }),
      ),
      UDP,
    );
  const header = (answers: number): Buffer =>
    Buffer.concat([
      dnsQuery('x').subarray(0, 2),
      Buffer.from([0x81, 0x80, 0, 0, answers >>> 8, answers & 0xff, 0, 0, 0, 0]),
    ]);

  test('names that point at themselves, and at each other', () => {
    for (const name of [
      [0xc0, 12],
      [0xc0, 14, 0xc0, 12],
      [1, 97, 0xc0, 12],
    ]) {
      const { app, errors, outcome } = told(
        Buffer.concat([header(1), Buffer.from([...name, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0])]),
      );
      expect(app?.dns).toMatchObject({ questions: [{ name: 'shop.test', type: 'A' }], rcode: 'NOERROR' });
      expect(errors).toEqual(['dns']);
      expect(outcome).toBe('answered');
    }
  });

  test('more answers than there are, and thousands of long names', () => {
    const label = Buffer.concat([Buffer.from([63]), Buffer.alloc(63, 0xff)]);
    const long = Buffer.concat([label, label, label, Buffer.from([0])]);
    const record = Buffer.from([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12]);
    const first = Buffer.concat([long, Buffer.from([0, 5, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12])]);
    for (const count of [1_000, 65_535]) {
      const description = told(Buffer.concat([header(count), first, ...Array.from({ length: 999 }, () => record)]));
      expectTame(description);
      expect(description.app?.dns?.answers?.length ?? 0).toBe(count === 1_000 ? 15 : 0);
    }
  });
});

describe('hostile TCP', () => {
  const segment = (sequence: number, payload: Buffer, flags = 'PA'): Buffer =>
    ethernet(
      tcpPacket({
        source: '10.0.0.1',
        destination: '10.0.0.2',
        sourcePort: 40_000,
        destinationPort: 80,
        sequence: sequence >>> 0,
        acknowledgement: 1,
        flags,
        payload,
      }),
    );
  const frame = (data: Buffer, index: number): Frame => ({ timeMicros: index, data });

  test('segments in any order, twice and across the end of sequence numbers are the stream', () => {
    const stream = httpRequest({ path: `/${'x'.repeat(900)}` });
    fc.assert(
      fc.property(
        fc.constantFrom(1_000, 0xffff_ff00, 0x7fff_ff00),
        fc.array(fc.tuple(fc.nat({ max: stream.length - 1 }), fc.integer({ min: 1, max: 200 })), { maxLength: 40 }),
        fc.infiniteStream(fc.nat()),
        (initial, more, order) => {
          const cuts = Array.from({ length: Math.ceil(stream.length / 100) }, (_, index): [number, number] => [
            index * 100,
            100,
          ]);
          const segments = [...cuts, ...more]
            .map(([at, length]) => ({ at, length, rank: order.next().value as number }))
            .toSorted((a, b) => a.rank - b.rank)
            .map(({ at, length }) => segment(initial + 1 + at, stream.subarray(at, at + length)));
          const { app } = describeFlow(
            flowPackets([segment(initial, Buffer.alloc(0), 'S'), ...segments].map(frame)),
            flowKey(),
          );
          expect(app?.http?.url).toBe(`/${'x'.repeat(900)}`);
        },
      ),
      { numRuns: 100 },
    );
  });

  test('what was sent first stays', () => {
    const pieces = createPieces(100);
    pieces.add(10, Buffer.from('first'), 1);
    pieces.add(8, Buffer.from('xxSECONDxx'), 2);
    expect(pieces.runs().map(({ offset, bytes }) => [offset, bytes.toString()])).toEqual([[8, 'xxfirstDxx']]);
  });

  test('a hundred thousand segments that do not touch are bounded', () => {
    const pieces = createPieces(1 << 20);
    for (let index = 100_000; index > 0; index--) pieces.add(index * 3, Buffer.from('x'), 0);
    expect(pieces.runs().length).toBeLessThan(20_000);
    expect(pieces.isCut).toBe(true);
  });

  test('fragments of a request, in any order', () => {
    const packet = tcpPacket({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      sourcePort: 40_000,
      destinationPort: 80,
      sequence: 1,
      acknowledgement: 1,
      flags: 'PA',
      payload: httpRequest({ path: `/${'y'.repeat(700)}` }),
    });
    const fragments = ipFragments(packet, 200).map((fragment) => ethernet(fragment));
    expect(fragments.length).toBeGreaterThan(3);
    for (const order of [fragments, fragments.toReversed()]) {
      const { app, traffic } = describeFlow(flowPackets(order.map(frame)), flowKey());
      expect(app?.http?.url).toBe(`/${'y'.repeat(700)}`);
      expect(traffic.packets_to_server).toBe(fragments.length);
    }
  });
});

test.each([
  ['a header of blanks', `GET / HTTP/1.1\r\na: b\r\n${' '.repeat(500_000)}x`],
  ['a first line without end', `GET ${'/'.repeat(900_000)}`],
  ['a first line of blanks', `GET /${' '.repeat(900_000)}HTTP/1.1\r\n\r\n`],
  ['headers without end', `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(150_000)}`],
  ['chunks of one byte', `POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(150_000)}`],
  ['requests without end', 'GET / HTTP/1.1\r\n\r\n'.repeat(50_000)],
  ['a header repeated', `GET / HTTP/1.1\r\n${`a: ${'b'.repeat(100)}\r\n`.repeat(8_000)}`],
  ['lines of SMTP', `EHLO ${' '.repeat(900_000)}\r\n`],
  ['commands of FTP', 'USER a\r\n'.repeat(100_000)],
])('%s: read in a moment, and tame', (_name, sent) => {
  const exchange = [
    { from: 'client' as const, data: sent },
    { from: 'server' as const, data: '220 hello ESMTP\r\n' },
  ];
  const packets = flowPackets(tcpConversation({ exchange, mss: 60_000 }));
  const before = process.cpuUsage();
  expectTame(describeFlow(packets, flowKey()));
  // Of processor time, not of the clock; quadratic ones take minutes.
  expect(process.cpuUsage(before).user).toBeLessThan(20e6);
});
