/** `dpi-agent operator`: keeps the DaemonSet of a cluster, until SIGTERM or SIGINT. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../config/load.ts';
import { serve } from '../observe/server.ts';
import { createMetrics } from '../operator/metrics.ts';
import { startOperator, type Operator } from '../operator/operator.ts';
import { createLog } from './log.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, connect, readConfig } from './setup.ts';
import { version } from './version.ts';

export const command: CommandModule = {
  command: 'operator',
  builder: (args: Argv) =>
    args
      .options({ config: COMMON_FLAGS.config, 'log-level': COMMON_FLAGS['log-level'], ...CLUSTER_FLAGS })
      .strict(false)
      .example('$0 operator', 'in a pod of deploy/components/operator')
      .example('$0 operator --kubeconfig admin.conf', 'from outside of the cluster; in turn with those inside')
      .example('$0 operator --kubeconfig admin.conf --http.port 0', 'without probes and metrics'),
  handler: (argv) => run(readConfig(argv, [])),
};

async function run(config: Config): Promise<void> {
  const log = createLog(config);
  const client = await connect(config);
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort(signal));

  const identity = `${hostname()}_${randomUUID().slice(0, 8)}`;
  log.info({ version: version(), server: client.server, identity }, 'operator');
  const operator = startOperator({ client, identity, log });
  const close = await observe(config, operator, log);
  if (!stopping.signal.aborted) await once(stopping.signal, 'abort');
  log.info({ signal: stopping.signal.reason as string }, 'ending');
  await operator.stop();
  close();
}

/** @returns what ends it. What can't be served is no reason not to act. */
async function observe({ http: { port, address } }: Config, operator: Operator, log: Logger): Promise<() => void> {
  if (port === 0) return () => undefined;
  try {
    const metrics = createMetrics(() => operator.status(), version());
    const where = address === undefined ? { port } : { port, address };
    const server = await serve({
      ...where,
      stuck: () => undefined,
      readiness() {
        const problems = operator.problems();
        return { ready: problems.length === 0, problems };
      },
      metrics,
    });
    return () => server.close();
  } catch (error) {
    log.error({ err: error, port, address }, 'probes and metrics are not served; set http.port or http.address');
    return () => undefined;
  }
}
