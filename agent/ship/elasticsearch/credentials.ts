/** Credentials and certificate authorities of Elasticsearch, from files that may change. */
import type { Config } from '../../config/load.ts';
import { SendError } from '../destination.ts';
import { readAuthorities, readText, watchFiles, type SecretFile, type WatchedFiles } from '../secret-files.ts';

export interface Credentials {
  auth?: { apiKey: string } | { username: string; password: string };
  /** PEM. */
  ca?: string;
}

export interface CredentialFiles extends WatchedFiles<Credentials> {
  /** Paths of those that say who asks. */
  files: readonly string[];
}

/** Of OpenSearch too, which has no API keys. */
type Paths = Partial<
  Pick<Config['sinks']['elasticsearch'], 'apiKeyFile' | 'username' | 'usernameFile' | 'passwordFile' | 'caFile'>
>;

/** @param now Monotonic, in milliseconds. */
export function createCredentialFiles(config: Paths, now?: () => number): CredentialFiles {
  const { apiKeyFile, usernameFile, passwordFile, caFile } = config;
  const files = [apiKeyFile, usernameFile, passwordFile].filter((path) => path !== undefined);
  const watched: SecretFile[] = files.map((path) => ({ path, failure: 'unauthorized' }));
  if (caFile !== undefined) watched.push({ path: caFile, failure: 'tls' });
  return { files, ...watchFiles(watched, () => load(config), now) };
}

async function load(config: Paths): Promise<Credentials> {
  const credentials: Credentials = {};
  if (config.apiKeyFile !== undefined) {
    const key = await readText(config.apiKeyFile, 'unauthorized');
    if (!/^[\x21-\x7e]+$/.test(key)) throw new SendError('unauthorized', `${config.apiKeyFile} holds no API key`);
    credentials.auth = { apiKey: key.includes(':') ? Buffer.from(key).toString('base64') : key };
  } else if (config.passwordFile !== undefined) {
    const username = config.username ?? (await readText(config.usernameFile ?? '', 'unauthorized'));
    const password = await readText(config.passwordFile, 'unauthorized');
    credentials.auth = { username, password };
  }
  if (config.caFile !== undefined) credentials.ca = await readAuthorities(config.caFile);
  return credentials;
}
