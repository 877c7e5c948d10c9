/** What a sink of Kafka reads from files, which may change while the agent runs. */
import type { KafkaSettings } from '../../config/sinks.ts';
import { readAuthorities, readText, watchFiles, type SecretFile, type WatchedFiles } from '../secret-files.ts';

export interface Secrets {
  password?: string;
  /** PEM, all three. */
  ca?: string;
  certificate?: string;
  key?: string;
}

export function watchSecrets(settings: KafkaSettings): WatchedFiles<Secrets> {
  const { passwordFile, caFile, certFile, keyFile } = settings;
  const of = (failure: SecretFile['failure'], ...paths: (string | undefined)[]): SecretFile[] =>
    paths.flatMap((path) => (path === undefined ? [] : [{ path, failure }]));
  return watchFiles([...of('unauthorized', passwordFile), ...of('tls', caFile, certFile, keyFile)], async () => ({
    ...(passwordFile === undefined ? {} : { password: await readText(passwordFile, 'unauthorized') }),
    ...(caFile === undefined ? {} : { ca: await readAuthorities(caFile) }),
    ...(certFile === undefined ? {} : { certificate: await readText(certFile, 'tls') }),
    ...(keyFile === undefined ? {} : { key: await readText(keyFile, 'tls') }),
  }));
}
