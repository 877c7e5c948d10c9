/**
 * An API server as one agent sees it: collections with versions, lists of them, and watches of what came since; and
 * what it does wrong at times.
 *
 * A list that may be of any version can be an old one, as from a follower's cache. A watch gets its events late, ends
 * when the server likes, and fails; what is older than the server's memory is 410. Versions never go back.
 */
import {
  ApiError,
  type ApiClient,
  type ApiList,
  type ApiObject,
  type Query,
  type WatchEvent,
} from '../../../agent/kube/api.ts';
import type { ResourceStatus } from '../../../agent/kube/resources.ts';
import type { VirtualClock } from '../clock.ts';

/**
 * `away`: no connection. `refusing`: 401, 403 or 500 of some requests. `ending`: watches end soon. `forgetting`: of the
 * past it knows only the last moments. `deaf`: nothing comes of watches.
 */
export type Mood = 'well' | 'away' | 'refusing' | 'ending' | 'forgetting' | 'deaf';
export const MOODS: readonly [Mood, ...Mood[]] = ['well', 'well', 'away', 'refusing', 'ending', 'forgetting', 'deaf'];
const LATENCY_MILLIS = 200;
const BOOKMARK_MILLIS = 60_000;
/** After which a watch is silent, as client.ts says it. */
const SILENT_MILLIS = 150_000;

export interface ApiServer {
  client: ApiClient;
  mood: Mood;
  /** Which paths of collections there are, and discoveries. */
  serves(path: string, is: boolean): void;
  put(collection: string, object: ApiObject): void;
  remove(collection: string, key: string): void;
  keys(collection: string): string[];
  requests(): number;
  /** It forgets all of the past, as etcd does when it is compacted: who watched from before has to list again. */
  compact(): void;
  /** Who watched is gone. */
  hangUp(): void;
  /** An object, by its path, without failing: for the oracle. */
  peek(path: string): (ApiObject & { status?: ResourceStatus }) | undefined;
}

interface Change {
  version: number;
  collection: string;
  key: string;
  /** Absent where it was deleted. */
  object: ApiObject | undefined;
  /** The last that was there. */
  last: ApiObject;
}

interface State {
  readonly clock: VirtualClock;
  readonly random: () => number;
  readonly served: Set<string>;
  readonly changes: Change[];
  version: number;
  mood: Mood;
  requests: number;
  /** The oldest version that is known. */
  compacted: number;
  /** Watches that wait for something to tell. */
  waiting: Set<() => void>;
  /** Clients so far: what a former one waits for does not come. */
  clients: number;
}

export function createApiServer(clock: VirtualClock, random: () => number): ApiServer {
  const state: State = {
    clock,
    random,
    served: new Set(),
    changes: [],
    version: 1,
    mood: 'well',
    requests: 0,
    compacted: 0,
    waiting: new Set(),
    clients: 1,
  };
  const refuse = async (): Promise<never> => {
    throw new ApiError('not simulated', 405, 'MethodNotAllowed');
  };
  return Object.assign(
    {
      client: {
        server: 'https://simulated',
        get: <T>(path: string, query?: Query, signal?: AbortSignal) =>
          get(state, path, query ?? {}, signal) as Promise<T>,
        watch: (path, query, onEvent, signal, onOpen) =>
          watch(state, path, query, onEvent as (event: WatchEvent<ApiObject>) => void, signal, onOpen),
        mergePatch: <T>(path: string, patch: object) => mergePatch(state, path, patch) as Promise<T>,
        create: refuse,
        apply: refuse,
        remove: refuse,
      } satisfies ApiClient,
      serves(path: string, is: boolean) {
        if (is) state.served.add(path);
        else state.served.delete(path);
        wake(state);
      },
      put: (collection: string, object: ApiObject) => put(state, collection, object),
      remove: (collection: string, key: string) => note(state, collection, key, undefined),
      keys: (collection: string) => [...stateAt(state, collection, state.version).keys()],
      requests: () => state.requests,
      compact: () => void (state.compacted = state.version),
      hangUp() {
        state.waiting.clear();
        state.clients += 1;
      },
      peek: (path: string) => objectAt(state, path),
    },
    {
      get mood() {
        return state.mood;
      },
      set mood(mood: Mood) {
        state.mood = mood;
        wake(state);
      },
    },
  );
}

const keyOf = ({ metadata: { namespace, name } }: ApiObject): string => `${namespace}/${name}`;

/** A status that is there stays, as others write it. */
function put(state: State, collection: string, object: ApiObject): void {
  const key = keyOf(object);
  const before = stateAt(state, collection, state.version).get(key);
  note(state, collection, key, before?.metadata.uid === object.metadata.uid ? { ...before, ...object } : object);
}

function note(state: State, collection: string, key: string, object: ApiObject | undefined): void {
  const last = stateAt(state, collection, state.version).get(key);
  if (object === undefined && last === undefined) return;
  const version = ++state.version;
  const stored = object && { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
  const seen = stored ?? last;
  if (seen === undefined) return;
  state.changes.push({ version, collection, key, object: stored, last: seen });
  wake(state);
}

/** Watches look for what to tell, in a moment. */
function wake({ clock, random, waiting }: State): void {
  for (const look of waiting) clock.outside(20 + random() * LATENCY_MILLIS, look);
}

function stateAt({ changes }: State, collection: string, version: number): Map<string, ApiObject> {
  const objects = new Map<string, ApiObject>();
  for (const change of changes) {
    if (change.version > version || change.collection !== collection) continue;
    if (change.object === undefined) objects.delete(change.key);
    else objects.set(change.key, change.object);
  }
  return objects;
}

async function get(state: State, path: string, query: Query, signal?: AbortSignal): Promise<unknown> {
  await answer(state, signal);
  if (/^\/apis\/[^/]+\/[^/]+$/.test(path)) {
    if (!state.served.has(path)) throw new ApiError('not found', 404, 'NotFound');
    return { resources: [{ name: 'deeppacketinspections' }] };
  }
  if (path.includes('/namespaces/')) {
    const object = objectAt(state, path);
    if (object === undefined) throw new ApiError('not found', 404, 'NotFound');
    return object;
  }
  if (!isServed(state, path)) throw new ApiError('not found', 404, 'NotFound');
  return list(state, path, query);
}

/** @param path Of an object, or of its status. */
function placeOf(path: string): { collection: string; key: string } {
  const [, group = '', namespace = '', resource = '', name = ''] =
    /^(.*)\/namespaces\/([^/]+)\/([^/]+)\/([^/]+)/.exec(path) ?? [];
  return { collection: `${group}/${resource}`, key: `${namespace}/${name}` };
}

function objectAt(state: State, path: string): ApiObject | undefined {
  const { collection, key } = placeOf(path);
  return isServed(state, collection) ? stateAt(state, collection, state.version).get(key) : undefined;
}

function isServed({ served }: State, path: string): boolean {
  return !path.startsWith('/apis/') || served.has(path.replace(/\/[^/]+$/, ''));
}

/** Latency, and what the server's mood is. @throws ApiError */
async function answer(state: State, signal?: AbortSignal): Promise<void> {
  const { clock, random } = state;
  state.requests += 1;
  await clock.wait(random() * LATENCY_MILLIS, signal ?? new AbortController().signal);
  if (signal?.aborted === true) throw new ApiError('aborted', undefined, 'Aborted');
  if (state.mood === 'away') throw new ApiError('no connection', undefined, 'Unreachable');
  if (state.mood === 'refusing' && random() < 0.5) {
    const status = [401, 403, 500][Math.floor(random() * 3)] ?? 500;
    throw new ApiError('refused', status, 'Refused');
  }
}

/** A page of it; `continue` has its version, and where it goes on. */
function list(state: State, path: string, { limit, continue: more, resourceVersion }: Query): ApiList<ApiObject> {
  const { random, version: newest } = state;
  const [at, from] = more === undefined ? [undefined, 0] : (more.split(' ').map(Number) as [number, number]);
  if (at !== undefined && at < oldest(state)) throw new ApiError('too old', 410, 'Expired');
  // Any version will do, or one as new as that.
  const least = resourceVersion === undefined ? newest : Number(resourceVersion);
  const version = at ?? Math.max(least, Math.round(newest - random() * random() * (newest - oldest(state))));
  if (least > newest) throw new ApiError('too large resource version', 504, 'Timeout');
  const objects = [...stateAt(state, path, version).values()];
  const items = limit === undefined ? objects : objects.slice(from, from + limit);
  const isMore = limit !== undefined && from + limit < objects.length;
  return {
    metadata: { resourceVersion: String(version), ...(isMore ? { continue: `${version} ${from + limit}` } : {}) },
    items,
  };
}

/** The version before the first change that it remembers. */
function oldest({ mood, version, compacted }: State): number {
  return Math.max(compacted, version - (mood === 'forgetting' ? 2 : 8));
}

async function watch(
  state: State,
  path: string,
  { resourceVersion }: Query,
  onEvent: (event: WatchEvent<ApiObject>) => void,
  signal: AbortSignal,
  onOpen?: () => void,
): Promise<void> {
  const { clock, random } = state;
  await answer(state, signal);
  if (!isServed(state, path)) throw new ApiError('not found', 404, 'NotFound');
  let sent = Number(resourceVersion);
  onOpen?.();
  if (sent < oldest(state)) throw new ApiError('too old', 410, 'Expired');
  const ends = clock.now() + (state.mood === 'ending' ? random() * 2000 : 300_000 + random() * 300_000);
  let heard = clock.now();
  let bookmark = clock.now() + BOOKMARK_MILLIS;
  while (clock.now() < ends) {
    await pause(state, Math.min(ends, bookmark, heard + SILENT_MILLIS) - clock.now(), signal);
    if (signal.aborted) throw new ApiError('aborted', undefined, 'Aborted');
    if (!isServed(state, path)) return;
    if (state.mood === 'away') throw new ApiError('connection lost', undefined, 'Unreachable');
    if (clock.now() - heard >= SILENT_MILLIS) throw new ApiError('silent', undefined, 'Silent');
    if (clock.now() >= bookmark) bookmark = clock.now() + BOOKMARK_MILLIS;
    else if (!hasNews(state, path, sent)) continue;
    if (state.mood === 'deaf') continue;
    heard = clock.now();
    if (sent < oldest(state)) throw new ApiError('too old', 410, 'Expired');
    for (const change of state.changes) {
      if (change.version <= sent || change.collection !== path) continue;
      sent = change.version;
      onEvent(eventOf(state, change));
      if (random() < 0.3) break;
    }
    if (hasNews(state, path, sent)) {
      // The rest comes in a moment, once it waits.
      clock.outside(20 + random() * LATENCY_MILLIS, () => wake(state));
      continue;
    }
    sent = state.version;
    onEvent({ type: 'BOOKMARK', object: { metadata: { resourceVersion: String(sent) } } });
  }
}

function hasNews({ changes }: State, path: string, since: number): boolean {
  return changes.some(({ version, collection }) => version > since && collection === path);
}

/** Until there may be something to tell. */
function pause(state: State, millis: number, signal: AbortSignal): Promise<void> {
  const { clock, waiting, clients } = state;
  return new Promise((resolve) => {
    const end = (): void => {
      if (state.clients !== clients) return;
      waiting.delete(end);
      callOff();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const callOff = clock.after(millis, end);
    waiting.add(end);
    signal.addEventListener('abort', end, { once: true });
  });
}

function eventOf(state: State, { version, collection, key, object, last }: Change): WatchEvent<ApiObject> {
  if (object === undefined)
    return { type: 'DELETED', object: { ...last, metadata: { ...last.metadata, resourceVersion: String(version) } } };
  const before = stateAt(state, collection, version - 1).get(key);
  return { type: before === undefined ? 'ADDED' : 'MODIFIED', object };
}

/** Of a status. */
async function mergePatch(state: State, path: string, patch: object): Promise<unknown> {
  await answer(state);
  const object = objectAt(state, path);
  if (object === undefined) throw new ApiError('not found', 404, 'NotFound');
  const { metadata, ...fields } = patch as { metadata?: { resourceVersion?: string } };
  if (metadata?.resourceVersion !== undefined && metadata.resourceVersion !== object.metadata.resourceVersion)
    throw new ApiError('conflict', 409, 'Conflict');
  const next = { ...object, ...fields };
  const { collection, key } = placeOf(path);
  note(state, collection, key, next);
  return next;
}
