/** `dpi-agent respond release`: lets an isolated pod go. */
import type { Argv, CommandModule } from 'yargs';
import { listIsolations, release } from '../../respond/isolate.ts';
import { CommandError, EXIT } from '../exit.ts';
import { readConfig } from '../setup.ts';
import { actingOf, asCommand, podOf, printJson, printLines, RESPOND_FLAGS } from './common.ts';

const OWN = ['pod', 'reason', 'expired', 'dry-run', 'dryRun', 'output'];

interface ReleaseArgv {
  pod?: string;
  reason: string;
  expired: boolean;
  dryRun: boolean;
  output: string;
}

export const command: CommandModule<object, ReleaseArgv> = {
  command: 'release [pod]',
  describe: 'Let an isolated pod go',
  builder: (args: Argv) =>
    args
      .positional('pod', { type: 'string', describe: 'Namespace and name: shop/cart-0' })
      .options(RESPOND_FLAGS)
      .option('expired', {
        type: 'boolean',
        default: false,
        describe: 'All whose time is over, in place of a pod: where nothing runs that does it',
      })
      .option('reason', { type: 'string', default: 'by hand', describe: 'Why, for others' })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Say which, and change nothing' })
      .strict(false)
      .example('$0 respond release shop/cart-0', '')
      .example('$0 respond release --expired --dry-run', 'whose time is over')
      .epilogue(
        'Exit codes: 0 released, or --expired and nothing was over; 1 not isolated, or not released; 2 wrong arguments.',
      ) as unknown as Argv<ReleaseArgv>,
  handler: run,
};

async function run(argv: ReleaseArgv): Promise<void> {
  const { pod: named, expired, reason, dryRun } = argv;
  if ((named === undefined) !== expired) throw new CommandError('name a pod, such as shop/cart-0, or --expired');
  const asked = named === undefined ? undefined : podOf(named);
  const acting = await actingOf(readConfig({ ...argv }, OWN));
  const released = await asCommand(async () => {
    const there = await listIsolations(acting.client, asked?.namespace);
    const wanted = there.filter(({ pod, until }) =>
      asked === undefined ? Date.parse(until) <= Date.now() : pod === asked.pod,
    );
    if (!dryRun) for (const one of wanted) await release(acting, one, expired ? 'its time is over' : reason);
    return wanted;
  });
  if (argv.output === 'json') printJson(released);
  else
    printLines(released.map(({ namespace, pod }) => [`${dryRun ? 'would release' : 'released'} ${namespace}/${pod}`]));
  if (asked !== undefined && released.length === 0) throw new CommandError(`${named} is not isolated`, EXIT.failed);
}
