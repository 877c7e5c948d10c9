/** `dpi-agent run`: live capture until SIGTERM or SIGINT. */
import type { Argv, CommandModule } from 'yargs';
import { startAgent, type Agent } from '../agent.ts';
import { zeroCounters, addCounters } from '../capture/protocol.ts';
import { staticEndpoints } from '../config/endpoints.ts';
import type { Config } from '../config/load.ts';
import { EngineError } from '../engine/supervisor.ts';
import { JournalError } from '../journal/journal.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog } from './log.ts';
import { coloursOf, grouped, tableHeader, tableRow } from './print.ts';
import { COMMON_FLAGS, prepareInspection, readConfig } from './setup.ts';

const OWN = ['output', 'interface'];

interface RunArgv {
  output?: string;
  interface?: string[];
}

export const command: CommandModule<object, RunArgv> = {
  command: 'run',
  builder: (args: Argv) =>
    args
      .options(COMMON_FLAGS)
      .option('interface', {
        alias: 'i',
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'Interface to inspect, in addition to the endpoints of the configuration (repeatable)',
      })
      .option('output', {
        alias: 'o',
        choices: ['table', 'json', 'none'],
        describe: 'Events on stdout; table on a terminal, else none [they are in the journal in any case]',
      })
      .strict(false)
      .example('$0 run --interface veth0', 'inspect one interface')
      .example('$0 run --config dpi-agent.yaml', 'the endpoints that the file names')
      .example(
        '$0 run -i veth0 -o json --journal.directory /tmp/journal',
        'events on stdout as NDJSON',
      ) as Argv<RunArgv>,
  handler: run,
};

async function run(argv: RunArgv): Promise<void> {
  const config = withInterfaces(readConfig({ ...argv }, OWN), argv.interface ?? []);
  if (config.endpoints.length === 0) {
    throw new CommandError(
      'nothing to inspect: name an interface (--interface veth0), or endpoints in a configuration file',
    );
  }
  const log = createLog(config);
  const inspection = await prepareInspection(config, log);
  const output = argv.output ?? (process.stdout.isTTY ? 'table' : 'none');
  const colours = coloursOf(process.stdout);
  const stopRequested = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });

  let rows = 0;
  const startedAt = Date.now();
  let agent: Agent | undefined;
  try {
    const starting = startAgent({
      ...inspection,
      config,
      log,
      onEvent(event) {
        if (output === 'json') process.stdout.write(`${JSON.stringify(event)}\n`);
        if (output !== 'table') return;
        if (rows++ === 0) process.stdout.write(`${tableHeader(colours)}\n`);
        process.stdout.write(`${tableRow(event, colours)}\n`);
      },
    });
    agent = await Promise.race([starting, stopRequested.then(() => undefined)]);
    if (agent === undefined) {
      // Asked to end before an engine was ready.
      await starting.then((late) => late.stop());
      return;
    }
  } catch (error) {
    if (error instanceof EngineError) throw new CommandError(error.message, EXIT.failed);
    if (error instanceof JournalError) throw new CommandError(error.message, EXIT.failed);
    throw error;
  }
  for (const endpoint of staticEndpoints(config)) agent.attach(endpoint);

  const signal = await stopRequested;
  log.info({ signal }, 'ending');
  await agent.stop();
  summarise(agent, Date.now() - startedAt, log);
}

/** `--interface` as endpoints of the configuration. */
function withInterfaces(config: Config, interfaces: string[]): Config {
  const known = new Set(config.endpoints.map((endpoint) => endpoint.interface));
  const flags = [...new Set(interfaces)].filter((name) => !known.has(name)).map((name) => ({ interface: name }));
  if (flags.length === 0) return config;
  // Through the schema, for its checks and defaults.
  const { endpoints } = readConfig({ endpoints: flags }, []);
  return { ...config, endpoints: [...config.endpoints, ...endpoints] };
}

function summarise(agent: Agent, millis: number, log: ReturnType<typeof createLog>): void {
  const total = zeroCounters();
  for (const { endpoint, counters } of agent.endpoints()) {
    addCounters(total, counters);
    log.info({ endpoint: endpoint.id, ...counters }, 'endpoint');
  }
  const { journaled, merged } = agent.alerts();
  const dropped = total.droppedKernel + total.droppedQueue + total.droppedEngineDown + total.droppedDetached;
  log.info(
    { seconds: Math.round(millis / 1000), ...total, alerts: agent.alerts() },
    `${grouped(total.received)} packets received, ${grouped(total.forwarded)} inspected, ${grouped(dropped)} dropped, ` +
      `${grouped(journaled)} events${merged > 0 ? `, ${grouped(merged)} merged` : ''}`,
  );
}
