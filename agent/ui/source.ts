/** Where the page's alerts are: the journal of this machine, or Elasticsearch. */
import type {
  Act,
  AlertRow,
  FacetValue,
  Flows,
  Group,
  Order,
  Page,
  Session,
  Span,
  Summary,
  ValueField,
} from './api.ts';
import type { AlertQuery, Scope } from './query.ts';

export const PAGE_ROWS = 50;
export const MAX_PAGE_ROWS = 200;
export const GROUPS = 100;
export const FACET_VALUES = 25;
/** Namespaces of each side, and sources. */
export const PAIR_ENDS = 20;
export const TALKERS = 10;
/** From pod to pod. */
export const EDGES = 40;

/** Which page of a list. */
export interface PageRequest {
  /** What the page before gave as `next`. */
  after?: string;
  /** 1 to MAX_PAGE_ROWS. */
  size: number;
  order: Order;
}

/** Which values are listed. */
export interface ValueRequest {
  field: ValueField;
  /** Lower case; empty: all. */
  prefix: string;
  limit: number;
}

export interface AlertListener {
  /** Those that are new. @param more There were more. */
  rows(rows: AlertRow[], more: boolean): void;
  /** Once: what becomes visible from now on comes; what has before, is found. */
  ready(): void;
}

/** Of an alert, what it takes to mark it. */
export type Marked = Pick<AlertRow, 'id' | 'namespace' | 'state'>;

export interface AlertSource {
  about: Session['source'];
  list(query: AlertQuery, scope: Scope, page: PageRequest, signal: AbortSignal): Promise<Page>;
  /** The newest that match, at most so many. @param limit at most 10,000 */
  matching(query: AlertQuery, scope: Scope, limit: number, signal: AbortSignal): Promise<AlertRow[]>;
  summary(query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Summary>;
  /** The most frequent first. */
  groups(by: 'signature' | 'pod', query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Group[]>;
  /** The most frequent values of a field, those that begin so. @param limit at most 100 */
  values(of: ValueRequest, query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<FacetValue[]>;
  flows(query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Flows>;
  span(query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Span>;
  /** The alerts with these ids, as far as they are there. */
  get(ids: readonly string[], signal: AbortSignal): Promise<{ row: AlertRow; event: unknown; history: Act[] }[]>;
  /** The capture file of an alert's flow, where the source has those of all nodes. */
  packets?(row: Pick<AlertRow, 'id' | 'resource'>, signal: AbortSignal): Promise<Buffer | undefined>;
  /** Stores what was done with alerts that `get` gave. */
  mark(ids: readonly string[], act: Act): Promise<void>;
  /** @returns what ends it. */
  subscribe(listener: AlertListener): () => void;
  close(): Promise<void>;
}

/** The source can't answer. The message says what, where and what to do. */
export class SourceError extends Error {}
