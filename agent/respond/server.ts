/**
 * Takes wishes over HTTP: of persons, whose rights are the cluster's, and of agents, whose rights end at their node and
 * at bounds (keeper.ts). Who asks is known by its token, and nothing is done for anybody else.
 */
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type * as z from 'zod';
import { messageOf } from '../files/errors.ts';
import { ApiError } from '../kube/api.ts';
import { BusyError, type Caller } from '../kube/token-access.ts';
import { RespondError } from './cut.ts';
import type { Keeper } from './keeper.ts';
import type { Person, RespondVerb } from './persons.ts';
import { agentsWish, ISOLATIONS_PATH, MAX_MESSAGE_BYTES, personsWish, releaseWish } from './protocol.ts';

const REQUEST_MILLIS = 30_000;
const MAX_CONNECTIONS = 512;
const BEARER = /^Bearer (\S+)$/;

export interface ServerOptions {
  keeper: Keeper;
  /** Whether a token is an agent's. @throws ApiError, BusyError */
  agentOf: (token: string) => Promise<Caller>;
  /** Whose token it is. @throws ApiError */
  personOf: (token: string) => Promise<Person | undefined>;
  log: Logger;
  /** Certificate and key in PEM. */
  tls?: { cert: Buffer; key: Buffer };
}

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function createRespondServer(options: ServerOptions): FastifyInstance {
  const app = openServer(options);
  const { keeper } = options;
  answerFailures(app, options.log);
  app.get('/health', () => ({ ok: true }));
  app.get(ISOLATIONS_PATH, async (request) => {
    const { namespace } = request.query as { namespace?: unknown };
    const within = typeof namespace === 'string' && namespace !== '' ? namespace : undefined;
    await allowed(options, request, 'list', within);
    return { isolations: await keeper.list(within) };
  });
  app.post(ISOLATIONS_PATH, async (request) => {
    const node = await nodeOf(options, request);
    if (node !== undefined) return keeper.isolateForAgent(read(agentsWish, request), node);
    const wish = read(personsWish, request);
    const person = await allowed(options, request, wish.dryRun ? 'list' : 'create', wish.namespace);
    return keeper.isolateForPerson(wish, person.name);
  });
  app.post(`${ISOLATIONS_PATH}/release`, async (request) => {
    const { namespace, pod, reason } = read(releaseWish, request);
    const person = await allowed(options, request, 'delete', namespace);
    await keeper.release(namespace, pod, person.name, reason);
    return { released: `${namespace}/${pod}` };
  });
  return app;
}

function openServer({ tls }: ServerOptions): FastifyInstance {
  const settings = {
    bodyLimit: MAX_MESSAGE_BYTES,
    requestTimeout: REQUEST_MILLIS,
    connectionTimeout: REQUEST_MILLIS,
    keepAliveTimeout: 5_000,
    forceCloseConnections: true,
  } as const;
  const app =
    tls === undefined ? fastify(settings) : fastify({ ...settings, https: { ...tls, minVersion: 'TLSv1.2' } });
  app.server.maxConnections = MAX_CONNECTIONS;
  return app;
}

function tokenOf(request: FastifyRequest): string {
  const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) throw new Refusal(401, 'a token is needed: Authorization: Bearer');
  return token;
}

/** Of the agent that asks; undefined: it is none. @throws Refusal */
async function nodeOf({ agentOf }: ServerOptions, request: FastifyRequest): Promise<string | undefined> {
  const caller = await agentOf(tokenOf(request));
  if (caller.is === 'other') throw new Refusal(403, `${caller.name} is none of the agents' service accounts`);
  if (caller.is === 'unknown') return undefined;
  // A token that is bound to no pod could be of any node.
  if (caller.node === undefined) throw new Refusal(403, "the token names no node: use the pod's projected token");
  return caller.node;
}

/** @throws Refusal */
async function allowed(
  { personOf }: ServerOptions,
  request: FastifyRequest,
  verb: RespondVerb,
  namespace: string | undefined,
): Promise<Person> {
  const person = await personOf(tokenOf(request));
  if (person === undefined) throw new Refusal(401, 'the cluster does not accept this token');
  if (await person.may(verb, namespace)) return person;
  const where = namespace === undefined ? 'in all namespaces' : `in namespace ${namespace}`;
  throw new Refusal(
    403,
    `${person.name} may not do that: it takes the verb "${verb}" on "deeppacketinspections/isolations" of projectcalico.org ${where}`,
  );
}

/** @throws Refusal */
function read<Form extends z.ZodType>(form: Form, { body }: FastifyRequest): z.infer<Form> {
  const parsed = form.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Refusal(400, `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'is not understood'}`);
}

function answerFailures(app: FastifyInstance, log: Logger): void {
  app.setNotFoundHandler((_, reply) => {
    void reply.code(404).send({ error: `there are ${ISOLATIONS_PATH} and ${ISOLATIONS_PATH}/release` });
  });
  app.setErrorHandler((error: unknown, request, reply) => {
    const { status, ...answer } = answerTo(error);
    if (status >= 500) log.warn({ reason: messageOf(error), path: request.url.slice(0, 200) }, 'respond: no answer');
    if (status === 503) reply.header('retry-after', '5');
    void reply.code(status).send(answer);
  });
}

const STATUS: Record<RespondError['reason'], number> = {
  Protected: 403,
  NotFound: 404,
  HostNetwork: 409,
  StaysOpen: 409,
  Isolated: 409,
  Bounded: 429,
};

function answerTo(error: unknown): { status: number; error: string; reason?: string } {
  if (error instanceof Refusal) return { status: error.status, error: error.message };
  if (error instanceof RespondError)
    return { status: STATUS[error.reason], error: error.message, reason: error.reason };
  if (error instanceof BusyError) return { status: 503, error: error.message };
  if (error instanceof ApiError) return { status: 502, error: error.message };
  const { statusCode } = error as { statusCode?: unknown };
  const isClients = typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500;
  return isClients ? { status: statusCode, error: messageOf(error) } : { status: 500, error: 'internal error' };
}
