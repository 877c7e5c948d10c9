/** A sink by its name. */
import type { Config } from '../../config/load.ts';
import { sinkEntries, type SinkEntry } from '../../config/sinks.ts';
import { shown } from '../../config/text.ts';
import { CommandError } from '../exit.ts';

/** @throws CommandError that names those which there are. */
export function findSink({ sinks }: Pick<Config, 'sinks'>, name: string): SinkEntry {
  const entries = sinkEntries(sinks);
  const found = entries.find((entry) => entry.name === name);
  if (found !== undefined) return found;
  const names = entries.map((entry) => entry.name).join(', ');
  throw new CommandError(
    `the configuration has no sink ${shown(name)}: ${names === '' ? 'it has none; docs/destinations.md says how to name one' : `expected one of ${names}`}`,
  );
}
