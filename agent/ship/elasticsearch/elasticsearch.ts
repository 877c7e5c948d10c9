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
import { toEcs } from '../../events/ecs.ts';
import type { EeEvent } from '../../events/event.ts';
import { SendError, type Destination, type Item } from '../destination.ts';
import { classifyBulk, sendError } from './classify.ts';
import { createCredentialFiles, type Credentials } from './credentials.ts';
import { createManager, type Answer, type Method } from './manage.ts';
import { namesOf } from './template.ts';

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

export function createElasticsearch(options: ElasticsearchOptions): Elasticsearch {
  const { config, cluster, log, now = () => performance.now() } = options;
  const names = namesOf(cluster, config.schema);
  const files = createCredentialFiles(config, now);
  const manage = createManager(names, log);
  const closing = new AbortController();
  let client: { of: Credentials; client: Client } | undefined;
  let managedAt = -Infinity;
  /** The node of the latest request; the client's errors don't tell. */
  let asked: Connection | undefined;
  let turn = 0;

  if (!config.verifyTls) {
    log.warn("certificates of Elasticsearch aren't checked, as sinks.elasticsearch.verifyTls is false");
  }

  return {
    ask,
    async send(items, signal) {
      signal.throwIfAborted();
      if (config.manageTemplate && now() - managedAt >= MANAGE_MILLIS) {
        await manage((method, path, body) => ask(method, path, body, signal));
        managedAt = now();
      }
      const answer = await request(signal, items.length, (current, transport) =>
        current.bulk(
          {
            index: names.index,
            operations: items.flatMap((item) => [JSON.stringify({ create: { _id: item.id } }), documentOf(item)]),
            filter_path: ['items.*._id', 'items.*.status', 'items.*.error.type', 'items.*.error.reason'],
          },
          transport,
        ),
      );
      const { outcomes, indexMissing } = classifyBulk(items, answer);
      if (indexMissing) managedAt = -Infinity;
      return outcomes;
    },
    async close() {
      closing.abort();
      await client?.client.close();
    },
  };

  /** The journal's line, or what the schema makes of it. */
  function documentOf({ json }: Item): string {
    if (config.schema === 'calico') return json;
    try {
      return JSON.stringify(toEcs(JSON.parse(json) as EeEvent, cluster));
    } catch {
      // Not one of the agent's: somebody else wrote it into the journal.
      return json;
    }
  }

  async function ask(method: Method, path: string, body: object | undefined, signal: AbortSignal): Promise<Answer> {
    const { statusCode, body: answer } = await request(signal, 0, (current, transport) =>
      current.transport.request(body === undefined ? { method, path } : { method, path, body }, {
        ...transport,
        meta: true,
        ignore: [400, 403, 404],
      }),
    );
    return { status: statusCode ?? 0, body: answer };
  }

  /** @throws SendError. The signal's reason when it is aborted. */
  async function request<T>(
    signal: AbortSignal,
    items: number,
    run: (client: Client, options: { signal: AbortSignal; maxResponseSize: number }) => Promise<T>,
  ): Promise<T> {
    // The client's own time limit is for the answer's head, and then for a silence:
    // https://github.com/elastic/elastic-transport-js/blob/main/src/connection/UndiciConnection.ts
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      abort();
    }, config.timeoutMillis);
    // Not AbortSignal.any: it leaks on signals that live long (https://github.com/nodejs/node/issues/55351).
    for (const from of [signal, closing.signal]) from.addEventListener('abort', abort);
    if (closing.signal.aborted) abort();
    try {
      const current = await currentClient();
      try {
        return await run(current, {
          signal: stop.signal,
          maxResponseSize: ANSWER_BYTES + items * ANSWER_BYTES_EACH,
        });
      } catch (error) {
        signal.throwIfAborted();
        if (!late) throw error;
        // Else it would hang every second send of two nodes.
        if (asked !== undefined) current.connectionPool.markDead(asked);
        const node = asked?.url.href ?? 'its nodes';
        throw new SendError('timeout', `Elasticsearch at ${node} did not answer in ${config.timeoutMillis} ms`);
      }
    } catch (error) {
      signal.throwIfAborted();
      if (closing.signal.aborted) throw new SendError('unreachable', 'the sink is closed');
      const failure = sendError(error, files.files, asked?.url.href);
      if (failure.failure === 'unauthorized' || failure.failure === 'tls') files.forget();
      throw failure;
    } finally {
      clearTimeout(timer);
      for (const from of [signal, closing.signal]) from.removeEventListener('abort', abort);
    }
  }

  async function currentClient(): Promise<Client> {
    const credentials = await files.read();
    if (client?.of !== credentials) {
      // Waits for its requests: there are none but in a race.
      client?.client.close().catch(() => {});
      client = { of: credentials, client: connect(credentials) };
    }
    return client.client;
  }

  function connect({ auth, ca }: Credentials): Client {
    return new Client({
      nodes: config.nodes,
      ...(auth === undefined ? {} : { auth }),
      tls: { rejectUnauthorized: config.verifyTls, ...(ca === undefined ? {} : { ca }) },
      // The default one goes on asking dead nodes, only more seldom.
      ConnectionPool: ClusterConnectionPool,
      nodeSelector: (alive) => {
        asked = alive[turn++ % alive.length];
        return asked as Connection;
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
}
