/**
 * The rows of the list, in its order, each once: as they were loaded, with what came by itself and what was made of
 * them meanwhile.
 */
import type { Act, AlertRow, Order, Page, State } from '../../agent/ui/api.ts';

export interface Rows {
  rows: readonly AlertRow[];
  /** Rows that came by themselves. */
  fresh: ReadonlySet<string>;
  /** What leads to the rows behind them. */
  next?: string;
}

export const NO_ROWS: Rows = { rows: [], fresh: new Set() };

/** What was done with alerts. */
export type Mark = Act;

/** With the page behind them. */
export function extended(before: Rows, { rows, next }: Page, order: Order): Rows {
  return {
    rows: inOrder([...before.rows, ...rows], order),
    fresh: before.fresh,
    ...(next === undefined ? {} : { next }),
  };
}

/** With rows that came by themselves. */
export function arrived(before: Rows, rows: readonly AlertRow[], order: Order): Rows {
  return { ...before, rows: inOrder([...rows, ...before.rows], order), fresh: withNew(before, rows) };
}

/**
 * With the first page as it is by now: it says all of its part of the order. Where what is new may be behind it, too,
 * the rows of before that are behind it go: by severity, and where it does not reach them.
 */
export function refreshed(before: Rows, page: Page, order: Order): Rows {
  const last = page.rows.at(-1);
  const first = before.rows[0];
  const fresh = first === undefined ? before.fresh : withNew(before, page.rows);
  const whole: Rows = { rows: page.rows, fresh, ...(page.next === undefined ? {} : { next: page.next }) };
  if (order === 'severity' || page.next === undefined || last === undefined || first === undefined) return whole;
  if (compare(first, last, order) > 0) return whole;
  const behind = before.rows.filter((row) => compare(row, last, order) >= 0);
  const rows = inOrder([...page.rows, ...behind], order);
  if (rows.length === page.rows.length) return whole;
  return { rows, fresh, ...(before.next === undefined ? {} : { next: before.next }) };
}

/** @param stays Whether the list has alerts of this state. */
export function marked(before: Rows, ids: readonly string[], mark: Mark, stays: boolean): Rows {
  const wanted = new Set(ids);
  const rows = before.rows.flatMap((row) => (wanted.has(row.id) ? (stays ? [withMark(row, mark)] : []) : [row]));
  return { ...before, rows };
}

/**
 * With what was made of its rows after a look at them had begun, whose answer may be of before.
 * @param marks What is known by now of alerts. @param known What was when it began. @param states The filter by state.
 */
export function markedSince(
  before: Rows,
  marks: ReadonlyMap<string, Mark>,
  known: ReadonlyMap<string, Mark>,
  states: readonly string[],
): Rows {
  let after = before;
  for (const [id, mark] of marks)
    if (known.get(id) !== mark) after = marked(after, [id], mark, staysWith(mark, states));
  return after;
}

export function withMark(row: AlertRow, { state, by, at, reason, assignee }: Mark): AlertRow {
  const { reason: _, assignee: before, ...rest } = row;
  const whose = assignee ?? before ?? '';
  const kept = { ...rest, ...(whose === '' ? {} : { assignee: whose }) };
  if (state === undefined) return { ...kept, ...(row.reason === undefined ? {} : { reason: row.reason }) };
  return { ...kept, state, handledBy: by, handledAt: at, ...(reason === undefined ? {} : { reason }) };
}

/** The second behind the first. A comment changes no state. */
export function joined(before: Mark | undefined, mark: Mark): Mark {
  if (before === undefined) return mark;
  const assignee = mark.assignee ?? before.assignee;
  return { ...(mark.state === undefined ? before : mark), ...(assignee === undefined ? {} : { assignee }) };
}

/** Whether a list with these filters by state has an alert that was marked so. */
export function staysWith({ state }: Mark, filters: readonly string[]): boolean {
  return state === undefined || showsState(filters, state);
}

/** Whether a list with these filters by state has alerts of a state. */
export function showsState(filters: readonly string[], state: State): boolean {
  return filters.length === 0 ? state !== 'dismissed' : filters.includes(state);
}

function withNew({ rows, fresh }: Rows, more: readonly AlertRow[]): ReadonlySet<string> {
  const known = new Set(rows.map(({ id }) => id));
  return new Set([...fresh, ...more.flatMap(({ id }) => (known.has(id) ? [] : [id]))]);
}

/** Of rows with one id, the first. */
function inOrder(rows: readonly AlertRow[], order: Order): AlertRow[] {
  const unique = new Map<string, AlertRow>();
  for (const row of rows) if (!unique.has(row.id)) unique.set(row.id, row);
  return [...unique.values()].toSorted((a, b) => compare(a, b, order));
}

/** Below 0: a comes first. */
function compare(a: AlertRow, b: AlertRow, order: Order): number {
  if (order === 'severity' && a.severity !== b.severity) return b.severity - a.severity;
  return a.timestamp === b.timestamp ? 0 : a.timestamp < b.timestamp ? 1 : -1;
}
