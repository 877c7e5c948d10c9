/** QUIC, WireGuard and ESP through the shunt, and frames that are not looked into. */
import { describe, expect, test } from '@jest/globals';
import { DEFAULT_START_MICROS, ethernet, ipFragments, ipPacket, udpPacket, type Frame } from '../../support/packets.ts';
import { quicInitial } from './starts.ts';
import { createHarness, noise, type Harness } from './support.ts';

const V4 = { client: '10.0.0.1', server: '10.0.0.2' };
const V6 = { client: 'fd00::1', server: 'fd00::2' };
type Ends = typeof V4;

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

function udp(from: keyof Ends, payload: Buffer, { port = 443, ends = V4, seconds = 0 } = {}): Frame {
  const isClient = from === 'client';
  const packet = udpPacket({
    source: ends[from],
    destination: ends[isClient ? 'server' : 'client'],
    sourcePort: isClient ? 50_000 : port,
    destinationPort: isClient ? port : 50_000,
    payload,
  });
  return { timeMicros: DEFAULT_START_MICROS + seconds * 1e6, data: ethernet(packet) };
}

const verdictsOf = ({ look }: Harness, frames: Frame[]): string[] => frames.map((frame) => look(frame).verdict);
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
const all = (verdict: string, count: number): string[] => times(count, () => verdict);

describe('QUIC', () => {
  const [own, its] = [noise(8, 1), noise(5, 2)];
  const initial = (version = 1, first = 0xc0): Buffer => quicInitial(noise(8, 3), own, { version, first });
  const answer = (version = 1, first = 0xc0): Buffer => quicInitial(own, its, { version, first });
  const short = (seed: number, length = 1200): Buffer => Buffer.concat([Buffer.from([0x5a]), noise(length - 1, seed)]);

  test.each([
    ['1', 1, 0xc0],
    ['2', 0x6b33_43cf, 0xd0],
    ['draft 29', 0xff00_001d, 0xc0],
  ])('version %s: short headers are shunted behind Initial packets of both sides', (_, version, type) => {
    const harness = createHarness({ firstBytes: 2400 });
    const begun = [udp('client', initial(version, type)), udp('server', answer(version, type))];
    const frames = [...begun, ...times(4, (at) => udp('server', short(at)))];
    expect(verdictsOf(harness, frames)).toEqual([...all('forward', 4), ...all('shunted', 2)]);
    expect(harness.look(udp('server', short(7)))).toMatchObject({ protocol: 'quic', bytes: 42 + 1200 });
    // The other direction has sent nothing yet; long headers go through.
    expect(
      verdictsOf(
        harness,
        times(3, (at) => udp('client', short(at))),
      ),
    ).toEqual(['forward', 'forward', 'shunted']);
    expect(verdictsOf(harness, begun)).toEqual(['forward', 'forward']);
  });

  test('a client may have no connection id, and says the first again', () => {
    const harness = createHarness({ firstBytes: 0 });
    const none = Buffer.alloc(0);
    const begun = [quicInitial(noise(8, 3), none), quicInitial(noise(8, 3), none)].map((bytes) => udp('client', bytes));
    const frames = [...begun, udp('server', quicInitial(none, its)), udp('server', short(1)), udp('client', short(2))];
    expect(verdictsOf(harness, frames)).toEqual([...all('forward', 3), ...all('shunted', 2)]);
  });

  test('is forwarded without the other side, with another version, another type, too short, from another port', () => {
    const rest = [...times(3, (at) => udp('server', short(at))), ...times(3, (at) => udp('client', short(at)))];
    for (const [client, server] of [
      [initial(), short(9)],
      [initial(2), answer(2)],
      [initial(1, 0xe0), answer(1, 0xe0)],
      [initial().subarray(0, 600), answer().subarray(0, 600)],
      [initial(), initial()],
      [initial(), quicInitial(its, noise(8, 4))],
    ] as const) {
      const harness = createHarness({ firstBytes: 0 });
      expect(verdictsOf(harness, [udp('client', client), udp('server', server), ...rest])).toEqual(all('forward', 8));
    }
    const harness = createHarness({ firstBytes: 0 });
    const begun = [udp('client', initial()), udp('server', answer())];
    const other = times(3, (at) => udp('server', short(at), { port: 444 }));
    expect(verdictsOf(harness, [...begun, ...other])).toEqual(all('forward', 5));
  });

  test('text in its place is forwarded for good', () => {
    const harness = createHarness({ firstBytes: 0 });
    const begun = [udp('client', initial()), udp('server', answer())];
    const text = udp('server', Buffer.from('Plain text of a protocol that only began like QUIC. '.repeat(3)));
    expect(verdictsOf(harness, [...begun, text, udp('server', short(1))])).toEqual(all('forward', 4));
    expect(verdictsOf(harness, [udp('client', short(1))])).toEqual(['shunted']);
  });

  test('one packet in 20 s is forwarded; after 3 minutes of silence it is another flow', () => {
    const harness = createHarness({ firstBytes: 0 });
    const begun = [udp('client', initial()), udp('server', answer())];
    const later = (seconds: number): Frame => udp('server', short(seconds), { seconds });
    expect(verdictsOf(harness, [...begun, later(1), later(20), later(21), later(39), later(40), later(41)])).toEqual([
      'forward',
      'forward',
      'shunted',
      'forward',
      'shunted',
      'shunted',
      'forward',
      'shunted',
    ]);
    expect(verdictsOf(harness, [later(300), later(301)])).toEqual(['forward', 'forward']);
  });
});

describe('WireGuard', () => {
  const message = (type: number, index: number, length: number, seed = 1): Buffer =>
    Buffer.concat([Buffer.from([type, 0, 0, 0]), uint32(index), noise(length - 8, seed)]);
  const response = (sender: number, receiver: number): Buffer =>
    Buffer.concat([Buffer.from([2, 0, 0, 0]), uint32(sender), uint32(receiver), noise(80)]);
  const from = (side: keyof Ends, bytes: Buffer, ends = V4): Frame => udp(side, bytes, { port: 51_820, ends });

  test.each([
    ['IPv4', V4],
    ['IPv6', V6],
  ])('over %s: transport data to the indices of a handshake is shunted', (_, ends) => {
    const harness = createHarness({ firstBytes: 96 });
    const frames = [
      from('client', message(1, 0x1111, 148), ends),
      from('server', response(0x2222, 0x1111), ends),
      ...times(5, (at) => from('client', message(4, 0x2222, 32 + 16 * at, at), ends)),
      ...times(5, (at) => from('server', message(4, 0x1111, 32 + 16 * at, at), ends)),
    ];
    expect(verdictsOf(harness, frames)).toEqual([
      ...all('forward', 5),
      ...all('shunted', 2),
      ...all('forward', 3),
      ...all('shunted', 2),
    ]);
    expect(harness.look(from('client', message(4, 0x2222, 64), ends))).toMatchObject({ protocol: 'wireguard' });
    const odd = [message(4, 0x3333, 64), message(4, 0x2222, 65), message(3, 0x2222, 64), message(4, 0x2222, 16)];
    expect(
      verdictsOf(
        harness,
        odd.map((bytes) => from('client', bytes, ends)),
      ),
    ).toEqual(all('forward', 4));
  });

  test('new keys may be asked for by either side', () => {
    const harness = createHarness({ firstBytes: 0 });
    const frames = [
      from('client', message(1, 0x1111, 148)),
      from('client', message(1, 0x1112, 148)),
      from('server', response(0x2222, 0x1112)),
      from('server', message(1, 0x3333, 148)),
      from('client', response(0x4444, 0x3333)),
      from('client', message(4, 0x3333, 64)),
      from('server', message(4, 0x4444, 64)),
    ];
    expect(verdictsOf(harness, frames)).toEqual([...all('forward', 5), ...all('shunted', 2)]);
  });

  test('where both begin at once, it is shunted from the next handshake on', () => {
    const harness = createHarness({ firstBytes: 0 });
    const handshake = (client: number, server: number): Frame[] => [
      from('client', message(1, client, 148)),
      from('server', response(server, client)),
      from('client', message(4, server, 64)),
    ];
    const both = [from('server', message(1, 9, 148)), ...handshake(7, 8), from('server', response(8, 7))];
    const later = (frames: Frame[], seconds: number): Frame[] =>
      frames.map(({ data, timeMicros }) => ({ data, timeMicros: timeMicros + seconds * 1e6 }));
    const frames = [...both, ...later(handshake(17, 18), 20), ...later(handshake(27, 28), 140)];
    expect(verdictsOf(harness, frames)).toEqual([...all('forward', 10), 'shunted']);
  });

  test('is forwarded without a response to just that initiation', () => {
    const harness = createHarness({ firstBytes: 0 });
    const frames = [
      from('client', message(1, 0x1111, 148)),
      from('server', response(0x2222, 0x9999)),
      from('client', message(4, 0x2222, 64)),
      from('server', message(4, 0x1111, 64)),
    ];
    expect(verdictsOf(harness, frames)).toEqual(all('forward', 4));
  });
});

describe('ESP', () => {
  const esp = (number: number, body: Buffer, spi = 0xcafe): Buffer =>
    Buffer.concat([uint32(spi), uint32(number), body]);
  const frame = (bytes: Buffer): Frame => ({
    timeMicros: DEFAULT_START_MICROS,
    data: ethernet(ipPacket({ source: V4.client, destination: V4.server, protocol: 50 }, bytes)),
  });
  const inUdp = (bytes: Buffer): Frame => udp('client', bytes, { port: 4500 });
  /** An initialisation vector that counts up, as with AES-GCM. */
  const cipher = (number: number, length = 800): Buffer =>
    Buffer.concat([uint32(0), uint32(number), noise(length, number + 1)]);

  test.each([
    ['over IP', frame],
    ['over UDP', inUdp],
  ])('%s is shunted after the first bytes and some packets', (_, make) => {
    const harness = createHarness({ firstBytes: 1000 });
    expect(
      verdictsOf(
        harness,
        times(20, (at) => make(esp(at, cipher(at)))),
      ),
    ).toEqual([...all('forward', 8), ...all('shunted', 12)]);
    expect(harness.look(make(esp(99, cipher(99))))).toMatchObject({ protocol: 'esp' });
    // Another SPI is another flow.
    expect(verdictsOf(harness, [make(esp(1, cipher(1), 0xbeef))])).toEqual(['forward']);
  });

  test('goes on where the capture shows each packet twice', () => {
    const harness = createHarness({ firstBytes: 0 });
    const verdicts = verdictsOf(
      harness,
      times(40, (at) => frame(esp(at >> 1, cipher(at >> 1)))),
    );
    expect(verdicts.slice(8)).toEqual(all('shunted', 32));
  });

  // A sender chooses its port, and a name server reads what follows the first bytes.
  test.each<[string, (at: number) => Frame]>([
    ['stand still', (at) => inUdp(esp(7, cipher(at)))],
    [
      'stand still, in datagrams that begin alike',
      (at) => inUdp(esp(7, Buffer.concat([cipher(1, 60), noise(700, at)]))),
    ],
    ['jump', (at) => inUdp(esp((at * 0x2545_f491) >>> 0, cipher(at)))],
  ])('is not what is sent from its port with sequence numbers that %s', (_, make) => {
    const harness = createHarness({ firstBytes: 0 });
    expect(verdictsOf(harness, times(40, make))).toEqual(all('forward', 40));
  });

  test('IKE beside it is forwarded', () => {
    const harness = createHarness({ firstBytes: 0 });
    expect(
      verdictsOf(
        harness,
        times(20, (at) => inUdp(esp(at, cipher(at), 0))),
      ),
    ).toEqual(all('forward', 20));
  });

  /** What NULL encryption has behind the payload: padding, its length, the next header, and a check value. */
  const plain = (inner: Buffer, next: number, number: number): Buffer =>
    Buffer.concat([inner, Buffer.from([1, 2, 2, next]), noise(12, number + 50)]);
  const inner = (at: number, payload: Buffer): Buffer =>
    udpPacket({
      source: '192.168.0.1',
      destination: '192.168.9.9',
      sourcePort: 53,
      destinationPort: 53,
      id: at,
      payload,
    });

  test.each<[string, (at: number) => Buffer]>([
    ['a tunnel', (at) => plain(inner(at, noise(300, at)), 4, at)],
    ['a tunnel with AES-GMAC', (at) => Buffer.concat([uint32(0), uint32(at), plain(inner(at, noise(300, at)), 4, at)])],
    [
      'a tunnel with packets of many flows',
      (at) => {
        const packet = inner(at, noise(300, at));
        noise(8, at).copy(packet, 12);
        return plain(packet, 4, at);
      },
    ],
    ['transport of UDP', (at) => plain(inner(at, noise(300, 5)).subarray(20), 17, at)],
    ['transport of text', (at) => plain(Buffer.concat([noise(20, at), Buffer.from('text '.repeat(40))]), 6, at)],
  ])('with NULL encryption, %s, is inspected', (_, make) => {
    const harness = createHarness({ firstBytes: 2000 });
    expect(
      verdictsOf(
        harness,
        times(40, (at) => frame(esp(at, make(at)))),
      ),
    ).toEqual(all('forward', 40));
  });
});

describe('not looked into', () => {
  const datagram = udpPacket({
    source: V4.client,
    destination: V4.server,
    sourcePort: 4500,
    destinationPort: 4500,
    payload: Buffer.concat([uint32(0xcafe), noise(2000)]),
  });
  const frames = (packets: Buffer[]): Frame[] =>
    packets.map((packet) => ({ timeMicros: DEFAULT_START_MICROS, data: ethernet(packet) }));

  test.each<[string, (frame: Frame[]) => Frame[]]>([
    ['fragments', () => frames(ipFragments(datagram, 800))],
    [
      'truncated datagrams',
      (whole) => whole.map((each) => ({ ...each, data: each.data.subarray(0, 900), originalLength: each.data.length })),
    ],
    [
      'extension headers',
      () =>
        frames([
          ipPacket(
            { source: V6.client, destination: V6.server, protocol: 60 },
            Buffer.concat([Buffer.from([50, 0, 1, 4, 0, 0, 0, 0]), noise(500)]),
          ),
        ]),
    ],
    [
      'other protocols',
      () => frames([ipPacket({ source: V4.client, destination: V4.server, protocol: 47 }, noise(900))]),
    ],
  ])('%s', (_, make) => {
    const harness = createHarness({ firstBytes: 0 });
    const whole = frames([datagram]);
    expect(verdictsOf(harness, times(12, () => make(whole)).flat())).not.toContain('shunted');
  });
});
