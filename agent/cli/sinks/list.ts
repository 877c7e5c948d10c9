/** `dpi-agent sinks list`: the sinks that the configuration names. */
import type { Argv, CommandModule } from 'yargs';
import { sinkEntries } from '../../config/sinks.ts';
import { coloursOf } from '../print.ts';
import { readConfig } from '../setup.ts';
import { choiceText, describeSink, type SinkDescription } from './describe.ts';
import { OWN, printJson, printLine, SINK_FLAGS, type SinksArgv } from './flags.ts';

export const command: CommandModule<object, SinksArgv> = {
  command: 'list',
  describe: 'The sinks: where they send, in what form, and which events',
  builder: (args: Argv) =>
    args
      .options(SINK_FLAGS)
      .strict(false)
      .example('$0 sinks list -c dpi-agent.yaml', '')
      .example('$0 sinks list -c dpi-agent.yaml -o json | jq -r .[].name', 'names for programs'),
  handler(argv) {
    const config = readConfig({ ...argv }, OWN);
    const sinks = sinkEntries(config.sinks).map(describeSink);
    if (argv.output === 'json') printJson(sinks);
    else if (sinks.length === 0) printLine('no sinks: events stay in the journal (docs/destinations.md)');
    else printTable(sinks);
  },
};

function printTable(sinks: readonly SinkDescription[]): void {
  const rows = sinks.map(({ name, kind, format, to, when, quiet }) => [
    name,
    format === undefined ? kind : `${kind} ${format}`,
    to,
    choiceText(when),
    choiceText(quiet),
  ]);
  const titles = ['NAME', 'KIND', 'TO', 'WHEN', 'QUIET'];
  const widths = titles.map((title, column) =>
    Math.max(...[titles, ...rows].map((row) => (row[column] ?? title).length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  printLine(coloursOf(process.stdout).bold(line(titles)));
  for (const row of rows) printLine(line(row));
}
