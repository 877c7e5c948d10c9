/**
 * One request and its answer, bounded: of an answer MAX_ANSWER bytes are read, in the time that the signal gives. What
 * is redirected goes to the same host only, and never from https to http. What it throws is a SendError; the signal's
 * reason is to be one too.
 */
import { isNativeError } from 'node:util/types';
import { request, type Dispatcher } from 'undici';
import { errorCode, messageOf } from '../../files/errors.ts';
import { SendError } from '../destination.ts';
import { opensslWords } from '../openssl-words.ts';
import { refuseLinkLocal } from './connect.ts';

export interface Request {
  url: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  headers: Record<string, string>;
  body?: string;
  allowLinkLocal: boolean;
  /** Whether the answer's text counts, so that all of it has to be there. */
  needsText: boolean;
  /** Of the answer, in bytes; MAX_ANSWER without it. */
  maxAnswer?: number;
}

export interface Answer {
  status: number;
  text: string;
  /** When the server wants to be asked again, in milliseconds. */
  afterMillis?: number;
}

const MAX_ANSWER = 64 << 10;
/** How long the rest of an answer is waited for whose text does not count. */
const REST_MILLIS = 1000;
const MAX_REDIRECTIONS = 3;
/** A server that wants more time than this is asked all the same. */
const MAX_AFTER_MILLIS = 600_000;

/** Resolves also to answers that say no. */
export async function exchange(asked: Request, dispatcher: Dispatcher, signal: AbortSignal): Promise<Answer> {
  let url = new URL(asked.url);
  for (let redirections = 0; ; redirections++) {
    const { statusCode, headers, body } = await ask(asked, url, dispatcher, signal);
    if (statusCode < 300 || statusCode > 399 || statusCode === 304) {
      const text = await read(body, url, asked);
      const after = afterMillis(headers['retry-after'], Date.now());
      return { status: statusCode, text, ...(after === undefined ? {} : { afterMillis: after }) };
    }
    await discard(body);
    url = redirected(url, statusCode, headers['location']);
    if (redirections >= MAX_REDIRECTIONS) {
      throw new SendError('server_error', `${url.origin} redirects more than ${MAX_REDIRECTIONS} times`);
    }
  }
}

async function ask(
  { method, headers, body, allowLinkLocal }: Request,
  url: URL,
  dispatcher: Dispatcher,
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  try {
    if (!allowLinkLocal) refuseLinkLocal(url);
    return await request(url, { dispatcher, method, headers, body: body ?? null, signal });
  } catch (error) {
    throw sendError(error, url);
  }
}

function redirected(from: URL, status: number, location: unknown): URL {
  const where = typeof location === 'string' && URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (where === undefined || status === 303) {
    throw new SendError('server_error', `${from.origin} answered ${status} and leads nowhere`);
  }
  const isUpgrade = from.protocol === 'http:' && where.protocol === 'https:';
  const isSameHost = where.hostname === from.hostname && (where.port === from.port || isUpgrade);
  if (!isSameHost || (where.protocol !== from.protocol && !isUpgrade)) {
    throw new SendError(
      'server_error',
      `${from.origin} leads to ${where.protocol}//${where.host} (${status}), which is another host or has no TLS: set the sink's url to where events are to go`,
    );
  }
  return where;
}

async function read(
  body: Dispatcher.ResponseData['body'],
  url: URL,
  { needsText, maxAnswer = MAX_ANSWER }: Request,
): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const rest = needsText ? undefined : setTimeout(() => body.destroy(), REST_MILLIS);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= maxAnswer) continue;
      if (needsText) throw new SendError('incomplete', `${url.origin}: the answer is longer than ${maxAnswer} bytes`);
      // Leaving the loop ends the connection.
      break;
    }
  } catch (error) {
    // Else its status is enough.
    if (needsText) throw sendError(error, url, 'incomplete');
  } finally {
    clearTimeout(rest);
  }
  return Buffer.concat(chunks).subarray(0, maxAnswer).toString();
}

async function discard(body: Dispatcher.ResponseData['body']): Promise<void> {
  await body.dump({ limit: MAX_ANSWER }).catch(() => undefined);
}

/** Seconds or a date (RFC 9110, 10.2.3). @param now In milliseconds since the Unix epoch. */
export function afterMillis(header: unknown, now: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  const millis = /^\d+(\.\d+)?$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(millis) ? undefined : Math.min(Math.max(0, millis), MAX_AFTER_MILLIS);
}

const TIMEOUTS = new Set(['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'ETIMEDOUT']);

/** The message has the host only: paths of webhooks are secrets. */
function sendError(
  error: unknown,
  { origin }: URL,
  otherwise: 'unreachable' | 'incomplete' = 'unreachable',
): SendError {
  if (error instanceof SendError) return error;
  const code = errorCode(error) ?? errorCode((error as { cause?: unknown }).cause) ?? '';
  const message = messageOf(error) || code;
  if (code === 'ELINKLOCAL') {
    return new SendError('server_error', `${message}: requests do not go there unless allowLinkLocal is true`);
  }
  if (TIMEOUTS.has(code)) return new SendError('timeout', `${origin} did not answer in time`);
  if (isTls(code, message)) {
    return new SendError(
      'tls',
      `${origin}: TLS fails: ${opensslWords(message)} (${code}); is caFile the authority of its certificate?`,
    );
  }
  if (
    code.startsWith('HPE_') ||
    // Of the client, for a status below 100.
    code === 'ERR_ASSERTION' ||
    isParserError(error) ||
    code === 'UND_ERR_HEADERS_OVERFLOW' ||
    code.startsWith('UND_ERR_RES')
  ) {
    return new SendError(
      'server_error',
      `${origin} does not answer as HTTP says: ${message.replaceAll(/\s+/g, ' ').trim()}`,
    );
  }
  return new SendError(otherwise, `${origin}: ${isNativeError(error) ? message : 'no connection'}`);
}

/** Where the answer is no HTTP at all, it has no code. */
function isParserError(error: unknown): boolean {
  return isNativeError(error) && error.name === 'HTTPParserError';
}

function isTls(code: string, message: string): boolean {
  return (
    /^(?:ERR_SSL_|ERR_TLS_|CERT_|EPROTO$|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO)/.test(code) || /certificate/i.test(message)
  );
}
