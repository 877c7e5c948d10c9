/**
 * Credentials and certificate authorities from files, which Kubernetes replaces while the agent runs.
 *
 * Files are looked at (device, inode, time, size) at most each second, and read again when they differ; after
 * `forget()` they are read at once. What is read never gets into a message.
 */
import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { Config } from '../../config/load.ts';
import { errorCode } from '../../files/errors.ts';
import { SendError, type SendFailure } from '../destination.ts';

export interface Credentials {
  auth?: { apiKey: string } | { username: string; password: string };
  /** PEM. */
  ca?: string;
}

export interface CredentialFiles {
  /** The same object as before while nothing changed. @throws SendError `unauthorized` or `tls` that names the file. */
  read(): Promise<Credentials>;
  /** The server did not like what was read. */
  forget(): void;
  /** Paths of those that say who asks. */
  files: readonly string[];
}

type Paths = Pick<
  Config['sinks']['elasticsearch'],
  'apiKeyFile' | 'username' | 'usernameFile' | 'passwordFile' | 'caFile'
>;

const LOOK_MILLIS = 1000;
/** A system's bundle of authorities has some 200 KiB. */
const MAX_BYTES = 4 << 20;

/** @param now Monotonic, in milliseconds. */
export function createCredentialFiles(config: Paths, now: () => number = () => performance.now()): CredentialFiles {
  const files = [config.apiKeyFile, config.usernameFile, config.passwordFile].filter((path) => path !== undefined);
  let current: { credentials: Credentials; print: string } | undefined;
  let lookedAt = -Infinity;
  let forgotten = false;

  return {
    files,
    async read() {
      if (current !== undefined && !forgotten && now() - lookedAt < LOOK_MILLIS) return current.credentials;
      // Looked at before they are read: what is written in between is seen the next time.
      const print = await fingerprint();
      if (current === undefined || forgotten || print !== current.print) {
        const credentials = await load();
        const same = current !== undefined && JSON.stringify(credentials) === JSON.stringify(current.credentials);
        current = { credentials: same && current !== undefined ? current.credentials : credentials, print };
      }
      forgotten = false;
      lookedAt = now();
      return current.credentials;
    },
    forget() {
      forgotten = true;
    },
  };

  async function fingerprint(): Promise<string> {
    const prints: string[] = [];
    for (const path of files) prints.push(await look(path, 'unauthorized'));
    if (config.caFile !== undefined) prints.push(await look(config.caFile, 'tls'));
    return prints.join(' ');
  }

  async function load(): Promise<Credentials> {
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
}

async function look(path: string, failure: SendFailure): Promise<string> {
  try {
    const { dev, ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${dev}:${ino}:${mtimeNs}:${size}`;
  } catch (error) {
    throw unreadable(path, failure, error);
  }
}

/** Without the newlines at its end; never empty. */
async function readText(path: string, failure: SendFailure): Promise<string> {
  let text: string;
  try {
    const info = await stat(path);
    if (!info.isFile() || info.size > MAX_BYTES) throw new Error('it is no file, or too large');
    text = (await readFile(path, 'utf8')).replace(/[\r\n]+$/, '');
  } catch (error) {
    throw unreadable(path, failure, error);
  }
  if (text === '') throw new SendError(failure, `${path} is empty`);
  return text;
}

async function readAuthorities(path: string): Promise<string> {
  const pem = await readText(path, 'tls');
  // Node takes what it can't read as no authority at all.
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (certificates.length === 0) throw new SendError('tls', `${path} holds no certificate in PEM`);
  try {
    certificates.forEach((certificate) => new X509Certificate(certificate));
  } catch {
    throw new SendError('tls', `${path} holds a certificate that can't be read`);
  }
  return pem;
}

function unreadable(path: string, failure: SendFailure, error: unknown): SendError {
  const why = errorCode(error) ?? (error as { message?: string }).message ?? 'unknown';
  return new SendError(failure, `can't read ${path}: ${why}`);
}
