/**
 * What servers for agents and persons share, who are known by a token of the cluster: bounded connections, refusals with
 * a reason, and answers to what fails.
 */
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type * as z from 'zod';
import { messageOf } from '../files/errors.ts';
import { BusyError } from './token-access.ts';

const BEARER = /^Bearer +(\S+) *$/i;
const MAX_LOGGED_PATH = 200;

export interface TokenServerOptions {
  /** Certificate and key in PEM; none: in clear. */
  tls: { cert: Buffer; key: Buffer } | undefined;
  /** Most bytes of a request. */
  bodyLimit: number;
  /** For a whole request, in ms. */
  requestTimeout: number;
  /** The time that one may say nothing, in ms. */
  silenceTimeout: number;
  maxConnections: number;
}

export interface FailureOptions {
  log: Logger;
  /** Whose failures they are, for the log. */
  name: string;
  /** What there is, for who asks for something else. */
  paths: string;
  /** Of errors that only this server knows. */
  answerTo: (error: unknown) => FailureAnswer | undefined;
}

export interface FailureAnswer {
  status: number;
  error: string;
  reason?: string;
}

/** What ends a request with a status and a reason. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function createTokenServer(options: TokenServerOptions): FastifyInstance {
  const { tls, bodyLimit, requestTimeout } = options;
  const settings = {
    bodyLimit,
    requestTimeout,
    connectionTimeout: options.silenceTimeout,
    keepAliveTimeout: 5_000,
    forceCloseConnections: true,
  } as const;
  const app =
    tls === undefined ? fastify(settings) : fastify({ ...settings, https: { ...tls, minVersion: 'TLSv1.2' } });
  app.server.maxConnections = options.maxConnections;
  return app;
}

/** @throws Refusal */
export function tokenOf({ headers }: FastifyRequest): string {
  const token = BEARER.exec(headers.authorization ?? '')?.[1];
  if (token === undefined) throw new Refusal(401, 'a token is needed: Authorization: Bearer');
  return token;
}

/** A request's body in its form. @throws Refusal */
export function bodyOf<Form extends z.ZodType>(form: Form, { body }: FastifyRequest): z.infer<Form> {
  const parsed = form.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Refusal(400, `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'is not understood'}`);
}

export function answerFailures(app: FastifyInstance, { log, name, paths, answerTo }: FailureOptions): void {
  app.setNotFoundHandler((_, reply) => {
    void reply.code(404).send({ error: `there are ${paths}` });
  });
  app.setErrorHandler((error: unknown, request, reply) => {
    const { status, ...answer } = answerTo(error) ?? answerToAny(error);
    if (status >= 500)
      log.warn({ reason: messageOf(error), path: request.url.slice(0, MAX_LOGGED_PATH) }, `${name}: no answer`);
    if (status === 503) reply.header('retry-after', '5');
    void reply.code(status).send(answer);
  });
}

function answerToAny(error: unknown): FailureAnswer {
  if (error instanceof Refusal) return { status: error.status, error: error.message };
  if (error instanceof BusyError) return { status: 503, error: error.message };
  const { statusCode } = error as { statusCode?: unknown };
  const isClients = typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500;
  return isClients ? { status: statusCode, error: messageOf(error) } : { status: 500, error: 'internal error' };
}
