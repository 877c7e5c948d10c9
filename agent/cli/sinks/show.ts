/** `dpi-agent sinks show NAME`: a sink's settings, and what it has done. */
import type { Argv, CommandModule } from 'yargs';
import { stripControls } from '../../text.ts';
import { grouped } from '../print.ts';
import { readConfig } from '../setup.ts';
import { choiceText, describeSink, progressOf, settingsOf } from './describe.ts';
import { findSink } from './find.ts';
import { OWN, printJson, printLine, SINK_FLAGS, type SinksArgv } from './flags.ts';

interface ShowArgv extends SinksArgv {
  name: string;
}

export const command: CommandModule<object, ShowArgv> = {
  command: 'show <name>',
  describe: "A sink's settings without what is secret, and how far it is",
  builder: (args: Argv) =>
    args
      .options(SINK_FLAGS)
      .positional('name', { type: 'string', demandOption: true, describe: "The sink's name" })
      .strict(false)
      .example('$0 sinks show soc-chat -c dpi-agent.yaml', '')
      .example('$0 sinks show soc-chat -c dpi-agent.yaml -o json | jq .counts.delivered', 'what it has delivered'),
  async handler(argv) {
    const config = readConfig({ ...argv }, OWN);
    const entry = findSink(config, argv.name);
    const settings = settingsOf(entry);
    const progress = await progressOf(config.stateDirectory, entry.name);
    if (argv.output === 'json') {
      const { cursor: _, ...counts } = progress ?? {};
      printJson({ ...describeSink(entry), settings, ...(progress === undefined ? {} : { counts }) });
      return;
    }
    const { name, kind, to, when, quiet } = describeSink(entry);
    printLine(`${name}: ${kind}, ${to}`);
    printLine(`when: ${choiceText(when)}`);
    printLine(`quiet: ${choiceText(quiet)}`);
    for (const [key, value] of Object.entries(settings)) {
      printLine(`${key}: ${stripControls(typeof value === 'string' ? value : JSON.stringify(value))}`);
    }
    if (progress === undefined) return printLine('it has no cursor yet: no agent has run with it');
    const { delivered, deadLettered, evicted, filtered, digested } = progress;
    printLine(
      `delivered ${grouped(delivered)}, refused ${grouped(deadLettered)}, evicted ${grouped(evicted)}, ` +
        `filtered ${grouped(filtered)}, digested ${grouped(digested)}`,
    );
  },
};
