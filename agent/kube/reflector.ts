/**
 * Mirrors one collection of the API server: lists it, then watches it from there, for ever.
 *
 * What it holds is what the server held at some recent moment; while the server is away, it keeps what it has. Changes
 * of one key come in order: `added`, then `updated`, then `deleted`. An object that was deleted and made again under
 * its name (another UID) is `deleted`, then `added`, even if only the new one was ever seen. Every failure is followed
 * by another attempt, from the last version that was seen; when the server no longer has that version, everything is
 * listed again, and what is gone meanwhile is `deleted` then. States between two looks are not promised: only the last
 * one is.
 *
 * Where the objects are large and what is kept of them seldom changes, it watches metadata only, and reads the body of
 * an object where its metadata says that what is kept may be another. Where the server's tables have all of what is
 * kept, it reads no bodies at all.
 */
import { systemClock, type Clock } from '../files/clock.ts';
import {
  ApiError,
  type ApiClient,
  type ApiList,
  type ApiObject,
  type Metadata,
  type Query,
  type Row,
  type WatchEvent,
} from './api.ts';
import { readBodies, type Bodies } from './bodies.ts';

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

/** To watch metadata only. Done where the server gives each object a generation: otherwise all of each is watched. */
export interface ByMetadata<T> {
  /** Of one object. */
  pathOf: (metadata: Metadata) => string;
  /** What is kept of an object that has this metadata now; undefined: its body has to be read. The same: no change. */
  update: (metadata: Metadata, kept: T) => T | undefined;
}

export interface ReflectOptions<Api extends ApiObject, T> {
  client: ApiClient;
  /** Of the collection: `/api/v1/pods`. */
  path: string;
  query?: Pick<Query, 'labelSelector' | 'fieldSelector'>;
  /** What to keep of an object; undefined to keep nothing of it. */
  convert: (object: Api) => T | undefined;
  byMetadata?: ByMetadata<T>;
  /**
   * The object, as far as `convert` reads it, out of its row in a table; undefined: its body has to be read. With
   * `byMetadata` only.
   */
  fromRow?: (row: Row) => Api | undefined;
  /** Default: `<namespace>/<name>`, or the name of an object without namespace. */
  keyOf?: (object: Api) => string;
  onChange?: (change: Change<T>) => void;
  onState?: (state: ReflectorState) => void;
  /** `convert`, `keyOf`, `onChange` or `onState` threw; the next object follows. Default: a warning of the process. */
  onThrow?: (error: unknown) => void;
  backoff?: Partial<Backoff>;
  /** Objects in one answer, where the server has to read them from etcd. Default 500. */
  pageSize?: number;
  clock?: Pick<Clock, 'now' | 'wait'>;
  /** From 0 to 1. */
  random?: () => number;
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

interface State<Api extends ApiObject, T> {
  readonly options: ReflectOptions<Api, T>;
  readonly backoff: Backoff;
  readonly clock: Pick<Clock, 'now' | 'wait'>;
  readonly cache: Map<string, Entry<T>>;
  readonly stopping: AbortController;
  told: ReflectorState;
  /** Milliseconds before the next attempt. */
  pause: number;
  pageSize: number;
  /** The version to watch from; undefined when there has to be a list first. */
  version: string | undefined;
  /**
   * What a list must be as new as. `0` (any), and a version that was seen, are answered from the server's memory, in
   * one piece; without one, by page, and an old server reads the whole collection from etcd for that.
   */
  notOlderThan: string | undefined;
  /** The server sends them: kube-apiserver does, an API server that is aggregated to it need not. */
  bookmarks: boolean;
  watches: number;
  /** Each object that was listed has a generation. */
  haveGeneration: boolean;
  /** The server's tables have all of each object that is kept, as far as is known. */
  haveRows: boolean;
  setSynced(): void;
}

export function reflect<Api extends ApiObject, T>(options: ReflectOptions<Api, T>): Reflector<T> {
  const { clock = systemClock } = options;
  const backoff = { ...BACKOFF, ...options.backoff };
  const { promise: synced, resolve: setSynced } = deferred();
  const state: State<Api, T> = {
    options,
    backoff,
    clock,
    cache: new Map(),
    stopping: new AbortController(),
    told: { synced: false },
    pause: backoff.firstMillis,
    pageSize: options.pageSize ?? PAGE,
    version: undefined,
    notOlderThan: '0',
    bookmarks: false,
    watches: 0,
    haveGeneration: true,
    haveRows: true,
    setSynced,
  };
  void run(state);
  return {
    list: () => [...state.cache.values()].map(({ object }) => object),
    get: (key) => state.cache.get(key)?.object,
    synced,
    state: () => state.told,
    restarts: () => Math.max(0, state.watches - 1),
    stop: () => state.stopping.abort(),
  };
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

async function run<Api extends ApiObject, T>(state: State<Api, T>): Promise<void> {
  const { stopping, backoff, clock, options } = state;
  const { random = Math.random } = options;
  const { signal } = stopping;
  while (!signal.aborted) {
    const { failure, watched, age } = await followOnce(state);
    if (signal.aborted) break;
    if (age >= backoff.healthyMillis) state.pause = backoff.firstMillis;
    if (failure !== undefined) react(state, failure, watched);
    // The server ends watches from time to time. One that ends them at once is not asked at once again.
    else if (age >= backoff.firstMillis) continue;
    const longest = failure?.reason === 'Unreachable' ? backoff.unreachableMillis : backoff.lastMillis;
    const millis = Math.min(state.pause, longest);
    // A server that is back answers 401, 403 or 500 for a moment: the pause has not grown beyond `longest` by then.
    state.pause = Math.min(state.pause * 2, longest);
    await clock.wait(millis * (0.5 + random() / 2), signal);
  }
  state.setSynced();
}

/**
 * Lists where that is needed, and watches until that ends. @returns `age`: how long the watch was open, milliseconds.
 */
async function followOnce<Api extends ApiObject, T>(
  state: State<Api, T>,
): Promise<{ failure: ApiError | undefined; watched: boolean; age: number }> {
  let opened: number | undefined;
  let failure: ApiError | undefined;
  try {
    state.version ??= await list(state);
    state.watches++;
    await watch(state, state.version, () => {
      opened = state.clock.now();
      report(state, { synced: true });
    });
  } catch (error) {
    failure = error instanceof ApiError ? error : new ApiError(String(error), undefined, 'Failed', { cause: error });
  }
  const age = opened === undefined ? 0 : state.clock.now() - opened;
  return { failure, watched: opened !== undefined, age };
}

/** @param watched Whether it failed within a watch. */
function react<Api extends ApiObject, T>(state: State<Api, T>, failure: ApiError, watched: boolean): void {
  const { status, reason } = failure;
  if (state.version === undefined) {
    // 504: it does not reach that version, as when etcd was restored from a backup.
    if (status === 410 || status === 504 || reason === 'TooLarge') state.notOlderThan = undefined;
    if (reason === 'TooLarge') state.pageSize = Math.max(1, Math.floor(state.pageSize / 4));
  } else if (status === 410 || (watched && status !== undefined)) {
    // What the server says within a watch is about the version that it began with.
    state.version = undefined;
  }
  // Routine: a forgotten version; and a quiet watch, where the server has never sent a bookmark.
  if (status !== 410 && (reason !== 'Silent' || state.bookmarks)) report(state, { synced: state.told.synced, failure });
}

/** @returns the version to watch from. */
async function list<Api extends ApiObject, T>(state: State<Api, T>): Promise<string> {
  const { cache } = state;
  const listed = new Map<string, Entry<T> | undefined>();
  let more: string | undefined;
  let at: string;
  state.haveRows = true;
  do {
    const page = await getPage(state, more);
    at = page.metadata.resourceVersion;
    more = page.metadata.continue || undefined;
    for (const object of page.items) {
      read(state, object, (key, entry) => listed.set(key, entry));
      if (object.metadata.generation === undefined) state.haveGeneration = false;
    }
  } while (more !== undefined);
  for (const key of cache.keys()) if (!listed.has(key)) store(state, key, undefined);
  for (const [key, entry] of listed) store(state, key, entry);
  noteVersion(state, at);
  report(state, { synced: true });
  state.setSynced();
  return at;
}

/** @param more Of the page before. */
async function getPage<Api extends ApiObject, T>(
  state: State<Api, T>,
  more: string | undefined,
): Promise<ApiList<Api>> {
  const { options, notOlderThan, pageSize, stopping } = state;
  const { client, path, fromRow } = options;
  const query: Query = {
    ...options.query,
    // With a limit, a version would mean exactly that one, and be read from etcd.
    ...(notOlderThan === undefined || more !== undefined ? { limit: pageSize } : { resourceVersion: notOlderThan }),
    ...(more === undefined ? {} : { continue: more }),
  };
  if (fromRow !== undefined && state.haveRows) {
    const page = await client.get<ApiList<Api>>(path, { ...query, rows: true }, stopping.signal);
    const items = page.items.map((object) => (isRow(object) ? fromRow(object) : object));
    if (items.every((object) => object !== undefined)) return { ...page, items };
    state.haveRows = false;
  }
  return client.get(path, query, stopping.signal);
}

/** Where a server has no tables, objects come as they are. */
function isRow(object: ApiObject): object is Row {
  return 'columns' in object;
}

async function watch<Api extends ApiObject, T>(state: State<Api, T>, from: string, onOpen: () => void): Promise<void> {
  const { client, path, query, byMetadata, fromRow } = state.options;
  const lean = state.haveGeneration ? byMetadata : undefined;
  const rows = fromRow !== undefined && state.haveRows;
  const unread = new AbortController();
  const signal = AbortSignal.any([state.stopping.signal, unread.signal]);
  const bodies = readBodies<Api>({
    client,
    signal,
    onBody: (object) => read(state, object, (key, entry) => store(state, key, entry)),
    onFailure: () => unread.abort(),
  });
  const asked = { ...query, resourceVersion: from, ...(lean === undefined ? {} : { metadataOnly: true, rows }) };
  const onEvent = (event: WatchEvent<Api>): void => {
    if (!signal.aborted) take(state, event, lean, bodies);
  };
  try {
    await client.watch<Api>(path, asked, onEvent, signal, onOpen);
  } finally {
    // What was passed over is in no later event: everything is listed again.
    await bodies.done().catch((error: unknown) => {
      state.version = undefined;
      throw error;
    });
  }
}

function take<Api extends ApiObject, T>(
  state: State<Api, T>,
  { type, object }: WatchEvent<Api>,
  lean: ByMetadata<T> | undefined,
  bodies: Bodies,
): void {
  if (type === 'BOOKMARK') state.bookmarks = true;
  else if (type === 'DELETED') remove(state, object, bodies);
  else if (lean === undefined) read(state, object, (key, entry) => store(state, key, entry));
  else takeMetadata(state, object, lean, bodies);
  noteVersion(state, object.metadata.resourceVersion);
}

function remove<Api extends ApiObject, T>(state: State<Api, T>, object: Api, bodies: Bodies): void {
  const { keyOf = defaultKey } = state.options;
  guarded(state, () => {
    const key = keyOf(object);
    bodies.drop(key);
    store(state, key, undefined);
  });
}

function takeMetadata<Api extends ApiObject, T>(
  state: State<Api, T>,
  object: Api,
  lean: ByMetadata<T>,
  bodies: Bodies,
): void {
  const { keyOf = defaultKey } = state.options;
  const { metadata } = object;
  const { uid, resourceVersion: version } = metadata;
  guarded(state, () => {
    const key = keyOf(object);
    const before = state.cache.get(key);
    const kept = before?.uid === uid ? lean.update(metadata, before.object) : undefined;
    const whole = kept === undefined && isRow(object) ? state.options.fromRow?.(object) : undefined;
    if (kept !== undefined) store(state, key, { uid, version, object: kept });
    else if (whole === undefined) bodies.want(key, lean.pathOf(metadata), version);
    else read(state, whole, (_, entry) => store(state, key, entry));
  });
}

function noteVersion<Api extends ApiObject, T>(state: State<Api, T>, version: string): void {
  state.version = version;
  state.notOlderThan = version;
}

/** An object that can't be read changes nothing: what was known of it stays. */
function read<Api extends ApiObject, T>(
  state: State<Api, T>,
  object: Api,
  use: (key: string, entry: Entry<T> | undefined) => void,
): void {
  const { keyOf = defaultKey, convert } = state.options;
  guarded(state, () => {
    const key = keyOf(object);
    const { uid, resourceVersion } = object.metadata;
    let converted: T | undefined;
    try {
      converted = convert(object);
    } catch (error) {
      use(key, state.cache.get(key));
      throw error;
    }
    use(key, converted === undefined ? undefined : { uid, version: resourceVersion, object: converted });
  });
}

function store<Api extends ApiObject, T>(state: State<Api, T>, key: string, entry: Entry<T> | undefined): void {
  const { cache } = state;
  const before = cache.get(key);
  const same = before !== undefined && before.uid === entry?.uid;
  if (same && before.version === entry.version) return;
  if (before !== undefined && !same) {
    cache.delete(key);
    emit(state, { type: 'deleted', key, object: before.object });
  }
  if (entry === undefined) return;
  cache.set(key, entry);
  const { object } = entry;
  if (same && before.object === object) return;
  emit(state, same ? { type: 'updated', key, object, before: before.object } : { type: 'added', key, object });
}

function emit<Api extends ApiObject, T>(state: State<Api, T>, change: Change<T>): void {
  if (!state.stopping.signal.aborted) guarded(state, () => state.options.onChange?.(change));
}

function report<Api extends ApiObject, T>(state: State<Api, T>, next: ReflectorState): void {
  const { told, stopping, options } = state;
  const changed = next.synced !== told.synced || next.failure?.message !== told.failure?.message;
  state.told = next;
  if (changed && !stopping.signal.aborted) guarded(state, () => options.onState?.(next));
}

function guarded<Api extends ApiObject, T>({ options }: State<Api, T>, call: () => void): void {
  const { onThrow = (error) => process.emitWarning(error instanceof Error ? error : String(error)) } = options;
  try {
    call();
  } catch (error) {
    onThrow(error);
  }
}

function defaultKey({ metadata: { namespace, name } }: ApiObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}
