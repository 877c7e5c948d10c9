/** What the rest of `agent/kube/` asks of an API server, and what it says when it can't. */

export type Verb = 'get' | 'list' | 'watch' | 'patch' | 'create' | 'delete';

/** What RBAC decides on. */
export interface Right {
  verb: Verb;
  /** Empty for the core group. */
  group: string;
  /** With the subresource: `deeppacketinspections/status`. */
  resource: string;
}

export interface Query {
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  /** Objects in one answer, at most. */
  limit?: number;
  continue?: string;
  /** Objects come with their metadata only, where the server can do that; with all they have, where it can't. */
  metadataOnly?: boolean;
  /** Objects come as `Row`, where the server can do that; with all they have, where it can't. */
  rows?: boolean;
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
  managedFields?: ManagedFields[];
  ownerReferences?: { kind: string; name: string; controller?: boolean }[];
}

/** Which fields somebody set: kubernetes.io/docs/reference/using-api/server-side-apply. */
export interface ManagedFields {
  manager?: string;
  operation?: 'Apply' | 'Update';
  subresource?: string;
  apiVersion?: string;
  time?: string;
  fieldsType?: string;
  fieldsV1?: FieldSet;
}

export interface FieldSet {
  [field: string]: FieldSet;
}

export interface ApiObject {
  apiVersion?: string;
  kind?: string;
  metadata: Metadata;
}

/** An object as `kubectl get` has it: its metadata, and what the columns of its resource show. */
export interface Row extends ApiObject {
  /** By the path of the field that a column shows, such as `.spec.selector`: of columns without a text of their own. */
  columns: Record<string, unknown>;
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
  /**
   * POST of an object to its collection; the server answers 409 when one of its name is there.
   * @returns what the server made of it.
   */
  create<T>(path: string, object: object, signal?: AbortSignal): Promise<T>;
  /** JSON merge patch (RFC 7386). With `metadata.resourceVersion` in it: 409 where the object has changed. */
  mergePatch<T>(path: string, patch: object, signal?: AbortSignal): Promise<T>;
  /**
   * Server-side apply: makes the object have these fields, and no more those that this manager applied before; others
   * keep theirs. Creates it where it is not there. Where another manager owns one of the fields, it is taken from it.
   */
  apply<T>(path: string, object: object, fieldManager: string, signal?: AbortSignal): Promise<T>;
  /** Deletes the object with that UID; the server answers 409 when another one has its name. */
  remove(path: string, uid: string, signal?: AbortSignal): Promise<unknown>;
  /**
   * Watches from `query.resourceVersion` on, with bookmarks. Resolves when the server ends the watch as agreed.
   * @param onEvent Called for each event, in order.
   * @throws ApiError (status 410 when that version is gone; reason `Silent` when nothing, not even a bookmark, came for
   * too long).
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
   * The server's `reason`, such as `Forbidden`; without a status: `Unreachable`, `Certificate` (no TLS), `Credentials`
   * (they can't be read), `Silent` (a watch), `Malformed` or `TooLarge` (an answer that can't be used), `Aborted` (by
   * the signal).
   */
  readonly reason: string;
  constructor(message: string, status: number | undefined, reason: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
    this.reason = reason;
  }
}

/** A client that can also be asked about itself, for `dpi-agent doctor`. */
export interface Diagnosable {
  /** Whether this identity has a right in all namespaces. @throws ApiError. */
  may(right: Right, signal?: AbortSignal): Promise<boolean>;
  /** What is at a path, as text: of what a pod serves, by the API server's proxy. @throws ApiError. */
  text(path: string, signal?: AbortSignal): Promise<string>;
  /** How far the server's clock was ahead of this machine's, in milliseconds, ± a second; undefined: it did not say. */
  clockAhead(): number | undefined;
}
