/** `dpi-agent policy list`: what is suppressed, limited and off. */
import type { Argv, CommandModule } from 'yargs';
import { coloursOf, columnsOf } from '../print.ts';
import { readConfig } from '../setup.ts';
import { tableLines, paintLine, type Cell } from '../table.ts';
import { printJson, printLine } from '../rules/common.ts';
import { openTuning, POLICY_FLAGS, withReasons, wordsOf } from './common.ts';

interface ListArgv {
  output: string;
}

export const command: CommandModule<object, ListArgv> = {
  command: 'list',
  describe: 'What is suppressed, limited and off, by whom and why',
  builder: (args: Argv) =>
    args
      .options(POLICY_FLAGS)
      .option('alerts.policy', { type: 'string', describe: "The policy's file; default: the configuration's" })
      .strict(false)
      .example('$0 policy list', 'as a table'),
  async handler(argv) {
    const tuning = await openTuning(readConfig({ ...argv }, ['output']));
    const entries = await withReasons(() => tuning.list());
    if (argv.output === 'json') return printJson({ where: tuning.where, entries });
    if (entries.length === 0) return printLine(`${tuning.where}: nothing is suppressed, limited or off`);
    const colours = coloursOf(process.stdout);
    const columns = columnsOf(process.stdout);
    const rows = entries.map((entry): Cell[] => [
      entry.name,
      entry.kind === 'threshold' ? 'limit' : entry.kind,
      entry.by ?? '',
      entry.reason ?? '',
      wordsOf(entry),
    ]);
    const lines = tableLines(['NAME', 'KIND', 'BY', 'REASON', 'WHAT'], rows, columns, ['BY', 'REASON']);
    for (const line of lines) printLine(paintLine(line, columns, colours));
  },
};
