export interface Collector {
  program: string;
  /** Folder of its modules, where it is not installed. */
  modules: string | undefined;
  env: Record<string, string>;
}
export function syslogCollector(name: 'rsyslog' | 'syslog-ng'): Collector | undefined;
export function whyNoSyslogCollector(name: 'rsyslog' | 'syslog-ng'): string | undefined;
export function fetchSyslogCollectors(): void;
