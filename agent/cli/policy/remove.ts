/** `dpi-agent policy remove`: takes entries out by their names. */
import type { Argv, CommandModule } from 'yargs';
import { stripControls } from '../../text.ts';
import { readConfig } from '../setup.ts';
import { printJson, printLine } from '../rules/common.ts';
import { openTuning, POLICY_FLAGS, withReasons, wordsOf } from './common.ts';

interface RemoveArgv {
  output: string;
  names: string[];
}

export const command: CommandModule<object, RemoveArgv> = {
  command: 'remove <names..>',
  describe: 'Take entries out: their alerts pass again',
  builder: (args: Argv) =>
    args
      .positional('names', { type: 'string', array: true, demandOption: true, describe: 'As policy list has them' })
      .options(POLICY_FLAGS)
      .option('alerts.policy', { type: 'string', describe: "The policy's file; default: the configuration's" })
      .strict(false)
      .example('$0 policy remove suppress-408', 'its alerts become events again'),
  async handler(argv) {
    const tuning = await openTuning(readConfig({ ...argv }, ['output', 'names']));
    const removed = [];
    for (const name of argv.names) removed.push(await withReasons(() => tuning.remove(name)));
    if (argv.output === 'json') return printJson(removed);
    for (const entry of removed) printLine(`removed ${stripControls(`${entry.name}: ${wordsOf(entry)}`)}`);
  },
};
