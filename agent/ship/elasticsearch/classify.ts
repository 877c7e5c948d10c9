/**
 * What Elasticsearch's answers mean: for one item of a bulk, and for a whole request.
 *
 * | item's status | error's type | outcome |
 * |---|---|---|
 * | 200, 201 | | delivered |
 * | 409 | | delivered: its id was there already |
 * | 429 | | retry, throttled |
 * | 408, 5xx | | retry |
 * | any | one of OPERATORS | retry: the document is not to blame |
 * | any other | | rejected |
 */
import { isNativeError } from 'node:util/types';
import { stripControls } from '../../text.ts';
import { SendError, type Item, type Outcome } from '../destination.ts';

/** Errors that an operator mends; the same document goes through afterwards. */
const OPERATORS: ReadonlySet<string> = new Set([
  'index_not_found_exception',
  // Read-only, or the disk is full.
  'cluster_block_exception',
  'security_exception',
  'index_closed_exception',
  // The cluster's limit of shards.
  'validation_exception',
]);

/** Of a reason, in characters. */
const MAX_REASON = 512;

/** What was answered to one document. */
export interface Result {
  status: number;
  outcome: Outcome;
  /** Its index was not there. */
  indexMissing: boolean;
}

/** @throws SendError `incomplete` when the answer is not one for exactly these items, in order. */
export function classifyBulk(items: readonly Pick<Item, 'id'>[], answer: unknown): Result[] {
  const answered = get(answer, 'items');
  if (!Array.isArray(answered) || answered.length !== items.length) {
    const got = Array.isArray(answered) ? `${answered.length} items` : 'no items';
    throw new SendError('incomplete', `Elasticsearch's answer has ${got} for ${items.length} documents`);
  }
  return items.map(({ id }, index): Result => {
    const result: unknown = get(answered[index], 'create');
    const status = get(result, 'status');
    if (get(result, '_id') !== id || typeof status !== 'number') {
      throw new SendError('incomplete', `Elasticsearch's answer is not about event ${id}, which was sent`);
    }
    const error = get(result, 'error');
    const indexMissing = get(error, 'type') === 'index_not_found_exception';
    return { status, outcome: classifyItem(status, error), indexMissing };
  });
}

export function classifyItem(status: number, error: unknown): Outcome {
  if (status === 200 || status === 201) return { is: 'delivered' };
  if (status === 409) return { is: 'delivered', duplicate: true };
  const reason = reasonOf(error) || `status ${status}`;
  if (status === 429) return { is: 'retry', reason, throttled: true };
  const type = get(error, 'type');
  if (status === 408 || status >= 500 || (typeof type === 'string' && OPERATORS.has(type))) {
    return { is: 'retry', reason };
  }
  return { is: 'rejected', reason, status };
}

/** @param credentials The files that credentials are from, for the message. @param node Its address. */
export function sendError(error: unknown, credentials: readonly string[], node?: string): SendError {
  if (isNativeError(error) && error.name === 'SendError') return error as SendError;
  const name = isNativeError(error) ? error.name : '';
  const message = shorten(isNativeError(error) ? error.message : String(error));
  const meta = get(error, 'meta');
  const where = `Elasticsearch at ${node ?? 'its nodes'}`;
  // The client's own error is no cause: it holds the request, events and all.
  switch (name) {
    case 'ResponseError': {
      const status = get(meta, 'statusCode');
      return statusError(typeof status === 'number' ? status : 0, get(meta, 'body'), where, credentials);
    }
    case 'TimeoutError':
      return new SendError('timeout', `${where} did not answer in time`);
    case 'RequestAbortedError':
      // Only its limits are left: the caller looks at its own signals first.
      return new SendError('incomplete', `${where}: the answer is too large`);
    case 'DeserializationError':
      return new SendError('incomplete', `${where}: the answer is not JSON, or was cut`);
    case 'ProductNotSupportedError':
      return new SendError(
        'server_error',
        `${where} is something else: only Elasticsearch 7.17, 8 and 9 are supported`,
      );
    case 'ConnectionError':
    case 'NoLivingConnectionsError':
      if (isTls(message)) return new SendError('tls', `${where}: TLS fails: ${message}`);
      if (isCut(message))
        return new SendError('incomplete', `${where}: the connection ended in the answer: ${message}`);
      return new SendError('unreachable', `${where} can't be reached: ${message || 'the connection is refused'}`);
    default:
      return new SendError('server_error', `${where}: ${message}`);
  }
}

function statusError(status: number, body: unknown, where: string, credentials: readonly string[]): SendError {
  const reason = reasonOf(get(body, 'error'));
  const text = `${where} answered ${status}${reason === '' ? '' : ` (${reason})`}`;
  switch (status) {
    case 400:
      return new SendError('refused', text);
    case 401:
    case 403: {
      const check =
        credentials.length === 0
          ? 'set sinks.elasticsearch.apiKeyFile, or username and passwordFile'
          : `check ${credentials.join(' and ')} and the rights they give`;
      return new SendError('unauthorized', `${text}: ${check}`);
    }
    case 404:
      return new SendError('server_error', `${text}: check that sinks.elasticsearch.nodes leads to Elasticsearch`);
    case 406:
      return new SendError('server_error', `${text}: only Elasticsearch 7.17, 8 and 9 are supported`);
    case 408:
      return new SendError('timeout', text);
    case 413:
      return new SendError('too_large', `${text}: lower sinks.elasticsearch.batchSize`);
    case 429:
      return new SendError('throttled', text);
    default:
      return new SendError('server_error', text);
  }
}

/** The client hands on OpenSSL's and Node's words only, not their codes. */
function isTls(message: string): boolean {
  return /certificate|altnames|SSL routines|\bEPROTO\b|unsupported protocol/i.test(message);
}

function isCut(message: string): boolean {
  return /^(terminated|other side closed$|aborted|premature close|Response body|Connection closed while reading)/i.test(
    message,
  );
}

/** `type: reason`, short and safe to print; empty when there is none. */
export function reasonOf(error: unknown): string {
  if (typeof error === 'string') return shorten(error);
  const parts = [get(error, 'type'), get(error, 'reason')].filter((part) => typeof part === 'string');
  return shorten(parts.join(': '));
}

function shorten(text: string): string {
  // Cut first: stripping a huge text takes long. Again after: half an escape may be left.
  return stripControls(text.slice(0, 4 * MAX_REASON).replaceAll(/\s+/g, ' '))
    .trim()
    .slice(0, MAX_REASON);
}

/** A property of something that came from outside. */
export function get(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}
