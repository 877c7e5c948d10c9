/**
 * Takes wishes over HTTP: of persons, whose rights are the cluster's, and of agents, whose rights end at their node and
 * at bounds (keeper.ts). Who asks is known by its token, and nothing is done for anybody else.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
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
import { RespondError } from './cut.ts';
import type { Keeper } from './keeper.ts';
import type { Person, RespondVerb } from './persons.ts';
import { agentsWish, ISOLATIONS_PATH, MAX_MESSAGE_BYTES, personsWish, releaseWish } from './protocol.ts';

const REQUEST_MILLIS = 30_000;
const MAX_CONNECTIONS = 512;
const PATHS = `${ISOLATIONS_PATH} and ${ISOLATIONS_PATH}/release`;

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

export function createRespondServer(options: ServerOptions): FastifyInstance {
  const { keeper, log, tls } = options;
  const app = createTokenServer({
    tls,
    bodyLimit: MAX_MESSAGE_BYTES,
    requestTimeout: REQUEST_MILLIS,
    silenceTimeout: REQUEST_MILLIS,
    maxConnections: MAX_CONNECTIONS,
  });
  answerFailures(app, { log, name: 'respond', paths: PATHS, answerTo });
  app.get('/health', () => ({ ok: true }));
  app.get(ISOLATIONS_PATH, async (request) => {
    const { namespace } = request.query as { namespace?: unknown };
    const within = typeof namespace === 'string' && namespace !== '' ? namespace : undefined;
    await allowed(options, request, 'list', within);
    return { isolations: await keeper.list(within) };
  });
  app.post(ISOLATIONS_PATH, async (request) => {
    const node = await nodeOf(options, request);
    if (node !== undefined) return keeper.isolateForAgent(bodyOf(agentsWish, request), node);
    const wish = bodyOf(personsWish, request);
    const person = await allowed(options, request, wish.dryRun ? 'list' : 'create', wish.namespace);
    return keeper.isolateForPerson(wish, person.name);
  });
  app.post(`${ISOLATIONS_PATH}/release`, async (request) => {
    const { namespace, pod, reason } = bodyOf(releaseWish, request);
    const person = await allowed(options, request, 'delete', namespace);
    await keeper.release(namespace, pod, person.name, reason);
    return { released: `${namespace}/${pod}` };
  });
  return app;
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

const STATUS: Record<RespondError['reason'], number> = {
  Protected: 403,
  NotFound: 404,
  HostNetwork: 409,
  StaysOpen: 409,
  Isolated: 409,
  Bounded: 429,
};

function answerTo(error: unknown): FailureAnswer | undefined {
  if (error instanceof RespondError)
    return { status: STATUS[error.reason], error: error.message, reason: error.reason };
  if (error instanceof ApiError) return { status: 502, error: error.message };
  return undefined;
}
