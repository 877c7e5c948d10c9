/** What a running agent says of itself: probes, metrics, and the status on its socket. */
import type { Logger } from 'pino';
import type { Agent } from '../../agent.ts';
import { staticEndpoints } from '../../config/endpoints.ts';
import type { Config } from '../../config/load.ts';
import type { EngineInstall } from '../../engine/engine.ts';
import { coverResources, type ResourceCoverage } from '../../observe/coverage.ts';
import { createMetrics, type Metrics } from '../../observe/metrics.ts';
import { readinessOf } from '../../observe/readiness.ts';
import { serveSocket, type Answers } from '../../observe/server.ts';
import { takeSnapshot, type ConfigStatus, type Snapshot } from '../../observe/snapshot.ts';
import type { LiveRules } from '../../rulesets/live.ts';
import type { RuleServerStatus } from '../../rulesets/rule-server.ts';
import type { SourceStatus } from '../../rulesets/schedule.ts';
import { serveProbes } from '../probes.ts';
import { socketOf } from '../setup.ts';
import { version } from '../version.ts';
import type { FollowedPods } from './cluster.ts';

export interface Observed {
  config: Config;
  install: EngineInstall;
  rules: LiveRules;
  pods: FollowedPods;
  /** Milliseconds since the epoch. */
  startedAt: number;
  /** The agent, or what its start waits for. */
  agent: () => Agent | string;
  ruleSources: () => SourceStatus[];
  /** Undefined where none is configured. */
  ruleServer: () => RuleServerStatus | undefined;
  /** Undefined without a file. */
  configuration: () => ConfigStatus | undefined;
  log: Logger;
}

/** Serves them until it is closed; what can't be served is no reason not to inspect. */
export async function observe(observed: Observed): Promise<{ metrics: Metrics; close: () => void }> {
  const { config, agent, log } = observed;
  const metrics = metricsOf(observed);
  const answers: Answers = {
    stuck: () => runningOf(agent())?.stuck(),
    readiness: () => readinessOf(agent()),
    metrics: metrics.text,
    status: () => snapshotOf(observed),
  };
  const endProbes = await serveProbes(config.http, answers, log);
  let endSocket = (): void => undefined;
  try {
    endSocket = await serveSocket(socketOf(config), answers);
  } catch (error) {
    log.error({ err: error }, 'status is not served');
  }
  return {
    metrics,
    close() {
      endProbes();
      endSocket();
    },
  };
}

/** Undefined while it starts. */
function runningOf(agent: Agent | string): Agent | undefined {
  return typeof agent === 'string' ? undefined : agent;
}

function metricsOf(observed: Observed): Metrics {
  const { config, install, rules, pods, ruleSources, ruleServer, configuration } = observed;
  const running = (): Agent | undefined => runningOf(observed.agent());
  return createMetrics(
    {
      endpoints: () => running()?.endpoints() ?? [],
      lanes: () => running()?.lanes() ?? [],
      laneChanges: () => running()?.laneChanges(),
      unaccounted: () => running()?.unaccounted() ?? new Map<string, number>(),
      limits: () => running()?.limits(),
      signatures: () => running()?.signatures(),
      watchRestarts: pods.watchRestarts,
      coverage: () => coverageOf(observed),
      rules: rules.status,
      ruleSources,
      ruleServer,
      configuration,
      alerts: () => ({ ...running()?.alerts() }),
      folded: () => running()?.folded() ?? 0,
      suppressed: () => running()?.suppressed() ?? new Map<string, number>(),
      policy: () => running()?.policy(),
      journal: () => running()?.journal(),
      evidence: () => running()?.evidence(),
      sinks: () => running()?.sinks() ?? [],
    },
    { version: version(), engine: install, node: config.node },
  );
}

function snapshotOf(observed: Observed): Snapshot {
  const { config, install, rules, pods, startedAt, agent, ruleSources, ruleServer, configuration } = observed;
  const index = rules.index();
  const files = [...new Set([...index.values()].map(({ file }) => file))];
  const facts = {
    agent: { version: version(), pid: process.pid, node: config.node, startedAt },
    engine: install,
    journalDirectory: config.journal.directory,
    rules: { sets: rules.status().sets, files, loaded: index.size },
    ruleSources: ruleSources(),
    ruleServer: ruleServer(),
    configuration: configuration(),
  };
  return takeSnapshot(facts, agent(), coverageOf(observed), pods.facts(), Date.now());
}

function coverageOf({ config, pods, agent }: Observed): ResourceCoverage[] {
  return coverResources(withStatic(pods.selected(), config), runningOf(agent())?.endpoints() ?? []);
}

/** With the endpoints of the configuration, which select themselves. */
function withStatic(selected: ReadonlyMap<string, readonly string[]>, config: Config): Map<string, string[]> {
  const all = new Map([...selected].map(([resource, pods]) => [resource, [...pods]]));
  for (const { id, resources } of staticEndpoints(config)) {
    for (const resource of resources) all.set(resource, [...(all.get(resource) ?? []), id]);
  }
  return all;
}
