/** HTTP/2 in clear text (RFC 9113), and gRPC in it: the stream that an alert is about. */
import type { AppFacts, GrpcFacts, HttpBody, HttpFacts } from '../../events/app.ts';
import type { Attempt } from './attempt.ts';
import { cursorOf, untilCut } from './cursor.ts';
import { createHpackDecoder, type Header } from './hpack.ts';
import { inflated } from './inflate.ts';
import { timeAt, type Run } from './pieces.ts';
import { filled, short, shown } from './text.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const FRAME = { data: 0, headers: 1, pushPromise: 5, continuation: 9 } as const;
const FLAG = { endHeaders: 0x04, padded: 0x08, priority: 0x20 } as const;
const MAX_FRAMES = 20_000;
const MAX_STREAMS = 256;
const MAX_BODY = 64 << 10;
const SHOWN_BODY = 1_024;

/** What one side sent on a stream. */
interface Message {
  time: number;
  headers: Map<string, string>;
  body: Buffer[];
  bytes: number;
}

export function isHttp2(client: Buffer): boolean {
  return client.toString('latin1', 0, PREFACE.length) === PREFACE;
}

/** @param time Of the alert: the last stream that began by then is told. */
export function readHttp2(
  client: Run | undefined,
  server: Run | undefined,
  time: number | undefined,
  attempt: Attempt,
): AppFacts | undefined {
  const requests = readStreams(client, PREFACE.length, attempt);
  const responses = readStreams(server, 0, attempt);
  const begun = [...requests].filter(([, request]) => time === undefined || request.time <= time);
  const [id, request] = (time === undefined ? begun[0] : begun.at(-1)) ?? [...requests][0] ?? [];
  if (id === undefined || request === undefined) return undefined;
  const response = responses.get(id);
  const http = factsOf(request, response, attempt);
  const grpc = grpcOf(request, response);
  return grpc === undefined ? { protocol: 'http2', http } : { protocol: 'grpc', http, grpc };
}

/** By their ids, in the order in which they began. */
function readStreams(run: Run | undefined, start: number, attempt: Attempt): Map<number, Message> {
  const streams = new Map<number, Message>();
  if (run === undefined) return streams;
  const decoder = createHpackDecoder();
  const { bytes } = run;
  const cursor = cursorOf(bytes.subarray(start));
  let block: Buffer[] = [];

  function messageOf(id: number, at: number): Message | undefined {
    const known = streams.get(id);
    if (known !== undefined || streams.size >= MAX_STREAMS) return known;
    const message = { time: timeAt(run as Run, at), headers: new Map<string, string>(), body: [], bytes: 0 };
    streams.set(id, message);
    return message;
  }

  function readFrame(): void {
    const at = bytes.length - cursor.left;
    const length = cursor.u24();
    const type = cursor.u8();
    const flags = cursor.u8();
    const id = cursor.u32() & 0x7fff_ffff;
    const payload = cursor.take(Math.min(length, cursor.left));
    if (type === FRAME.data) addData(messageOf(id, at), unpadded(payload, flags));
    if (type !== FRAME.headers && type !== FRAME.continuation && type !== FRAME.pushPromise) return;
    if (type !== FRAME.continuation) block = [];
    block.push(type === FRAME.continuation ? payload : headerBlock(payload, flags, type));
    // Blocks of a promise change the table too, but are of another stream.
    if ((flags & FLAG.endHeaders) === 0) return;
    const headers = decoder.decode(Buffer.concat(block));
    if (type !== FRAME.pushPromise) addHeaders(messageOf(id, at), headers);
  }

  attempt('http2', () =>
    untilCut(() => {
      for (let frames = 0; frames < MAX_FRAMES && cursor.left > 0; frames++) readFrame();
    }),
  );
  return streams;
}

function unpadded(payload: Buffer, flags: number): Buffer {
  if ((flags & FLAG.padded) === 0) return payload;
  return payload.subarray(1, Math.max(1, payload.length - (payload[0] ?? 0)));
}

function headerBlock(payload: Buffer, flags: number, type: number): Buffer {
  const content = unpadded(payload, flags);
  if (type === FRAME.pushPromise) return content.subarray(4);
  return (flags & FLAG.priority) === 0 ? content : content.subarray(5);
}

/** Trailers too: what is there already stays, but for the status behind an interim answer. */
function addHeaders(message: Message | undefined, headers: readonly Header[]): void {
  for (const [name, value] of headers)
    if (message?.headers.has(name) === false || name === ':status')
      message?.headers.set(name, Buffer.from(value, 'latin1').toString('utf8'));
}

function addData(message: Message | undefined, data: Buffer): void {
  if (message === undefined) return;
  if (message.bytes < MAX_BODY) message.body.push(data.subarray(0, MAX_BODY - message.bytes));
  message.bytes += data.length;
}

function factsOf(request: Message, response: Message | undefined, attempt: Attempt): HttpFacts {
  const asked = (name: string, limit: number): string => short(request.headers.get(name) ?? '', limit);
  const answered = (name: string, limit: number): string => short(response?.headers.get(name) ?? '', limit);
  const status = Number(response?.headers.get(':status'));
  return filled<HttpFacts>({
    version: '2',
    method: asked(':method', 32),
    host: asked(':authority', 255) || asked('host', 255),
    url: asked(':path', 1_024),
    user_agent: asked('user-agent', 512),
    referrer: asked('referer', 1_024),
    x_forwarded_for: asked('x-forwarded-for', 256),
    request: bodyOf(request, attempt),
    status: Number.isInteger(status) && status >= 100 && status <= 999 ? status : undefined,
    server: answered('server', 255),
    location: answered('location', 1_024),
    response: response === undefined ? undefined : bodyOf(response, attempt),
  });
}

function bodyOf({ headers, body, bytes }: Message, attempt: Attempt): HttpBody | undefined {
  const encoding = headers.get('content-encoding') ?? '';
  const all = Buffer.concat(body);
  const decoded = attempt('http.body', () => inflated(all, encoding)) ?? all;
  const [digits] = /^\d{1,15}/.exec(headers.get('content-length') ?? '') ?? [];
  const facts = filled<HttpBody>({
    content_type: short(headers.get('content-type') ?? '', 255),
    content_encoding: short(encoding, 64),
    content_length: digits === undefined ? undefined : Number(digits),
    bytes: bytes === 0 ? undefined : bytes,
    body: decoded.length === 0 ? undefined : shown(decoded, SHOWN_BODY),
  });
  return Object.keys(facts).length === 0 ? undefined : facts;
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
function grpcOf(request: Message, response: Message | undefined): GrpcFacts | undefined {
  if (request.headers.get('content-type')?.startsWith('application/grpc') !== true) return undefined;
  const path = (request.headers.get(':path') ?? '').slice(0, 1_024).split('/');
  const status = response?.headers.get('grpc-status') ?? '';
  const message = short(response?.headers.get('grpc-message') ?? '', 512);
  return {
    service: short(path[1] ?? '', 255),
    method: short(path[2] ?? '', 255),
    ...(/^\d{1,3}$/.test(status) ? { status: Number(status) } : {}),
    ...(message === '' ? {} : { message }),
  };
}
