/**
 * The rule server's answers, over HTTPS; rulesets/served.ts has their form. Everything but `/health` asks for a token of
 * the agents' service account.
 *
 * Bounded: requests' bytes, the time that one may say nothing, connections.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { errorCode } from '../files/errors.ts';
import { ApiError } from '../kube/api.ts';
import type { Caller } from '../kube/token-access.ts';
import {
  answerFailures,
  bodyOf,
  createTokenServer,
  Refusal,
  tokenOf,
  type FailureAnswer,
} from '../kube/token-server.ts';
import {
  FILES_PATH,
  FOLLOW_PATH,
  followRequest,
  MANIFEST_PATH,
  type FollowAnswer,
  type FollowRequest,
} from '../rulesets/served.ts';

const BODY_BYTES = 256 << 10;
const SILENCE_MILLIS = 30_000;
const REQUEST_MILLIS = 60_000;
const MAX_CONNECTIONS = 10_000;
const PATHS = `${FOLLOW_PATH}, ${MANIFEST_PATH} and ${FILES_PATH}/<digest>`;

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

export function createRuleServer(options: ServerOptions): FastifyInstance {
  const app = createTokenServer({
    tls: options.tls,
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_MILLIS,
    silenceTimeout: SILENCE_MILLIS,
    maxConnections: MAX_CONNECTIONS,
  });
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
  answerFailures(app, { log: options.log, name: 'rule server', paths: PATHS, answerTo });
  app.get('/health', () => ({ ok: true }));
  app.get(MANIFEST_PATH, () => options.manifest());
  app.get(`${FILES_PATH}/:digest`, (request, reply) => sendFile(options, request, reply));
  app.post(FOLLOW_PATH, (request) => options.follow(requestOf(request, nodes.get(request))));
  return app;
}

/** @throws Refusal */
async function letIn(request: FastifyRequest, { access }: ServerOptions): Promise<string | undefined> {
  const caller = await access(tokenOf(request));
  if (caller.is === 'unknown') throw new Refusal(401, caller.why);
  if (caller.is === 'other') throw new Refusal(403, `${caller.name} is none of the service accounts that may`);
  return caller.node;
}

/** @throws Refusal */
function requestOf(request: FastifyRequest, node: string | undefined): FollowRequest {
  const asked = bodyOf(followRequest, request);
  if (node !== undefined && node !== asked.node)
    throw new Refusal(403, `the token is of a pod on node ${node}, not on ${asked.node}`);
  return asked;
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

function answerTo(error: unknown): FailureAnswer | undefined {
  // Who asks is not known: why is in the log.
  if (error instanceof ApiError) return { status: 503, error: 'tokens cannot be looked at just now: try again' };
  if (errorCode(error) === 'ENOENT') return { status: 404, error: 'there is no such version any more' };
  return undefined;
}
