/** HTTP/1: the request that an alert is about, and its answer. */
import type { HttpBody, HttpFacts } from '../../events/app.ts';
import type { Conversation } from './conversation.ts';
import { readMessages, type BodyLength, type Message } from './http-messages.ts';
import { inflated } from './inflate.ts';
import type { Attempt } from './attempt.ts';
import { filled, short, shown } from './text.ts';

/** Of what is shown of a body. */
const SHOWN_BODY = 1_024;

export interface Exchange {
  request?: Message;
  response?: Message;
}

const REQUEST_LINE = /^([A-Za-z][\w.-]{0,31}) +(\S.*)$/;
const VERSION = /\s+HTTP\/(\d(?:\.\d)?)\s{0,8}$/;
const STATUS_LINE = /^HTTP\/(\d(?:\.\d)?) +(\d{3})(?: (.*))?$/;
const MAX_LINE = 16_384;

/** Whether bytes begin as a request of HTTP/1 does. */
export function isRequest(bytes: Buffer): boolean {
  const end = bytes.indexOf(0x0a);
  return end > 0 && requestLine(bytes.toString('latin1', 0, Math.min(end, MAX_LINE)).trimEnd()) !== undefined;
}

export function isResponse(bytes: Buffer): boolean {
  return /^HTTP\/\d(?:\.\d)? +\d{3}/.test(bytes.toString('latin1', 0, 16));
}

function requestLine(line: string): Message['first'] | undefined {
  // A URL of any length may stand between method and version, blanks in it too.
  const tail = line.slice(-24);
  const [end = '', version] = VERSION.exec(tail) ?? [];
  if (version === undefined) return undefined;
  const [, method, url] = REQUEST_LINE.exec(line.slice(0, line.length - end.length)) ?? [];
  return method === undefined || url === undefined ? undefined : [method, url, version];
}

function statusLine(line: string): Message['first'] | undefined {
  const [, version, status, reason = ''] = STATUS_LINE.exec(line.slice(0, MAX_LINE)) ?? [];
  return version === undefined || status === undefined ? undefined : [version, status, reason];
}

/** Requests with their answers, in order. An answer belongs to the first request before it that has none. */
export function readExchanges({ client, server }: Conversation): Exchange[] {
  const requests = readMessages(client.runs, { firstLine: requestLine, bodyOf: (request) => bodyOfRequest(request) });
  const exchanges: Exchange[] = requests.map((request) => ({ request }));
  const alone: Exchange[] = [];
  let next = 0;
  readMessages(server.runs, {
    firstLine: statusLine,
    bodyOf(response) {
      const status = Number(response.first[1]);
      if (status < 200 && status !== 101) return 0;
      const asked = exchanges[next]?.request;
      const isAnswer = asked !== undefined && asked.time <= response.time;
      if (isAnswer) Object.assign(exchanges[next++] ?? {}, { response });
      else alone.push({ response });
      return bodyOfResponse(response, status, isAnswer ? asked.first[0] : '');
    },
  });
  return exchanges.length === 0 ? alone : exchanges;
}

function bodyOfRequest({ first: [method], headers }: Message): BodyLength | undefined {
  if (method === 'CONNECT') return undefined;
  return statedLength(headers) ?? 0;
}

function bodyOfResponse({ headers }: Message, status: number, method: string): BodyLength | undefined {
  if (status === 101 || (method === 'CONNECT' && status < 300)) return undefined;
  if (method === 'HEAD' || status === 204 || status === 304) return 0;
  return statedLength(headers) ?? 'to-the-end';
}

function statedLength(headers: ReadonlyMap<string, string>): BodyLength | undefined {
  if (/chunked\s*$/i.test((headers.get('transfer-encoding') ?? '').slice(-16))) return 'chunked';
  return contentLength(headers);
}

function contentLength(headers: ReadonlyMap<string, string>): number | undefined {
  const [digits] = /^\d{1,15}/.exec(headers.get('content-length') ?? '') ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** The exchange of an alert: the last that began by then. */
export function exchangeAt(exchanges: readonly Exchange[], time: number | undefined): Exchange | undefined {
  const begun = (exchange: Exchange): number => (exchange.request ?? exchange.response)?.time ?? 0;
  if (time === undefined) return exchanges[0];
  return exchanges.findLast((exchange) => begun(exchange) <= time) ?? exchanges[0];
}

export function httpFacts({ request, response }: Exchange, attempt: Attempt): HttpFacts {
  return {
    ...(request === undefined ? {} : requestFacts(request, attempt)),
    ...(response === undefined ? {} : responseFacts(response, attempt)),
  };
}

function requestFacts(request: Message, attempt: Attempt): HttpFacts {
  const { first, headers } = request;
  const header = (name: string, limit: number): string => short(headers.get(name) ?? '', limit);
  return filled<HttpFacts>({
    version: short(first[2], 8),
    method: short(first[0], 32),
    host: header('host', 255),
    url: short(first[1], 1_024),
    user_agent: header('user-agent', 512),
    referrer: header('referer', 1_024),
    x_forwarded_for: header('x-forwarded-for', 256),
    request: bodyFacts(request, attempt),
  });
}

function responseFacts(response: Message, attempt: Attempt): HttpFacts {
  const { first, headers } = response;
  const header = (name: string, limit: number): string => short(headers.get(name) ?? '', limit);
  const status = Number(first[1]);
  return filled<HttpFacts>({
    version: short(first[0], 8),
    status,
    reason: short(first[2], 128),
    server: header('server', 255),
    location: header('location', 1_024),
    upgrade: status === 101 ? header('upgrade', 64).toLowerCase() : undefined,
    response: bodyFacts(response, attempt),
  });
}

function bodyFacts(message: Message, attempt: Attempt): HttpBody | undefined {
  const { headers, body, bodyBytes } = message;
  const encoding = headers.get('content-encoding') ?? '';
  const decoded = attempt('http.body', () => inflated(body, encoding)) ?? body;
  const facts = filled<HttpBody>({
    content_type: short(headers.get('content-type') ?? '', 255),
    content_encoding: short(encoding, 64),
    content_length: contentLength(headers),
    bytes: bodyBytes === 0 ? undefined : bodyBytes,
    body: decoded.length === 0 ? undefined : shown(decoded, SHOWN_BODY),
  });
  return Object.keys(facts).length === 0 ? undefined : facts;
}
