/** `dpi-agent respond`: cuts pods off the network, and lets them go. One file a subcommand. */
import type { Argv, CommandModule } from 'yargs';
import { command as isolate } from './respond/isolate.ts';
import { command as list } from './respond/list.ts';
import { command as release } from './respond/release.ts';
import { command as serve } from './respond/serve.ts';

export const command: CommandModule = {
  command: 'respond',
  builder: (args: Argv) =>
    [isolate, release, list, serve]
      .reduce((parser, subcommand) => parser.command(subcommand as unknown as CommandModule), args)
      .demandCommand(1, 'Name a command; dpi-agent respond --help lists them.')
      .example('$0 respond isolate shop/cart-0 --dry-run', 'what would be cut')
      .example('$0 respond isolate shop/cart-0 --for 2h --reason "C2 beacon"', 'cut it off for two hours')
      .example('$0 respond list', 'what is isolated, until when, and by whom')
      .example('$0 respond release shop/cart-0', 'let it go'),
  handler: () => undefined,
};
