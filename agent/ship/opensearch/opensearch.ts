/**
 * Events to OpenSearch, as to Elasticsearch, whose client refuses OpenSearch: in the same index with the same template
 * and alias (bulk.ts says what is sent).
 *
 * A request goes to one node, once; after a failure the next one is asked. Credentials are read again when their files
 * change. Not promised: that events are searchable when `send` returns.
 */
import type { Dispatcher } from 'undici';
import type { Logger } from 'pino';
import type { OpenSearchSettings } from '../../config/sinks.ts';
import { SendError, type Destination } from '../destination.ts';
import { createBulk, type Asked } from '../elasticsearch/bulk.ts';
import { createCredentialFiles, type CredentialFiles, type Credentials } from '../elasticsearch/credentials.ts';
import type { Answer } from '../elasticsearch/manage.ts';
import { failureOf } from '../http/classify.ts';
import { createDispatcher } from '../http/connect.ts';
import { withinTime } from '../http/limit.ts';
import { exchange } from '../http/request.ts';

const NDJSON = 'application/x-ndjson';

export interface OpenSearchOptions {
  settings: OpenSearchSettings;
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now?: () => number;
}

interface State {
  readonly settings: OpenSearchSettings;
  readonly files: CredentialFiles;
  readonly closing: AbortController;
  connections: { of: Credentials; dispatcher: Dispatcher } | undefined;
  /** Which node is asked. */
  turn: number;
}

export function createOpenSearch(options: OpenSearchOptions): Destination {
  const { settings, cluster, log, now = () => performance.now() } = options;
  if (!settings.verifyTls) log.warn("certificates of OpenSearch aren't checked, as verifyTls is false");
  const state: State = {
    settings,
    files: createCredentialFiles(settings, now),
    closing: new AbortController(),
    connections: undefined,
    turn: 0,
  };
  const { send, packets } = createBulk({ settings, store: 'opensearch', cluster, log, now }, (asked, signal) =>
    askNode(state, asked, signal),
  );
  return {
    send,
    packets,
    async close() {
      state.closing.abort();
      await state.connections?.dispatcher.destroy();
    },
  };
}

async function askNode(state: State, asked: Asked, signal: AbortSignal): Promise<Answer> {
  const { closing, files, settings } = state;
  const { timeoutMillis } = settings;
  const node = nodeOf(state);
  const late = (): SendError => new SendError('timeout', `OpenSearch at ${node} did not answer in ${timeoutMillis} ms`);
  const limit = { signal, closing: closing.signal, timeoutMillis, late };
  try {
    return await withinTime(limit, (within) => request(state, node, asked, within));
  } catch (error) {
    signal.throwIfAborted();
    state.turn += 1;
    if (error instanceof SendError && (error.failure === 'unauthorized' || error.failure === 'tls')) files.forget();
    throw error;
  }
}

function nodeOf({ settings, turn }: State): string {
  return (settings.nodes[turn % settings.nodes.length] ?? '').replace(/\/+$/, '');
}

async function request(
  state: State,
  node: string,
  { method, path, body, maxAnswer, answers }: Asked,
  signal: AbortSignal,
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
        ...authorization(credentials),
        ...(body === undefined ? {} : { 'content-type': Array.isArray(body) ? NDJSON : 'application/json' }),
      },
      ...(body === undefined ? {} : { body: textOf(body) }),
      allowLinkLocal: false,
      needsText: true,
      maxAnswer,
    },
    connectionsOf(state, credentials),
    signal,
  );
  const { status, text } = answer;
  if ((status < 200 || status > 299) && !answers.includes(status)) {
    throw failureOf(answer, `OpenSearch at ${node}`, (said) => said);
  }
  return { status, body: parse(text, node) };
}

function textOf(body: NonNullable<Asked['body']>): string {
  return Array.isArray(body) ? `${body.join('\n')}\n` : JSON.stringify(body);
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
    const { verifyTls, timeoutMillis } = state.settings;
    const settings = { verifyTls, timeoutMillis, proxy: undefined, allowLinkLocal: false };
    state.connections = { of: credentials, dispatcher: createDispatcher(settings, credentials) };
  }
  return state.connections.dispatcher;
}
