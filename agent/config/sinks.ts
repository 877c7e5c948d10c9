/** The sinks that a configuration asks for, those of the list and those with keys of their own, in one form. */
import type { Config } from './schema.ts';

type Sinks = Config['sinks'];
type ListEntry = Sinks['list'][number];

export type When = NonNullable<ListEntry['when']>;
export type QuietSettings = NonNullable<ListEntry['quiet']>;
export type OpenSearchSettings = NonNullable<ListEntry['opensearch']>;
export type KafkaSettings = NonNullable<ListEntry['kafka']>;
export type HttpSettings = NonNullable<ListEntry['http']>;
type SyslogSettings = Sinks['syslog'] & { address: string };

export type SinkEntry = {
  /** Of its files, in logs and in metrics. */
  name: string;
  when?: When;
  quiet?: QuietSettings;
  /** Bytes. */
  deadLetterSize: number;
} & SinkKind;

type SinkKind =
  | { kind: 'elasticsearch'; settings: Sinks['elasticsearch'] }
  | { kind: 'opensearch'; settings: OpenSearchSettings }
  | { kind: 'kafka'; settings: KafkaSettings }
  | { kind: 'syslog'; settings: SyslogSettings }
  | { kind: 'stdout'; settings: NonNullable<ListEntry['stdout']> }
  | { kind: 'http'; settings: HttpSettings };

/** In the order in which they are shown: the old form first. */
export function sinkEntries({ elasticsearch, syslog, stdout, deadLetterSize, list }: Sinks): SinkEntry[] {
  const entries: SinkEntry[] = [];
  if (elasticsearch.nodes.length > 0) {
    entries.push({ name: 'elasticsearch', kind: 'elasticsearch', settings: elasticsearch, deadLetterSize });
  }
  if (syslog.address !== undefined) {
    const settings = { ...syslog, address: syslog.address };
    entries.push({ name: 'syslog', kind: 'syslog', settings, deadLetterSize });
  }
  if (stdout.enabled) entries.push({ name: 'stdout', kind: 'stdout', settings: stdout, deadLetterSize });
  return [...entries, ...list.flatMap((entry) => ofList(entry, deadLetterSize))];
}

/** One, as the schema makes sure. */
function ofList(entry: ListEntry, deadLetterSize: number): SinkEntry[] {
  const { name, when, quiet, elasticsearch, opensearch, kafka, syslog, stdout, http } = entry;
  const common = {
    name,
    ...(when === undefined ? {} : { when }),
    ...(quiet === undefined ? {} : { quiet }),
    deadLetterSize: entry.deadLetterSize ?? deadLetterSize,
  };
  if (elasticsearch !== undefined) return [{ ...common, kind: 'elasticsearch', settings: elasticsearch }];
  if (opensearch !== undefined) return [{ ...common, kind: 'opensearch', settings: opensearch }];
  if (kafka !== undefined) return [{ ...common, kind: 'kafka', settings: kafka }];
  if (http !== undefined) return [{ ...common, kind: 'http', settings: http }];
  if (stdout !== undefined) return [{ ...common, kind: 'stdout', settings: stdout }];
  if (syslog?.address === undefined) return [];
  return [{ ...common, kind: 'syslog', settings: { ...syslog, address: syslog.address } }];
}

export interface AlertStore {
  store: 'elasticsearch' | 'opensearch';
  settings: Sinks['elasticsearch'];
}

/** What the page reads from: the first Elasticsearch, else the first OpenSearch. */
export function alertStoreOf(sinks: Sinks): AlertStore | undefined {
  const entries = sinkEntries(sinks);
  for (const { kind, settings } of entries) if (kind === 'elasticsearch') return { store: kind, settings };
  for (const { kind, settings } of entries) if (kind === 'opensearch') return { store: kind, settings };
  return undefined;
}
