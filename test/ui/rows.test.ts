/** The rows of the page's list, without a page. */
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import type { AlertRow, Order, Page } from '../../agent/ui/api.ts';
import { rowOf } from '../../agent/ui/row.ts';
import {
  arrived,
  extended,
  marked,
  markedSince,
  NO_ROWS,
  refreshed,
  showsState,
  type Mark,
  type Rows,
} from '../../web/src/rows.ts';
import { alertEvent } from '../support/alerts.ts';

const START = Date.parse('2026-11-24T12:00:00Z');
const row = (number: number): AlertRow => {
  const made = rowOf(alertEvent(number, START + number * 1000));
  if (made === undefined) throw new Error('an event is a row');
  return made;
};
const ids = (rows: Rows): string[] => rows.rows.map(({ id }) => id);
const wanted = (...numbers: number[]): string[] => numbers.map((number) => row(number).id);
/** A page of the list with all these rows. */
const page = (all: readonly AlertRow[], size: number, from = 0): Page => ({
  rows: all.slice(from, from + size),
  ...(all.length > from + size ? { next: String(from + size) } : {}),
});
const newest = (count: number): AlertRow[] => Array.from({ length: count }, (_, number) => row(count - 1 - number));

describe('a look at the beginning of the list', () => {
  const before = extended(extended(NO_ROWS, page(newest(20), 5), 'time'), page(newest(20), 5, 5), 'time');

  test('adds what came, and keeps what is loaded behind it', () => {
    const after = refreshed(before, page(newest(22), 5), 'time');
    expect(ids(after)).toEqual(
      newest(22)
        .slice(0, 12)
        .map(({ id }) => id),
    );
    expect(after.next).toBe('10');
    expect([...after.fresh].toSorted()).toEqual(wanted(21, 20).toSorted());
  });

  test('takes away what is not there any more', () => {
    const left = newest(20).filter((_, index) => index !== 1);
    expect(ids(refreshed(before, page(left, 5), 'time'))).toEqual(left.slice(0, 9).map(({ id }) => id));
  });

  test('begins anew where it does not reach what is loaded', () => {
    const after = refreshed(before, page(newest(40), 5), 'time');
    expect(ids(after)).toEqual(wanted(39, 38, 37, 36, 35));
    expect(after.next).toBe('5');
  });

  test('of all there is, is all', () => {
    const after = refreshed(before, page(newest(3), 5), 'time');
    expect(ids(after)).toEqual(wanted(2, 1, 0));
    expect(after.next).toBeUndefined();
  });

  test('leaves a part of the list as it is by then, without gaps, whatever was loaded', () => {
    const order = fc.constantFrom<Order>('time', 'severity');
    fc.assert(
      fc.property(
        fc.nat(40),
        fc.nat(40),
        fc.nat(40),
        fc.integer({ min: 1, max: 20 }),
        order,
        (old, more, loaded, size, by) => {
          const sorted = (count: number): AlertRow[] =>
            by === 'time' ? newest(count) : newest(count).toSorted((a, b) => b.severity - a.severity);
          const rows = extended(NO_ROWS, page(sorted(old), loaded), by);
          const after = refreshed(rows, page(sorted(old + more), size), by);
          const all = sorted(old + more).map(({ id }) => id);
          expect(ids(after)).toEqual(all.slice(0, ids(after).length));
          expect(ids(after).length).toBeGreaterThanOrEqual(Math.min(size, all.length));
          if (ids(after).length < all.length) expect(after.next).toBeDefined();
        },
      ),
      { numRuns: 500 },
    );
  });
});

test('what is marked while the list is looked at stays marked, whatever the answer was', () => {
  const mark: Mark = { state: 'acknowledged', by: 'anna', at: new Date(START).toISOString() };
  const [earlier = '', meanwhile = ''] = wanted(1, 2);
  const known = new Map([[earlier, mark]]);
  const marks = new Map([...known, [meanwhile, mark]] as const);
  // Anna's first mark was undone before the look, and nobody said so.
  const answer = extended(NO_ROWS, page(newest(4), 5), 'time');
  expect(ids(markedSince(answer, marks, known, ['open']))).toEqual(wanted(3, 1, 0));
  const [, second] = markedSince(answer, marks, known, []).rows;
  expect(second).toMatchObject({ id: meanwhile, state: 'acknowledged', handledBy: 'anna' });
});

test('what comes by itself is put where it belongs, once', () => {
  const before = extended(NO_ROWS, page([row(5), row(3)], 5), 'time');
  const after = arrived(arrived(before, [row(4), row(6)], 'time'), [row(6)], 'time');
  expect(ids(after)).toEqual(wanted(6, 5, 4, 3));
  expect([...after.fresh].toSorted()).toEqual(wanted(4, 6).toSorted());
});

test('what is marked shows it, or goes', () => {
  const before = extended(NO_ROWS, page([row(5), row(3)], 5), 'time');
  const mark = { state: 'dismissed', by: 'anna', at: '2026-11-24T12:00:00Z' } as const;
  expect(marked(before, wanted(3), mark, true).rows.map(({ state }) => state)).toEqual(['open', 'dismissed']);
  expect(ids(marked(before, wanted(3), mark, showsState([], 'dismissed')))).toEqual(wanted(5));
  expect(showsState([], 'acknowledged')).toBe(true);
  expect(showsState(['open'], 'acknowledged')).toBe(false);
});
