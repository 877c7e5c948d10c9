/** The index with the alerts: how it is asked, and what is wrong where it does not answer. */
import { Client, ClusterConnectionPool, errors, type estypes } from '@elastic/elasticsearch';
import { LRUCache } from 'lru-cache';
import type { Config } from '../../config/load.ts';
import { messageOf } from '../../files/errors.ts';
import { createCredentialFiles, type Credentials } from '../../ship/elasticsearch/credentials.ts';
import { namesOf, packetNamesOf } from '../../ship/elasticsearch/template.ts';
import { FIELDS, type FieldNames } from '../fields.ts';
import { fields, text } from '../row.ts';
import { SourceError } from '../source.ts';
import { OpenSearchConnection } from './opensearch-connection.ts';

const NAMES = 20_000;

export interface AlertIndexOptions {
  config: Config['sinks']['elasticsearch'];
  /** Elasticsearch without it. */
  store?: 'elasticsearch' | 'opensearch';
  cluster: string;
  now?: () => number;
}

type Store = NonNullable<AlertIndexOptions['store']>;

export interface AlertIndex {
  /** Or the data stream. */
  readonly alias: string;
  /** The index with packets of alerts. */
  readonly packets: string;
  readonly field: FieldNames;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Messages of signatures, `gid:sid`, as far as they are known. */
  readonly messages: LRUCache<string, string>;
  /** @param of What is asked, if not the alias. @throws SourceError. The signal's reason when it is aborted. */
  readonly ask: <T>(signal: AbortSignal | undefined, run: (client: Client) => Promise<T>, of?: string) => Promise<T>;
  /** As `ask` does. */
  readonly search: (body: estypes.SearchRequest, signal?: AbortSignal) => Promise<estypes.SearchResponse>;
  readonly close: () => Promise<void>;
}

export function openAlertIndex({
  config,
  cluster,
  now = Date.now,
  store = 'elasticsearch',
}: AlertIndexOptions): AlertIndex {
  const names = namesOf(cluster, config.schema);
  // OpenSearch gives an alias to the indices of a stream, Elasticsearch to the stream: its own name does for both.
  const alias = config.dataStream ? names.index : names.alias;
  const files = createCredentialFiles(config);
  let client: { of: Credentials; client: Client } | undefined;

  async function connect(): Promise<Client> {
    const credentials = await files.read();
    if (client?.of !== credentials) {
      client?.client.close().catch(() => {});
      client = { of: credentials, client: clientOf(config, credentials, store) };
    }
    return client.client;
  }

  async function ask<T>(
    signal: AbortSignal | undefined,
    run: (client: Client) => Promise<T>,
    of: string = alias,
  ): Promise<T> {
    try {
      return await run(await connect());
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof errors.ResponseError && (error.statusCode === 401 || error.statusCode === 403))
        files.forget();
      throw new SourceError(explain(error, of, config.nodes, store));
    }
  }

  async function search(body: estypes.SearchRequest, signal?: AbortSignal): Promise<estypes.SearchResponse> {
    const request = {
      index: alias,
      ignore_unavailable: true,
      allow_no_indices: true,
      track_total_hits: false,
      timeout: `${config.timeoutMillis}ms`,
      ...body,
    };
    const options = {
      maxRetries: Math.max(0, config.nodes.length - 1),
      ...(signal === undefined ? {} : { signal }),
    };
    return ask(signal, (current) => current.search(request, options), String(request.index));
  }

  return {
    alias,
    packets: packetNamesOf(cluster).index,
    field: FIELDS[config.schema],
    now,
    messages: new LRUCache<string, string>({ max: NAMES }),
    ask,
    search,
    close: async () => client?.client.close(),
  };
}

function clientOf(config: Config['sinks']['elasticsearch'], { auth, ca }: Credentials, store: Store): Client {
  return new Client({
    nodes: config.nodes,
    ...(store === 'opensearch' ? { Connection: OpenSearchConnection } : {}),
    ...(auth === undefined ? {} : { auth }),
    tls: { rejectUnauthorized: config.verifyTls, ...(ca === undefined ? {} : { ca }) },
    ConnectionPool: ClusterConnectionPool,
    requestTimeout: config.timeoutMillis,
    headers: { 'user-agent': 'dpi-agent-ui' },
    enableMetaHeader: false,
  });
}

/** What is wrong, for who runs the page. */
function explain(error: unknown, index: string, nodes: readonly string[], store: Store): string {
  const where = `${store === 'opensearch' ? 'OpenSearch' : 'Elasticsearch'} (${nodes.join(', ')})`;
  if (error instanceof errors.ResponseError) {
    if (error.statusCode === 401) return `${where} does not accept the credentials: look at the sink's user`;
    if (error.statusCode === 403)
      return `${where} does not let this user read ${index}: it needs the index privilege "read"`;
    const reason = text(fields(fields(error.body)['error'])['reason']);
    return `${where} answered ${error.statusCode ?? 'strangely'}: ${reason || error.message}`.slice(0, 500);
  }
  if (error instanceof errors.TimeoutError) return `${where} did not answer in time`;
  return `${where} does not answer: ${messageOf(error)}`.slice(0, 500);
}
