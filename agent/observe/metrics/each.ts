/** Metrics that have one number for each of several things, as a table. */
import type { Counter, Gauge } from 'prom-client';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';

/** `value`: undefined where there is none. */
export type MetricOf<Thing> = readonly [
  Metric: typeof Counter | typeof Gauge,
  name: string,
  help: string,
  value: (thing: Thing) => number | undefined,
];

/** @param things What there is at a scrape, each with its labels. */
export function addEach<Thing>(
  add: AddSampled,
  labelNames: string[],
  metrics: readonly MetricOf<Thing>[],
  things: () => (readonly [labels: Sample[0], thing: Thing])[],
): void {
  for (const [Metric, name, help, value] of metrics) {
    add(Metric, name, labelNames, help, () =>
      things().flatMap(([labels, thing]): Sample[] => {
        const number = value(thing);
        return number === undefined ? [] : [[labels, number]];
      }),
    );
  }
}

/** @param millis Since the epoch. Not below 0, where the clock was set back. */
export function secondsSince(millis: number): number {
  return Math.max(0, (Date.now() - millis) / 1000);
}
