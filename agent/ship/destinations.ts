/** The sinks that a configuration asks for. */
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import type { Destination } from './destination.ts';
import { createStdout } from './stdout.ts';
import { createSyslog } from './syslog.ts';

export const SINKS = ['elasticsearch', 'syslog', 'stdout'] as const;
export type SinkName = (typeof SINKS)[number];

/** @returns undefined when the configuration does not say where to. */
export async function createDestination(name: SinkName, config: Config, log: Logger): Promise<Destination | undefined> {
  const { elasticsearch, syslog, stdout } = config.sinks;
  switch (name) {
    case 'elasticsearch': {
      if (elasticsearch.nodes.length === 0) return undefined;
      // Its client takes 30 MB.
      const { createElasticsearch } = await import('./elasticsearch/elasticsearch.ts');
      return createElasticsearch({ config: elasticsearch, cluster: config.cluster, log: log.child({ sink: name }) });
    }
    case 'syslog':
      return syslog.address === undefined ? undefined : createSyslog({ ...syslog, address: syslog.address });
    case 'stdout':
      return stdout.enabled ? createStdout() : undefined;
  }
}

export async function createDestinations(
  config: Config,
  log: Logger,
): Promise<{ name: SinkName; destination: Destination }[]> {
  const destinations = [];
  for (const name of SINKS) {
    const destination = await createDestination(name, config, log);
    if (destination !== undefined) destinations.push({ name, destination });
  }
  return destinations;
}
