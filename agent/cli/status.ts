/** `dpi-agent status`: a running agent at a glance. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Argv, CommandModule } from 'yargs';
import { errorCode, messageOf } from '../files/errors.ts';
import { askStatus, type Address } from '../observe/ask.ts';
import type { Snapshot } from '../observe/snapshot.ts';
import { stripControls } from '../text.ts';
import { CommandError, EXIT } from './exit.ts';
import { coloursOf, columnsOf } from './print.ts';
import { COMMON_FLAGS, readConfig, socketOf } from './setup.ts';
import { statusLines } from './status-view.ts';
import { SAMPLE_MILLIS, watchStatus } from './status-watch.ts';

const TIMEOUT_MILLIS = 5_000;

interface StatusArgv {
  socket?: string;
  url?: string;
  watch: boolean;
  interval: string;
  output: string;
}

const OWN = ['socket', 'url', 'watch', 'interval', 'output'];

export const command: CommandModule<object, StatusArgv> = {
  command: 'status',
  builder: (args: Argv) =>
    args
      .options({ config: COMMON_FLAGS.config })
      .option('socket', {
        type: 'string',
        describe: "The agent's socket [as the configuration says: agent.sock in stateDirectory]",
        normalize: true,
      })
      .option('url', { type: 'string', describe: 'Address of its probes instead, such as http://127.0.0.1:9097' })
      .option('watch', { alias: 'w', type: 'boolean', default: false, describe: 'Refresh until Ctrl-C or q' })
      .option('interval', {
        type: 'string',
        default: '2',
        describe: 'Seconds between refreshes, at least 1',
      })
      .option('output', {
        alias: 'o',
        choices: ['table', 'json'],
        default: 'table',
        describe: 'json: the whole snapshot; with --watch one a line',
      })
      .conflicts('socket', 'url')
      .strict(false)
      .example('$0 status', 'the agent of this machine')
      .example('$0 status --watch', 'the same, like top')
      .example("$0 status -o json | jq '.endpoints[] | {id, state}'", 'for programs')
      .example('kubectl exec -n tigera-dpi <pod> -- $0 status', 'of a node of a cluster') as Argv<StatusArgv>,
  async handler(argv) {
    const address = addressOf(argv);
    const interval = Number(argv.interval);
    if (!(interval >= 1 && interval <= 3600)) throw new CommandError('--interval: expected 1 to 3600 seconds');
    if (argv.watch) await watchStatus(() => ask(address), argv.output, interval);
    else await show(address, argv.output);
  },
};

function addressOf(argv: StatusArgv): Address {
  const config = readConfig({ ...argv }, OWN);
  if (argv.socket !== undefined) return { socket: argv.socket };
  if (argv.url === undefined) return { socket: socketOf(config) };
  if (!/^https?:$/.test(URL.canParse(argv.url) ? new URL(argv.url).protocol : '')) {
    throw new CommandError(`--url: ${JSON.stringify(argv.url)} is no URL such as http://127.0.0.1:9097`);
  }
  return { url: argv.url };
}

async function show(address: Address, output: string): Promise<void> {
  const first = await ask(address);
  if (output === 'json') {
    process.stdout.write(`${JSON.stringify(first, null, 2)}\n`);
    return;
  }
  let second = first;
  if (first.endpoints.length > 0) {
    await sleep(SAMPLE_MILLIS);
    second = await ask(address);
  }
  const lines = statusLines(second, first, {
    colours: coloursOf(process.stdout),
    columns: columnsOf(process.stdout),
  });
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** Without control characters in any of its texts. @throws CommandError when no agent answers. */
async function ask(address: Address): Promise<Snapshot> {
  try {
    return clean(await askStatus(address, TIMEOUT_MILLIS)) as Snapshot;
  } catch (error) {
    const where = 'socket' in address ? address.socket : address.url;
    const hint = {
      ENOENT:
        'there is no such socket: is the agent running? Name its configuration (--config), its socket (--socket) or its address (--url)',
      ECONNREFUSED: 'nobody listens: is the agent running?',
      EACCES: "the socket is its user's: run this as the agent's user, mostly root",
    }[errorCode(error) ?? ''];
    throw new CommandError(`no agent answers at ${where}: ${stripControls(hint ?? messageOf(error))}`, EXIT.failed);
  }
}

function clean(value: unknown): unknown {
  if (typeof value === 'string') return stripControls(value);
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [stripControls(key), clean(item)]));
}
