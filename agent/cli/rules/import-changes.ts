/**
 * `dpi-agent rules import-changes`: takes over what pulledpork or suricata-update were told to turn on, off or change.
 */
import { basename } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import { addChanges, readText } from '../../rulesets/changes.ts';
import { actionOfFile, importChanges, type ImportedAction } from '../../rulesets/import-changes.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { grouped, plural } from '../print.ts';
import { place, readConfig } from '../setup.ts';
import { failing, OWN, printJson, printLine, RULES_FLAGS } from './common.ts';

interface ImportArgv {
  file: string;
  as: ImportedAction | undefined;
  dryRun: boolean;
  output: string;
}

export const command: CommandModule<object, ImportArgv> = {
  command: 'import-changes <file>',
  describe: 'Take over a disablesid, enablesid or modifysid file of pulledpork or suricata-update',
  builder: (args: Argv) =>
    args
      .positional('file', {
        type: 'string',
        demandOption: true,
        describe: 'disablesid.conf, enable.conf, modify.conf …',
      })
      .options({ config: RULES_FLAGS.config, output: RULES_FLAGS.output })
      .option('as', {
        choices: ['enable', 'disable', 'modify'] as const,
        describe: "What its lines do; default: by the file's name",
      })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Print the lines, and write nothing' })
      .option('ruleChanges', { type: 'string', describe: "The file to add to; default: the configuration's" })
      .strict(false)
      .example('$0 rules import-changes /etc/pulledpork/disablesid.conf --dry-run', 'what it would add')
      .example(
        '$0 rules import-changes old.txt --as disable',
        'a file whose name does not say it',
      ) as unknown as Argv<ImportArgv>,
  async handler(argv) {
    const config = readConfig({ ...argv }, [...OWN, 'file', 'as', 'dryRun']);
    const { file } = argv;
    const action = argv.as ?? actionOfFile(basename(file));
    if (action === undefined) {
      throw new CommandError(
        `${stripControls(file)}: its name does not say what its lines do: expected --as enable, disable or modify`,
      );
    }
    const text = await failing(() => readText(file));
    if (text === undefined) throw new CommandError(`${stripControls(file)}: there is no such file`);
    const { lines, problems } = importChanges(text, action);
    const added = argv.dryRun ? lines : await failing(() => addChanges(config.ruleChanges, lines), EXIT.failed);
    process.exitCode = problems.length === 0 ? EXIT.ok : EXIT.failed;
    if (argv.output === 'json') {
      printJson({ file: config.ruleChanges, added, alreadyThere: lines.length - added.length, problems });
      return;
    }
    if (argv.dryRun) for (const line of lines) printLine(stripControls(line));
    for (const { line, reason } of problems)
      process.stderr.write(`dpi-agent: not taken over: ${stripControls(`${place({ file, line })}: ${reason}`)}\n`);
    const there = lines.length - added.length;
    process.stderr.write(
      `dpi-agent: ${config.ruleChanges}: ${plural(added.length, 'line')} ${argv.dryRun ? 'would be ' : ''}added` +
        `${there === 0 ? '' : `, ${grouped(there)} were there`}, ${grouped(problems.length)} not taken over\n`,
    );
  },
};
