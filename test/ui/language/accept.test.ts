import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { accepting } from '../../../agent/ui/language/accept.ts';
import { parseLanguage } from '../../../agent/ui/language/parse.ts';
import { rowOf } from '../../../agent/ui/row.ts';
import { alertEvent } from '../../support/alerts.ts';
import { queries } from './made.ts';

const STATES = ['open', 'acknowledged', 'dismissed'] as const;
const events = Array.from({ length: 60 }, (_, number) =>
  alertEvent(number, Date.parse('2026-11-24T12:00:00Z') + number * 60_000, {
    record: number % 7 === 0 ? { count: number + 1 } : {},
    event: number % 11 === 0 ? { source_ip: '2001:db8::7', source_name: '-', source_namespace: '-' } : {},
  }),
);
const rows = events.map((event, number) => {
  const state = STATES[number % 3] ?? 'open';
  const row = rowOf(event, { state });
  if (row === undefined) throw new Error('an event is a row');
  return { event, row, state, time: Date.parse(row.timestamp) };
});

test('a query selects what a plain look at the events does', () => {
  fc.assert(
    fc.property(queries(events), ({ text, selects }) => {
      fc.pre(text.length <= 1000);
      const accept = accepting(parseLanguage(text));
      const found = rows.filter(({ row, time }) => accept(row, time)).map(({ row }) => row.id);
      const wanted = rows.filter(({ event, state }) => selects(event, state)).map(({ row }) => row.id);
      expect({ text, found }).toEqual({ text, found: wanted });
    }),
    { numRuns: 2000 },
  );
});

test('an address is looked for as one, not as a part of another', () => {
  const source = { ip: '203.0.113.60' };
  const [first] = rows;
  if (first === undefined) throw new Error('no row');
  const row = { ...first.row, source, destination: { ip: '10.0.0.1' } };
  const accepts = (query: string): boolean => accepting(parseLanguage(query))(row, 0);
  expect(accepts('203.0.113.6')).toBe(false);
  expect(accepts('203.0.113.60')).toBe(true);
  expect(accepts('203.0.113.')).toBe(true);
});
