/** The command line: one file a command. */
import yargs, { type CommandModule } from 'yargs';
import { hideBin } from 'yargs/helpers';
import { CommandError, endWithReader, EXIT } from './exit.ts';
import { version } from './version.ts';

/** Commands by name: what the list of them says, and where they are. Only the one that is asked for is loaded. */
const COMMANDS = {
  run: {
    describe: 'Inspect the traffic of pods or interfaces until SIGTERM or SIGINT',
    load: () => import('./run.ts'),
  },
  status: {
    describe: 'Show what a running agent inspects, at what rates, and what is wrong',
    load: () => import('./status.ts'),
  },
  replay: {
    describe: 'Inspect recorded packets (pcap, pcapng, also gzip) and print the alerts',
    load: () => import('./replay.ts'),
  },
  check: {
    describe: 'Check configuration, engine, rules, rights and interfaces without starting',
    load: () => import('./check.ts'),
  },
  doctor: {
    describe: 'Find out what keeps this machine from inspecting, with the command that mends it',
    load: () => import('./doctor.ts'),
  },
  explain: {
    describe: 'Show which pods a selector would inspect, and why not the others',
    load: () => import('./explain.ts'),
  },
  ui: {
    describe: 'Serve the Alerts page: search, follow and handle alerts in a browser',
    load: () => import('./ui.ts'),
  },
  rules: {
    describe: 'Show, check, test, update, enable and disable rules; find the noisy ones',
    load: () => import('./rules.ts'),
  },
  operator: {
    describe: 'Keep the DaemonSet of a cluster as its resources want it, until SIGTERM or SIGINT',
    load: () => import('./operator.ts'),
  },
  events: {
    describe: 'Search the journal and follow it; send again what a sink refused',
    load: () => import('./events.ts'),
  },
} as const;

// The engine's user must be able to read what is made for it, whatever the shell's mask.
process.umask(0o022);

// yargs drops a lone dash: https://github.com/yargs/yargs/issues/1312
const words = hideBin(process.argv).map((word) => (word === '-' ? '/dev/stdin' : word));

const parser = yargs(words)
  .scriptName('dpi-agent')
  // Keys of the configuration are flags with dots, and its schema converts their values.
  .parserConfiguration({ 'dot-notation': false, 'parse-numbers': false, 'parse-positional-numbers': false })
  .usage('$0 <command>\n\nInspects the traffic of chosen pods with Snort 3 or Suricata and writes security events.')
  .demandCommand(1, 'Name a command; dpi-agent --help lists them.')
  .strict()
  .version(version())
  .alias('h', 'help')
  .alias('v', 'version')
  .epilogue(
    'Exit codes: 0 done, 1 done in part or failed, 2 wrong arguments, configuration or input.\n' +
      'Every key of the configuration is also a flag (--capture.ringSize 4MiB) and an environment variable\n' +
      '(DPI_AGENT_CAPTURE_RING_SIZE); docs/configuration.md lists them.',
  )
  .wrap(Math.min(110, process.stdout.columns ?? 110))
  .exitProcess(false)
  .fail((message, error) => {
    throw error ?? new CommandError(`${message}\nSee dpi-agent --help.`);
  });

for (const [name, { describe, load }] of Object.entries(COMMANDS)) {
  if (words.includes(name)) parser.command({ ...(await load()).command, describe } as CommandModule);
  else parser.command(name, describe);
}

process.stdout.on('error', endWithReader);

try {
  await parser.parseAsync();
} catch (error) {
  if (error instanceof CommandError) {
    for (const line of error.message.split('\n')) process.stderr.write(`dpi-agent: ${line}\n`);
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`dpi-agent: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = EXIT.failed;
  }
}
