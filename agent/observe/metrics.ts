/**
 * The agent's metrics in Prometheus' text format, read from it at each scrape; only times that something took are told
 * to it when they are known. What there is of each part is in `metrics/`.
 *
 * The number of series is bounded: by the endpoints that are attached (4,093), the lanes, the sinks, the sources of
 * rules (64), `MAX_SIGNATURES`, and lists of names.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { addSampledTo, type AddSampled } from '../sampled-metrics.ts';
import { addAlerts, addSignatures, type ObservedAlerts } from './metrics/alerts.ts';
import { addConfiguration, type ObservedConfiguration } from './metrics/configuration.ts';
import { addCoverage, addEndpoints, type ObservedEndpoints } from './metrics/endpoints.ts';
import { addEvidence, type ObservedEvidence } from './metrics/evidence.ts';
import { addJournal, type ObservedJournal } from './metrics/journal.ts';
import { addLanes, canaryTimes, type ObservedLanes } from './metrics/lanes.ts';
import { addLimits, type ObservedLimits } from './metrics/limits.ts';
import { addRules, type ObservedRules } from './metrics/rules.ts';
import { addRuleServer, addRuleSources, type ObservedSources } from './metrics/rule-sources.ts';
import { addSinks, sendTimes, type ObservedSinks } from './metrics/sinks.ts';

export interface Observed
  extends
    ObservedEndpoints,
    ObservedAlerts,
    ObservedRules,
    ObservedSources,
    ObservedJournal,
    ObservedEvidence,
    ObservedSinks,
    ObservedLanes,
    ObservedLimits,
    ObservedConfiguration {
  /** How often a watch of the API server had to begin again, by what is watched; empty without a cluster. */
  watchRestarts(): Record<string, number>;
}

export interface Facts {
  version: string;
  engine: { name: string; version: string };
  node: string;
}

export interface Metrics {
  /** What a scrape gets. */
  text: () => Promise<string>;
  canaryReturned: (lane: string, seconds: number) => void;
  sinkSent: (sink: string, seconds: number) => void;
}

export function createMetrics(observed: Observed, facts: Facts): Metrics {
  const registry = new Registry();
  // Its default of 10 ms would wake up a process that is at rest 100 times a second.
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_', eventLoopMonitoringPrecision: 250 });
  const add = addSampledTo(registry, 'dpi_agent_');

  addInfo(add, facts);
  addConfiguration(add, observed);
  addEndpoints(add, observed);
  addCoverage(add, observed);
  addLanes(add, observed);
  const returned = canaryTimes(registry);
  addLimits(add, observed);
  addAlerts(add, observed);
  addSignatures(add, observed);
  addRules(add, observed);
  addRuleSources(add, observed);
  addRuleServer(add, observed);
  addJournal(add, observed);
  addEvidence(add, observed);
  addSinks(add, observed);
  const sent = sendTimes(registry);
  addWatches(add, observed);

  return {
    text: () => registry.metrics(),
    canaryReturned: (lane, seconds) => returned.observe({ lane }, seconds),
    sinkSent: (sink, seconds) => sent.observe({ sink }, seconds),
  };
}

function addInfo(add: AddSampled, { version, engine, node }: Facts): void {
  const info = { version, engine: engine.name, engine_version: engine.version, node };
  add(Gauge, 'info', Object.keys(info), 'The agent and its engine; always 1.', () => [[info, 1]]);
}

function addWatches(add: AddSampled, observed: Observed): void {
  add(
    Counter,
    'kube_watch_restarts_total',
    ['resource'],
    'Watches of the API server that had to begin again, by what is watched.',
    () => Object.entries(observed.watchRestarts()).map(([resource, count]) => [{ resource }, count]),
  );
}
