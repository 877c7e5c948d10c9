import { describe, expect, test } from '@jest/globals';
import { describeFlow } from '../../../agent/evidence/protocol/describe.ts';
import { flowKey, flowPackets } from '../../support/flow.ts';
import {
  dnsQuery,
  dnsResponse,
  ethernet,
  httpConversation,
  tcpConversation,
  udpPacket,
  type Frame,
  type Turn,
} from '../../support/packets.ts';
import { clientHello, SERVER_NAME, VERSIONS } from '../../support/tls.ts';

const asked = (data: Buffer | string): Turn => ({ from: 'client', data });
const answered = (data: Buffer | string): Turn => ({ from: 'server', data });
const told = (serverPort: number, ...exchange: Turn[]) =>
  describeFlow(
    flowPackets(tcpConversation({ serverPort, exchange })),
    flowKey({ destination: { ip: '10.0.0.2', port: serverPort } }),
  );

describe('lines of text', () => {
  test('SMTP: who writes to whom, and the answer', () => {
    const { app, outcome } = told(
      2525,
      answered('220 mx.test ESMTP\r\n'),
      asked('EHLO client.test\r\n'),
      answered('250-mx.test\r\n250 PIPELINING\r\n'),
      asked('MAIL FROM:<a@a.test> SIZE=9\r\nRCPT TO:<b@b.test>\r\nRCPT TO: <c@c.test>\r\nDATA\r\n'),
      answered('250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n'),
      asked('From: a\r\nSubject: invoice\r\n\r\nSubject: not this\r\n.\r\nQUIT\r\n'),
      answered('554 5.7.1 refused\r\n221 bye\r\n'),
    );
    expect(app).toEqual({
      protocol: 'smtp',
      smtp: {
        helo: 'client.test',
        from: 'a@a.test',
        to: ['b@b.test', 'c@c.test'],
        subject: 'invoice',
        reply: '554 5.7.1 refused',
      },
    });
    expect(outcome).toBe('answered');
  });

  test('SMTP, encrypted from STARTTLS on', () => {
    const hello = clientHello([0x1301], [SERVER_NAME, VERSIONS]);
    const { app } = told(
      25,
      answered('220 mx.test ESMTP\r\n'),
      asked('EHLO client.test\r\nSTARTTLS\r\n'),
      answered('250 ok\r\n220 go\r\n'),
      asked(hello),
    );
    expect(app).toMatchObject({ protocol: 'smtp', smtp: { helo: 'client.test' }, tls: { sni: 'shop.test' } });
  });

  test('FTP, without the password', () => {
    const { app } = told(
      21,
      answered('220 files\r\n'),
      asked('USER eve\r\n'),
      answered('331 password\r\n'),
      asked('pass secret\r\nRETR passwords\r\n'),
      answered('230 in\r\n550 no such file\r\n'),
    );
    expect(app).toEqual({
      protocol: 'ftp',
      ftp: { user: 'eve', commands: ['USER eve', 'pass …', 'RETR passwords'], reply: '550 no such file' },
    });
  });
});

test('DNS over TCP, several on a connection: the one that was asked last when the alert fired', () => {
  const framed = (message: Buffer): Buffer =>
    Buffer.concat([Buffer.from([message.length >>> 8, message.length & 0xff]), message]);
  const frames = tcpConversation({
    serverPort: 53,
    exchange: [
      asked(framed(dnsQuery('one.test', { id: 1 }))),
      asked(framed(dnsQuery('two.test', { id: 2 }))),
      answered(framed(dnsResponse('two.test', [], { id: 2 }))),
      answered(framed(dnsResponse('one.test', [Buffer.from([192, 0, 2, 1])], { id: 1 }))),
    ],
  });
  const key = flowKey({ destination: { ip: '10.0.0.2', port: 53 } });
  const at = (index: number) =>
    describeFlow(flowPackets(frames), key, { timeMicros: frames[index]?.timeMicros ?? 0 }).app?.dns;
  expect(at(3)).toEqual({
    id: 1,
    questions: [{ name: 'one.test', type: 'A' }],
    answers: [{ name: 'one.test', type: 'A', ttl: 300, data: '192.0.2.1' }],
    rcode: 'NOERROR',
  });
  expect(at(5)).toEqual({ id: 2, questions: [{ name: 'two.test', type: 'A' }], rcode: 'NXDOMAIN' });
});

describe('the flow is found', () => {
  const frames = httpConversation({ request: { path: '/found' }, vlans: [5, 6] });
  const urlOf = (packets: ReturnType<typeof flowPackets>, key = flowKey()) => describeFlow(packets, key).app?.http?.url;
  /** Without the frame's header, or in another. */
  const inside = ({ timeMicros, data }: Frame, wrap: (packet: Buffer) => Buffer): Frame => ({
    timeMicros,
    data: wrap(data.subarray(14)),
  });
  const plain = httpConversation({ request: { path: '/found' } });

  test('behind VLAN tags', () => expect(urlOf(flowPackets(frames))).toBe('/found'));

  test('over IPv6', () => {
    const [client, server] = ['2001:db8::1', '2001:db8::2'];
    const key = flowKey({ source: { ip: client, port: 40_000 }, destination: { ip: server, port: 80 } });
    expect(urlOf(flowPackets(httpConversation({ request: { path: '/six' }, client, server })), key)).toBe('/six');
  });

  test('without a link header', () =>
    expect(
      urlOf(
        flowPackets(
          plain.map((frame) => inside(frame, (packet) => packet)),
          101,
        ),
      ),
    ).toBe('/found'));

  test('in VXLAN', () => {
    const tunnelled = plain.map(({ timeMicros, data }) => ({
      timeMicros,
      data: ethernet(
        udpPacket({
          source: '192.0.2.1',
          destination: '192.0.2.2',
          sourcePort: 5_000,
          destinationPort: 4_789,
          payload: Buffer.concat([Buffer.from([8, 0, 0, 0, 0, 0, 7, 0]), data]),
        }),
      ),
    }));
    expect(urlOf(flowPackets(tunnelled))).toBe('/found');
  });

  test('also where the alert is on the answer', () => {
    const { source, destination } = flowKey();
    const { app, traffic } = describeFlow(flowPackets(plain), flowKey({ source: destination, destination: source }));
    expect(app?.http?.url).toBe('/found');
    expect(traffic).toMatchObject({ from_server: true, packets_to_server: 6, packets_to_client: 4 });
  });

  test('among others only', () => {
    const others = httpConversation({ request: { path: '/other' }, clientPort: 40_001, start: 1 });
    expect(urlOf(flowPackets([...others, ...plain]))).toBe('/found');
  });

  test('with bytes behind the packet, as short frames have', () => {
    const padded = httpConversation({ request: { path: '/found' }, mss: 20 }).map(({ timeMicros, data }) => ({
      timeMicros,
      data: Buffer.concat([data, Buffer.alloc(9, 'x')]),
    }));
    const { app } = describeFlow(flowPackets(padded), flowKey());
    expect(app?.http).toMatchObject({ url: '/found', status: 200 });
  });

  test('where packets were cut, up to there', () => {
    const long = httpConversation({ request: { path: `/${'a'.repeat(500)}` } });
    const cut = long.map(({ timeMicros, data }) => ({
      timeMicros,
      data: data.subarray(0, 100),
      originalLength: data.length,
    }));
    const { traffic, outcome } = describeFlow(flowPackets(cut), flowKey());
    expect(traffic.bytes_to_server).toBeGreaterThan(500);
    expect(outcome).toBe('2xx');
  });

  test('a segment that was sent again with other bytes changes nothing', () => {
    const [request] = plain.filter(({ data }) => data.includes('/found'));
    if (request === undefined) throw new Error('no request');
    const other = Buffer.from(request.data.toString('latin1').replace('/found', '/false'), 'latin1');
    expect(urlOf(flowPackets([...plain, { timeMicros: request.timeMicros + 1, data: other }]))).toBe('/found');
  });
});
