/**
 * A journal and its sinks in a process that is to be killed:  node dist/test/support/sink-process.js FLAGS EVENTS
 * Journals events until there are so many, a few at once, and prints the sinks' books when they are done.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { loadConfig } from '../../agent/config/load.ts';
import { openJournal } from '../../agent/journal/journal.ts';
import { startSinks } from '../../agent/sinks.ts';
import { alertEvent } from './alerts.ts';

const [flags = '{}', count = '0'] = process.argv.slice(2);
const loaded = loadConfig({ env: {}, flags: JSON.parse(flags) as Record<string, unknown> }, () => 'node-1');
if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
const journal = await openJournal(loaded.config.journal);
const sinks = await startSinks({ config: loaded.config, journal, log: pino({ level: 'silent' }) });
const BATCH = 10;
for (let number = journal.end().event; number < Number(count); number = journal.end().event) {
  const batch = Array.from({ length: Math.min(BATCH, Number(count) - number) }, (_, index) => number + index);
  const events = batch.map((each) => ({
    position: `a:${each}`,
    json: JSON.stringify(alertEvent(each, 1.8e12 + each)),
  }));
  await journal.append(events);
  await sleep(2);
}
while (sinks.status().some(({ pending }) => pending > 0)) await sleep(10);
process.stdout.write(JSON.stringify(sinks.status()));
process.exit();
