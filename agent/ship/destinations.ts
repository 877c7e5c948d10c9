/** The destinations of the sinks that a configuration asks for. */
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import type { SinkEntry } from '../config/sinks.ts';
import type { Destination } from './destination.ts';
import { createStdout } from './stdout.ts';
import { createSyslog } from './syslog.ts';

/** Clients are loaded where they are used. */
export async function createDestination(
  entry: SinkEntry,
  { cluster, ui }: Pick<Config, 'cluster' | 'ui'>,
  log: Logger,
): Promise<Destination> {
  const { publicUrl } = ui;
  const about = { cluster, ...(publicUrl === undefined ? {} : { publicUrl }) };
  switch (entry.kind) {
    case 'elasticsearch': {
      // Its client takes 30 MB.
      const { createElasticsearch } = await import('./elasticsearch/elasticsearch.ts');
      return createElasticsearch({ config: entry.settings, cluster, log: log.child({ sink: entry.name }) });
    }
    case 'opensearch': {
      const { createOpenSearch } = await import('./opensearch/opensearch.ts');
      return createOpenSearch({ settings: entry.settings, cluster, log: log.child({ sink: entry.name }) });
    }
    case 'kafka': {
      const { createKafka } = await import('./kafka/kafka.ts');
      return createKafka({ settings: entry.settings, cluster, log: log.child({ sink: entry.name }) });
    }
    case 'http': {
      const { createHttp } = await import('./http/http.ts');
      const { createLinks } = await import('./http/links.ts');
      const links = createLinks(entry, ui, log.child({ sink: entry.name }));
      return createHttp({ settings: entry.settings, ...about, ...(links === undefined ? {} : { links }) });
    }
    case 'syslog':
      return createSyslog({ ...entry.settings, about });
    case 'stdout':
      return createStdout();
  }
}
