/** Of the configuration's file, where there is one. */
import { Gauge } from 'prom-client';
import type { AddSampled } from '../../sampled-metrics.ts';
import type { ConfigStatus } from '../snapshot.ts';
import { addEach, type MetricOf } from './each.ts';

export interface ObservedConfiguration {
  /** Undefined without a file. */
  configuration(): ConfigStatus | undefined;
}

const CONFIGURATION: MetricOf<ConfigStatus>[] = [
  [
    Gauge,
    'config_last_reload_successful',
    'Whether the configuration file, as it is now, could be taken over; what needs a restart does not count.',
    ({ errors }) => (errors.length === 0 ? 1 : 0),
  ],
  [
    Gauge,
    'config_last_reload_success_timestamp_seconds',
    'When the configuration that is in effect was read.',
    ({ loadedAt }) => loadedAt / 1000,
  ],
  [
    Gauge,
    'config_keys_waiting_for_restart',
    'Keys of the configuration file whose values wait for a restart.',
    ({ needsRestart }) => needsRestart.length,
  ],
];

export function addConfiguration(add: AddSampled, observed: ObservedConfiguration): void {
  addEach(add, [], CONFIGURATION, () => {
    const status = observed.configuration();
    return status === undefined ? [] : [[{}, status]];
  });
}
