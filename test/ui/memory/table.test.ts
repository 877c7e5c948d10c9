/** Alerts in memory, against the same questions asked of each row by itself. */
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import type { AlertRow, Summary } from '../../../agent/ui/api.ts';
import { flowsOf, spanOf, valuesOf } from '../../../agent/ui/memory/counts.ts';
import { groupRows } from '../../../agent/ui/memory/groups.ts';
import { listRows, newestRows } from '../../../agent/ui/memory/list.ts';
import { summarize } from '../../../agent/ui/memory/summary.ts';
import { addRows, createTable, rowAt, setMark, type Table } from '../../../agent/ui/memory/table.ts';
import { failing, inScope, matches, type Scope } from '../../../agent/ui/query.ts';
import { podsOf, rowOf } from '../../../agent/ui/row.ts';
import { alertEvent } from '../../support/alerts.ts';
import { NOW, queryOf } from '../support.ts';

const HOUR = 3_600_000;

function row(number: number, changes: Partial<AlertRow> = {}): AlertRow {
  // Some of one moment, and not in the order of their numbers.
  const made = rowOf(alertEvent(number, NOW - 24 * HOUR + (number % 40) * 7 * 60_000));
  if (made === undefined) throw new Error('an event is a row');
  return { ...made, ...changes };
}

function fill(rows: readonly AlertRow[], limit = 1000): Table {
  const table = createTable(limit);
  for (let from = 0; from < rows.length; from += 30) {
    addRows(
      table,
      rows.slice(from, from + 30).map((one, index) => ({ row: one, at: { segment: 1, offset: from + index } })),
    );
  }
  return table;
}

const ids = (rows: readonly AlertRow[]): string[] => rows.map(({ id }) => id);
const byAge = (a: AlertRow, b: AlertRow): number =>
  a.timestamp < b.timestamp || (a.timestamp === b.timestamp && a.id < b.id) ? 1 : -1;

const ALL = Array.from({ length: 200 }, (_, number) =>
  row(number, number % 9 === 0 ? { state: 'dismissed', reason: 'expected', handledBy: 'anna' } : {}),
);
const QUERIES = [
  '',
  'range=all&state=open&state=dismissed',
  'namespace=payments&level=critical',
  'pod=payments%2Fledger-0&tactic=TA0011&tactic=none',
  'signature=1%3A21562',
  'q=log4j+or+203.0.113.0%2F25',
  'q=not+%28pod%3A+shop%2Fcart-*+or+destination.port%3C+1000%29',
  'q=status+%3E%3D+400+and+url%3A+login',
  'q=technique%3A+T1071+and+count%3A+1+and+not+state%3A+dismissed',
  'q=community%3A+1*+and+protocol%3A+tcp&level=high',
  'q=time+%3E%3D+2026-11-24T14%3A00%3A00Z&namespace=shop',
  `from=${new Date(NOW - 22 * HOUR).toISOString()}&to=${new Date(NOW - 20 * HOUR).toISOString()}`,
  'q=nothing-is-like-this',
];
const SCOPES: Scope[] = ['all', new Set(['shop']), new Set()];

/** What a query selects, row by row. */
function wanted(rows: readonly AlertRow[], text: string, scope: Scope): AlertRow[] {
  const query = queryOf(text);
  return rows.filter((one) => inScope(scope, one.namespace) && matches(query, one)).toSorted(byAge);
}

describe.each(QUERIES)('the query "%s"', (text) => {
  const table = fill(ALL);

  test.each(SCOPES)('selects the same rows as each of them says, for %p', (scope) => {
    const query = queryOf(text);
    expect(newestRows(table, query, scope, 10_000)).toEqual(wanted(ALL, text, scope));
    expect(spanOf(table, query, scope).count).toBe(wanted(ALL, text, scope).length);
  });

  test('is counted as each row says', () => {
    const query = queryOf(text);
    const selected = wanted(ALL, text, 'all');
    const summary = summarize(table, query, 'all', NOW);
    expect(summary.total).toBe(selected.length);
    const bars = summary.histogram.buckets.flatMap(({ counts }) => Object.values(counts));
    expect(bars.reduce((sum, count) => sum + count, 0)).toBe(selected.length);
    expect(facetOf(summary, 'namespace')).toEqual(countsBesides(text, 'namespace', ({ namespace }) => [namespace]));
    expect(facetOf(summary, 'pod')).toEqual(countsBesides(text, 'pod', podsOf));
    expect(facetOf(summary, 'signature')).toEqual(
      countsBesides(text, 'signature', ({ gid, sid }) => [`${gid}:${sid}`]),
    );
    expect(facetOf(summary, 'state')).toEqual(countsBesides(text, 'state', ({ state }) => [state]));
  });

  test('is grouped as each row says', () => {
    const selected = wanted(ALL, text, 'all');
    for (const by of ['signature', 'pod'] as const) {
      const valuesIn = by === 'pod' ? podsOf : ({ gid, sid }: AlertRow) => [`${gid}:${sid}`];
      const groups = groupRows(table, by, queryOf(text), 'all');
      expect(new Map(groups.map(({ key, count }) => [key, count]))).toEqual(countsOf(selected, valuesIn));
      for (const { key, newest } of groups)
        expect(newest).toBe(selected.find((one) => valuesIn(one).includes(key))?.timestamp);
    }
    const flows = flowsOf(table, queryOf(text), 'all');
    const sum = (list: typeof flows.edges): number =>
      list.flatMap(({ counts }) => Object.values(counts)).reduce((total, count) => total + count, 0);
    expect(sum(flows.edges) + flows.others).toBe(selected.length);
    expect(sum(flows.pairs)).toBe(selected.length);
    const request = { field: 'destination.port', prefix: '', limit: 100 } as const;
    const ports = valuesOf(table, request, queryOf(text), 'all').map(({ value, count }) => [value, count] as const);
    expect(new Map(ports)).toEqual(countsOf(selected, ({ destination }) => [String(destination.port)]));
  });
});

function facetOf({ facets }: Summary, name: keyof Summary['facets']): Map<string, number> {
  return new Map(facets[name].flatMap(({ value, count }) => (count === 0 ? [] : [[value, count]])));
}

/** Under all filters but one. */
function countsBesides(
  text: string,
  name: keyof Summary['facets'],
  valuesIn: (row: AlertRow) => readonly string[],
): Map<string, number> {
  const query = queryOf(text);
  const passes = (one: AlertRow): boolean => failing(query, one)?.every((failed) => failed === name) === true;
  return countsOf(ALL.filter(passes), valuesIn);
}

function countsOf(rows: readonly AlertRow[], valuesIn: (row: AlertRow) => readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of rows.flatMap(valuesIn)) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

test('in whatever order rows come, pages have each once, by time and by severity', () => {
  const order = fc.constantFrom<'time' | 'severity'>('time', 'severity');
  fc.assert(
    fc.property(
      fc.shuffledSubarray([...ALL.keys()], { minLength: 1 }),
      fc.integer({ min: 1, max: 60 }),
      order,
      (numbers, size, by) => {
        const rows = numbers.flatMap((number) => ALL[number] ?? []);
        const table = fill(rows);
        const seen: AlertRow[] = [];
        let after: string | undefined;
        do {
          const page = listRows(table, queryOf('range=all'), 'all', {
            size,
            order: by,
            ...(after === undefined ? {} : { after }),
          });
          seen.push(...page.rows);
          after = page.next;
        } while (after !== undefined);
        const selected = wanted(rows, 'range=all', 'all');
        const sorted = by === 'time' ? selected : selected.toSorted((a, b) => b.severity - a.severity || byAge(a, b));
        expect(ids(seen)).toEqual(ids(sorted));
      },
    ),
    { numRuns: 40 },
  );
});

test('of more than there is room for, the newest stay, as they were', () => {
  const table = fill(ALL, 50);
  setMark(table, table.slots.get(ALL[39]?.id ?? '') ?? -1, { state: 'acknowledged', handledBy: 'bob' });
  expect(table.size).toBeLessThanOrEqual(55);
  const kept = newestRows(table, queryOf('range=all&state=open&state=acknowledged&state=dismissed'), 'all', 1000);
  const newest = ALL.toSorted(byAge).slice(0, kept.length);
  expect(ids(kept)).toEqual(ids(newest));
  expect(kept.filter(({ handledBy }) => handledBy === 'bob')).toHaveLength(1);
  for (const one of newest) {
    const slot = table.slots.get(one.id) ?? -1;
    expect(rowAt(table, slot)).toMatchObject({
      id: one.id,
      message: one.message,
      source: one.source,
      seenAt: one.seenAt,
    });
  }
});

test('a row comes back as it was, whatever its texts say', () => {
  const text = fc.string({ unit: 'binary', maxLength: 12 });
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text, fc.array(text, { maxLength: 2 })), { maxLength: 8 }), (texts) => {
      const rows = texts.map(([message, rev, cves], number) => ({ ...row(number), message, rev, cves }));
      const table = fill(rows);
      for (const one of rows) expect(rowAt(table, table.slots.get(one.id) ?? -1)).toEqual(one);
    }),
  );
});
