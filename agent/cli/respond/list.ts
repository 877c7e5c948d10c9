/** `dpi-agent respond list`: which pods are isolated. */
import type { Argv, CommandModule } from 'yargs';
import { listIsolations } from '../../respond/isolate.ts';
import type { KnownIsolation } from '../../respond/isolation.ts';
import { columnsOf } from '../print.ts';
import { readConfig } from '../setup.ts';
import { tableLines, type Cell } from '../table.ts';
import { actingOf, asCommand, printJson, printLines, RESPOND_FLAGS } from './common.ts';

const OWN = ['namespace', 'output'];

interface ListArgv {
  namespace?: string;
  output: string;
}

export const command: CommandModule<object, ListArgv> = {
  command: 'list',
  describe: 'The isolated pods: until when, by whom and why',
  builder: (args: Argv) =>
    args
      .options(RESPOND_FLAGS)
      .option('namespace', { alias: 'n', type: 'string', describe: 'Of this namespace [all of them]' })
      .strict(false)
      .example('$0 respond list', '')
      .example('$0 respond list -n shop -o json | jq -r .[].pod', 'for programs') as unknown as Argv<ListArgv>,
  async handler(argv) {
    const acting = await actingOf(readConfig({ ...argv }, OWN));
    const isolations = await asCommand(() => listIsolations(acting.client, argv.namespace));
    if (argv.output === 'json') printJson(isolations);
    else if (isolations.length === 0) printLines([['no pod is isolated']]);
    else
      printLines(
        tableLines(['POD', 'LETS', 'UNTIL', 'BY', 'REASON'], isolations.map(row), columnsOf(process.stdout), [
          'LETS',
          'BY',
        ]),
      );
  },
};

function row({ namespace, pod, allow, until, by, reason }: KnownIsolation): Cell[] {
  const isOver = Date.parse(until) <= Date.now();
  const shown = until.replace(/\.\d+Z$/, 'Z');
  return [`${namespace}/${pod}`, allow, isOver ? { text: `over ${shown}`, paint: 'yellow' } : shown, by, reason];
}
