/** A server's certificate: read at its start, and again when its file is replaced. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { Server } from 'node:tls';
import type { Logger } from 'pino';
import { errorCode, messageOf } from './errors.ts';

/** How often its file is looked at. */
const LOOK_MILLIS = 60_000;

export interface CertificateFiles {
  /** PEM files; the certificate's own comes first in its file, authorities follow. */
  cert: string;
  key: string;
}

export interface Certificate {
  cert: Buffer;
  key: Buffer;
  /** In milliseconds since the epoch. */
  until: number;
}

/**
 * @throws Error that names the file and what is wrong with it: it can't be read, is no PEM, or the key is that of
 * another certificate.
 */
export async function readCertificate(files: CertificateFiles): Promise<Certificate> {
  const [cert, key] = await Promise.all([read(files.cert), read(files.key)]);
  const certificate = parse(files.cert, 'certificate', () => new X509Certificate(cert));
  const privateKey = parse(files.key, 'private key', () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey))
    throw new Error(`${files.key}: the key is not that of the certificate in ${files.cert}`);
  return { cert, key, until: Date.parse(certificate.validTo) };
}

/**
 * Takes a certificate that replaces the one in the file, for new connections. While the files don't fit each other, the
 * one before stays.
 * @returns what ends it.
 */
export function renewCertificate(
  server: Server,
  files: CertificateFiles,
  log: Pick<Logger, 'info' | 'warn'>,
  lookMillis = LOOK_MILLIS,
): () => void {
  let known: string | undefined;
  async function look(): Promise<void> {
    const prints = await Promise.all([files.cert, files.key].map((path) => stat(path)));
    const print = prints.map(({ mtimeMs, ino }) => `${mtimeMs} ${ino}`).join();
    if (known !== undefined && known !== print) {
      const { cert, key, until } = await readCertificate(files);
      server.setSecureContext({ cert, key });
      log.info({ until: new Date(until).toISOString() }, 'the certificate was replaced');
    }
    known = print;
  }
  const quietly = (): void =>
    void look().catch((error: unknown) => log.warn({ err: error }, 'the certificate is not renewed'));
  quietly();
  const timer = setInterval(quietly, lookMillis);
  return () => clearInterval(timer);
}

function read(path: string): Promise<Buffer> {
  return readFile(path).catch((error: unknown) => {
    throw new Error(`can't read ${path}: ${errorCode(error) ?? messageOf(error)}`);
  });
}

function parse<T>(path: string, what: string, from: () => T): T {
  try {
    return from();
  } catch {
    throw new Error(`${path}: expected a ${what} in PEM`);
  }
}
