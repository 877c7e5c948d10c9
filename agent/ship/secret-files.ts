/**
 * Secrets and certificates from files, which Kubernetes replaces while the agent runs.
 *
 * Files are looked at (device, inode, time, size) at most each second, and read again when they differ; after
 * `forget()` they are read at once. What is read never gets into a message.
 */
import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { errorCode, messageOf } from '../files/errors.ts';
import { SendError, type SendFailure } from './destination.ts';

export interface WatchedFiles<T> {
  /** The same object as before while nothing changed. @throws SendError that names the file. */
  read(): Promise<T>;
  /** The server did not like what was read. */
  forget(): void;
}

export interface SecretFile {
  path: string;
  /** What it means when it can't be read. */
  failure: SendFailure;
}

const LOOK_MILLIS = 1000;
/** A system's bundle of authorities has some 200 KiB. */
const MAX_BYTES = 4 << 20;

/** @param load Reads them. @param now Monotonic, in milliseconds. */
export function watchFiles<T>(
  files: readonly SecretFile[],
  load: () => Promise<T>,
  now: () => number = () => performance.now(),
): WatchedFiles<T> {
  let current: { value: T; print: string } | undefined;
  let lookedAt = -Infinity;
  let forgotten = false;

  return {
    async read() {
      if (current !== undefined && !forgotten && now() - lookedAt < LOOK_MILLIS) return current.value;
      // Looked at before they are read: what is written in between is seen the next time.
      const print = await fingerprint(files);
      if (current === undefined || forgotten || print !== current.print) {
        const value = await load();
        const same = current !== undefined && JSON.stringify(value) === JSON.stringify(current.value);
        current = { value: same && current !== undefined ? current.value : value, print };
      }
      forgotten = false;
      lookedAt = now();
      return current.value;
    },
    forget() {
      forgotten = true;
    },
  };
}

async function fingerprint(files: readonly SecretFile[]): Promise<string> {
  const prints: string[] = [];
  for (const { path, failure } of files) prints.push(await look(path, failure));
  return prints.join(' ');
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
export async function readText(path: string, failure: SendFailure): Promise<string> {
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

export async function readAuthorities(path: string): Promise<string> {
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
  const why = errorCode(error) ?? messageOf(error);
  return new SendError(failure, `can't read ${path}: ${why}`);
}
