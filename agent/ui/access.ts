/**
 * Who may see what. An alert belongs to the namespace of its DeepPacketInspection, and is shown to who may see that
 * one.
 *
 *   none        everybody who reaches the page, which then listens on loopback only
 *   password    users of a file; each sees all
 *   kubernetes  whoever has a token of the cluster (TokenReview). Seeing takes `list` on deeppacketinspections in the
 *               namespace; acknowledging and dismissing takes `update` on deeppacketinspections/alerts there, which
 *               only RBAC knows; the selector dry run `list` on pods; tuning `update` on the ConfigMap that it is
 *               kept in (SubjectAccessReview)
 *
 * Answers of the API server hold for a minute. When it does not answer, nobody sees anything.
 */
import { LRUCache } from 'lru-cache';
import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import type { ApiClient } from '../kube/api.ts';
import { ApiError } from '../kube/api.ts';
import { discoverResourceApi } from '../kube/resources.ts';
import { fields, text } from './row.ts';
import type { Scope } from './query.ts';
import type { PasswordFile } from './passwords.ts';

const KEEP_MILLIS = 60_000;
/** Reviews that are asked for at once. */
const PARALLEL = 16;
const REVIEWS = 10_000;
const RESOURCE = 'deeppacketinspections';
const CORE: ReadonlySet<string> = new Set(['pods', 'configmaps']);

export interface User {
  name: string;
  /** Namespaces whose alerts it may see. */
  readable(): Promise<Scope>;
  /** @param namespace All, if none is given. */
  mayMark(namespace?: string): Promise<boolean>;
  mayListPods(namespace: string): Promise<boolean>;
  /** Whether it may change what makes alerts fewer, of all namespaces. */
  mayTune(): Promise<boolean>;
}

export interface Access {
  mode: 'none' | 'password' | 'kubernetes';
  /** @returns undefined when the credentials are wrong. */
  signIn(credentials: Credentials): Promise<User | undefined>;
  /** Whether who signed in with these may still see anything. */
  stillValid(credentials: Credentials): Promise<boolean>;
  /**
   * Whether this token was right when it was last looked at. Nobody guesses one, so it may be looked at again whatever
   * else its sender sends.
   */
  wasValid(credentials: Credentials): boolean;
}

export type Credentials = { token: string } | { username: string; password: string };

function everything(name: string): User {
  const yes = (): Promise<boolean> => Promise.resolve(true);
  return { name, readable: () => Promise.resolve('all'), mayMark: yes, mayListPods: yes, mayTune: yes };
}

/** Who asks where there is no access control. */
export const ANYBODY: User = everything('local');

export const openAccess: Access = {
  mode: 'none',
  signIn: () => Promise.resolve(ANYBODY),
  stillValid: () => Promise.resolve(true),
  wasValid: () => false,
};

export function passwordAccess(file: PasswordFile): Access {
  return {
    mode: 'password',
    async signIn(credentials) {
      if (!('password' in credentials)) return undefined;
      const { username, password } = credentials;
      return (await file.verify(username, password)) ? everything(username) : undefined;
    },
    // A changed password, or a removed user, ends the session.
    stillValid: (credentials) =>
      'password' in credentials ? file.has(credentials.username, credentials.password) : Promise.resolve(false),
    // Passwords can be guessed.
    wasValid: () => false,
  };
}

interface Reviewed {
  name: string;
  uid: string;
  groups: string[];
  extra: Record<string, unknown>;
}

interface Cluster {
  readonly client: ApiClient;
  readonly policy: { namespace: string; name: string } | undefined;
  readonly tokens: Memory<Reviewed | undefined>;
  /** Digests of tokens that were right when last asked about. */
  readonly right: LRUCache<string, true>;
  readonly group: Memory<string>;
  readonly namespaces: Memory<string[]>;
  readonly allowed: Memory<boolean>;
}

/** @param policy The ConfigMap with what makes alerts fewer: who may update it may tune. */
export function kubernetesAccess(
  client: ApiClient,
  now: () => number = () => performance.now(),
  policy?: { namespace: string; name: string },
): Access {
  const cluster: Cluster = {
    client,
    policy,
    tokens: createMemory(now),
    right: new LRUCache({ max: REVIEWS }),
    group: createMemory(now),
    namespaces: createMemory(now),
    allowed: createMemory(now),
  };
  return {
    mode: 'kubernetes',
    async signIn(credentials) {
      if (!('token' in credentials)) return undefined;
      const reviewed = await review(cluster, credentials.token);
      return reviewed === undefined ? undefined : userOf(cluster, reviewed);
    },
    async stillValid(credentials) {
      return 'token' in credentials && (await review(cluster, credentials.token)) !== undefined;
    },
    wasValid: (credentials) => 'token' in credentials && cluster.right.has(digestOf(credentials.token)),
  };
}

function userOf(cluster: Cluster, reviewed: Reviewed): User {
  return {
    name: reviewed.name,
    readable: () => readableBy(cluster, reviewed),
    mayMark: (namespace) => may(cluster, reviewed, 'update', `${RESOURCE}/alerts`, namespace),
    mayListPods: (namespace) => may(cluster, reviewed, 'list', 'pods', namespace),
    async mayTune() {
      const { policy } = cluster;
      if (policy === undefined) return false;
      return may(cluster, reviewed, 'update', 'configmaps', policy.namespace, policy.name);
    },
  };
}

function review({ client, tokens, right }: Cluster, token: string): Promise<Reviewed | undefined> {
  return tokens(token, async () => {
    const answer = await client.create('/apis/authentication.k8s.io/v1/tokenreviews', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token },
    });
    const status = fields(fields(answer)['status']);
    if (status['authenticated'] !== true) {
      right.delete(digestOf(token));
      return undefined;
    }
    const user = fields(status['user']);
    const groups = Array.isArray(user['groups']) ? user['groups'].filter((group) => typeof group === 'string') : [];
    right.set(digestOf(token), true);
    return { name: text(user['username']), uid: text(user['uid']), groups, extra: fields(user['extra']) };
  });
}

async function readableBy(cluster: Cluster, reviewed: Reviewed): Promise<Scope> {
  const { client, namespaces } = cluster;
  if (await may(cluster, reviewed, 'list', RESOURCE)) return 'all';
  const all = await namespaces('', async () => {
    const { items } = await client.get<{ items: { metadata: { name: string } }[] }>('/api/v1/namespaces');
    return items.map(({ metadata }) => metadata.name);
  });
  const limit = pLimit(PARALLEL);
  try {
    const answers = await limit.map(all, (namespace) => may(cluster, reviewed, 'list', RESOURCE, namespace));
    return new Set(all.filter((_, index) => answers[index] === true));
  } finally {
    // Once one fails, no more are asked for.
    limit.clearQueue();
  }
}

function may(
  cluster: Cluster,
  { name, uid, groups, extra }: Reviewed,
  verb: string,
  resource: string,
  namespace?: string,
  object?: string,
): Promise<boolean> {
  const key = JSON.stringify([name, uid, groups, extra, verb, resource, namespace, object]);
  return cluster.allowed(key, async () => {
    const [collection = '', subresource] = resource.split('/');
    const resourceAttributes = {
      verb,
      group: CORE.has(collection) ? '' : await groupOf(cluster),
      resource: collection,
      ...(subresource === undefined ? {} : { subresource }),
      ...(namespace === undefined ? {} : { namespace }),
      ...(object === undefined ? {} : { name: object }),
    };
    const answer = await cluster.client.create('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user: name, uid, groups, extra, resourceAttributes },
    });
    return fields(fields(answer)['status'])['allowed'] === true;
  });
}

/** Of the resources. */
function groupOf({ client, group }: Cluster): Promise<string> {
  return group('', async () => ((await discoverResourceApi(client)) ?? 'projectcalico.org/v3').split('/')[0] ?? '');
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('base64');
}

/** What is known of a key for a minute; who asks meanwhile waits for the same answer. What fails is not kept. */
type Memory<T> = (key: string, ask: () => Promise<T>) => Promise<T>;

function createMemory<T>(now: () => number): Memory<T> {
  const known = new LRUCache<string, { until: number; answer: Promise<T> }>({ max: REVIEWS });
  return (key, ask) => {
    const cached = known.get(key);
    if (cached !== undefined && cached.until > now()) return cached.answer;
    const answer = ask();
    known.set(key, { until: now() + KEEP_MILLIS, answer });
    answer.catch(() => known.delete(key));
    return answer;
  };
}

/** For who sees that the API server did not answer. */
export function accessProblem(error: unknown): string | undefined {
  return error instanceof ApiError ? `Your rights can't be looked up: ${error.message}` : undefined;
}
