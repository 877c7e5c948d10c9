/**
 * Whether who asks is an agent: a pod of the agents' service accounts, by a token for the audience of who is asked (TokenReview).
 *
 * That a token is good holds for ten minutes, so that 5,000 nodes are eight questions a second to the API server; that
 * it is not, for one. When the API server does not answer, nobody whose token is not remembered gets anything. Bounded:
 * tokens that are remembered, and questions at the same time.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import pLimit from 'p-limit';
import type { ApiClient } from './api.ts';
import { list, record, text } from './fields.ts';
import { stripControls } from '../text.ts';

const GOOD_MILLIS = 600_000;
const BAD_MILLIS = 60_000;
const TOKENS = 10_000;
const PARALLEL = 16;
const MAX_WAITING = 256;
const MAX_TOKEN = 16_384;
/** By https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#token-details */
const NODE = 'authentication.kubernetes.io/node-name';

export type Caller =
  | { is: 'agent'; node?: string }
  /** Its token is not good here. */
  | { is: 'unknown'; why: string }
  /** It is somebody else. */
  | { is: 'other'; name: string };

/** Too many ask at the same time. */
export class BusyError extends Error {}

export interface AccessOptions {
  audience: string;
  /** `<namespace>/<name>` */
  serviceAccounts: readonly string[];
  now?: () => number;
}

/** @returns what tells whose token it is. @throws ApiError, BusyError */
export function createAccess(client: ApiClient, options: AccessOptions): (token: string) => Promise<Caller> {
  const { now = () => performance.now() } = options;
  const limit = pLimit(PARALLEL);
  const good = new LRUCache<string, { until: number; caller: Caller }>({ max: TOKENS });
  // Apart: made-up tokens do not push real ones out.
  const bad = new LRUCache<string, { until: number; caller: Caller }>({ max: TOKENS });
  const asking = new Map<string, Promise<Caller>>();

  function ask(key: string, token: string): Promise<Caller> {
    if (limit.pendingCount >= MAX_WAITING) throw new BusyError('too many tokens are looked at: try again');
    const answer = limit(async () => {
      const caller = await review(client, token, options);
      const isGood = caller.is === 'agent';
      (isGood ? good : bad).set(key, { until: now() + (isGood ? GOOD_MILLIS : BAD_MILLIS), caller });
      return caller;
    });
    const done = answer.finally(() => asking.delete(key));
    asking.set(key, done);
    return done;
  }

  return async (token) => {
    if (token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) return { is: 'unknown', why: 'it is no token' };
    const key = createHash('sha256').update(token).digest('base64');
    const known = good.get(key) ?? bad.get(key);
    if (known !== undefined && known.until > now()) return known.caller;
    return asking.get(key) ?? ask(key, token);
  };
}

async function review(client: ApiClient, token: string, options: AccessOptions): Promise<Caller> {
  const { audience, serviceAccounts } = options;
  const answer = await client.create('/apis/authentication.k8s.io/v1/tokenreviews', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: [audience] },
  });
  const status = record(record(answer)['status']);
  if (status['authenticated'] !== true) return { is: 'unknown', why: reasonOf(text(status['error']), token, audience) };
  // An API server that knows no audiences leaves them out.
  if (!list(status['audiences']).includes(audience))
    return { is: 'unknown', why: `it is not for the audience ${audience}` };
  const user = record(status['user']);
  const name = text(user['username']);
  if (!serviceAccounts.some((account) => name === `system:serviceaccount:${account.replace('/', ':')}`))
    return { is: 'other', name: stripControls(name.slice(0, 300)) };
  const [node] = list(record(user['extra'])[NODE]);
  return { is: 'agent', ...(typeof node === 'string' && node !== '' ? { node } : {}) };
}

/** The API server names the audiences that the token has, and so far never the token. */
function reasonOf(error: string, token: string, audience: string): string {
  const said = stripControls(error.replaceAll(token, '***').slice(0, 300));
  return `the API server does not know it for the audience ${audience}${said === '' ? '' : `: ${said}`}`;
}
