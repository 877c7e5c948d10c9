/** What `dpi-agent respond serve` runs: the keeper, the web server, probes. */
import { isIPv6 } from 'node:net';
import type { Server } from 'node:tls';
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import { readCertificate, renewCertificate } from '../files/certificate.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { createAccess } from '../kube/token-access.ts';
import { createMetrics } from '../respond/metrics.ts';
import { startKeeper, type Keeper } from '../respond/keeper.ts';
import { personOf } from '../respond/persons.ts';
import { createRespondServer } from '../respond/server.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog } from './log.ts';
import { serveProbes } from './probes.ts';
import { connect } from './setup.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
import { version } from './version.ts';

type Serving = Config['respondServing'];

/** Until SIGTERM or SIGINT. @throws CommandError */
export async function serveResponse(config: Config): Promise<void> {
  const { respondServing: serving } = config;
  refuseInClear(serving);
  const log = createLog(config);
  const tls = await openCertificate(serving, log);
  const client = await connect(config);
  const { audience, serviceAccounts } = serving;
  const ending = abortedBySignal();
  const keeper = startKeeper({ ...serving, client, log });
  const app = createRespondServer({
    keeper,
    agentOf: createAccess(client, { audience, serviceAccounts }),
    personOf: (token) => personOf(client, token),
    log,
    ...(tls === undefined ? {} : { tls: { cert: tls.cert, key: tls.key } }),
  });
  const close = await serveProbes(config.http, answersOf(keeper), log);
  try {
    const url = await listen(app, serving);
    const { automatic, automaticPods, protectedNamespaces } = serving;
    log.info({ url, version: version(), automatic, automaticPods, protectedNamespaces }, 'respond: is up');
    const endRenewal = tls?.renew(app.server as unknown as Server);
    await untilAborted(ending);
    log.info({ signal: ending.reason as string }, 'ending');
    endRenewal?.();
  } finally {
    await app.close();
    await keeper.stop();
    close();
  }
}

function answersOf(keeper: Keeper) {
  return {
    stuck: () => undefined,
    metrics: createMetrics(() => keeper.status(), version()),
    readiness() {
      const { problem } = keeper.status();
      return { ready: problem === undefined, problems: problem === undefined ? [] : [problem] };
    },
  };
}

/** @throws CommandError where tokens would cross the network in the clear. */
function refuseInClear({ address, tlsCertFile }: Serving): void {
  if (tlsCertFile !== undefined || address === '::1' || address.startsWith('127.')) return;
  throw new CommandError(
    `tokens would cross the network to ${address} in the clear: set respondServing.tlsCertFile and respondServing.tlsKeyFile, or listen on 127.0.0.1`,
  );
}

/** @throws CommandError that says which file is wrong, and how. */
async function openCertificate({ tlsCertFile: cert, tlsKeyFile: key }: Serving, log: Logger) {
  if (cert === undefined || key === undefined) return undefined;
  const files = { cert, key };
  try {
    const certificate = await readCertificate(files);
    return { ...certificate, renew: (server: Server) => renewCertificate(server, files, log) };
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

/** @returns its URL. @throws CommandError */
async function listen(app: ReturnType<typeof createRespondServer>, serving: Serving): Promise<string> {
  const { address, port, tlsCertFile } = serving;
  try {
    await app.listen({ host: address, port });
  } catch (error) {
    const why = errorCode(error) === 'EADDRINUSE' ? 'the port is taken: set respondServing.port' : messageOf(error);
    throw new CommandError(`cannot listen on ${address}:${port}: ${why}`, EXIT.failed);
  }
  const bound = app.server.address();
  const taken = typeof bound === 'object' && bound !== null ? bound.port : port;
  return `${tlsCertFile === undefined ? 'http' : 'https'}://${isIPv6(address) ? `[${address}]` : address}:${taken}`;
}
