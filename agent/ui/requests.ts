/** What a request may be, and what is in it. Nothing here knows who asks. */
import type { FastifyRequest } from 'fastify';
import { isIP } from 'node:net';
import type { Credentials } from './access.ts';
import { ORDERS, REASONS, STATES, type Act } from './api.ts';
import { parseQuery, parseTime, QueryError, single, type AlertQuery } from './query.ts';
import { stripControls } from '../text.ts';
import { Refused } from './refused.ts';
import { MAX_PAGE_ROWS, PAGE_ROWS, type PageRequest } from './source.ts';

export const MAX_TOKEN = 16_384;
/** As many ids as a request has room for. */
export const MAX_MARKED = 5000;
const MAX_QUERY_STRING = 16_384;
const ID = /^[A-Za-z0-9_-]{1,128}$/;
/** A severity where that is the order, a time, and ids of alerts of that place. */
const AFTER = /^(?:\d{1,3}~)?[-0-9TZ:.+]{1,64}(,[A-Za-z0-9_-]{1,128}){1,200}$/;

/** @throws Refused when another site sent it, or a form. */
export function checkOwn(request: FastifyRequest): void {
  const { origin, 'sec-fetch-site': site, 'content-type': type = '' } = request.headers;
  const foreign = origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== request.host);
  if (foreign || (site !== undefined && site !== 'same-origin' && site !== 'none'))
    throw new Refused(403, 'another site sent this request');
  if (request.method !== 'DELETE' && !/^application\/json\b/.test(type)) throw new Refused(415, 'expected JSON');
}

/** @throws Refused when it is for a name that is not this machine's own. */
export function checkLoopback({ hostname }: FastifyRequest): void {
  if (isLoopbackName(hostname)) return;
  throw new Refused(421, `this page answers for localhost only, not for ${hostname.slice(0, 100)}`);
}

function isLoopbackName(name: string): boolean {
  return name === 'localhost' || name === '[::1]' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

export function parameters(request: FastifyRequest): Readonly<Record<string, unknown>> {
  return request.query as Record<string, unknown>;
}

/** @throws QueryError */
export function pageOf(request: FastifyRequest): PageRequest {
  const asked = parameters(request);
  const after = single('after', asked['after']);
  if (after !== undefined && !AFTER.test(after))
    throw new QueryError('after: expected what the page before gave as next');
  const size = single('size', asked['size']) ?? String(PAGE_ROWS);
  if (!/^[1-9]\d{0,2}$/.test(size) || Number(size) > MAX_PAGE_ROWS)
    throw new QueryError(`size: expected a number from 1 to ${MAX_PAGE_ROWS}`);
  const sort = single('sort', asked['sort']) ?? 'time';
  const order = ORDERS.find((name) => name === sort);
  if (order === undefined) throw new QueryError(`sort: expected one of ${ORDERS.join(', ')}`);
  return { ...(after === undefined ? {} : { after }), size: Number(size), order };
}

/** @throws QueryError */
export function groupingOf(request: FastifyRequest): 'signature' | 'pod' {
  const { by } = parameters(request);
  if (by !== 'signature' && by !== 'pod') throw new QueryError('by: expected signature or pod');
  return by;
}

export function isId(id: string): boolean {
  return ID.test(id);
}

/** @throws Refused */
export function credentialsOf(body: unknown): Credentials {
  const { token, username, password } = (body ?? {}) as Record<string, unknown>;
  if (typeof token === 'string' && token.trim() !== '' && token.length <= MAX_TOKEN) return { token: token.trim() };
  if (typeof username === 'string' && typeof password === 'string') return { username, password };
  throw new Refused(400, 'expected a token, or a user and a password');
}

/** Which alerts are marked: those with these ids, or those that a query selects. */
export interface MarkRequest {
  which: { ids: string[] } | { query: AlertQuery };
  /** What is done with them. */
  act: Omit<Act, 'at' | 'by'>;
}

const MAX_COMMENT = 2000;
const MAX_ASSIGNEE = 256;

/** @throws QueryError */
export function marksOf(body: unknown): MarkRequest {
  const { ids, query, until, ...said } = (body ?? {}) as Record<string, unknown>;
  const act = actOf(said);
  if (query !== undefined) return { which: { query: selectedBy(query, until) }, act };
  const valid = (id: unknown): id is string => typeof id === 'string' && isId(id);
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > MAX_MARKED || !ids.every(valid))
    throw new QueryError(`ids: expected 1 to ${MAX_MARKED} ids of alerts`);
  return { which: { ids: [...new Set(ids)] }, act };
}

/** @throws QueryError */
function actOf({ state, reason, comment, assignee }: Record<string, unknown>): MarkRequest['act'] {
  const wanted = oneOf('state', state, STATES);
  const why = oneOf('reason', reason, REASONS);
  const said = textOf('comment', comment, MAX_COMMENT);
  const whose = textOf('assignee', assignee, MAX_ASSIGNEE);
  if (wanted === undefined && said === undefined && whose === undefined)
    throw new QueryError(`state: expected one of ${STATES.join(', ')}; or a comment, or an assignee`);
  if (why !== undefined && wanted !== 'dismissed') throw new QueryError('reason: expected with the state dismissed');
  return {
    ...(wanted === undefined ? {} : { state: wanted }),
    ...(why === undefined ? {} : { reason: why }),
    ...(said === undefined || said === '' ? {} : { comment: said }),
    ...(whose === undefined ? {} : { assignee: whose }),
  };
}

function oneOf<T extends string>(name: string, value: unknown, known: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = known.find((one) => one === value);
  if (found === undefined) throw new QueryError(`${name}: expected one of ${known.join(', ')}`);
  return found;
}

function textOf(name: string, value: unknown, most: number): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value.length > most)
    throw new QueryError(`${name}: expected a text of at most ${most} characters`);
  return stripControls(value).trim();
}

/** @param until Inclusive: what came later was not seen by who asks. */
function selectedBy(query: unknown, until: unknown): AlertQuery {
  if (typeof query !== 'string' || query.length > MAX_QUERY_STRING)
    throw new QueryError('query: expected the parameters of a list, as in its address');
  const named: Record<string, string | string[]> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    const known = named[name];
    named[name] = known === undefined ? value : [known, value].flat();
  }
  const selected = parseQuery(named, Date.now());
  const last = parseTime('until', until);
  return last === undefined ? selected : { ...selected, to: Math.min(selected.to ?? Infinity, last + 1) };
}
