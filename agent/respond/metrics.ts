/** Metrics of `dpi-agent respond serve` in Prometheus' text format; no label grows with the cluster. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { addSampledTo } from '../sampled-metrics.ts';
import type { KeeperStatus } from './keeper.ts';

/** @returns a function that gives the text of a scrape. */
export function createMetrics(status: () => KeeperStatus, version: string): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_response_' });
  const add = addSampledTo(registry, 'dpi_agent_response_');
  add(Gauge, 'info', ['version'], 'Who isolates pods; always 1.', () => [[{ version }, 1]]);
  add(Gauge, 'isolated_pods', [], 'Isolated pods, as last looked at.', () => [[{}, status().isolated]]);
  add(Counter, 'acts_total', ['act'], 'What was done: isolated, released, dry_run, refused.', () => {
    const { isolated, released, dryRun, refused } = status().acts;
    return Object.entries({ isolated, released, dry_run: dryRun, refused }).map(([act, count]) => [{ act }, count]);
  });
  return () => registry.metrics();
}
