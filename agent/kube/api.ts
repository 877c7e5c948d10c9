/** What the rest of `agent/kube/` asks of an API server, and what it says when it can't. */

export type Verb = 'get' | 'list' | 'watch' | 'patch' | 'create';

export interface Query {
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  /** Objects in one answer, at most. */
  limit?: number;
  continue?: string;
}

/** The part of an API object's metadata that the agent reads. */
export interface Metadata {
  name: string;
  namespace?: string;
  uid: string;
  resourceVersion: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  generateName?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { kind: string; name: string; controller?: boolean }[];
}

export interface ApiObject {
  apiVersion?: string;
  kind?: string;
  metadata: Metadata;
}

export interface ApiList<T extends ApiObject> {
  metadata: { resourceVersion: string; continue?: string };
  items: T[];
}

export type WatchEvent<T extends ApiObject> =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: T }
  | { type: 'BOOKMARK'; object: { metadata: { resourceVersion: string } } };

/** An API server, as one identity sees it. Paths are of the form `/api/v1/pods`. */
export interface ApiClient {
  /** The server's address, for messages. */
  server: string;
  /** @throws ApiError for every failure. */
  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T>;
  /** POST of an object to its collection. @returns what the server made of it. */
  create<T>(path: string, object: object, signal?: AbortSignal): Promise<T>;
  /** JSON merge patch (RFC 7386); with `metadata.resourceVersion` in it, the server answers 409 when the object has changed. */
  mergePatch<T>(path: string, patch: object, signal?: AbortSignal): Promise<T>;
  /**
   * Watches from `query.resourceVersion` on, with bookmarks. Resolves when the server ends the watch as agreed.
   * @param onEvent Called for each event, in order.
   * @throws ApiError (status 410 when that version is gone; reason `Silent` when nothing, not even a bookmark, came for too long).
   */
  watch<T extends ApiObject>(
    path: string,
    query: Query,
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
    /** Called when the server has accepted the watch. */
    onOpen?: () => void,
  ): Promise<void>;
}

/** A request failed. The message names what was asked and what to do about it. */
export class ApiError extends Error {
  override name = 'ApiError';
  /** HTTP status, or that of a watch's error event; undefined when no answer came that can be used. */
  readonly status: number | undefined;
  /**
   * The server's `reason`, such as `Forbidden`; without a status: `Unreachable`, `Certificate` (no TLS), `Credentials` (they can't be read),
   * `Silent` (a watch), `Malformed` or `TooLarge` (an answer that can't be used), `Aborted` (by the signal).
   */
  readonly reason: string;
  constructor(message: string, status: number | undefined, reason: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
    this.reason = reason;
  }
}
