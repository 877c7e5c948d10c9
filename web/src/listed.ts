/** The list of alerts as it is loaded: its first page, those behind it, and what comes by itself. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { AlertRow, Order, Page } from '../../agent/ui/api.ts';
import {
  arrived,
  extended,
  joined,
  marked,
  markedSince,
  NO_ROWS,
  refreshed,
  staysWith,
  type Mark,
  type Rows,
} from './rows.ts';
import { answerErrorOf, ask, type AnswerError } from './server.ts';

/** Others are for the filters to find. */
export const MOST_ROWS = 2000;
const FIRST_ROWS = 50;
const MORE_ROWS = 200;

export interface Listed {
  rows: readonly AlertRow[];
  /** Rows that came by themselves. */
  fresh: ReadonlySet<string>;
  /** What was made of alerts since they were loaded. */
  marks: ReadonlyMap<string, Mark>;
  error?: AnswerError;
  loading: boolean;
  /** The rows, if any, are of another query. */
  stale: boolean;
  more: boolean;
  /** Why those behind could not be loaded. */
  moreProblem?: string;
  loadMore: () => void;
  add: (rows: readonly AlertRow[]) => void;
  mark: (ids: readonly string[], mark: Mark) => void;
  /** Loads it anew. */
  reload: () => void;
  /** Brings its beginning up to date; what is loaded behind it stays. */
  refresh: () => void;
}

interface Held extends Rows {
  /** Whose rows they are. */
  of?: string;
  marks: ReadonlyMap<string, Mark>;
}

interface Asking {
  loading: boolean;
  failed?: { of: string; error: AnswerError };
  moreProblem?: string;
}

const NOTHING: Held = { ...NO_ROWS, marks: new Map() };

/**
 * @param query undefined: nothing is asked.
 * @param states The filter by state.
 * @param changed Called when a look at its beginning found others.
 */
export function useList(
  query: string | undefined,
  order: Order,
  states: readonly string[],
  changed: () => void,
): Listed {
  const of = query === undefined ? undefined : listOf(query, order);
  const { held, setHeld, asking, setAsking, stop, reload } = useFirstPage(of, order);
  const stale = of !== undefined && held.of !== of;
  const more = held.next !== undefined && held.rows.length < MOST_ROWS;
  const change = (edit: (rows: Rows) => Rows): void =>
    setHeld((before) => (of !== undefined && before.of === of ? { ...edit(before), of, marks: before.marks } : before));
  const refresh = useRefresh(of, stale || asking.loading, async (list) => {
    const { marks: known } = held;
    const size = Math.min(MORE_ROWS, Math.max(FIRST_ROWS, held.rows.length));
    const page = await pageOf(list, size, stop.current.signal);
    if (page.rows[0]?.id !== held.rows[0]?.id) changed();
    change((before) => refreshed(before, page, order));
    // The answer may be of before what was marked meanwhile.
    setHeld((now) => ({ ...now, ...markedSince(now, now.marks, known, states) }));
  });
  const loadMore = (): void => {
    const { next } = held;
    if (of === undefined || next === undefined || stale || asking.loading || !more) return;
    const { signal } = stop.current;
    setAsking({ loading: true });
    pageOf(of, MORE_ROWS, signal, next).then(
      (page) => {
        change((before) => extended(before, page, order));
        setAsking({ loading: false });
      },
      (error: unknown) => {
        if (!signal.aborted) setAsking({ loading: false, moreProblem: answerErrorOf(error).message });
      },
    );
  };
  const { failed, moreProblem } = asking;
  return {
    ...held,
    ...(failed === undefined || failed.of !== of ? {} : { error: failed.error }),
    loading: of !== undefined && asking.loading,
    stale,
    more,
    ...(moreProblem === undefined ? {} : { moreProblem }),
    loadMore,
    add: (rows) => change((before) => limited(arrived(before, rows, order))),
    mark: (ids, mark) => setHeld((before) => withMarks(before, ids, mark, states)),
    reload,
    refresh,
  };
}

interface FirstPage {
  held: Held;
  setHeld: StateUpdater<Held>;
  asking: Asking;
  setAsking: StateUpdater<Asking>;
  /** Aborted when another list is wanted. */
  stop: { readonly current: AbortController };
  /** Loads it anew. */
  reload: () => void;
}

type StateUpdater<S> = (next: S | ((before: S) => S)) => void;

/** Loads the first page of each list that is wanted. @param of undefined: none. */
function useFirstPage(of: string | undefined, order: Order): FirstPage {
  const [held, setHeld] = useState<Held>(NOTHING);
  const [asking, setAsking] = useState<Asking>({ loading: of !== undefined });
  const [turn, setTurn] = useState(0);
  const stop = useRef(new AbortController());
  useEffect(() => {
    if (of === undefined) return undefined;
    const current = new AbortController();
    stop.current = current;
    // What went wrong stays until it goes well.
    setAsking(({ failed: before }) => ({ loading: true, ...(before === undefined ? {} : { failed: before }) }));
    pageOf(of, FIRST_ROWS, current.signal).then(
      (page) => {
        setHeld({ ...extended(NO_ROWS, page, order), of, marks: new Map() });
        setAsking({ loading: false });
      },
      (error: unknown) => {
        if (!current.signal.aborted) setAsking({ loading: false, failed: { of, error: answerErrorOf(error) } });
      },
    );
    return () => current.abort();
  }, [of, turn]);
  return { held, setHeld, asking, setAsking, stop, reload: () => setTurn((number) => number + 1) };
}

/**
 * @param busy While the list is loaded, what the server says may be of before: then it is looked at once more.
 * @returns what asks for a look at the list's beginning.
 */
function useRefresh(of: string | undefined, busy: boolean, look: (of: string) => Promise<void>): () => void {
  /** The look that is asked for, and the last one that was begun. */
  const [asked, setAsked] = useState<{ of: string }>();
  const begun = useRef<{ of: string }>(undefined);
  useEffect(() => {
    if (of === undefined || asked?.of !== of || asked === begun.current || busy) return;
    begun.current = asked;
    // Where it fails, the next look may go well.
    look(of).catch(() => undefined);
  }, [asked, busy]);
  return () => setAsked(of === undefined ? undefined : { of });
}

function withMarks(before: Held, ids: readonly string[], mark: Mark, states: readonly string[]): Held {
  const stays = staysWith(mark, states);
  const known = ids.map((id): [string, Mark] => [id, joined(before.marks.get(id), mark)]);
  return { ...before, ...marked(before, ids, mark, stays), marks: new Map([...before.marks, ...known]) };
}

function pageOf(of: string, size: number, signal: AbortSignal, after?: string): Promise<Page> {
  const behind = after === undefined ? '' : `&after=${encodeURIComponent(after)}`;
  return ask<Page>(`${pagePath(of, size)}${behind}`, { signal });
}

function pagePath(of: string, size: number): string {
  return `/api/alerts?${of}&size=${size}`;
}

/** Where the first page of a list is. */
export function firstPagePath(query: string, order: Order): string {
  return pagePath(listOf(query, order), FIRST_ROWS);
}

function listOf(query: string, order: Order): string {
  return `${query}&sort=${order}`;
}

function limited(rows: Rows): Rows {
  return { ...rows, rows: rows.rows.slice(0, MOST_ROWS) };
}
