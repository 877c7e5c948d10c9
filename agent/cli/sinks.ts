/** `dpi-agent sinks`: where events go. One file a subcommand. */
import type { Argv, CommandModule } from 'yargs';
import { command as list } from './sinks/list.ts';
import { command as show } from './sinks/show.ts';
import { command as test } from './sinks/test.ts';

export const command: CommandModule = {
  command: 'sinks',
  builder: (args: Argv) =>
    [list, show, test]
      .reduce((parser, subcommand) => parser.command(subcommand as unknown as CommandModule), args)
      .demandCommand(1, 'Name a command; dpi-agent sinks --help lists them.')
      .example('$0 sinks list -c dpi-agent.yaml', 'all of them, and which events they take')
      .example('$0 sinks test soc-chat -c dpi-agent.yaml', 'send a test message, and see the answer')
      .example('$0 sinks show soc-chat -c dpi-agent.yaml', 'its settings, and how far it is'),
  handler: () => undefined,
};
