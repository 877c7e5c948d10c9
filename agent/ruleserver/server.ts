/**
 * The rule server's answers, over HTTPS; rulesets/served.ts has their form. Everything but `/health` asks for a token of
 * the agents' service account.
 *
 * Bounded: requests' bytes, the time that one may say nothing, connections.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { errorCode, messageOf } from '../files/errors.ts';
import { ApiError } from '../kube/api.ts';
import {
  FILES_PATH,
  FOLLOW_PATH,
  followRequest,
  MANIFEST_PATH,
  type FollowAnswer,
  type FollowRequest,
} from '../rulesets/served.ts';
import { BusyError, type Caller } from '../kube/token-access.ts';

const BODY_BYTES = 256 << 10;
const SILENCE_MILLIS = 30_000;
const REQUEST_MILLIS = 60_000;
const MAX_CONNECTIONS = 10_000;
const BEARER = /^Bearer +(\S+) *$/i;

export interface ServerOptions {
  access: (token: string) => Promise<Caller>;
  follow: (request: FollowRequest) => FollowAnswer;
  manifest: () => object;
  /** The path of a version; undefined: it is not served. */
  fileOf: (digest: string) => string | undefined;
  /** Certificate and key in PEM. */
  tls?: { cert: Buffer; key: Buffer };
  /** A request was answered. */
  onAnswer: (status: number) => void;
  log: Logger;
}

/** What ends a request with a status and a reason. */
class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function createRuleServer(options: ServerOptions): FastifyInstance {
  const app = openServer(options);
  /** The node that the caller's token is of, where the cluster says so. */
  const nodes = new WeakMap<FastifyRequest, string>();
  app.addHook('onRequest', async (request) => {
    if (request.url === '/health') return;
    const node = await letIn(request, options);
    if (node !== undefined) nodes.set(request, node);
  });
  app.addHook('onResponse', (_, reply, done) => {
    options.onAnswer(reply.statusCode);
    done();
  });
  answerFailures(app, options.log);
  app.get('/health', () => ({ ok: true }));
  app.get(MANIFEST_PATH, () => options.manifest());
  app.get(`${FILES_PATH}/:digest`, (request, reply) => sendFile(options, request, reply));
  app.post(FOLLOW_PATH, (request) => options.follow(requestOf(request, nodes.get(request))));
  return app;
}

function openServer({ tls }: ServerOptions): FastifyInstance {
  const settings = {
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_MILLIS,
    connectionTimeout: SILENCE_MILLIS,
    keepAliveTimeout: 5_000,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 100 },
  } as const;
  const app =
    tls === undefined ? fastify(settings) : fastify({ ...settings, https: { ...tls, minVersion: 'TLSv1.2' } });
  app.server.maxConnections = MAX_CONNECTIONS;
  return app;
}

/** @throws Refusal */
async function letIn(request: FastifyRequest, { access }: ServerOptions): Promise<string | undefined> {
  const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) throw new Refusal(401, 'a token is needed: Authorization: Bearer');
  const caller = await access(token);
  if (caller.is === 'unknown') throw new Refusal(401, caller.why);
  if (caller.is === 'other') throw new Refusal(403, `${caller.name} is none of the service accounts that may`);
  return caller.node;
}

/** @throws Refusal */
function requestOf({ body }: FastifyRequest, node: string | undefined): FollowRequest {
  const parsed = followRequest.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Refusal(400, `${issue?.path.join('.') ?? 'body'}: ${issue?.message ?? 'is not understood'}`);
  }
  if (node !== undefined && node !== parsed.data.node)
    throw new Refusal(403, `the token is of a pod on node ${node}, not on ${parsed.data.node}`);
  return parsed.data;
}

async function sendFile(
  { fileOf }: ServerOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { digest } = request.params as { digest: string };
  const file = fileOf(digest);
  if (file === undefined) throw new Refusal(404, 'there is no such version: it may be older than those that are kept');
  const { size } = await stat(file);
  const etag = `"${digest}"`;
  reply.header('etag', etag);
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  return reply.type('application/gzip').header('content-length', size).send(createReadStream(file));
}

function answerFailures(app: FastifyInstance, log: Logger): void {
  app.setNotFoundHandler((_, reply) => {
    void reply.code(404).send({ error: `there are ${FOLLOW_PATH}, ${MANIFEST_PATH} and ${FILES_PATH}/<digest>` });
  });
  app.setErrorHandler((error: unknown, request, reply) => {
    const { status, message } = answerTo(error);
    if (status >= 500)
      log.warn({ reason: messageOf(error), path: request.url.slice(0, 200) }, 'rule server: no answer');
    if (status === 503) reply.header('retry-after', '5');
    void reply.code(status).send({ error: message });
  });
}

function answerTo(error: unknown): { status: number; message: string } {
  if (error instanceof Refusal) return { status: error.status, message: error.message };
  if (error instanceof BusyError) return { status: 503, message: error.message };
  // Who asks is not known: why is in the log.
  if (error instanceof ApiError) return { status: 503, message: 'tokens cannot be looked at just now: try again' };
  if (errorCode(error) === 'ENOENT') return { status: 404, message: 'there is no such version any more' };
  const { statusCode } = error as { statusCode?: unknown };
  const isClients = typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500;
  return isClients ? { status: statusCode, message: messageOf(error) } : { status: 500, message: 'internal error' };
}
