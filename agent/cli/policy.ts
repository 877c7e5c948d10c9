/** `dpi-agent policy`: what makes alerts fewer. One file a subcommand. */
import type { Argv, CommandModule } from 'yargs';
import { command as add } from './policy/add.ts';
import { command as list } from './policy/list.ts';
import { command as remove } from './policy/remove.ts';

export const command: CommandModule = {
  command: 'policy',
  builder: (args: Argv) =>
    [list, add, remove]
      .reduce((parser, subcommand) => parser.command(subcommand as unknown as CommandModule), args)
      .demandCommand(1, 'Name a command; dpi-agent policy --help lists them.')
      .example('$0 policy list', 'what is suppressed, limited and off, by whom and why')
      .example('$0 policy add suppress --signature 1:408 --pod ci/runner-* --until 7d --reason scanner', 'for a week'),
  handler: () => undefined,
};
