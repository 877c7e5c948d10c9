/**
 * The Alerts page's server: the page's files, and what it asks for in JSON under `/api/`.
 *
 * Every answer forbids what the page does not need: inline scripts and styles, other sites, frames. Requests that
 * change something have to be JSON from the page itself. Without access control only requests for this machine's own
 * name are answered, so that no other site can reach the page under a name of its own.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { isIP } from 'node:net';
import type { Logger } from 'pino';
import { accessProblem, ANYBODY, type Access, type Credentials, type User } from './access.ts';
import type { AlertDetail, Coverage, DryRun, LiveMessage, RuleText, Session, SignInNeeded, State } from './api.ts';
import { STATES } from './api.ts';
import { createAttempts } from './attempts.ts';
import type { PageFile } from './files.ts';
import { BusyError } from './passwords.ts';
import { inScope, matches, parseQuery, QueryError, single, type AlertQuery, type Scope } from './query.ts';
import { createSessions } from './sessions.ts';
import { SourceError, type AlertSource } from './source.ts';

const BODY_BYTES = 256 << 10;
const MAX_MARKED = 500;
const ID = /^[A-Za-z0-9_-]{1,128}$/;
const MAX_STREAMS = 200;
const HEARTBEAT_MILLIS = 15_000;
/** A page that does not read its stream loses it. */
const STREAM_BYTES = 4 << 20;
const MAX_TOKEN = 16_384;

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

export interface ServerOptions {
  source: AlertSource;
  access: Access;
  page: Map<string, PageFile>;
  version: string;
  log: Logger;
  kibanaUrl?: string;
  /** Certificate and key in PEM. */
  tls?: { cert: Buffer; key: Buffer };
  /** Whether browsers reach it over TLS, its own or that of a proxy. */
  secure: boolean;
  /** Addresses and networks of proxies whose word on where a request is from is taken. */
  trustedProxies: string[];
  /** The rule with this number, where the server has it. */
  rule(gid: number, sid: number): Promise<RuleText | undefined>;
  coverage(scope: Scope): Promise<Coverage>;
  /** @throws Refused */
  dryRun?: (namespace: string, selector: string) => Promise<DryRun>;
}

/** A request can't be served, with the reason for who asked. */
export class Refused extends Error {
  readonly status: number;
  readonly more: object;
  constructor(status: number, message: string, more: object = {}) {
    super(message);
    this.status = status;
    this.more = more;
  }
}

export function createUiServer(options: ServerOptions): FastifyInstance {
  const { source, access, page, log, secure } = options;
  const cookieName = secure ? '__Host-dpi-agent' : 'dpi-agent';
  const sessions = createSessions();
  const attempts = createAttempts();
  let streams = 0;

  const settings = {
    bodyLimit: BODY_BYTES,
    trustProxy: options.trustedProxies,
    requestTimeout: 60_000,
    connectionTimeout: 0,
    keepAliveTimeout: 30_000,
    // Streams would keep it from ending.
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 200 },
  } as const;
  const app: FastifyInstance =
    options.tls === undefined
      ? fastify(settings)
      : fastify({ ...settings, https: { ...options.tls, minVersion: 'TLSv1.2' } });

  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    if (secure) reply.header('strict-transport-security', 'max-age=31536000');
    if (request.url.startsWith('/api/')) reply.header('cache-control', 'no-store');
    if (access.mode === 'none' && !isLoopbackName(request.hostname)) {
      throw new Refused(421, `this page answers for localhost only, not for ${request.hostname.slice(0, 100)}`);
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') checkOwn(request);
  });

  app.setErrorHandler((error: unknown, request, reply) => {
    if (reply.raw.headersSent) return reply.raw.destroy();
    const [status, message, more] = refusalOf(error);
    if ('retryAfter' in more) reply.header('retry-after', more.retryAfter);
    if (status >= 500) log.warn({ err: error, url: request.url.split('?')[0] }, 'a request failed');
    return reply.code(status).send({ error: message, ...more });
  });
  app.setNotFoundHandler((_, reply) => reply.code(404).send({ error: 'there is nothing here' }));

  app.get('/health', (_, reply) => reply.type('text/plain').send('ok\n'));
  for (const [path, file] of page) app.get(path, (request, reply) => sendFile(file, request, reply));

  app.get('/api/session', async (request, reply) => {
    const user = await whoIs(request);
    if (user === undefined) {
      const needed: SignInNeeded = {
        error: 'sign in first',
        access: access.mode === 'kubernetes' ? 'kubernetes' : 'password',
      };
      return reply.code(401).send(needed);
    }
    return sessionOf(user);
  });

  app.post('/api/session', async (request, reply) => {
    const credentials = credentialsOf(request.body);
    refuseTooMany(request, credentials);
    // Counted before it is known, so that many at once count as well.
    const takeBack = attempts.count(request.ip);
    const user = await access.signIn(credentials).catch((error: unknown) => {
      takeBack();
      throw error;
    });
    if (user === undefined) {
      log.warn({ address: request.ip }, 'sign-in refused');
      const wrong = access.mode === 'kubernetes' ? 'the cluster does not accept this token' : 'wrong user or password';
      throw new Refused(401, wrong, { access: access.mode });
    }
    takeBack();
    log.info({ user: user.name, address: request.ip }, 'signed in');
    reply.header('set-cookie', cookie(sessions.open({ user, credentials })));
    return sessionOf(user);
  });

  app.delete('/api/session', async (request, reply) => {
    const value = cookieOf(request);
    if (value !== undefined) sessions.close(value);
    return reply.header('set-cookie', `${cookie('')}; Max-Age=0`).send({});
  });

  app.get('/api/alerts', async (request, reply) => {
    const { query, scope } = await asked(request);
    const after = single('after', parameters(request)['after']);
    if (after !== undefined && !/^[-0-9TZ:.+]{1,64}(,[A-Za-z0-9_-]{1,128}){1,200}$/.test(after))
      throw new QueryError('after: expected what the page before gave as next');
    return source.list(query, scope, after, signalOf(reply));
  });

  app.get('/api/summary', async (request, reply) => {
    const { query, scope } = await asked(request);
    return source.summary(query, scope, signalOf(reply));
  });

  app.get('/api/groups', async (request, reply) => {
    const { query, scope } = await asked(request);
    const by = parameters(request)['by'];
    if (by !== 'signature' && by !== 'pod') throw new QueryError('by: expected signature or pod');
    return source.groups(by, query, scope, signalOf(reply));
  });

  app.get('/api/alerts/:id', async (request, reply) => {
    const user = await signedIn(request);
    const { id } = request.params as { id: string };
    const alert = ID.test(id) ? (await source.get([id], signalOf(reply)))[0] : undefined;
    // Who may not see it does not learn that it is there.
    if (alert === undefined || !inScope(await user.readable(), alert.row.namespace))
      throw new Refused(404, `there is no alert ${id.slice(0, 128)}, or you may not see it`);
    const { row, event } = alert;
    const rule = await options.rule(Number(row.gid), Number(row.sid));
    const detail: AlertDetail = { row, event, ...(rule === undefined ? {} : { rule }) };
    return detail;
  });

  app.post('/api/marks', async (request, reply) => {
    const user = await signedIn(request);
    const { ids, state } = marksOf(request.body);
    const scope = await user.readable();
    const alerts = (await source.get(ids, signalOf(reply))).filter(({ row }) => inScope(scope, row.namespace));
    if (alerts.length < new Set(ids).size)
      throw new Refused(404, 'some of these alerts are not there, or you may not see them: nothing was changed');
    for (const namespace of new Set(alerts.map(({ row }) => row.namespace))) {
      if (!(await user.mayMark(namespace))) {
        throw new Refused(
          403,
          `you may not mark alerts of namespace ${namespace}: that takes the verb "update" on "deeppacketinspections/alerts" there`,
        );
      }
    }
    await source.mark(
      alerts.map(({ row }) => row.id),
      state,
      user.name,
      new Date(),
    );
    log.info({ user: user.name, state, alerts: alerts.length }, 'marked');
    return { marked: alerts.length };
  });

  app.get('/api/live', async (request, reply) => {
    const { query, scope } = await asked(request);
    const user = await signedIn(request);
    // Who asked may have gone while its rights were looked up; nothing would end its stream.
    if (reply.raw.destroyed) return reply.hijack();
    if (streams >= MAX_STREAMS) throw new Refused(503, 'too many pages follow the alerts: this one does not');
    stream(request, reply, query, scope, user);
    return reply;
  });

  app.get('/api/coverage', async (request) => options.coverage(await (await signedIn(request)).readable()));

  app.get('/api/dry-run', async (request) => {
    const user = await signedIn(request);
    const { namespace, selector } = parameters(request);
    const where = single('namespace', namespace) ?? 'default';
    const what = single('selector', selector) ?? '';
    if (options.dryRun === undefined) throw new Refused(404, 'there is no API server to ask for pods');
    if (!(await user.mayListPods(where)))
      throw new Refused(403, `you may not list pods in namespace ${where.slice(0, 63)}`);
    return options.dryRun(where, what);
  });

  return app;

  /** Who asks: by cookie, or by a token for programs. Undefined: nobody who may. */
  async function whoIs(request: FastifyRequest): Promise<User | undefined> {
    if (access.mode === 'none') return ANYBODY;
    const [, token] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '') ?? [];
    if (token !== undefined && access.mode === 'kubernetes') {
      if (token.length > MAX_TOKEN) return undefined;
      refuseTooMany(request, { token });
      const user = await access.signIn({ token });
      if (user === undefined) attempts.count(request.ip);
      return user;
    }
    const value = cookieOf(request);
    const session = value === undefined ? undefined : sessions.find(value);
    if (session === undefined || value === undefined) return undefined;
    if (await access.stillValid(session.credentials)) return session.user;
    sessions.close(value);
    return undefined;
  }

  /** @throws Refused where who asks failed too often, but for a token that was right before. */
  function refuseTooMany(request: FastifyRequest, credentials: Credentials): void {
    const wait = access.wasValid(credentials) ? 0 : attempts.wait(request.ip);
    if (wait > 0) throw new Refused(429, `too many attempts: try again in ${wait} s`, { retryAfter: wait });
  }

  async function signedIn(request: FastifyRequest): Promise<User> {
    const user = await whoIs(request);
    if (user === undefined) throw new Refused(401, 'sign in first', { access: access.mode });
    return user;
  }

  async function asked(request: FastifyRequest): Promise<{ query: AlertQuery; scope: Scope }> {
    const user = await signedIn(request);
    return { query: parseQuery(parameters(request), Date.now()), scope: await user.readable() };
  }

  function sessionOf(user: User): Session {
    return {
      access: access.mode,
      user: user.name,
      version: options.version,
      source: source.about,
      ...(options.kibanaUrl === undefined ? {} : { kibanaUrl: options.kibanaUrl }),
      dryRun: options.dryRun !== undefined,
    };
  }

  function cookie(value: string): string {
    return `${cookieName}=${value}; Path=/; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
  }

  function cookieOf(request: FastifyRequest): string | undefined {
    const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
    return pairs.find(([name]) => name === cookieName)?.[1];
  }

  /** New alerts as server-sent events, until the page goes, or its user may no longer see them. */
  function stream(request: FastifyRequest, reply: FastifyReply, query: AlertQuery, first: Scope, user: User): void {
    streams += 1;
    let scope = first;
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, {
      ...HEADERS,
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      // Nginx would hold it back.
      'x-accel-buffering': 'no',
    });
    raw.write('retry: 3000\n\n');
    const write = (text: string): void => {
      if (raw.writableLength > STREAM_BYTES) raw.destroy();
      else raw.write(text);
    };
    const end = source.subscribe((rows, more) => {
      const selected = rows.filter((row) => inScope(scope, row.namespace) && matches(query, row));
      if (selected.length === 0 && !more) return;
      const message: LiveMessage = { rows: selected, more };
      write(`event: alerts\ndata: ${JSON.stringify(message)}\n\n`);
    });
    const heartbeat = setInterval(() => {
      write(': still here\n\n');
      whoIs(request)
        .then(async (current) => {
          if (current === undefined || current.name !== user.name) raw.end();
          else scope = await current.readable();
        })
        .catch(() => raw.end());
    }, HEARTBEAT_MILLIS);
    raw.once('close', () => {
      streams -= 1;
      clearInterval(heartbeat);
      end();
    });
  }
}

/** @throws Refused when another site sent it, or a form. */
function checkOwn(request: FastifyRequest): void {
  const { origin, 'sec-fetch-site': site, 'content-type': type = '' } = request.headers;
  const foreign = origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== request.host);
  if (foreign || (site !== undefined && site !== 'same-origin' && site !== 'none'))
    throw new Refused(403, 'another site sent this request');
  if (request.method !== 'DELETE' && !/^application\/json\b/.test(type)) throw new Refused(415, 'expected JSON');
}

function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name === '[::1]' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

function sendFile(file: PageFile, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.headers({
    'content-type': file.type,
    etag: file.etag,
    vary: 'accept-encoding',
    'cache-control': file.lasting ? 'public, max-age=31536000, immutable' : 'no-cache',
  });
  if (request.headers['if-none-match'] === file.etag) return reply.code(304).send();
  if (/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) {
    return reply.header('content-encoding', 'gzip').send(file.gzip);
  }
  return reply.send(file.body);
}

function parameters(request: FastifyRequest): Readonly<Record<string, unknown>> {
  return request.query as Record<string, unknown>;
}

/** Aborted when who asked has gone: a question that was superseded costs nothing more. */
function signalOf(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) controller.abort();
  });
  return controller.signal;
}

function credentialsOf(body: unknown): Credentials {
  const { token, username, password } = (body ?? {}) as Record<string, unknown>;
  if (typeof token === 'string' && token.trim() !== '' && token.length <= MAX_TOKEN) return { token: token.trim() };
  if (typeof username === 'string' && typeof password === 'string') return { username, password };
  throw new Refused(400, 'expected a token, or a user and a password');
}

function marksOf(body: unknown): { ids: string[]; state: State } {
  const { ids, state } = (body ?? {}) as Record<string, unknown>;
  const wanted = STATES.find((name) => name === state);
  if (wanted === undefined) throw new QueryError(`state: expected one of ${STATES.join(', ')}`);
  const valid = (id: unknown): id is string => typeof id === 'string' && ID.test(id);
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > MAX_MARKED || !ids.every(valid))
    throw new QueryError(`ids: expected 1 to ${MAX_MARKED} ids of alerts`);
  return { ids: [...new Set(ids)], state: wanted };
}

function refusalOf(error: unknown): [number, string, object] {
  if (error instanceof Refused) return [error.status, error.message, error.more];
  if (error instanceof QueryError) return [400, error.message, {}];
  if (error instanceof SourceError) return [502, error.message, {}];
  if (error instanceof BusyError) return [503, error.message, {}];
  const problem = accessProblem(error);
  if (problem !== undefined) return [502, problem, {}];
  const { statusCode, message } = error as { statusCode?: unknown; message?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) return [statusCode, String(message), {}];
  return [500, 'the server failed: its log says why', {}];
}
