/** What servers have in common that take the cluster's tokens: `rules serve` and `respond serve`. */
import type { FastifyInstance } from 'fastify';
import { isIPv6 } from 'node:net';
import type { Server } from 'node:tls';
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import { readCertificate, renewCertificate } from '../files/certificate.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { CommandError, EXIT } from './exit.ts';

/** The part of the configuration. */
type Part = 'ruleServing' | 'respondServing';
type Listening = Pick<Config[Part], 'address' | 'port' | 'tlsCertFile' | 'tlsKeyFile'>;

/** @throws CommandError where tokens would cross the network in the clear. */
export function refuseInClear(part: Part, { address, tlsCertFile }: Listening): void {
  if (tlsCertFile !== undefined || address === '::1' || address.startsWith('127.')) return;
  throw new CommandError(
    `tokens would cross the network to ${address} in the clear: set ${part}.tlsCertFile and ${part}.tlsKeyFile, or listen on 127.0.0.1`,
  );
}

/** @throws CommandError that says which file is wrong, and how. */
export async function openCertificate({ tlsCertFile: cert, tlsKeyFile: key }: Listening, log: Logger) {
  if (cert === undefined || key === undefined) return undefined;
  const files = { cert, key };
  try {
    const certificate = await readCertificate(files);
    const until = new Date(certificate.until).toISOString();
    if (certificate.until < Date.now())
      log.warn({ file: cert, until }, 'the certificate has expired: agents refuse it');
    return { ...certificate, renew: (server: Server) => renewCertificate(server, files, log) };
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

/** @returns its URL. @throws CommandError */
export async function listen(app: FastifyInstance, part: Part, serving: Listening): Promise<string> {
  const { address, port, tlsCertFile } = serving;
  try {
    await app.listen({ host: address, port });
  } catch (error) {
    const why = errorCode(error) === 'EADDRINUSE' ? `the port is taken: set ${part}.port` : messageOf(error);
    throw new CommandError(`cannot listen on ${address}:${port}: ${why}`, EXIT.failed);
  }
  const bound = app.server.address();
  const taken = typeof bound === 'object' && bound !== null ? bound.port : port;
  return `${tlsCertFile === undefined ? 'http' : 'https'}://${isIPv6(address) ? `[${address}]` : address}:${taken}`;
}
