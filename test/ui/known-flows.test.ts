/** The journal's alerts on the page, and what becomes known of their flows later. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EeEvent } from '../../agent/events/event.ts';
import { evidenceDirectory, packetFile } from '../../agent/evidence/place.ts';
import { pcapng } from '../../agent/evidence/pcapng.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import type { AlertSource } from '../../agent/ui/source.ts';
import { alertEvent } from '../support/alerts.ts';
import { poll } from '../support/poll.ts';
import { makeJournal, never, pageOf, queryOf, type TestJournal } from './support.ts';

const PLAIN = { app: undefined, outcome: undefined };
const before = alertEvent(0, Date.now() - 60_000, { record: PLAIN });
const later = alertEvent(1, Date.now() - 30_000, { record: PLAIN });

let journal: TestJournal;
let source: AlertSource;

beforeEach(async () => {
  journal = await makeJournal(before);
});
afterEach(async () => {
  await source.close();
  await journal.remove();
});

async function writeEvidence({ record }: EeEvent, facts: object): Promise<void> {
  const directory = evidenceDirectory(journal.directory);
  const day = record.timestamp.slice(0, 10);
  const packets = { count: 1, bytes: 60, first: '', last: '', complete: true };
  await mkdir(join(directory, day), { recursive: true });
  await writeFile(
    join(directory, packetFile(day, record.event_id)),
    pcapng(
      [{ time: 1, frame: Buffer.alloc(60), length: 60, linkType: 1 }],
      { interface: 'eth0', namespace: 'shop', pod: 'web', node: 'node-1' },
      [],
      JSON.stringify({ packets, ...facts }),
    ),
  );
}

async function found(query: string): Promise<string[]> {
  const { rows } = await source.list(queryOf(`q=${encodeURIComponent(query)}&range=all`), 'all', pageOf(), never);
  return rows.map(({ id }) => id);
}

test('alerts are found by what their flows said, also where that comes after them', async () => {
  const sni = 'api.shop.test';
  await writeEvidence(before, { outcome: 'answered', app: { protocol: 'tls', tls: { sni } } });
  source = await openJournalSource({ ...journal });
  await poll(async () => (await found(`sni: ${sni}`)).includes(before.record.event_id));
  await journal.append(later);
  await poll(async () => (await found('')).includes(later.record.event_id));
  expect(await found(`sni: ${sni}`)).toEqual([before.record.event_id]);
  await writeEvidence(later, { outcome: '2xx', app: { protocol: 'http', http: { host: 'web:80', status: 200 } } });
  await poll(async () => (await found('host: web and status: 200')).includes(later.record.event_id));
});
