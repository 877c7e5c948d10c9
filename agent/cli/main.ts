/** The command line: one file a command. */
import yargs, { type Argv, type CommandModule } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { checkCommand, checkWords } from './check-words.ts';
import { COMMANDS } from './commands.ts';
import { CommandError, endWithReader, EXIT } from './exit.ts';
import { helpText } from './help.ts';
import { commandOf, listedManual, manualOf, PROGRAM, type Manual } from './manual.ts';
import { columnsOf } from './print.ts';
import { version } from './version.ts';

// The engine's user must be able to read what is made for it, whatever the shell's mask.
process.umask(0o022);

// yargs drops a lone dash: https://github.com/yargs/yargs/issues/1312
const words = hideBin(process.argv).map((word) => (word === '-' ? '/dev/stdin' : word));

process.stdout.on('error', endWithReader);

try {
  const names = (Object.keys(COMMANDS) as (keyof typeof COMMANDS)[]).filter((name) => words.includes(name));
  const asked = await Promise.all(names.map(manualOf));
  const manual = { ...listedManual(), commands: listedManual().commands.map((listed) => askedOr(listed, asked)) };
  const own = words.slice(0, words.includes('--') ? words.indexOf('--') : undefined);
  const current = commandOf(manual, own);
  const others = own.filter((word) => word !== '--help' && word !== '-h');
  if (others.length < own.length) {
    checkCommand(current, others);
    process.stdout.write(helpText(current, columnsOf(process.stdout)));
  } else {
    await checkWords(current, own);
    const parser = createParser(words);
    for (const [name, { describe, load }] of Object.entries(COMMANDS)) {
      if (words.includes(name)) parser.command({ ...(await load()).command, describe } as CommandModule);
      else parser.command(name, describe);
    }
    await parser.parseAsync();
  }
} catch (error) {
  if (error instanceof CommandError) {
    for (const line of error.message.split('\n')) process.stderr.write(`dpi-agent: ${line}\n`);
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`dpi-agent: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = EXIT.failed;
  }
}

function askedOr(listed: Manual, asked: readonly Manual[]): Manual {
  return asked.find(({ path }) => path[0] === listed.path[0]) ?? listed;
}

function createParser(given: readonly string[]): Argv {
  return (
    yargs([...given])
      .scriptName(PROGRAM)
      // Keys of the configuration are flags with dots, and its schema converts their values.
      .parserConfiguration({ 'dot-notation': false, 'parse-numbers': false, 'parse-positional-numbers': false })
      .demandCommand(1, 'Name a command; dpi-agent --help lists them.')
      .strict()
      .help(false)
      .version(version())
      .alias('v', 'version')
      .exitProcess(false)
      .fail((message, error) => {
        throw error ?? new CommandError(`${message}\nSee dpi-agent --help.`);
      })
  );
}
