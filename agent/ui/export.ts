/**
 * The alerts of a list as a file: the rows as CSV, or the documents a line each. Made as it is read, a page at a time.
 *
 * A cell of CSV that a spreadsheet would take for a formula begins with an apostrophe: what is in it may be from a
 * packet. A source that fails in the middle ends the answer unfinished, which the one who asked is told by HTTP.
 */
import { Readable } from 'node:stream';
import type { AlertRow, Order } from './api.ts';
import { QueryError, type AlertQuery, type Scope } from './query.ts';
import { MAX_PAGE_ROWS, type AlertSource } from './source.ts';

const MOST_ROWS = 100_000;

export const EXPORTS = {
  csv: { type: 'text/csv; charset=utf-8', ending: 'csv' },
  ndjson: { type: 'application/x-ndjson', ending: 'ndjson' },
} as const;
type Format = keyof typeof EXPORTS;

/** @throws QueryError */
export function formatOf(value: unknown): Format {
  if (value !== 'csv' && value !== 'ndjson') throw new QueryError('as: expected csv or ndjson');
  return value;
}

interface Wanted {
  query: AlertQuery;
  scope: Scope;
  order: Order;
}

/** At most 100,000 alerts. */
export function exported(source: AlertSource, format: Format, wanted: Wanted, signal: AbortSignal): Readable {
  return Readable.from(format === 'csv' ? csv(source, wanted, signal) : ndjson(source, wanted, signal));
}

async function* csv(source: AlertSource, wanted: Wanted, signal: AbortSignal): AsyncGenerator<string> {
  yield lineOf(COLUMNS.map(([name]) => name));
  for await (const rows of pages(source, wanted, signal))
    yield rows.map((row) => lineOf(COLUMNS.map(([, value]) => value(row)))).join('');
}

async function* ndjson(source: AlertSource, wanted: Wanted, signal: AbortSignal): AsyncGenerator<string> {
  for await (const rows of pages(source, wanted, signal)) {
    const ids = rows.map(({ id }) => id);
    const events = new Map((await source.get(ids, signal)).map(({ row, event }) => [row.id, event]));
    yield ids.flatMap((id) => (events.has(id) ? [`${JSON.stringify(events.get(id))}\n`] : [])).join('');
  }
}

async function* pages(
  source: AlertSource,
  { query, scope, order }: Wanted,
  signal: AbortSignal,
): AsyncGenerator<AlertRow[]> {
  let left = MOST_ROWS;
  let after: string | undefined;
  do {
    const size = Math.min(MAX_PAGE_ROWS, left);
    const page = await source.list(query, scope, { size, order, ...(after === undefined ? {} : { after }) }, signal);
    yield page.rows;
    left -= page.rows.length;
    after = page.next;
  } while (after !== undefined && left > 0);
}

const COLUMNS: readonly [string, (row: AlertRow) => string | number | undefined][] = [
  ['time', (row) => row.timestamp],
  ['severity', (row) => row.severity],
  ['level', (row) => row.level],
  ['state', (row) => row.state],
  ['handled_by', (row) => row.handledBy],
  ['signature', (row) => `${row.gid}:${row.sid}:${row.rev}`],
  ['message', (row) => row.message],
  ['class', (row) => row.classification],
  ['tactic', (row) => row.tactic],
  ['techniques', (row) => row.techniques.join(' ')],
  ['cves', (row) => row.cves.join(' ')],
  ['protocol', (row) => row.protocol],
  ['service', (row) => row.service],
  ['source_ip', (row) => row.source.ip],
  ['source_port', (row) => row.source.port],
  ['source_namespace', (row) => row.source.namespace],
  ['source_pod', (row) => row.source.name],
  ['destination_ip', (row) => row.destination.ip],
  ['destination_port', (row) => row.destination.port],
  ['destination_namespace', (row) => row.destination.namespace],
  ['destination_pod', (row) => row.destination.name],
  ['resource', (row) => row.resource],
  ['node', (row) => row.node],
  ['count', (row) => row.count],
  ['id', (row) => row.id],
];

/** RFC 4180. */
function lineOf(cells: readonly (string | number | undefined)[]): string {
  return `${cells.map((cell) => (typeof cell === 'string' ? cellOf(cell) : (cell ?? ''))).join(',')}\r\n`;
}

function cellOf(text: string): string {
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
