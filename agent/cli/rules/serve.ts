/** `dpi-agent rules serve`: one download for a cluster, until SIGTERM or SIGINT. */
import type { Argv, CommandModule } from 'yargs';
import { CLUSTER_FLAGS, COMMON_FLAGS, readConfig } from '../setup.ts';

export const command: CommandModule = {
  command: 'serve',
  describe: 'Fetch rules for all nodes of a cluster, and have one node prove them first',
  builder: (args: Argv) =>
    args
      .options({
        config: COMMON_FLAGS.config,
        engine: COMMON_FLAGS.engine,
        'log-level': COMMON_FLAGS['log-level'],
        ...CLUSTER_FLAGS,
      })
      .strict(false)
      .example('$0 rules serve -c dpi-agent.yaml', 'in a pod of deploy/components/rule-server')
      .example(
        '$0 rules serve -c dpi-agent.yaml --ruleServing.address 0.0.0.0 --ruleServing.tlsCertFile tls.crt --ruleServing.tlsKeyFile tls.key',
        'with a certificate of your own',
      )
      .example(
        'kubectl -n tigera-dpi exec deploy/dpi-agent-rule-server -- $0 rules rollback community',
        'for all nodes',
      ),
  async handler(argv) {
    // The other commands need no web server.
    const { serveRules } = await import('../rule-serving.ts');
    await serveRules(readConfig(argv, []));
  },
};
