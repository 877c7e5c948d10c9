/** `dpi-agent rules`: what rules there are, what they say, and what is to be done with them. One file a subcommand. */
import type { Argv, CommandModule } from 'yargs';
import { command as diff } from './rules/diff.ts';
import { command as disable } from './rules/disable.ts';
import { command as enable } from './rules/enable.ts';
import { command as check } from './rules/check.ts';
import { command as importChanges } from './rules/import-changes.ts';
import { command as list } from './rules/list.ts';
import { command as noisy } from './rules/noisy.ts';
import { command as rollback } from './rules/rollback.ts';
import { command as serve } from './rules/serve.ts';
import { command as show } from './rules/show.ts';
import { command as test } from './rules/test.ts';
import { command as update } from './rules/update.ts';

export const command: CommandModule = {
  command: 'rules',
  builder: (args: Argv) =>
    [list, show, check, diff, update, rollback, serve, test, enable, disable, importChanges, noisy]
      .reduce((parser, subcommand) => parser.command(subcommand as unknown as CommandModule), args)
      .demandCommand(1, 'Name a command; dpi-agent rules --help lists them.')
      .example('$0 rules list', 'the sets, and how many rules each has')
      .example('$0 rules show 21562', 'one rule in plain words')
      .example('$0 rules update', 'download the rules of the configured sources'),
  handler: () => undefined,
};
