/** A journal and the sinks behind it, as an agent has them. */
import { join } from 'node:path';
import { pino } from 'pino';
import { loadConfig } from '../../agent/config/load.ts';
import { openJournal, type Journal } from '../../agent/journal/journal.ts';
import { startSinks, type Sinks } from '../../agent/sinks.ts';

export interface Delivery {
  journal: Journal;
  sinks: Sinks;
}

/** @param directory Of journal and cursors. @throws Error when a sink is wrong. */
export async function openDelivery(directory: string, sinks: readonly object[]): Promise<Delivery> {
  const flags = { sinks, stateDirectory: directory, 'journal.directory': join(directory, 'journal') };
  const loaded = loadConfig({ env: {}, flags }, () => 'node-1');
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  const { config } = loaded;
  const journal = await openJournal(config.journal);
  return { journal, sinks: await startSinks({ config, journal, log: pino({ level: 'silent' }) }) };
}
