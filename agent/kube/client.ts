/**
 * Asks an API server, over connections that are kept: one for each watch, and one or two for the rest.
 *
 * A watch is read as it comes: what is torn, too long or no JSON ends it with an error, and so does silence. The server
 * sends a bookmark about every minute, so a silent watch is a dead one. Nothing is tried twice here, but for a kept
 * connection that the server had closed meanwhile: what to do about an error is the caller's business.
 */
import http, { type IncomingMessage, type RequestOptions } from 'node:http';
import https from 'node:https';
import { types } from 'node:util';
import { errorCode } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { stripControls } from '../text.ts';
import {
  ApiError,
  type ApiClient,
  type ApiObject,
  type Diagnosable,
  type Query,
  type Right,
  type Verb,
  type WatchEvent,
} from './api.ts';
import { listOfRows, rowReader } from './table.ts';
import { loadCredentials, type Credentials, type CredentialsOptions } from './credentials.ts';

const SECOND = 1000;
/** A server answers after a minute at the latest by itself. */
const REQUEST_MILLIS = 30 * SECOND;
const SILENCE_MILLIS = 150 * SECOND;
/**
 * Agents that started together do not watch again together. Thousands of them shall not keep a server busy with
 * watches that begin again: a dead one is found by its silence.
 */
const WATCH_SECONDS: [number, number] = [1200, 2400];
/** The server ends an idle connection after 90 s; ending it earlier avoids the moment in which both act. */
const IDLE_MILLIS = 45 * SECOND;
/** An object is at most 1.5 MiB in etcd, and somewhat more in JSON. */
const LINE_BYTES = 16 << 20;
const BODY_BYTES = 64 << 20;
const ERROR_BYTES = 64 << 10;

export interface ClientOptions extends CredentialsOptions {
  /** Such as `dpi-agent/0.1.0`. */
  userAgent?: string;
  /** Until an answer begins, and then until it is complete. Default 30,000. */
  requestMillis?: number;
  /** Until a watch on which nothing comes is given up. Default 150,000. */
  silenceMillis?: number;
  /** Seconds after which the server ends a watch, from and to; a random value between. Default 1200 to 2400. */
  watchSeconds?: [number, number];
  /** Of one line of a watch. Default 16 MiB. */
  lineBytes?: number;
  /** Of one answer. Default 64 MiB. */
  bodyBytes?: number;
}

/** What was asked, in the terms of RBAC. */
interface Asked {
  verb: Verb;
  path: string;
  /** Empty for the core group; undefined for a path that is no resource's. */
  group?: string;
  /** With the subresource: `deeppacketinspections/status`. */
  resource: string;
  /** `list pods in namespace "a"` */
  text: string;
  /** Forms of the answer; undefined: the object as it is. */
  accept?: string;
}

/** What a request that writes carries. */
interface Content {
  method: 'PATCH' | 'POST' | 'DELETE';
  type: string;
  body: string;
}

function write(method: Content['method'], type: string, object: object): Content {
  // JSON is YAML too, where a type asks for that.
  return { method, type, body: JSON.stringify(object) };
}

interface State {
  readonly credentials: Credentials;
  readonly agent: http.Agent | https.Agent;
  readonly userAgent: string;
  readonly limits: Required<Pick<ClientOptions, 'requestMillis' | 'silenceMillis' | 'lineBytes' | 'bodyBytes'>>;
  readonly watchSeconds: [number, number];
  /** Of the server's clock, in milliseconds, as its last answer told. */
  clockAhead: number | undefined;
}

/** @throws ApiError (`Credentials`) when there are none. */
export async function createClient(options: ClientOptions = {}): Promise<ApiClient & Diagnosable> {
  const { requestMillis = REQUEST_MILLIS, silenceMillis = SILENCE_MILLIS, userAgent = 'dpi-agent' } = options;
  const { watchSeconds = WATCH_SECONDS, lineBytes = LINE_BYTES, bodyBytes = BODY_BYTES } = options;
  const credentials = await loadCredentials(options).catch((error: unknown) => {
    throw new ApiError(`cannot tell where the API server is: ${reasonOf(error)}`, undefined, 'Credentials', {
      cause: error,
    });
  });
  // A connection is shared by requests of the same certificates only: node keeps them apart.
  const pool = { keepAlive: true, timeout: IDLE_MILLIS };
  const agent = credentials.server.startsWith('http:') ? new http.Agent(pool) : new https.Agent(pool);
  const limits = { requestMillis, silenceMillis, lineBytes, bodyBytes };
  return clientOf({ credentials, agent, userAgent, limits, watchSeconds, clockAhead: undefined });
}

function clientOf(state: State): ApiClient & Diagnosable {
  return {
    server: state.credentials.server,
    get: (path, query = {}, signal) => get(state, path, query, signal),
    mergePatch: (path, patch, signal) =>
      json(state, describe('patch', path), {}, write('PATCH', 'application/merge-patch+json', patch), signal),
    apply: (path, object, fieldManager, signal) =>
      json(
        state,
        describe('patch', path),
        { fieldManager, force: 'true' },
        write('PATCH', 'application/apply-patch+yaml', object),
        signal,
      ),
    create: (path, object, signal) => create(state, path, object, signal),
    remove: (path, uid, signal) =>
      json(
        state,
        describe('delete', path),
        {},
        write('DELETE', 'application/json', { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid } }),
        signal,
      ),
    may: (right, signal) => may(state, right, signal),
    text: (path, signal) => textOf(state, { ...describe('get', path), accept: '*/*' }, {}, undefined, signal),
    clockAhead: () => state.clockAhead,
    watch: (path, query, onEvent, signal, onOpen) => watch(state, path, query, onEvent, signal, onOpen),
  };
}

async function get<T>(state: State, path: string, query: Query, signal: AbortSignal | undefined): Promise<T> {
  const asked = { ...describe('get', path), accept: acceptOf(query, 'PartialObjectMetadataList') };
  const answer = await json<T>(state, asked, parameters(query), undefined, signal);
  if (query.rows !== true) return answer;
  const rows = listOfRows(answer);
  if (rows === undefined) throw broken(asked, 'a row of the table has no object', 'Malformed');
  return rows as T;
}

function create<T>(state: State, path: string, object: object, signal: AbortSignal | undefined): Promise<T> {
  return json(state, describe('create', path), {}, write('POST', 'application/json', object), signal);
}

async function may(state: State, { verb, group, resource }: Right, signal: AbortSignal | undefined): Promise<boolean> {
  const [name, subresource] = resource.split('/');
  const resourceAttributes = { verb, group, resource: name, ...(subresource === undefined ? {} : { subresource }) };
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes },
  };
  const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
  const answer = await create<{ status?: { allowed?: unknown } }>(state, path, review, signal);
  return answer.status?.allowed === true;
}

function watch<T extends ApiObject>(
  state: State,
  path: string,
  query: Query,
  onEvent: (event: WatchEvent<T>) => void,
  signal: AbortSignal,
  onOpen?: () => void,
): Promise<void> {
  const asked = { ...describe('watch', path), accept: acceptOf(query, 'PartialObjectMetadata') };
  const { limits, watchSeconds } = state;
  const [from, to] = watchSeconds;
  const search = {
    ...parameters(query),
    watch: '1',
    allowWatchBookmarks: 'true',
    timeoutSeconds: String(Math.round(from + Math.random() * (to - from))),
  };
  return exchange(state, asked, signal, async () => {
    const response = await send(state, asked, search, undefined, signal);
    onOpen?.();
    const toObject = query.rows === true ? rowReader() : (object: unknown) => object;
    for await (const line of lines(asked, response, limits.lineBytes, limits.silenceMillis)) {
      if (signal.aborted) break;
      onEvent(watchEvent<T>(asked, line, toObject));
    }
    signal.throwIfAborted();
  });
}

async function json<T>(
  state: State,
  asked: Asked,
  query: Record<string, string>,
  content: Content | undefined,
  signal: AbortSignal | undefined,
): Promise<T> {
  const text = await textOf(state, asked, query, content, signal);
  const value = parse(text);
  if (value === undefined) throw broken(asked, `the answer is no JSON object: ${excerpt(text)}`, 'Malformed');
  return value as T;
}

function textOf(
  state: State,
  asked: Asked,
  query: Record<string, string>,
  content: Content | undefined,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { bodyBytes, requestMillis } = state.limits;
  return exchange(state, asked, signal, async () => {
    const response = await send(state, asked, query, content, signal);
    return readText(asked, response, bodyBytes, requestMillis);
  });
}

/** Runs one exchange; whatever fails in it becomes an ApiError. */
async function exchange<R>(
  { credentials }: State,
  asked: Asked,
  signal: AbortSignal | undefined,
  run: () => Promise<R>,
): Promise<R> {
  try {
    return await run();
  } catch (error) {
    if (signal?.aborted === true) {
      throw new ApiError(`${asked.text}: given up`, undefined, 'Aborted', { cause: error });
    }
    throw error instanceof ApiError ? error : unanswered(asked, credentials.server, credentials.source, error);
  }
}

/** Sends a request; resolves with the head of a 2xx answer. */
async function send(
  state: State,
  asked: Asked,
  query: Record<string, string>,
  content: Content | undefined,
  signal: AbortSignal | undefined,
): Promise<IncomingMessage> {
  const { credentials, limits } = state;
  const settings = await settingsOf(state, asked, content);
  const search = new URLSearchParams(query).toString();
  const url = `${credentials.server}${asked.path}${search === '' ? '' : `?${search}`}`;
  const sentAt = Date.now();
  const signed = signal === undefined ? settings : { ...settings, signal };
  const response = await head(url, signed, content?.body, limits.requestMillis);
  const status = response.statusCode ?? 0;
  const date = Date.parse(response.headers.date ?? '');
  if (Number.isFinite(date)) state.clockAhead = date - (sentAt + Date.now()) / 2;
  if (status >= 200 && status < 300) return response;
  if (status === 401) credentials.refresh();
  const said = await readText(asked, response, ERROR_BYTES, limits.requestMillis).catch(() => '');
  throw refused(asked, status, said, credentials.source);
}

/** @throws ApiError (`Credentials`) */
async function settingsOf(
  { credentials, agent, userAgent }: State,
  asked: Asked,
  content: Content | undefined,
): Promise<RequestOptions> {
  const own = await credentials.options().catch((error: unknown) => {
    credentials.refresh();
    const message = `cannot ${asked.text}: no credentials: ${reasonOf(error)}`;
    throw new ApiError(message, undefined, 'Credentials', { cause: error });
  });
  const headers = {
    ...own.headers,
    Accept: asked.accept ?? WHOLE,
    'User-Agent': userAgent,
    ...(content === undefined
      ? {}
      : { 'Content-Type': content.type, 'Content-Length': Buffer.byteLength(content.body) }),
  };
  return { agent, ...own, method: content?.method ?? 'GET', headers };
}

async function head(
  url: string,
  settings: RequestOptions,
  body: string | undefined,
  millis: number,
): Promise<IncomingMessage> {
  for (;;) {
    let stale = false;
    try {
      return await new Promise<IncomingMessage>((resolve, reject) => {
        const request = (url.startsWith('http:') ? http : https).request(url, settings, resolve);
        const timer = setTimeout(() => request.destroy(timeout(millis)), millis);
        request.once('close', () => clearTimeout(timer));
        request.once('response', () => clearTimeout(timer));
        request.on('error', (error) => {
          stale = request.reusedSocket && errorCode(error) === 'ECONNRESET';
          reject(error);
        });
        request.end(body);
      });
    } catch (error) {
      // The server closed the connection before it saw the request. Each time, one such connection less is left.
      if (!stale || settings.signal?.aborted === true) throw error;
    }
  }
}

/**
 * Paths of the API: `/api/v1/…` and `/apis/<group>/<version>/…`, with `namespaces/<namespace>/` before a namespaced
 * resource.
 */
function describe(verb: Exclude<Verb, 'list'>, path: string): Asked {
  const match = /^\/(?:api|apis\/([^/]+))\/[^/]+\/(?:namespaces\/([^/]+)\/)?([^/]+)(?:\/([^/]+))?(?:\/(.+))?$/.exec(
    path,
  );
  if (match === null) return { verb, path, resource: path, text: `${verb} ${path}` };
  const [, group = '', namespace, collection = '', name, subresource] = match;
  const resource = subresource === undefined ? collection : `${collection}/${subresource}`;
  const actual = verb === 'get' && name === undefined ? 'list' : verb;
  const text = [
    `${actual} ${collection}${group === '' ? '' : `.${group}`}${subresource === undefined ? '' : `/${subresource}`}`,
    ...(name === undefined ? [] : [JSON.stringify(decodeURIComponent(name))]),
    ...(namespace === undefined ? [] : [`in namespace ${JSON.stringify(namespace)}`]),
  ].join(' ');
  return { verb: actual, path, group, resource, text };
}

const WHOLE = 'application/json';

/** kubernetes.io/docs/reference/using-api/api-concepts, "Alternate representations of resources". */
function acceptOf({ metadataOnly, rows }: Query, kind: string): string {
  const kinds = [...(rows === true ? ['Table'] : []), ...(metadataOnly === true ? [kind] : [])];
  return [...kinds.map((as) => `${WHOLE};as=${as};g=meta.k8s.io;v=v1`), WHOLE].join(',');
}

function parameters({ labelSelector, fieldSelector, resourceVersion, limit, continue: more }: Query) {
  const given = { labelSelector, fieldSelector, resourceVersion, limit, continue: more };
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries(set.map(([name, value]) => [name, String(value)]));
}

/** The lines of a watch. @throws Error when the last one is torn, one is too long, or nothing comes for too long. */
async function* lines(
  asked: Asked,
  response: IncomingMessage,
  lineBytes: number,
  silenceMillis: number,
): AsyncGenerator<string> {
  const silence = `nothing came for ${silenceMillis / SECOND} s, not even a bookmark: the connection is dead`;
  const silent = broken(asked, silence, 'Silent');
  const timer = setTimeout(() => response.destroy(silent), silenceMillis);
  let parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      timer.refresh();
      let start = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString();
        parts = [];
        size = 0;
        start = end + 1;
      }
      size += chunk.length - start;
      if (size > lineBytes) {
        throw broken(asked, `one event is larger than ${lineBytes} bytes`, 'TooLarge');
      }
      if (start < chunk.length) parts.push(chunk.subarray(start));
    }
    if (size > 0) throw broken(asked, 'it ended in the middle of an event', 'Malformed');
  } finally {
    clearTimeout(timer);
  }
}

function watchEvent<T extends ApiObject>(
  asked: Asked,
  line: string,
  toObject: (object: unknown) => unknown,
): WatchEvent<T> {
  const event: { type?: string; object?: unknown } = parse(line) ?? {};
  const { type } = event;
  const object = toObject(event.object) as (Partial<ApiObject> & Partial<Status>) | undefined;
  if (type === 'ERROR' && object !== undefined) {
    const { code = 500, reason = '', message = '' } = object;
    throw new ApiError(`cannot ${asked.text}: ${excerpt(message || reason)}`, code, reason);
  }
  const version = object?.metadata?.resourceVersion;
  if (
    (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED' && type !== 'BOOKMARK') ||
    typeof version !== 'string'
  ) {
    throw broken(asked, `an event is not understood: ${excerpt(line)}`, 'Malformed');
  }
  return { type, object } as WatchEvent<T>;
}

/** The whole text of an answer. @throws Error when it is too long, or takes too long. */
async function readText(asked: Asked, response: IncomingMessage, bytes: number, millis: number): Promise<string> {
  const timer = setTimeout(() => response.destroy(timeout(millis)), millis);
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > bytes) throw broken(asked, `the answer is larger than ${bytes} bytes`, 'TooLarge');
      parts.push(chunk);
    }
    return Buffer.concat(parts).toString();
  } finally {
    clearTimeout(timer);
  }
}

/** A Status object (kubernetes.io/docs/reference/kubernetes-api, "Status"), as far as it is looked at. */
interface Status {
  message: string;
  reason: string;
  code: number;
}

function refused(asked: Asked, status: number, body: string, source: string): ApiError {
  const { message = body, reason = '' }: Partial<Status> = parse(body) ?? {};
  const why = message === '' ? '' : ` (${excerpt(message)})`;
  const right =
    asked.group === undefined
      ? `"get" on the path "${asked.path}"`
      : `"${asked.verb}" on "${asked.resource}" in API group "${asked.group}"`;
  const what = {
    401: `the credentials are not accepted: the token of ${source} has expired, or is not this cluster's`,
    403: `forbidden: the agent's ClusterRole needs verb ${right}`,
    404: 'not found',
    409: 'it was changed meanwhile',
    410: 'that version is gone',
    429: 'the API server has too much to do',
  }[status];
  return new ApiError(`cannot ${asked.text}: ${what ?? `the API server answered ${status}`}${why}`, status, reason);
}

/** An answer that can't be used. */
function broken(asked: Asked, why: string, reason: string): ApiError {
  return new ApiError(`cannot ${asked.text}: ${why}`, undefined, reason);
}

function unanswered(asked: Asked, server: string, source: string, error: unknown): ApiError {
  const code = errorCode(error) ?? '';
  if (/CERT|SIGNATURE|^ERR_TLS|^ERR_SSL|^EPROTO$/.test(code)) {
    const advice = `check the certificate authority and the address in ${source}`;
    const message = `cannot ${asked.text}: no TLS with ${server}: ${reasonOf(error)}: ${advice}`;
    return new ApiError(message, undefined, 'Certificate', { cause: error });
  }
  const message = `cannot ${asked.text}: ${server} does not answer: ${reasonOf(error)}`;
  return new ApiError(message, undefined, 'Unreachable', { cause: error });
}

function timeout(millis: number): Error {
  return new Error(`no complete answer within ${millis / SECOND} s`);
}

/** An error's message; with several addresses tried, each one's. */
function reasonOf(error: unknown): string {
  if (!types.isNativeError(error)) return String(error);
  return 'errors' in error && Array.isArray(error.errors) ? error.errors.map(reasonOf).join('; ') : error.message;
}

/** JSON that is an object; undefined for anything else. */
function parse(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What a server says may be anything. */
function excerpt(text: unknown): string {
  const clean = stripControls(String(text)).trim();
  return clean.length > 500 ? `${clean.slice(0, 500)}…` : clean;
}
