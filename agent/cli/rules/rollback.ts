/** `dpi-agent rules rollback`: a rule set back to the version before, and free again for its source. */
import type { Argv, CommandModule } from 'yargs';
import { UpdateError } from '../../rulesets/fetch.ts';
import { setOf } from '../../rulesets/sources.ts';
import { releasePin, rollBack } from '../../rulesets/update.ts';
import { CommandError, EXIT } from '../exit.ts';
import { plural } from '../print.ts';
import { readConfig } from '../setup.ts';
import { OWN, printJson, printLine, RULES_FLAGS, setNamed } from './common.ts';

interface RollbackArgv {
  set: string;
  release: boolean;
  output: string;
}

const { config, output } = RULES_FLAGS;

export const command: CommandModule<object, RollbackArgv> = {
  command: 'rollback [set]',
  describe: 'Back to the version of a rule set before, which stays until it is released',
  builder: (args: Argv) =>
    args
      .positional('set', { type: 'string', default: 'community', describe: 'The rule set, or its source' })
      .options({ config, output })
      .option('release', { type: 'boolean', default: false, describe: 'Let its source bring new versions again' })
      .strict(false)
      .example('$0 rules rollback community', 'the version before; once more: forward again')
      .example('$0 rules rollback community --release', 'its source may change it again'),
  async handler(argv) {
    const { rulesDirectory, ruleSources } = readConfig({ ...argv }, [...OWN, 'set', 'release']);
    const source = ruleSources.find(({ name }) => name === argv.set);
    const set = setNamed('argument set', source === undefined ? argv.set : setOf(source));
    const isJson = argv.output === 'json';
    if (!argv.release) return rollBackSet(rulesDirectory, set, isJson);
    const released = await releasePin(rulesDirectory, set);
    if (isJson) printJson({ set, released });
    else printLine(`${set}: ${released ? 'its source brings new versions again' : 'it was not pinned'}`);
  },
};

/** Likewise for `rules update --rollback`. @throws CommandError */
export async function rollBackSet(rulesDirectory: string, set: string, isJson: boolean): Promise<void> {
  try {
    const former = await rollBack(rulesDirectory, set);
    if (isJson) printJson({ set, ...former, changed: true, pinned: true });
    else {
      printLine(`${set}: back to version ${former.version}, ${plural(former.rules, 'rule')}`);
      printLine(`it stays so until: dpi-agent rules rollback ${set} --release`);
    }
  } catch (error) {
    if (error instanceof UpdateError) throw new CommandError(error.message, EXIT.failed);
    throw error;
  }
}
