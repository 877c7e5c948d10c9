/** Where the page's alerts are: the journal of this machine, or Elasticsearch. */
import type { AlertRow, Group, Page, Session, State, Summary } from './api.ts';
import type { AlertQuery, Scope } from './query.ts';

export const PAGE_ROWS = 50;
export const GROUPS = 100;
export const FACET_VALUES = 25;

export interface AlertSource {
  about: Session['source'];
  /** Newest first. @param after What the page before gave as `next`. */
  list(query: AlertQuery, scope: Scope, after: string | undefined, signal: AbortSignal): Promise<Page>;
  summary(query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Summary>;
  /** The most frequent first. */
  groups(by: 'signature' | 'pod', query: AlertQuery, scope: Scope, signal: AbortSignal): Promise<Group[]>;
  /** The alerts with these ids, as far as they are there. */
  get(ids: readonly string[], signal: AbortSignal): Promise<{ row: AlertRow; event: unknown }[]>;
  /** Stores what was made of alerts that `get` gave. */
  mark(ids: readonly string[], state: State, by: string, at: Date): Promise<void>;
  /** Calls with alerts that are new. @returns what ends it. */
  subscribe(listener: (rows: AlertRow[], more: boolean) => void): () => void;
  close(): Promise<void>;
}

/** The source can't answer. The message says what, where and what to do. */
export class SourceError extends Error {}
