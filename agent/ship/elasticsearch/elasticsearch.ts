/**
 * Events to Elasticsearch, by its own client (bulk.ts says what is sent).
 *
 * A request goes to one node, once; the next one goes to the next node, past those that are dead. Credentials are read
 * again when their files change. Not promised: that events are searchable when `send` returns (that takes the index's
 * refresh).
 */
import { Client, ClusterConnectionPool } from '@elastic/elasticsearch';
import type { Logger } from 'pino';
import type { Config } from '../../config/load.ts';
import { SendError, type Destination } from '../destination.ts';
import { withinTime } from '../http/limit.ts';
import { createBulk, type Asked, type Bulk } from './bulk.ts';
import { sendError } from './classify.ts';
import { createCredentialFiles, type CredentialFiles, type Credentials } from './credentials.ts';
import type { Answer } from './manage.ts';

type Connection = Client['connectionPool']['connections'][number];

export interface ElasticsearchOptions {
  config: Config['sinks']['elasticsearch'];
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now?: () => number;
}

export type Elasticsearch = Destination & Bulk;

interface State {
  readonly config: ElasticsearchOptions['config'];
  readonly files: CredentialFiles;
  readonly closing: AbortController;
  client: { of: Credentials; client: Client } | undefined;
  /** The node of the latest request; the client's errors don't tell. */
  asked: Connection | undefined;
  turn: number;
}

export function createElasticsearch(options: ElasticsearchOptions): Elasticsearch {
  const { config, cluster, log, now = () => performance.now() } = options;
  if (!config.verifyTls) {
    log.warn("certificates of Elasticsearch aren't checked, as sinks.elasticsearch.verifyTls is false");
  }
  const state: State = {
    config,
    files: createCredentialFiles(config, now),
    closing: new AbortController(),
    client: undefined,
    asked: undefined,
    turn: 0,
  };
  return {
    ...createBulk({ settings: config, store: 'elasticsearch', cluster, log, now }, (asked, signal) =>
      askNode(state, asked, signal),
    ),
    async close() {
      state.closing.abort();
      await state.client?.client.close();
    },
  };
}

async function askNode(state: State, asked: Asked, signal: AbortSignal): Promise<Answer> {
  const { closing, files, config } = state;
  // The client's own time limit is for the answer's head, and then for a silence:
  // https://github.com/elastic/elastic-transport-js/blob/main/src/connection/UndiciConnection.ts
  const limit = { signal, closing: closing.signal, timeoutMillis: config.timeoutMillis, late: () => lateOf(state) };
  try {
    return await withinTime(limit, (within) => request(state, asked, within));
  } catch (error) {
    signal.throwIfAborted();
    const failure = sendError(error, files.files, state.asked?.url.href);
    if (failure.failure === 'unauthorized' || failure.failure === 'tls') files.forget();
    throw failure;
  }
}

async function request(
  state: State,
  { method, path, body, maxAnswer, answers }: Asked,
  signal: AbortSignal,
): Promise<Answer> {
  const client = await currentClient(state);
  const sent = body === undefined ? {} : Array.isArray(body) ? { bulkBody: body as string[] } : { body };
  const { statusCode, body: answer } = await client.transport.request(
    { method, path, ...sent },
    { signal, maxResponseSize: maxAnswer, meta: true, ignore: [...answers] },
  );
  return { status: statusCode ?? 0, body: answer };
}

function lateOf({ client, asked, config }: State): SendError {
  // Else it would hang every second send of two nodes.
  if (asked !== undefined) client?.client.connectionPool.markDead(asked);
  const node = asked?.url.href ?? 'its nodes';
  return new SendError('timeout', `Elasticsearch at ${node} did not answer in ${config.timeoutMillis} ms`);
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
  const { config } = state;
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
