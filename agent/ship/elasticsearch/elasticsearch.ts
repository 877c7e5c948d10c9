/**
 * Events to Elasticsearch: `_bulk` of `create` with the event's id, the journal's lines as they are, or in ECS.
 *
 * A bulk goes to one node, once; the next one goes to the next node, past those that are dead. Who calls tries again:
 * an event that arrived in a try whose answer was lost is a duplicate in the next, and is there once. Credentials are
 * read again when their files change; template, index and alias are looked at each minute. Not promised: that events
 * are searchable when `send` returns (that takes the index's refresh).
 */
import { Client, ClusterConnectionPool } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../../config/load.ts';
import { SendError, type Destination, type Item, type Outcome } from '../destination.ts';
import { classifyBulk, sendError } from './classify.ts';
import { createCredentialFiles, type CredentialFiles, type Credentials } from './credentials.ts';
import { documentOf } from './document.ts';
import { createManager, type Answer, type Method } from './manage.ts';
import { namesOf, type Names } from './template.ts';

type Connection = Client['connectionPool']['connections'][number];

const MANAGE_MILLIS = 60_000;
/** Of an answer, in bytes: a part of it all, and one of each event. */
const ANSWER_BYTES = 4 << 20;
const ANSWER_BYTES_EACH = 8 << 10;

export interface ElasticsearchOptions {
  config: Config['sinks']['elasticsearch'];
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now?: () => number;
}

export interface Elasticsearch extends Destination {
  /** Asks whatever else. @throws SendError but for 400, 403 and 404. */
  ask(method: Method, path: string, body: object | undefined, signal: AbortSignal): Promise<Answer>;
}

interface State {
  readonly options: ElasticsearchOptions;
  readonly now: () => number;
  readonly names: Names;
  readonly files: CredentialFiles;
  readonly manage: ReturnType<typeof createManager>;
  readonly closing: AbortController;
  client: { of: Credentials; client: Client } | undefined;
  managedAt: number;
  /** The node of the latest request; the client's errors don't tell. */
  asked: Connection | undefined;
  turn: number;
}

export function createElasticsearch(options: ElasticsearchOptions): Elasticsearch {
  const { config, cluster, log, now = () => performance.now() } = options;
  if (!config.verifyTls) {
    log.warn("certificates of Elasticsearch aren't checked, as sinks.elasticsearch.verifyTls is false");
  }
  const names = namesOf(cluster, config.schema);
  const state: State = {
    options,
    now,
    names,
    files: createCredentialFiles(config, now),
    manage: createManager(names, log),
    closing: new AbortController(),
    client: undefined,
    managedAt: -Infinity,
    asked: undefined,
    turn: 0,
  };
  return {
    ask: (method, path, body, signal) => ask(state, method, path, body, signal),
    send: (items, signal) => send(state, items, signal),
    async close() {
      state.closing.abort();
      await state.client?.client.close();
    },
  };
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  const { options, names, manage, now } = state;
  signal.throwIfAborted();
  if (options.config.manageTemplate && now() - state.managedAt >= MANAGE_MILLIS) {
    await manage((method, path, body) => ask(state, method, path, body, signal));
    state.managedAt = now();
  }
  const answer = await request(state, signal, items.length, (client, transport) =>
    client.bulk(
      {
        index: names.index,
        operations: items.flatMap((item) => [
          JSON.stringify({ create: { _id: item.id } }),
          documentOf(item, options.config.schema, options.cluster),
        ]),
        filter_path: ['items.*._id', 'items.*.status', 'items.*.error.type', 'items.*.error.reason'],
      },
      transport,
    ),
  );
  const { outcomes, indexMissing } = classifyBulk(items, answer);
  if (indexMissing) state.managedAt = -Infinity;
  return outcomes;
}

async function ask(
  state: State,
  method: Method,
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const { statusCode, body: answer } = await request(state, signal, 0, (client, transport) =>
    client.transport.request(body === undefined ? { method, path } : { method, path, body }, {
      ...transport,
      meta: true,
      ignore: [400, 403, 404],
    }),
  );
  return { status: statusCode ?? 0, body: answer };
}

type Run<T> = (client: Client, options: { signal: AbortSignal; maxResponseSize: number }) => Promise<T>;

/** @throws SendError. The signal's reason when it is aborted. */
async function request<T>(state: State, signal: AbortSignal, items: number, run: Run<T>): Promise<T> {
  const { closing, files } = state;
  const { timeoutMillis } = state.options.config;
  // The client's own time limit is for the answer's head, and then for a silence:
  // https://github.com/elastic/elastic-transport-js/blob/main/src/connection/UndiciConnection.ts
  const limit = { signal, stop: new AbortController(), late: false };
  const abort = (): void => limit.stop.abort();
  const timer = setTimeout(() => {
    limit.late = true;
    abort();
  }, timeoutMillis);
  // Not AbortSignal.any: it leaks on signals that live long (https://github.com/nodejs/node/issues/55351).
  for (const from of [signal, closing.signal]) from.addEventListener('abort', abort);
  if (closing.signal.aborted) abort();
  try {
    return await runWithin(state, limit, items, run);
  } catch (error) {
    signal.throwIfAborted();
    if (closing.signal.aborted) throw new SendError('unreachable', 'the sink is closed');
    const failure = sendError(error, files.files, state.asked?.url.href);
    if (failure.failure === 'unauthorized' || failure.failure === 'tls') files.forget();
    throw failure;
  } finally {
    clearTimeout(timer);
    for (const from of [signal, closing.signal]) from.removeEventListener('abort', abort);
  }
}

async function runWithin<T>(
  state: State,
  limit: { readonly signal: AbortSignal; readonly stop: AbortController; readonly late: boolean },
  items: number,
  run: Run<T>,
): Promise<T> {
  const client = await currentClient(state);
  try {
    return await run(client, {
      signal: limit.stop.signal,
      maxResponseSize: ANSWER_BYTES + items * ANSWER_BYTES_EACH,
    });
  } catch (error) {
    limit.signal.throwIfAborted();
    if (!limit.late) throw error;
    const { asked, options } = state;
    // Else it would hang every second send of two nodes.
    if (asked !== undefined) client.connectionPool.markDead(asked);
    const node = asked?.url.href ?? 'its nodes';
    throw new SendError('timeout', `Elasticsearch at ${node} did not answer in ${options.config.timeoutMillis} ms`);
  }
}

async function currentClient(state: State): Promise<Client> {
  const credentials = await state.files.read();
  if (state.client?.of !== credentials) {
    // Waits for its requests: there are none but in a race.
    state.client?.client.close().catch(() => {});
    state.client = { of: credentials, client: connect(state, credentials) };
  }
  return state.client.client;
}

function connect(state: State, { auth, ca }: Credentials): Client {
  const { config } = state.options;
  return new Client({
    nodes: config.nodes,
    ...(auth === undefined ? {} : { auth }),
    tls: { rejectUnauthorized: config.verifyTls, ...(ca === undefined ? {} : { ca }) },
    // The default one goes on asking dead nodes, only more seldom.
    ConnectionPool: ClusterConnectionPool,
    nodeSelector: (alive) => {
      state.asked = alive[state.turn++ % alive.length];
      return state.asked as Connection;
    },
    maxRetries: 0,
    requestTimeout: config.timeoutMillis,
    compression: true,
    // Answers are short, and what unpacks to more than was asked for has no bound in the client:
    // https://github.com/elastic/elastic-transport-js/blob/main/src/Transport.ts
    headers: { 'accept-encoding': 'identity', 'user-agent': 'dpi-agent' },
    maxCompressedResponseSize: 64 << 10,
    enableMetaHeader: false,
  });
}
