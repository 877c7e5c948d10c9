/**
 * What holds for any TLS connection: the engine's streams are the original ones without some whole records of type 23,
 * without gaps, and no acknowledgement is beyond the data. And for any bytes: nothing throws, nothing outside the frame
 * is written.
 */
import { expect, test } from '@jest/globals';
import {
  array,
  assert,
  boolean,
  constantFrom,
  integer,
  nat,
  oneof,
  property,
  record as object,
  tuple,
  uint8Array,
} from 'fast-check';
import { ethernet, ipPacket, type Frame } from '../../support/packets.ts';
import {
  alertRecord,
  CHANGE_CIPHER_SPEC,
  converse,
  createHarness,
  dataRecord,
  expectOnlyDataMissing,
  heartbeatRecord,
  noise,
  record,
  recordsOf,
  serverHello,
  shaken,
  streamsOf,
  CLIENT_HELLO,
  type Conversation,
  type Side,
} from './support.ts';

const someRecord = oneof(
  {
    weight: 30,
    arbitrary: oneof(integer({ min: 1, max: 3000 }), constantFrom(700)).map((length) => dataRecord(length)),
  },
  { weight: 6, arbitrary: constantFrom(alertRecord(), heartbeatRecord(), CHANGE_CIPHER_SPEC, record(22, noise(200))) },
  // A disguise.
  { weight: 1, arbitrary: constantFrom(record(23, Buffer.from('text '.repeat(40)))) },
);

const turn = object({
  side: constantFrom<Side>('client', 'server'),
  records: array(someRecord, { minLength: 1, maxLength: 8 }),
  /** Lengths of segments, how far each comes too late, and what comes again: a place and a length. */
  sizes: array(oneof(integer({ min: 1, max: 40 }), integer({ min: 1, max: 2000 }), integer({ min: 1000, max: 9000 })), {
    minLength: 1,
    maxLength: 12,
  }),
  delays: array(oneof({ weight: 20, arbitrary: constantFrom(0) }, nat(4)), { minLength: 1, maxLength: 12 }),
  again: array(tuple(nat(40), nat(20_000), integer({ min: 1, max: 5000 })), { maxLength: 4 }),
});

interface Turn {
  side: Side;
  records: Buffer[];
  sizes: number[];
  delays: number[];
  again: [place: number, from: number, length: number][];
}

function deliver(conversation: Conversation, { side, records, sizes, delays, again }: Turn): void {
  const bytes = Buffer.concat(records);
  const parts: [number, number][] = [];
  for (let at = 0; at < bytes.length;) {
    const size = parts.length < 30 ? (sizes[parts.length % sizes.length] ?? 1) : 4000;
    const to = Math.min(bytes.length, at + size);
    parts.push([at, to]);
    at = to;
  }
  const late = parts
    .map((part, index) => ({ part, at: index + (delays[index % delays.length] ?? 0) }))
    .toSorted((one, other) => one.at - other.at)
    .map(({ part }) => part);
  for (const [place, from, length] of again) {
    const start = from % bytes.length;
    late.splice(place % (late.length + 1), 0, [start, Math.min(bytes.length, start + length)]);
  }
  conversation.deliver(side, bytes, late);
}

test('any connection loses whole records of type 23 and nothing else', () => {
  let missing = 0;
  let all = 0;
  assert(
    property(
      array(turn, { maxLength: 8 }),
      object({
        version13: boolean(),
        sequence: constantFrom(1000, 0xffff_f000, 0x7fff_f000),
        firstBytes: constantFrom(0, 1, 1000, 5000),
      }),
      (turns, { version13, sequence, firstBytes }) => {
        const conversation = shaken({ version13, sequence });
        for (const each of turns) deliver(conversation, each);
        conversation.frames.push(conversation.frame('client', { flags: 'FA' }));
        const original = streamsOf(conversation.frames);
        const kept = streamsOf(createHarness({ firstBytes }).pass(conversation.frames));
        for (const side of ['client', 'server'] as const) {
          missing += expectOnlyDataMissing(original[side], kept[side]);
          all += original[side].length;
        }
      },
    ),
    { numRuns: 300 },
  );
  // Not because nothing is ever taken out.
  expect(missing / all).toBeGreaterThan(0.1);
});

test('in order, however it is cut, all is shunted but records that go through and those whose beginning is split', () => {
  assert(
    property(
      array(array(integer({ min: 300, max: 3000 }), { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 }),
      array(integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 20 }).map((sizes) => [...sizes, 2000]),
      (groups, sizes) => {
        const conversation = shaken();
        const bytes = Buffer.concat(
          groups.flatMap((lengths) => [...lengths.map((length) => dataRecord(length)), alertRecord()]),
        );
        const start = conversation.next.server;
        conversation.send('server', bytes, sizes);
        const original = streamsOf(conversation.frames).server;
        const kept = recordsOf(streamsOf(createHarness({ firstBytes: 0 }).pass(conversation.frames)).server);
        const cuts = new Set<number>();
        for (let index = 0, at = 0; at < bytes.length; index++) {
          cuts.add(at);
          at += sizes[Math.min(index, sizes.length - 1)] ?? 1;
        }
        let at = start - 5001;
        const expected = recordsOf(original).filter(({ type, bytes: { length } }) => {
          const from = at - (start - 5001);
          if (type === 22) return true;
          at += length;
          return type !== 23 || [...cuts].some((cut) => cut > from && cut < from + 45);
        });
        expect(kept.map(({ bytes: each }) => each.length)).toEqual(expected.map(({ bytes: each }) => each.length));
      },
    ),
    { numRuns: 200 },
  );
});

const valid = ((): Frame[] => {
  const conversation = shaken();
  for (let index = 0; index < 4; index++) {
    conversation.send('server', Buffer.concat([dataRecord(900 + index), alertRecord()]), [700]);
    conversation.send('client', dataRecord(300 + index));
  }
  const ssh = converse(9000, 7000);
  ssh.send('client', Buffer.from('SSH-2.0-x\r\n'));
  ssh.send('server', Buffer.from('SSH-2.0-y\r\n'));
  const again = converse(4_000_000, 90_000);
  again.send('client', CLIENT_HELLO);
  again.send('server', serverHello());
  return [...conversation.frames, ...ssh.frames, ...again.frames];
})();

test('changed, cut and repeated frames: nothing throws, nothing outside is written', () => {
  const change = object({
    frame: nat(valid.length - 1),
    at: oneof(nat(80), nat(900)),
    value: nat(255),
    cut: oneof({ weight: 3, arbitrary: constantFrom(0) }, nat(100)),
    short: boolean(),
  });
  assert(
    property(array(change, { maxLength: 60 }), nat(20), (changes, flows) => {
      const { look } = createHarness({ firstBytes: 500, flows });
      valid.slice(0, 12).forEach((frame) => look(frame));
      for (const { frame, at, value, cut, short } of changes) {
        const data = Buffer.from(valid[frame]?.data ?? []);
        if (at < data.length) data[at] = value;
        const rest = data.subarray(0, Math.max(0, data.length - cut));
        look({ timeMicros: 0, data: rest, ...(short ? { originalLength: data.length } : {}) });
      }
    }),
    { numRuns: 500 },
  );
});

test('any bytes behind an IP header: nothing throws, nothing outside is written', () => {
  const ends = constantFrom(
    { source: '10.0.0.1', destination: '10.0.0.2' },
    { source: 'fd00::2', destination: 'fd00::1' },
  );
  const payload = tuple(
    constantFrom('', '01000000', '04000000', '1194119400ff0000', '01bb01bb', 'c000000001', '40', '06 00 c2 04'),
    uint8Array({ maxLength: 120 }),
  );
  assert(
    property(array(tuple(ends, constantFrom(6, 17, 50, 0, 44), payload), { maxLength: 30 }), (packets) => {
      const { look } = createHarness({ firstBytes: 0 });
      for (const [addresses, protocol, [head, rest]] of packets) {
        const bytes = Buffer.concat([Buffer.from(head.replaceAll(' ', ''), 'hex'), rest]);
        look({ timeMicros: 0, data: ethernet(ipPacket({ ...addresses, protocol }, bytes)) });
      }
    }),
    { numRuns: 500 },
  );
});
