/** `dpi-agent run`: live capture until SIGTERM or SIGINT. */
import type { Logger } from 'pino';
import type { Argv, CommandModule } from 'yargs';
import { startAgent, type Agent } from '../agent.ts';
import type { AskedResponse } from '../alerting.ts';
import { zeroCounters, addCounters, lostOf } from '../capture/protocol.ts';
import { staticEndpoints } from '../config/endpoints.ts';
import { loadConfig, type Config } from '../config/load.ts';
import { EngineError } from '../engine/supervisor.ts';
import type { EeEvent } from '../events/event.ts';
import { JournalError } from '../journal/journal.ts';
import type { ApiClient } from '../kube/api.ts';
import type { LiveRules } from '../rulesets/live.ts';
import { createWishes } from '../respond/wishes.ts';
import { leaveUnproven } from '../rulesets/unproven.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog, setLevel } from './log.ts';
import { coloursOf, columnsOf, grouped, plural, tableHeader, tableRow } from './print.ts';
import { followNetworks, followSelectedPods } from './run/cluster.ts';
import { observe } from './run/observe.ts';
import { followConfig, withConfiguration, type Reload } from './run/reload.ts';
import {
  CLUSTER_FLAGS,
  COMMON_FLAGS,
  configSources,
  connect,
  interfaceFlag,
  followsCluster,
  openLiveRules,
  prepareInspection,
  readConfig,
  unlessWrong,
  type Inspection,
} from './setup.ts';
import { bringFirstRules, startRuleSources, withRules, type FollowedSources } from './rule-sources.ts';
import { logUnusedSets } from './rules/use.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
import { lockState } from './state-lock.ts';

const OWN = ['output', 'interface'];
const ENGINE_STARTS = 'the engine is starting';

interface RunArgv {
  config?: string;
  output?: string;
  interface?: string[];
}

export const command: CommandModule<object, RunArgv> = {
  command: 'run',
  builder: (args: Argv) =>
    args
      .options({ ...COMMON_FLAGS, ...CLUSTER_FLAGS })
      .option('interface', interfaceFlag('Interface to inspect, in addition to the endpoints of the configuration'))
      .option('output', {
        alias: 'o',
        choices: ['table', 'json', 'none'],
        describe: 'Events on stdout; table on a terminal, else none [they are in the journal in any case]',
      })
      .strict(false)
      .example('$0 run --interface veth0', 'inspect one interface')
      .example('$0 run --config dpi-agent.yaml', 'the endpoints that the file names')
      .example('$0 run --kubeconfig admin.conf --node worker-1', 'the pods of this node that resources select')
      .example(
        '$0 run -i veth0 -o json --stateDirectory /tmp/dpi --journal.directory /tmp/dpi/journal',
        'events on stdout as NDJSON; beside another agent, as both folders are its own',
      ) as Argv<RunArgv>,
  handler: run,
};

async function run(argv: RunArgv): Promise<void> {
  const load = () => loadWithInterfaces(argv);
  const config = unlessWrong(load());
  const follows = followsCluster(config);
  if (config.endpoints.length === 0 && !follows) {
    throw new CommandError(
      'nothing to inspect: name an interface (--interface veth0), endpoints in a configuration file, or a cluster (--kubeconfig)',
    );
  }
  const log = createLog(config);
  const client = follows ? await connect(config) : undefined;
  const inspection = await prepareInspection(config, log);
  // Before anything is written: rules, engines and alerts of another agent may be there.
  const unlock = await lockState(config, log);
  try {
    await inspect({ argv, load, config, client, inspection, log });
  } finally {
    unlock();
  }
}

interface RunOptions {
  argv: RunArgv;
  /** The configuration as it is now. */
  load: () => LoadedConfig;
  config: Config;
  /** Of the API server, where a cluster is followed. */
  client: ApiClient | undefined;
  inspection: Inspection;
  log: Logger;
}

/** Until SIGTERM or SIGINT. */
async function inspect(options: RunOptions): Promise<void> {
  const { config, inspection, log } = options;
  let rules: LiveRules | undefined;
  const networks = await followNetworks(options, () => void rules?.changed());
  try {
    await leaveUnproven(config.rulesDirectory, log);
    await bringFirstRules(networks.config, inspection.install, log);
    rules = await openLiveRules(networks.config, inspection, log);
    await logUnusedSets(config, inspection.install.name, log);
    await inspectBy(rules, networks.config, options);
  } finally {
    networks.stop();
  }
}

/** @param current The configuration whose variables have the networks of now. */
async function inspectBy(rules: LiveRules, current: Config, options: RunOptions): Promise<void> {
  const { config, inspection, log } = options;
  const ending = abortedBySignal();
  const startedAt = Date.now();
  let agent: Agent | string = ENGINE_STARTS;
  let sources: FollowedSources | undefined;
  let reload: Reload | undefined;
  // The caches fill while the engine starts.
  const pods = await followSelectedPods(options);
  const { metrics, close } = await observe({
    config,
    install: inspection.install,
    rules,
    pods,
    startedAt,
    agent: () => agent,
    ruleSources: () => sources?.status() ?? [],
    ruleServer: () => sources?.server(),
    configuration: () => reload?.status(),
    log,
  });
  try {
    const running = await startAgent({
      ...inspection,
      rules,
      config,
      log,
      signal: ending,
      onEvent: createPrinter(options.argv.output ?? defaultOutput(config)),
      onResponse: respondBy(config, log),
      onChange: pods.changed,
      onWaiting: (problem) => (agent = problem ?? ENGINE_STARTS),
      onCanary: metrics.canaryReturned,
      onSent: metrics.sinkSent,
      ...(pods.names === undefined ? {} : { names: pods.names }),
    });
    agent = running;
    for (const endpoint of staticEndpoints(config)) running.attach(endpoint);
    pods.captureWith(
      withConfiguration(
        withRules(running, rules, () => sources),
        () => reload,
      ),
    );
    sources = startRuleSources(current, inspection.install, rules, log, pods.changed);
    reload = followFile(options, running, pods.changed);
    await untilAborted(ending);
    log.info({ signal: ending.reason as string }, 'ending');
    void sources.stop();
    await reload?.stop();
    await Promise.all([pods.stop(), running.stop()]);
    summarise(running, Date.now() - startedAt, log);
  } catch (error) {
    await pods.stop();
    if (ending.aborted && error === ending.reason) return;
    throw saidAs(error);
  } finally {
    close();
  }
}

/** What a person can mend is said without a stack. */
function saidAs(error: unknown): unknown {
  const isKnown = error instanceof EngineError || error instanceof JournalError;
  return isKnown ? new CommandError(error.message, EXIT.failed) : error;
}

/** Asks for what the policy wants done about pods. */
function respondBy({ respond }: Config, log: Logger): (response: AskedResponse) => void {
  const wishes = createWishes({ ...respond, log });
  return ({ entry: { name: entry, allow, forMillis, dryRun }, pod: { namespace, name: pod }, event: { record } }) =>
    wishes.wish({
      namespace,
      pod,
      allow,
      forMillis,
      dryRun,
      entry,
      alert: record.event_id,
      reason: `${record.generator_id}:${record.snort_signature_id} ${record.message}`.slice(0, 500),
    });
}

/** Undefined where the configuration has no file. */
function followFile({ argv, load, config, log }: RunOptions, agent: Agent, onChange: () => void): Reload | undefined {
  if (argv.config === undefined) return undefined;
  const apply = async (next: Config): Promise<void> => {
    await agent.reconfigure(next);
    setLevel(log, next.logLevel);
  };
  return followConfig({ file: argv.config, config, load, apply, onChange, log });
}

function defaultOutput({ sinks }: Config): string {
  return process.stdout.isTTY && !sinks.stdout.enabled ? 'table' : 'none';
}

function createPrinter(output: string): (event: EeEvent) => void {
  const colours = coloursOf(process.stdout);
  let rows = 0;
  return (event) => {
    if (output === 'json') process.stdout.write(`${JSON.stringify(event)}\n`);
    if (output !== 'table') return;
    if (rows++ === 0) process.stdout.write(`${tableHeader(colours, columnsOf(process.stdout))}\n`);
    process.stdout.write(`${tableRow(event, colours, columnsOf(process.stdout))}\n`);
  };
}

type LoadedConfig = ReturnType<typeof loadConfig>;

function loadWithInterfaces(argv: RunArgv): LoadedConfig {
  const loaded = loadConfig(configSources({ ...argv }, OWN));
  return 'errors' in loaded ? loaded : { config: withInterfaces(loaded.config, argv.interface ?? []) };
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
  const { journaled, merged, suppressed } = agent.alerts();
  const dropped = lostOf(total);
  log.info(
    { seconds: Math.round(millis / 1000), ...total, alerts: agent.alerts() },
    `${plural(total.received, 'packet')} received, ${grouped(total.forwarded)} inspected, ${grouped(dropped)} dropped, ` +
      `${plural(journaled, 'event')}${merged > 0 ? `, ${grouped(merged)} merged` : ''}${suppressed > 0 ? `, ${grouped(suppressed)} suppressed` : ''}`,
  );
}
