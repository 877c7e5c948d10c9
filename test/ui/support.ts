/** Journals with alerts, and queries on them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EeEvent } from '../../agent/events/event.ts';
import { openJournal, type Journal } from '../../agent/journal/journal.ts';
import { parseQuery, type AlertQuery } from '../../agent/ui/query.ts';
import { alertEvent } from '../support/alerts.ts';

/** The time that tests are at; alerts are from the day before. */
export const NOW = Date.parse('2026-11-25T12:00:00Z');

export interface TestJournal {
  directory: string;
  marksFile: string;
  append(...events: EeEvent[]): Promise<void>;
  remove(): Promise<void>;
}

export async function makeJournal(...events: EeEvent[]): Promise<TestJournal> {
  const parent = mkdtempSync(join(tmpdir(), 'dpi-ui-'));
  const directory = join(parent, 'journal');
  const journal: Journal = await openJournal({
    directory,
    segmentSize: 1 << 20,
    maxSize: 64 << 20,
    segmentAge: 86_400_000,
    maxAge: 0,
    fsync: false,
  });
  const append = async (...more: EeEvent[]): Promise<void> =>
    journal.append(more.map((event) => ({ position: event.record.position, json: JSON.stringify(event) })));
  if (events.length > 0) await append(...events);
  return {
    directory,
    marksFile: join(parent, 'marks.ndjson'),
    append,
    async remove() {
      await journal.close();
      rmSync(parent, { recursive: true, force: true });
    },
  };
}

/** So many alerts, one every few minutes, up to a time. */
export function alertsUntil(now: number, count: number, step = 240_000): EeEvent[] {
  return Array.from({ length: count }, (_, number) => alertEvent(number, now - (count - number) * step));
}

export function queryOf(text: string, now: number = NOW): AlertQuery {
  const parameters: Record<string, string | string[]> = {};
  for (const [name, value] of new URLSearchParams(text)) {
    const known = parameters[name];
    parameters[name] = known === undefined ? value : [known, value].flat();
  }
  return parseQuery(parameters, now);
}

export const never: AbortSignal = new AbortController().signal;
