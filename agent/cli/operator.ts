/** `dpi-agent operator`: keeps the DaemonSet of a cluster, until SIGTERM or SIGINT. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../config/load.ts';
import { createMetrics } from '../operator/metrics.ts';
import { startOperator, type Operator } from '../operator/operator.ts';
import { createLog } from './log.ts';
import { serveProbes } from './probes.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, connect, readConfig } from './setup.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
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
  const ending = abortedBySignal();

  const identity = `${hostname()}_${randomUUID().slice(0, 8)}`;
  log.info({ version: version(), server: client.server, identity }, 'operator');
  const operator = startOperator({ client, identity, log });
  const metrics = createMetrics(() => operator.status(), version());
  const answers = { stuck: () => undefined, readiness: () => readinessOf(operator), metrics };
  const close = await serveProbes(config.http, answers, log);
  await untilAborted(ending);
  log.info({ signal: ending.reason as string }, 'ending');
  await operator.stop();
  close();
}

function readinessOf(operator: Operator): { ready: boolean; problems: string[] } {
  const problems = operator.problems();
  return { ready: problems.length === 0, problems };
}
