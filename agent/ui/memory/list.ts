/** Pages of a table's alerts. */
import type { AlertRow, Page } from '../api.ts';
import type { AlertQuery, Scope } from '../query.ts';
import type { PageRequest } from '../source.ts';
import { newestFirst, selected } from './select.ts';
import { compareRanks, endingOf, rankOf, rowAt, type Rank, type Table } from './table.ts';

export function listRows(table: Table, query: AlertQuery, scope: Scope, page: PageRequest): Page {
  const { size, order } = page;
  const slots = order === 'time' ? newest(table, query, scope, page) : mostSevere(table, query, scope, page);
  const rows = slots.slice(0, size).map((slot) => rowAt(table, slot));
  const end = rows.at(-1);
  return { rows, ...(slots.length <= size || end === undefined ? {} : { next: keyOf(end, order) }) };
}

/** The newest that match, at most so many. */
export function newestRows(table: Table, query: AlertQuery, scope: Scope, limit: number): AlertRow[] {
  const rows: AlertRow[] = [];
  for (const slot of newestFirst(table, query, scope)) {
    if (rows.length === limit) break;
    rows.push(rowAt(table, slot));
  }
  return rows;
}

/** One more than a page has, where there is one. */
function newest(table: Table, query: AlertQuery, scope: Scope, { after, size }: PageRequest): number[] {
  const last = after === undefined ? undefined : rankIn(after);
  // What is newer than that is passed over by its time.
  const until = last === undefined ? query : { ...query, to: Math.min(query.to ?? Infinity, last.time + 1) };
  const slots: number[] = [];
  for (const slot of newestFirst(table, until, scope)) {
    if (last !== undefined && compareRanks(rankOf(table, slot), last) >= 0) continue;
    slots.push(slot);
    if (slots.length > size) break;
  }
  return slots;
}

/** The same by severity; of equal ones the newest first. */
function mostSevere(table: Table, query: AlertQuery, scope: Scope, { after, size }: PageRequest): number[] {
  const last = after === undefined ? undefined : rankIn(after);
  const rules = table.numbers.rule;
  /** By severity, the newest first; of each no more than are shown. */
  const found = new Map<number, number[]>();
  const bySeverity = table.parts.rule.values.map(({ severity }) => {
    const slots = found.get(severity) ?? [];
    found.set(severity, slots);
    return { severity, slots };
  });
  for (const slots of selected(table, query, scope))
    for (const slot of slots) {
      const of = bySeverity[rules[slot] ?? 0];
      if (of === undefined || of.slots.length > size) continue;
      if (last === undefined || isBehind(of.severity, rankOf(table, slot), last)) of.slots.push(slot);
    }
  return [...found.keys()]
    .toSorted((a, b) => b - a)
    .flatMap((severity) => found.get(severity) ?? [])
    .slice(0, size + 1);
}

function isBehind(severity: number, rank: Rank, last: Key): boolean {
  return severity < last.severity || (severity === last.severity && compareRanks(rank, last) < 0);
}

type Key = Rank & { severity: number };

/** Where in the order a row is, as `next` says it. */
function keyOf({ severity, timestamp, id }: AlertRow, order: PageRequest['order']): string {
  return `${order === 'time' ? '' : `${severity}~`}${timestamp},${id}`;
}

function rankIn(key: string): Key {
  const [, severity = '0', timestamp = '', id = ''] = /^(?:(\d+(?:\.\d+)?)~)?([^,]*),([^,]*)/.exec(key) ?? [];
  const time = Date.parse(timestamp);
  return { severity: Number(severity), time, ending: Number.isNaN(time) ? '' : endingOf(timestamp), id };
}
