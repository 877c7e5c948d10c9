/** What `dpi-agent respond serve` runs: the keeper, the web server, probes. */
import type { Server } from 'node:tls';
import type { Config } from '../config/load.ts';
import { createAccess } from '../kube/token-access.ts';
import { createMetrics } from '../respond/metrics.ts';
import { startKeeper, type Keeper } from '../respond/keeper.ts';
import { personOf } from '../respond/persons.ts';
import { createRespondServer } from '../respond/server.ts';
import { createLog } from './log.ts';
import { serveProbes } from './probes.ts';
import { connect } from './setup.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
import { listen, openCertificate, refuseInClear } from './token-server.ts';
import { version } from './version.ts';

/** Until SIGTERM or SIGINT. @throws CommandError */
export async function serveResponse(config: Config): Promise<void> {
  const { respondServing: serving } = config;
  refuseInClear('respondServing', serving);
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
    const url = await listen(app, 'respondServing', serving);
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
