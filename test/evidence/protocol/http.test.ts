import { describe, expect, test } from '@jest/globals';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import { describeFlow } from '../../../agent/evidence/protocol/describe.ts';
import { flowKey, flowPackets } from '../../support/flow.ts';
import {
  DEFAULT_START_MICROS,
  httpConversation,
  httpRequest,
  httpResponse,
  tcpConversation,
  type Turn,
} from '../../support/packets.ts';

const POST = { method: 'POST', path: '/login?next=/a b', body: 'user=root', headers: { 'User-Agent': 'curl/7.88.1' } };

function exchange(...turns: Turn[]) {
  return flowPackets(tcpConversation({ exchange: turns }));
}

const asked = (data: Buffer | string): Turn => ({ from: 'client', data });
const answered = (data: Buffer | string): Turn => ({ from: 'server', data });

describe('a request and its answer', () => {
  test('are told together, with the outcome', () => {
    const packets = flowPackets(
      httpConversation({
        request: {
          ...POST,
          headers: {
            ...POST.headers,
            Referer: 'http://a.test/',
            'X-Forwarded-For': '192.0.2.7, 10.0.0.9',
            'Content-Type': 'application/x-www-form-urlencoded',
          },
        },
        response: { status: 403, reason: 'Forbidden', body: 'no\nway', headers: { 'Content-Type': 'text/plain' } },
      }),
    );
    const { app, outcome, errors } = describeFlow(packets, flowKey());
    expect(app).toEqual({
      protocol: 'http',
      http: {
        version: '1.1',
        method: 'POST',
        host: 'example.test',
        url: '/login?next=/a b',
        user_agent: 'curl/7.88.1',
        referrer: 'http://a.test/',
        x_forwarded_for: '192.0.2.7, 10.0.0.9',
        request: {
          content_type: 'application/x-www-form-urlencoded',
          content_length: 9,
          bytes: 9,
          body: 'user=root',
        },
        status: 403,
        reason: 'Forbidden',
        response: { content_type: 'text/plain', content_length: 6, bytes: 6, body: 'no way' },
      },
    });
    expect(outcome).toBe('4xx');
    expect(errors).toEqual([]);
  });

  test('of several the one under way when the alert fired', () => {
    const packets = exchange(
      asked(httpRequest({ path: '/one' })),
      answered(httpResponse({ body: 'first' })),
      asked(httpRequest({ path: '/two', method: 'HEAD' })),
      answered('HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n'),
      asked(httpRequest({ path: '/three' })),
      answered(httpResponse({ status: 500, body: 'third' })),
    );
    const told = packets.map(({ time }) => {
      const { app, outcome } = describeFlow(packets, flowKey(), { timeMicros: time });
      return `${app?.http?.url} ${app?.http?.status} ${outcome}`;
    });
    expect(told.slice(0, 7)).toEqual(Array.from({ length: 7 }, () => '/one 200 2xx'));
    expect(told.slice(7, 11)).toEqual(Array.from({ length: 4 }, () => '/two 200 2xx'));
    expect(told.slice(11, 15)).toEqual(Array.from({ length: 4 }, () => '/three 500 5xx'));
  });

  test.each([
    ['gzip', gzipSync('hello hello')],
    ['deflate', deflateSync('hello hello')],
    ['deflate', deflateRawSync('hello hello')],
    ['br', brotliCompressSync('hello hello')],
    ['identity', Buffer.from('hello hello')],
  ])('body in chunks, encoded as %s', (encoding, body) => {
    const half = body.subarray(0, 5);
    const rest = body.subarray(5);
    const chunked = Buffer.concat([
      Buffer.from(`HTTP/1.1 200 OK\r\nContent-Encoding: ${encoding}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n`),
      half,
      Buffer.from(`\r\n${rest.length.toString(16)};name=value\r\n`),
      rest,
      Buffer.from('\r\n0\r\nTrailer: yes\r\n\r\n'),
    ]);
    const { app } = describeFlow(exchange(asked(httpRequest({})), answered(chunked)), flowKey());
    expect(app?.http?.response).toEqual({ content_encoding: encoding, bytes: body.length, body: 'hello hello' });
  });

  test('what would grow without bound is shown as far as there is room', () => {
    const bomb = gzipSync(Buffer.alloc(16 << 20, 'A'));
    const { app, errors } = describeFlow(
      exchange(
        asked(httpRequest({})),
        answered(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n'), bomb])),
      ),
      flowKey(),
    );
    expect(app?.http?.response?.body).toBe('A'.repeat(1_024));
    expect(errors).toEqual([]);
  });

  test('a body that is not what its header says costs its decoding only', () => {
    const { app, errors } = describeFlow(
      exchange(
        asked(httpRequest({})),
        answered(httpResponse({ headers: { 'Content-Encoding': 'gzip' }, body: 'plain' })),
      ),
      flowKey(),
    );
    expect(app?.http).toMatchObject({ status: 200, response: { body: 'plain' } });
    expect(errors).toEqual(['http.body']);
  });

  test('goes on behind what is missing of a body', () => {
    const big = httpResponse({ body: 'x'.repeat(6_000) });
    const packets = exchange(
      asked(httpRequest({ path: '/one' })),
      answered(big),
      asked(httpRequest({ path: '/two' })),
      answered(httpResponse({ status: 404 })),
    );
    const without = packets.filter(({ frame }) => !(frame.length > 1_500 && frame[frame.length - 1] === 0x78)).length;
    expect(without).toBeLessThan(packets.length);
    const kept = packets.filter(
      ({ frame }, index) => !(frame.length > 1_500 && frame[frame.length - 1] === 0x78 && index > 5),
    );
    const { app, outcome } = describeFlow(kept, flowKey(), { timeMicros: packets.at(-1)?.time ?? 0 });
    expect(app?.http).toMatchObject({ url: '/two', status: 404 });
    expect(outcome).toBe('4xx');
  });

  test('names no escape of a terminal, and no line', () => {
    const { app } = describeFlow(
      exchange(asked('GET /\x1b[31mred HTTP/1.1\r\nHost: a\r\nUser-Agent: x\x07\u202e\r\n y\r\n\r\n')),
      flowKey(),
    );
    expect(app?.http).toEqual({ version: '1.1', method: 'GET', host: 'a', url: '/red', user_agent: 'x y' });
  });
});

describe('the outcome', () => {
  const request = asked(httpRequest({}));
  const outcomeOf = (frames: ReturnType<typeof flowPackets>): string => describeFlow(frames, flowKey()).outcome;

  test.each([
    [204, '2xx'],
    [301, '3xx'],
    [404, '4xx'],
    [503, '5xx'],
  ])('of status %i is %s', (status, outcome) => {
    expect(outcomeOf(exchange(request, answered(httpResponse({ status }))))).toBe(outcome);
  });

  test('no answer', () => expect(outcomeOf(exchange(request))).toBe('no-answer'));

  test('no answer to a connection', () =>
    expect(outcomeOf(flowPackets(tcpConversation({ exchange: [] }).slice(0, 1)))).toBe('no-answer'));

  test('reset', () =>
    expect(outcomeOf(flowPackets(tcpConversation({ exchange: [request], end: 'reset' })))).toBe('reset'));

  test('unknown, where the beginning is missing', () =>
    expect(outcomeOf(flowPackets(tcpConversation({ exchange: [asked('?')] }).slice(3, 4)))).toBe('unknown'));

  test('answered, of a protocol that is not known', () =>
    expect(outcomeOf(exchange(asked('ping'), answered('pong')))).toBe('answered'));
});

test('bytes and times of both directions', () => {
  const frames = httpConversation({ request: POST });
  const { traffic } = describeFlow(flowPackets(frames), flowKey());
  expect(traffic.packets_to_server + traffic.packets_to_client).toBe(frames.length);
  expect(traffic.bytes_to_server + traffic.bytes_to_client).toBe(
    frames.reduce((sum, { data }) => sum + data.length, 0),
  );
  expect(traffic.duration_us).toBe((frames.at(-1)?.timeMicros ?? 0) - DEFAULT_START_MICROS);
  expect(traffic.answer_us).toBe(2_000);
});
