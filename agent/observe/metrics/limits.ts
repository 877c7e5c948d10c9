/** Of the container's limits: what they took, and what was lost meanwhile. */
import { Counter } from 'prom-client';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import type { Limited } from '../checks.ts';

export interface ObservedLimits {
  /** Undefined before the agent is there. */
  limits(): Limited | undefined;
}

export function addLimits(add: AddSampled, observed: ObservedLimits): void {
  const counter = (name: string, help: string, value: (limited: Limited) => number | undefined): void =>
    add(Counter, name, [], help, () => {
      const limited = observed.limits();
      const number = limited === undefined ? undefined : value(limited);
      return number === undefined ? [] : [[{}, number]];
    });
  counter('cpu_limit_periods_total', 'Periods of the CPU limit in which the container ran.', ({ cpu }) => cpu?.periods);
  counter(
    'cpu_limit_throttled_periods_total',
    'Of these periods, those in which the limit stopped the container.',
    ({ cpu }) => cpu?.throttled,
  );
  counter(
    'cpu_limit_throttled_seconds_total',
    'Time for which the CPU limit stopped the container.',
    ({ cpu }) => cpu?.throttledSeconds,
  );
  counter(
    'lost_while_throttled_packets_total',
    'Packets that were lost, for any cause, in spans of 5 s in which the CPU limit stopped the container.',
    ({ cpu, lostWhileThrottled }) => (cpu === undefined ? undefined : lostWhileThrottled),
  );
  add(
    Counter,
    'pressure_seconds_total',
    ['resource'],
    'Time in which some process of the container waited for CPU, memory or a disk (PSI); none with cgroup 1.',
    () =>
      Object.entries(observed.limits()?.pressure ?? {}).map(([resource, seconds]): Sample => [{ resource }, seconds]),
  );
}
