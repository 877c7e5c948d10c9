/**
 * Events to OpenSearch: `_bulk` of `create` with the event's id, as to Elasticsearch, whose client refuses OpenSearch.
 * Each event is there once, in the same index with the same template and alias.
 *
 * A bulk goes to one node, once; after a failure the next one is asked. Credentials are read again when their files
 * change; template, index and alias are looked at each minute. Not promised: that events are searchable when `send`
 * returns.
 */
import type { Dispatcher } from 'undici';
import type { Logger } from 'pino';
import type { OpenSearchSettings } from '../../config/sinks.ts';
import { SendError, type Destination, type Item, type Outcome } from '../destination.ts';
import { classifyBulk } from '../elasticsearch/classify.ts';
import { createCredentialFiles, type CredentialFiles, type Credentials } from '../elasticsearch/credentials.ts';
import { documentOf } from '../elasticsearch/document.ts';
import { createManager, type Answer, type Method } from '../elasticsearch/manage.ts';
import { namesOf, type Names } from '../elasticsearch/template.ts';
import { failureOf } from '../http/classify.ts';
import { createDispatcher } from '../http/connect.ts';
import { exchange } from '../http/request.ts';

const MANAGE_MILLIS = 60_000;
/** Of an answer, in bytes: a part of it all, and one of each event. */
const ANSWER_BYTES = 4 << 20;
const ANSWER_BYTES_EACH = 8 << 10;
/** Of each event, what is looked at. */
const FILTER = 'items.*._id,items.*.status,items.*.error.type,items.*.error.reason';

export interface OpenSearchOptions {
  settings: OpenSearchSettings;
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now?: () => number;
}

interface State {
  readonly options: OpenSearchOptions;
  readonly now: () => number;
  readonly names: Names;
  readonly files: CredentialFiles;
  readonly manage: ReturnType<typeof createManager>;
  readonly closing: AbortController;
  connections: { of: Credentials; dispatcher: Dispatcher } | undefined;
  managedAt: number;
  /** Which node is asked. */
  turn: number;
}

interface Asked {
  method: Method;
  path: string;
  body?: string;
  type?: 'application/json' | 'application/x-ndjson';
  /** Events that an answer is about. */
  items: number;
}

export function createOpenSearch(options: OpenSearchOptions): Destination {
  const { settings, cluster, log, now = () => performance.now() } = options;
  if (!settings.verifyTls) log.warn("certificates of OpenSearch aren't checked, as verifyTls is false");
  const names = namesOf(cluster, settings.schema);
  const state: State = {
    options,
    now,
    names,
    files: createCredentialFiles(settings, now),
    manage: createManager(names, log),
    closing: new AbortController(),
    connections: undefined,
    managedAt: -Infinity,
    turn: 0,
  };
  return {
    send: (items, signal) => send(state, items, signal),
    async close() {
      state.closing.abort();
      await state.connections?.dispatcher.destroy();
    },
  };
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  const { options, names, manage, now } = state;
  const { settings, cluster } = options;
  signal.throwIfAborted();
  if (settings.manageTemplate && now() - state.managedAt >= MANAGE_MILLIS) {
    await manage((method, path, body) => manageStep(state, method, path, body, signal));
    state.managedAt = now();
  }
  const lines = items.map(
    (item) => `${JSON.stringify({ create: { _id: item.id } })}\n${documentOf(item, settings.schema, cluster)}\n`,
  );
  const path = `/${names.index}/_bulk?filter_path=${FILTER}`;
  const bulk: Asked = { method: 'POST', path, body: lines.join(''), type: 'application/x-ndjson', items: items.length };
  const { body } = await ask(state, bulk, signal, []);
  const { outcomes, indexMissing } = classifyBulk(items, body);
  if (indexMissing) state.managedAt = -Infinity;
  return outcomes;
}

function manageStep(
  state: State,
  method: Method,
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const asked = { method, path, items: 0, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  return ask(state, asked, signal, [400, 403, 404]);
}

/** @param also Statuses that are answers too. @throws SendError. The signal's reason when it is aborted. */
async function ask(state: State, asked: Asked, signal: AbortSignal, also: readonly number[]): Promise<Answer> {
  const { closing, files, options } = state;
  const { timeoutMillis } = options.settings;
  const limit = new AbortController();
  const node = nodeOf(state);
  const abort = (): void => limit.abort(new SendError('unreachable', 'the sink is closed'));
  const timer = setTimeout(() => {
    limit.abort(new SendError('timeout', `OpenSearch at ${node} did not answer in ${timeoutMillis} ms`));
  }, timeoutMillis);
  // Not AbortSignal.any: it leaks on signals that live long (https://github.com/nodejs/node/issues/55351).
  for (const from of [signal, closing.signal]) from.addEventListener('abort', abort);
  if (closing.signal.aborted) abort();
  try {
    return await askNode(state, node, asked, limit.signal, also);
  } catch (error) {
    signal.throwIfAborted();
    state.turn += 1;
    if (error instanceof SendError && (error.failure === 'unauthorized' || error.failure === 'tls')) files.forget();
    throw error;
  } finally {
    clearTimeout(timer);
    for (const from of [signal, closing.signal]) from.removeEventListener('abort', abort);
  }
}

function nodeOf({ options: { settings }, turn }: State): string {
  return (settings.nodes[turn % settings.nodes.length] ?? '').replace(/\/+$/, '');
}

async function askNode(
  state: State,
  node: string,
  { method, path, body, type = 'application/json', items }: Asked,
  signal: AbortSignal,
  also: readonly number[],
): Promise<Answer> {
  const credentials = await state.files.read();
  const answer = await exchange(
    {
      url: `${node}${path}`,
      method,
      headers: {
        'user-agent': 'dpi-agent',
        accept: 'application/json',
        'accept-encoding': 'identity',
        ...(body === undefined ? {} : { 'content-type': type }),
        ...authorization(credentials),
      },
      ...(body === undefined ? {} : { body }),
      allowLinkLocal: false,
      needsText: true,
      maxAnswer: ANSWER_BYTES + items * ANSWER_BYTES_EACH,
    },
    connectionsOf(state, credentials),
    signal,
  );
  const { status, text } = answer;
  if ((status < 200 || status > 299) && !also.includes(status)) {
    throw failureOf(answer, `OpenSearch at ${node}`, (said) => said);
  }
  return { status, body: parse(text, node) };
}

function parse(text: string, node: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    throw new SendError('incomplete', `OpenSearch at ${node}: the answer is not JSON, or was cut`);
  }
}

function authorization({ auth }: Credentials): Record<string, string> {
  if (auth === undefined || 'apiKey' in auth) return {};
  return { authorization: `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}` };
}

function connectionsOf(state: State, credentials: Credentials): Dispatcher {
  if (state.connections?.of !== credentials) {
    // It has no requests: they go one after the other.
    state.connections?.dispatcher.destroy().catch(() => undefined);
    const { verifyTls, timeoutMillis } = state.options.settings;
    const settings = { verifyTls, timeoutMillis, proxy: undefined, allowLinkLocal: false };
    state.connections = { of: credentials, dispatcher: createDispatcher(settings, credentials) };
  }
  return state.connections.dispatcher;
}
