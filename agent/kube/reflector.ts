/**
 * Mirrors one collection of the API server: lists it, then watches it from there, for ever.
 *
 * What it holds is what the server held at some recent moment; while the server is away, it keeps what it has. Changes
 * of one key come in order: `added`, then `updated`, then `deleted`. An object that was deleted and made again under
 * its name (another UID) is `deleted`, then `added`, even if only the new one was ever seen. Every failure is followed
 * by another attempt, from the last version that was seen; when the server no longer has that version, everything is
 * listed again, and what is gone meanwhile is `deleted` then. States between two looks are not promised: only the last
 * one is.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError, type ApiClient, type ApiList, type ApiObject, type Query } from './api.ts';

const PAGE = 500;

export type Change<T> =
  | { type: 'added'; key: string; object: T }
  | { type: 'updated'; key: string; object: T; before: T }
  /** `object` is the last that was seen. */
  | { type: 'deleted'; key: string; object: T };

export interface ReflectorState {
  /** A complete list was read, at some time. */
  synced: boolean;
  /** Why it does not follow at the moment; undefined while it does, or is about to. */
  failure?: ApiError;
}

export interface Backoff {
  /** Pause after the first failure; doubled with each further one. Each pause is a random 50 to 100 % of that. */
  firstMillis: number;
  lastMillis: number;
  /**
   * The longest pause when the server can't be reached: asking costs it nothing then, and it shall be followed soon
   * after it is back.
   */
  unreachableMillis: number;
  /** A watch of that age is healthy: the next pause is the first again. */
  healthyMillis: number;
}

const BACKOFF: Backoff = { firstMillis: 500, lastMillis: 30_000, unreachableMillis: 2_000, healthyMillis: 10_000 };

export interface ReflectOptions<Api extends ApiObject, T> {
  client: ApiClient;
  /** Of the collection: `/api/v1/pods`. */
  path: string;
  query?: Pick<Query, 'labelSelector' | 'fieldSelector'>;
  /** What to keep of an object; undefined to keep nothing of it. */
  convert: (object: Api) => T | undefined;
  /** Default: `<namespace>/<name>`, or the name of an object without namespace. */
  keyOf?: (object: Api) => string;
  onChange?: (change: Change<T>) => void;
  onState?: (state: ReflectorState) => void;
  /** `convert`, `keyOf`, `onChange` or `onState` threw; the next object follows. Default: a warning of the process. */
  onThrow?: (error: unknown) => void;
  backoff?: Partial<Backoff>;
  /** Objects in one answer, where the server has to read them from etcd. Default 500. */
  pageSize?: number;
}

export interface Reflector<T> {
  list: () => T[];
  get: (key: string) => T | undefined;
  /** Resolves after the first complete list, and also when it is stopped before. Never rejects. */
  synced: Promise<void>;
  state: () => ReflectorState;
  /** How often it had to watch again. */
  restarts: () => number;
  /** Ends its requests. No change comes after the call. */
  stop: () => void;
}

interface Entry<T> {
  uid: string;
  version: string;
  object: T;
}

export function reflect<Api extends ApiObject, T>(options: ReflectOptions<Api, T>): Reflector<T> {
  const { client, path, query = {}, convert, keyOf = defaultKey } = options;
  const onThrow = options.onThrow ?? ((error) => process.emitWarning(error instanceof Error ? error : String(error)));
  const backoff = { ...BACKOFF, ...options.backoff };
  const cache = new Map<string, Entry<T>>();
  const stopping = new AbortController();
  const { signal } = stopping;
  let state: ReflectorState = { synced: false };
  let pause = backoff.firstMillis;
  let pageSize = options.pageSize ?? PAGE;
  /** The version to watch from; undefined when there has to be a list first. */
  let version: string | undefined;
  /**
   * What a list must be as new as. `0` (any), and a version that was seen, are answered from the server's memory, in
   * one piece; without one, by page, and an old server reads the whole collection from etcd for that.
   */
  let notOlderThan: string | undefined = '0';
  /** The server sends them: kube-apiserver does, an API server that is aggregated to it need not. */
  let bookmarks = false;
  let watches = 0;
  let setSynced = (): void => undefined;
  const synced = new Promise<void>((resolve) => {
    setSynced = resolve;
  });
  void run();

  async function run(): Promise<void> {
    while (!signal.aborted) {
      let opened: number | undefined;
      let failure: ApiError | undefined;
      try {
        version ??= await list();
        watches++;
        await watch(version, () => {
          opened = performance.now();
          report({ synced: true });
        });
      } catch (error) {
        failure =
          error instanceof ApiError ? error : new ApiError(String(error), undefined, 'Failed', { cause: error });
      }
      if (signal.aborted) break;
      const age = opened === undefined ? 0 : performance.now() - opened;
      if (age >= backoff.healthyMillis) pause = backoff.firstMillis;
      if (failure !== undefined) react(failure, opened !== undefined);
      // The server ends watches from time to time. One that ends them at once is not asked at once again.
      else if (age >= backoff.firstMillis) continue;
      const longest = failure?.reason === 'Unreachable' ? backoff.unreachableMillis : backoff.lastMillis;
      const millis = Math.min(pause, longest);
      // A server that is back answers 401, 403 or 500 for a moment: the pause has not grown beyond `longest` by then.
      pause = Math.min(pause * 2, longest);
      await sleep(millis * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
    setSynced();
  }

  function react(failure: ApiError, watched: boolean): void {
    const { status, reason } = failure;
    if (version === undefined) {
      // 504: it does not reach that version, as when etcd was restored from a backup.
      if (status === 410 || status === 504 || reason === 'TooLarge') notOlderThan = undefined;
      if (reason === 'TooLarge') pageSize = Math.max(1, Math.floor(pageSize / 4));
    } else if (status === 410 || (watched && status !== undefined)) {
      // What the server says within a watch is about the version that it began with.
      version = undefined;
    }
    // Routine: a forgotten version; and a quiet watch, where the server has never sent a bookmark.
    if (status !== 410 && (reason !== 'Silent' || bookmarks)) report({ synced: state.synced, failure });
  }

  /** @returns the version to watch from. */
  async function list(): Promise<string> {
    const listed = new Map<string, Entry<T> | undefined>();
    let more: string | undefined;
    let at: string;
    do {
      const page: ApiList<Api> = await client.get(
        path,
        {
          ...query,
          // With a limit, a version would mean exactly that one, and be read from etcd.
          ...(notOlderThan === undefined || more !== undefined
            ? { limit: pageSize }
            : { resourceVersion: notOlderThan }),
          ...(more === undefined ? {} : { continue: more }),
        },
        signal,
      );
      at = page.metadata.resourceVersion;
      more = page.metadata.continue || undefined;
      for (const object of page.items) read(object, (key, entry) => listed.set(key, entry));
    } while (more !== undefined);
    for (const key of cache.keys()) if (!listed.has(key)) store(key, undefined);
    for (const [key, entry] of listed) store(key, entry);
    seen(at);
    report({ synced: true });
    setSynced();
    return at;
  }

  function watch(from: string, onOpen: () => void): Promise<void> {
    return client.watch<Api>(
      path,
      { ...query, resourceVersion: from },
      (event) => {
        if (signal.aborted) return;
        if (event.type === 'BOOKMARK') bookmarks = true;
        else if (event.type === 'DELETED') read(event.object, (key) => store(key, undefined));
        else read(event.object, store);
        seen(event.object.metadata.resourceVersion);
      },
      signal,
      onOpen,
    );
  }

  function seen(at: string): void {
    version = at;
    notOlderThan = at;
  }

  /** An object that can't be read changes nothing: what was known of it stays. */
  function read(object: Api, use: (key: string, entry: Entry<T> | undefined) => void): void {
    guarded(() => {
      const key = keyOf(object);
      const { uid, resourceVersion } = object.metadata;
      let converted: T | undefined;
      try {
        converted = convert(object);
      } catch (error) {
        use(key, cache.get(key));
        throw error;
      }
      use(key, converted === undefined ? undefined : { uid, version: resourceVersion, object: converted });
    });
  }

  function store(key: string, entry: Entry<T> | undefined): void {
    const before = cache.get(key);
    const same = before !== undefined && before.uid === entry?.uid;
    if (same && before.version === entry.version) return;
    if (before !== undefined && !same) {
      cache.delete(key);
      emit({ type: 'deleted', key, object: before.object });
    }
    if (entry === undefined) return;
    cache.set(key, entry);
    emit(
      same
        ? { type: 'updated', key, object: entry.object, before: before.object }
        : { type: 'added', key, object: entry.object },
    );
  }

  function emit(change: Change<T>): void {
    if (!signal.aborted) guarded(() => options.onChange?.(change));
  }

  function report(next: ReflectorState): void {
    const changed = next.synced !== state.synced || next.failure?.message !== state.failure?.message;
    state = next;
    if (changed && !signal.aborted) guarded(() => options.onState?.(next));
  }

  function guarded(call: () => void): void {
    try {
      call();
    } catch (error) {
      onThrow(error);
    }
  }

  return {
    list: () => [...cache.values()].map(({ object }) => object),
    get: (key) => cache.get(key)?.object,
    synced,
    state: () => state,
    restarts: () => Math.max(0, watches - 1),
    stop: () => stopping.abort(),
  };
}

function defaultKey({ metadata: { namespace, name } }: ApiObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}
