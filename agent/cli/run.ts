/** `dpi-agent run`: live capture until SIGTERM or SIGINT. */
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Argv, CommandModule } from 'yargs';
import { startAgent, type Agent } from '../agent.ts';
import { zeroCounters, addCounters, lostOf } from '../capture/protocol.ts';
import { staticEndpoints } from '../config/endpoints.ts';
import type { Config } from '../config/load.ts';
import { followPods } from '../endpoints/follow.ts';
import { EngineError } from '../engine/supervisor.ts';
import type { EeEvent } from '../events/event.ts';
import { JournalError } from '../journal/journal.ts';
import type { ApiClient, Diagnosable } from '../kube/api.ts';
import { coverResources, type ResourceCoverage } from '../observe/coverage.ts';
import type { LiveRules } from '../rulesets/live.ts';
import type { SourceSchedule, SourceStatus } from '../rulesets/schedule.ts';
import { leaveUnproven } from '../rulesets/unproven.ts';
import { createMetrics, type Metrics } from '../observe/metrics.ts';
import { readinessOf } from '../observe/readiness.ts';
import { serve, serveSocket, type Answers } from '../observe/server.ts';
import { takeSnapshot, type Snapshot } from '../observe/snapshot.ts';
import { asksForPods, withNetworks } from '../rule-variables.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog } from './log.ts';
import { coloursOf, columnsOf, grouped, plural, tableHeader, tableRow } from './print.ts';
import {
  CLUSTER_FLAGS,
  COMMON_FLAGS,
  connect,
  interfaceFlag,
  followsCluster,
  openLiveRules,
  prepareInspection,
  readConfig,
  socketOf,
  type Inspection,
} from './setup.ts';
import { bringFirstRules, startRuleSources } from './rule-sources.ts';
import { logUnusedSets } from './rules/use.ts';
import { lockState } from './state-lock.ts';
import { version } from './version.ts';

const OWN = ['output', 'interface'];
const ENGINE_STARTS = 'the engine is starting';

interface RunArgv {
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
  const config = withInterfaces(readConfig({ ...argv }, OWN), argv.interface ?? []);
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
    await inspect({ argv, config, client, inspection, log });
  } finally {
    unlock();
  }
}

interface Run {
  argv: RunArgv;
  config: Config;
  /** Of the API server, where a cluster is followed. */
  client: (ApiClient & Diagnosable) | undefined;
  inspection: Inspection;
  log: Logger;
}

/** The configuration whose variables have the networks of the cluster, at each look, where they ask for them. */
async function followNetworks(
  { config, client, log }: Pick<Run, 'config' | 'client' | 'log'>,
  onChange: () => void,
): Promise<{ config: Config; stop(): void }> {
  if (!asksForPods(config.variables)) return { config, stop: () => undefined };
  if (client === undefined) {
    throw new CommandError('variables: pods: there is no cluster to ask: name addresses, or a cluster (--kubeconfig)');
  }
  const { followClusterNetworks } = await import('../kube/cluster-networks.ts');
  const followed = await followClusterNetworks(client, onChange, log);
  const current = {
    ...config,
    get variables() {
      return withNetworks(config.variables, followed.networks());
    },
  };
  return { config: current, stop: () => followed.stop() };
}

/** Until SIGTERM or SIGINT. */
async function inspect({ argv, config, client, inspection, log }: Run): Promise<void> {
  let rules: LiveRules | undefined;
  const networks = await followNetworks({ config, client, log }, () => void rules?.changed());
  await leaveUnproven(config.rulesDirectory, log);
  await bringFirstRules(networks.config, inspection.install, log);
  rules = await openLiveRules(networks.config, inspection, log);
  await logUnusedSets(config, inspection.install.name, log);
  const print = createPrinter(argv.output ?? (process.stdout.isTTY && !config.sinks.stdout.enabled ? 'table' : 'none'));
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort(signal));
  const startedAt = Date.now();

  let changed = (): void => undefined;
  /** Pods by the resource of the cluster that selects them. */
  let selected = (): ReadonlyMap<string, readonly string[]> => new Map();
  // The caches fill while the engine starts.
  const cluster =
    client === undefined
      ? undefined
      : (await import('../kube/cluster.ts')).followCluster({
          client,
          node: config.node,
          onChange: () => changed(),
          log,
        });
  let agent: Agent | undefined;
  let waiting = ENGINE_STARTS;
  let sources: SourceSchedule | undefined;
  const { metrics, close } = await observe({
    config,
    inspection,
    rules,
    startedAt,
    agent: () => agent ?? waiting,
    ruleSources: () => sources?.status() ?? [],
    coverage: () => coverResources(withStatic(selected(), config), agent?.endpoints() ?? []),
    cluster: () =>
      cluster === undefined || client === undefined
        ? undefined
        : {
            server: client.server,
            synced: cluster.synced(),
            resources: cluster.resources().length,
            pods: cluster.pods().length,
          },
    watchRestarts: () => cluster?.watchRestarts() ?? {},
    log,
  });
  try {
    const running = await startAgent({
      ...inspection,
      rules,
      config,
      log,
      signal: stopping.signal,
      onEvent: print,
      onChange: () => changed(),
      onWaiting: (problem) => (waiting = problem ?? ENGINE_STARTS),
      onCanary: metrics.canaryReturned,
      onSent: metrics.sinkSent,
      ...(cluster === undefined ? {} : { names: cluster.names }),
    });
    agent = running;
    for (const endpoint of staticEndpoints(config)) running.attach(endpoint);
    const follower =
      cluster === undefined ? undefined : followPods({ ...cluster, ...config.capture, capture: running, log });
    if (follower !== undefined) ({ changed, selected } = follower);

    sources = startRuleSources(networks.config, inspection.install, rules, log);

    if (!stopping.signal.aborted) await once(stopping.signal, 'abort');
    log.info({ signal: stopping.signal.reason as string }, 'ending');
    follower?.stop();
    void sources.stop();
    await Promise.all([running.stop(), cluster?.stop()]);
    summarise(running, Date.now() - startedAt, log);
  } catch (error) {
    await cluster?.stop();
    if (stopping.signal.aborted && error === stopping.signal.reason) return;
    if (error instanceof EngineError || error instanceof JournalError)
      throw new CommandError(error.message, EXIT.failed);
    throw error;
  } finally {
    networks.stop();
    close();
  }
}

interface Observation {
  config: Config;
  inspection: Inspection;
  rules: LiveRules;
  /** Milliseconds since the epoch. */
  startedAt: number;
  /** The agent, or what its start waits for. */
  agent: () => Agent | string;
  ruleSources: () => SourceStatus[];
  coverage: () => ResourceCoverage[];
  cluster: () => Snapshot['cluster'];
  /** How often a watch of the API server had to begin again, by what is watched. */
  watchRestarts: () => Record<string, number>;
  log: Logger;
}

interface Observing {
  metrics: Metrics;
  close: () => void;
}

/**
 * Serves probes, metrics and status; what can't be served is no reason not to inspect.
 */
async function observe({
  config,
  inspection,
  rules,
  startedAt,
  agent,
  ruleSources,
  coverage,
  cluster,
  watchRestarts,
  log,
}: Observation): Promise<Observing> {
  const { http, node } = config;
  const { install } = inspection;
  const running = (): Agent | undefined => {
    const current = agent();
    return typeof current === 'string' ? undefined : current;
  };
  const about = (): Snapshot['rules'] => {
    const index = rules.index();
    const files = [...new Set([...index.values()].map(({ file }) => file))];
    return { sets: rules.status().sets, files, loaded: index.size };
  };
  const facts = {
    agent: { version: version(), pid: process.pid, node, startedAt },
    engine: install,
    journalDirectory: config.journal.directory,
  };
  const metrics = createMetrics(
    {
      endpoints: () => running()?.endpoints() ?? [],
      lanes: () => running()?.lanes() ?? [],
      unaccounted: () => running()?.unaccounted() ?? new Map<string, number>(),
      limits: () => running()?.limits(),
      signatures: () => running()?.signatures(),
      watchRestarts,
      coverage,
      rules: rules.status,
      ruleSources,
      alerts: () => ({ ...running()?.alerts() }),
      folded: () => running()?.folded() ?? 0,
      suppressed: () => running()?.suppressed() ?? new Map<string, number>(),
      policy: () => running()?.policy(),
      journal: () => running()?.journal(),
      sinks: () => running()?.sinks() ?? [],
    },
    { version: version(), engine: install, node },
  );
  const answers: Answers = {
    stuck: () => running()?.stuck(),
    readiness: () => readinessOf(agent()),
    metrics: metrics.text,
    status: () =>
      takeSnapshot(
        { ...facts, rules: about(), ruleSources: ruleSources() },
        agent(),
        coverage(),
        cluster(),
        Date.now(),
      ),
  };
  const ends: (() => void)[] = [];
  const { port, address } = http;
  if (port !== 0) {
    try {
      const server = await serve({ port, ...(address === undefined ? {} : { address }), ...answers });
      ends.push(() => server.close());
    } catch (error) {
      log.error({ err: error, port, address }, 'probes and metrics are not served; set http.port or http.address');
    }
  }
  try {
    ends.push(await serveSocket(socketOf(config), answers));
  } catch (error) {
    log.error({ err: error }, 'status is not served');
  }
  return { metrics, close: () => ends.forEach((end) => end()) };
}

/** With the endpoints of the configuration, which select themselves. */
function withStatic(selected: ReadonlyMap<string, readonly string[]>, config: Config): Map<string, string[]> {
  const all = new Map([...selected].map(([resource, pods]) => [resource, [...pods]]));
  for (const { id, resources } of staticEndpoints(config)) {
    for (const resource of resources) all.set(resource, [...(all.get(resource) ?? []), id]);
  }
  return all;
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
