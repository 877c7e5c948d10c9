/** `dpi-agent respond isolate`: cuts a pod off, and says before what would be cut. */
import type { Argv, CommandModule } from 'yargs';
import { parseDuration } from '../../config/leaves.ts';
import { shown } from '../../config/text.ts';
import { isolate, openText, type Done } from '../../respond/isolate.ts';
import { PASSAGES, type Passage } from '../../respond/isolation.ts';
import type { Cut } from '../../respond/cut.ts';
import { CommandError, EXIT } from '../exit.ts';
import { columnsOf, plural } from '../print.ts';
import { readConfig } from '../setup.ts';
import { foldLine, type Line } from '../table.ts';
import { actingOf, asCommand, POD_ARGUMENT, podOf, printJson, printLines, RESPOND_FLAGS } from './common.ts';

const OWN = ['pod', 'for', 'allow', 'reason', 'alert', 'partly', 'detach', 'dry-run', 'dryRun', 'output'];
const LEAST_MILLIS = 60_000;

interface IsolateArgv {
  pod: string;
  for: string;
  allow: Passage;
  reason: string;
  alert?: string;
  partly: boolean;
  detach: boolean;
  dryRun: boolean;
  output: string;
}

export const command: CommandModule<object, IsolateArgv> = {
  command: 'isolate <pod>',
  describe: 'Cut a pod off the network, until it is released or its time is over',
  builder: (args: Argv) =>
    args
      .positional('pod', POD_ARGUMENT)
      .options(RESPOND_FLAGS)
      .option('for', { type: 'string', default: '1h', describe: 'Until it is released by itself: 30m, 2h, 1d' })
      .option('allow', { choices: PASSAGES, default: 'nothing', describe: 'What still goes through' })
      .option('reason', { type: 'string', default: 'by hand', describe: 'Why, for others' })
      .option('alert', { type: 'string', describe: 'Id of the alert that it is about' })
      .option('partly', {
        type: 'boolean',
        default: false,
        describe: 'Also where other policies go on letting traffic through',
      })
      .option('detach', {
        type: 'boolean',
        default: false,
        describe: 'Take the labels from it by which such policies select it, until it is released',
      })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Say what would be cut, and change nothing' })
      .strict(false)
      .example('$0 respond isolate shop/cart-0 --dry-run', 'what would be cut')
      .example('$0 respond isolate shop/cart-0 --for 2h --reason "C2 beacon"', 'cut it off for two hours')
      .example('$0 respond isolate shop/cart-0 --allow dns', 'names are still answered')
      .example('$0 respond isolate shop/cart-0 --detach', 'also where other policies let traffic through')
      .example('$0 respond isolate shop/cart-0 --dry-run -o json | jq .cut.services', 'for programs')
      .epilogue(
        'It takes your own rights: get pods, list services, pods and networkpolicies, create networkpolicies, patch pods. ' +
          'Exit codes: 0 isolated, or --dry-run and nothing stays open; 1 not isolated, or something stays open; 2 wrong arguments.',
      ) as unknown as Argv<IsolateArgv>,
  handler: run,
};

async function run(argv: IsolateArgv): Promise<void> {
  const config = readConfig({ ...argv }, OWN);
  const { allow, reason, alert, partly, detach, dryRun } = argv;
  const forMillis = forOf(argv.for, config.respondServing.maxFor);
  const wish = {
    ...podOf(argv.pod),
    allow,
    reason,
    ...(alert === undefined ? {} : { alert }),
    partly,
    detach,
    dryRun,
    forMillis,
    by: userName(),
    origin: 'person',
  } as const;
  const acting = await actingOf(config);
  const done = await asCommand(() => isolate(acting, wish));
  if (argv.output === 'json') printJson(done);
  else printLines(doneLines(done, allow));
  if (dryRun && done.cut.open.length > 0 && !partly && !detach) {
    if (argv.output !== 'json') process.stderr.write(`dpi-agent: ${openText(done.cut)}\n`);
    process.exitCode = EXIT.failed;
  }
}

/** @throws CommandError */
function forOf(text: string, most: number): number {
  const millis = parseDuration(text);
  if (millis === undefined || millis < LEAST_MILLIS || millis > most)
    throw new CommandError(
      `--for: ${shown(text)}: expected a time from 1m to ${most / 3_600_000}h (respondServing.maxFor), such as 1h`,
    );
  return Math.round(millis);
}

/** Who says so; what counts is what the API server's audit log has. */
function userName(): string {
  return process.env['SUDO_USER'] ?? process.env['USER'] ?? process.env['LOGNAME'] ?? 'somebody at the command line';
}

function doneLines({ cut, isolation }: Done, allow: Passage): Line[] {
  const columns = columnsOf(process.stdout);
  const head = isolation === undefined ? 'would isolate' : 'isolated';
  const until = isolation === undefined ? '' : ` until ${isolation.until}`;
  const what = allow === 'dns' ? 'all but DNS' : 'all traffic';
  return [
    [{ text: `${head} ${cut.namespace}/${cut.pod}${until}`, paint: 'bold' } as const],
    ...cutLines(cut, what),
    ...labelLines(isolation?.labels),
  ].flatMap((line) => foldLine(line, columns, 2));
}

function labelLines(taken: Readonly<Record<string, string>> = {}): Line[] {
  const names = Object.entries(taken).map(([key, value]) => `${key}=${value}`);
  return names.length === 0 ? [] : [[`  taken from it until it is released by hand: ${names.join(' ')}`]];
}

function cutLines({ node, addresses, engine, services, open, notes }: Cut, what: string): Line[] {
  return [
    [
      `  ${what}, to and from ${addresses.join(', ') || 'no address yet'} on ${node || 'no node yet'}, by a policy of ${engine}`,
    ],
    ...services.map(({ name, others }): Line => [`  Service ${name}: ${plural(others, 'other ready pod')}`]),
    ...open.map(({ policy, direction }): Line => [
      { text: `  stays open: ${direction} that policy ${policy} allows`, paint: 'yellow' },
    ]),
    ...notes.map((note): Line => [{ text: `  ${note}`, paint: 'dim' }]),
  ];
}
