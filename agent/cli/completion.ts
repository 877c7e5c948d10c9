/** `dpi-agent completion`: what a shell needs to complete commands, flags and their values. */
import type { Argv, CommandModule } from 'yargs';
import { describeConfig } from '../config/describe.ts';
import { bashScript } from './completion/bash.ts';
import { completionOf } from './completion/completion.ts';
import { fishScript } from './completion/fish.ts';
import { zshScript } from './completion/zsh.ts';
import { wholeManual } from './manual.ts';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript };

interface CompletionArgv {
  shell: keyof typeof SCRIPTS;
}

export const command: CommandModule<object, CompletionArgv> = {
  command: 'completion <shell>',
  builder: (args: Argv) =>
    args
      .positional('shell', { choices: ['bash', 'zsh', 'fish'] as const, demandOption: true, describe: 'Which shell' })
      .example('source <($0 completion bash)', 'in this shell; in ~/.bashrc for all')
      .example('$0 completion zsh > "${fpath[1]}/_dpi-agent"', 'for zsh, whose compinit finds it')
      .example('$0 completion fish > ~/.config/fish/completions/dpi-agent.fish', 'for fish'),
  async handler({ shell }) {
    // What no variable can hold, no flag can.
    const keys = describeConfig().flatMap(({ key, env }) => (env === undefined ? [] : [key]));
    process.stdout.write(SCRIPTS[shell](completionOf(await wholeManual(), keys)));
  },
};
