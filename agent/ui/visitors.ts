/**
 * Who asks: by a session's cookie, or by a token for programs. Who failed too often has to wait (attempts.ts), whatever
 * way was tried.
 */
import type { FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { ANYBODY, type Access, type Credentials, type User } from './access.ts';
import { createAttempts, type Attempts } from './attempts.ts';
import { Refused } from './refused.ts';
import { MAX_TOKEN } from './requests.ts';
import { createSessions, type Sessions } from './sessions.ts';

export interface Visitors {
  /** Undefined: nobody who may. */
  whoIs(request: FastifyRequest): Promise<User | undefined>;
  /** @throws Refused where `whoIs` knows nobody. */
  signedIn(request: FastifyRequest): Promise<User>;
  /** Of the cluster, of who asks; undefined where none is known. Whether it is good, `signedIn` says. */
  tokenOf(request: FastifyRequest): string | undefined;
  /** Opens a session. @throws Refused */
  signIn(request: FastifyRequest, credentials: Credentials): Promise<{ user: User; cookie: string }>;
  /** Ends the session. @returns the cookie that takes the place of its own. */
  signOut(request: FastifyRequest): string;
}

interface Entrance {
  readonly access: Access;
  readonly log: Logger;
  /** Whether cookies go over TLS only. */
  readonly secure: boolean;
  readonly sessions: Sessions;
  readonly attempts: Attempts;
}

export function createVisitors(options: Pick<Entrance, 'access' | 'log' | 'secure'>): Visitors {
  const { access, log, secure } = options;
  const entrance = { access, log, secure, sessions: createSessions(), attempts: createAttempts() };
  return {
    whoIs: (request) => whoIs(entrance, request),
    signedIn: (request) => signedIn(entrance, request),
    tokenOf: (request) => tokenOf(entrance, request),
    signIn: (request, credentials) => signIn(entrance, request, credentials),
    signOut: (request) => signOut(entrance, request),
  };
}

async function whoIs(entrance: Entrance, request: FastifyRequest): Promise<User | undefined> {
  const { access } = entrance;
  if (access.mode === 'none') return ANYBODY;
  const token = bearerOf(request);
  if (token !== undefined && access.mode === 'kubernetes') return userOfToken(entrance, request, token);
  return userOfSession(entrance, request);
}

function bearerOf(request: FastifyRequest): string | undefined {
  return /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
}

function tokenOf(entrance: Entrance, request: FastifyRequest): string | undefined {
  if (entrance.access.mode !== 'kubernetes') return undefined;
  const value = cookieOf(entrance, request);
  const credentials = value === undefined ? undefined : entrance.sessions.find(value)?.credentials;
  return bearerOf(request) ?? (credentials !== undefined && 'token' in credentials ? credentials.token : undefined);
}

async function userOfToken(entrance: Entrance, request: FastifyRequest, token: string): Promise<User | undefined> {
  if (token.length > MAX_TOKEN) return undefined;
  refuseTooMany(entrance, request, { token });
  const user = await entrance.access.signIn({ token });
  if (user === undefined) entrance.attempts.count(request.ip);
  return user;
}

async function userOfSession(entrance: Entrance, request: FastifyRequest): Promise<User | undefined> {
  const { access, sessions } = entrance;
  const value = cookieOf(entrance, request);
  const session = value === undefined ? undefined : sessions.find(value);
  if (session === undefined || value === undefined) return undefined;
  if (await access.stillValid(session.credentials)) return session.user;
  sessions.close(value);
  return undefined;
}

async function signedIn(entrance: Entrance, request: FastifyRequest): Promise<User> {
  const user = await whoIs(entrance, request);
  if (user === undefined) throw new Refused(401, 'sign in first', { access: entrance.access.mode });
  return user;
}

async function signIn(
  entrance: Entrance,
  request: FastifyRequest,
  credentials: Credentials,
): Promise<{ user: User; cookie: string }> {
  const { access, log, sessions, attempts } = entrance;
  refuseTooMany(entrance, request, credentials);
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
  return { user, cookie: cookie(entrance, sessions.open({ user, credentials })) };
}

function signOut(entrance: Entrance, request: FastifyRequest): string {
  const value = cookieOf(entrance, request);
  if (value !== undefined) entrance.sessions.close(value);
  return `${cookie(entrance, '')}; Max-Age=0`;
}

/** @throws Refused where who asks failed too often, but for a token that was right before. */
function refuseTooMany({ access, attempts }: Entrance, request: FastifyRequest, credentials: Credentials): void {
  const wait = access.wasValid(credentials) ? 0 : attempts.wait(request.ip);
  if (wait > 0) throw new Refused(429, `too many attempts: try again in ${wait} s`, { retryAfter: wait });
}

function cookie(entrance: Entrance, value: string): string {
  const { secure } = entrance;
  return `${cookieName(entrance)}=${value}; Path=/; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
}

function cookieOf(entrance: Entrance, request: FastifyRequest): string | undefined {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
  return pairs.find(([name]) => name === cookieName(entrance))?.[1];
}

function cookieName({ secure }: Entrance): string {
  return secure ? '__Host-dpi-agent' : 'dpi-agent';
}
