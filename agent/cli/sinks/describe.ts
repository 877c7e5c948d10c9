/** Sinks for people and programs: where events go, without what is secret. */
import { join } from 'node:path';
import type { SinkEntry } from '../../config/sinks.ts';
import { readProgress, type Progress } from '../../ship/cursor.ts';

export interface SinkDescription {
  name: string;
  kind: SinkEntry['kind'];
  /** Of http. */
  format?: string;
  /** The host; of a path that may be a secret, nothing. */
  to: string;
  /** As the configuration has them. */
  when?: SinkEntry['when'];
  quiet?: SinkEntry['quiet'];
}

export function describeSink(entry: SinkEntry): SinkDescription {
  const { name, kind, when, quiet } = entry;
  return {
    name,
    kind,
    ...(entry.kind === 'http' ? { format: entry.settings.format } : {}),
    to: placeOf(entry),
    ...(when === undefined ? {} : { when }),
    ...(quiet === undefined ? {} : { quiet }),
  };
}

function placeOf(entry: SinkEntry): string {
  switch (entry.kind) {
    case 'elasticsearch':
    case 'opensearch':
      return entry.settings.nodes.join(', ');
    case 'kafka':
      return `${entry.settings.topic} at ${entry.settings.brokers.join(', ')}`;
    case 'syslog':
      return `${entry.settings.address} (${entry.settings.protocol})`;
    case 'stdout':
      return 'standard output';
    case 'http': {
      const { url, urlFile } = entry.settings;
      return url === undefined ? `the URL in ${urlFile}` : new URL(url).origin;
    }
  }
}

/** `severity: 80, namespace: shop`, `alike within 10m`. */
export function choiceText(choice: object | undefined): string {
  if (choice === undefined) return '-';
  const parts = Object.entries(choice).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}: ${Array.isArray(value) ? value.join(' ') || 'all' : String(value)}`],
  );
  return parts.join(', ') || '-';
}

/** The settings that have an effect; values of headers and addresses may be secrets. */
export function settingsOf(entry: SinkEntry): Record<string, unknown> {
  const settings: Record<string, unknown> = Object.fromEntries(
    Object.entries(entry.settings).filter(([, value]) => value !== undefined),
  );
  if (entry.kind !== 'http') return settings;
  if (entry.settings.url !== undefined) settings['url'] = `${new URL(entry.settings.url).origin}/…`;
  return { ...settings, headers: Object.fromEntries(Object.keys(entry.settings.headers).map((name) => [name, '***'])) };
}

/** As the cursor's file has it: also without an agent. Undefined where there is none yet. */
export function progressOf(stateDirectory: string, name: string): Promise<Progress | undefined> {
  return readProgress(join(stateDirectory, 'sinks', `${name}.cursor.json`));
}
