/** Metrics whose samples are read at each scrape. */
import type { Counter, Gauge, Registry } from 'prom-client';

export type Sample = [labels: Record<string, string>, value: number];

/** @param samples What is no longer given is gone. */
export type AddSampled = (
  Metric: typeof Counter | typeof Gauge,
  name: string,
  labelNames: string[],
  help: string,
  samples: () => Sample[],
) => void;

/** @param prefix Of the metrics' names. */
export function addSampledTo(registry: Registry, prefix: string): AddSampled {
  return (Metric, name, labelNames, help, samples) => {
    const metric = new Metric({
      name: `${prefix}${name}`,
      help,
      labelNames,
      registers: [],
      collect() {
        this.reset();
        const now = samples();
        // Without labels it would be 0, which says something else.
        if (now.length === 0 && labelNames.length === 0) this.remove();
        for (const [labels, value] of now) this.inc(labels, value);
      },
    });
    registry.registerMetric(metric);
  };
}
