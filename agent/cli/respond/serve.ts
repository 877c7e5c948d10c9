/** `dpi-agent respond serve`: isolates pods for the Alerts page and for agents, and releases them in time. */
import type { Argv, CommandModule } from 'yargs';
import { CLUSTER_FLAGS, COMMON_FLAGS, readConfig } from '../setup.ts';

export const command: CommandModule = {
  command: 'serve',
  describe: 'Isolate pods for the Alerts page and for agents, and release them in time',
  builder: (args: Argv) =>
    args
      .options({ config: COMMON_FLAGS.config, 'log-level': COMMON_FLAGS['log-level'], ...CLUSTER_FLAGS })
      .strict(false)
      .example('$0 respond serve -c response.yaml', 'in a pod of deploy/components/response')
      .example('$0 respond serve --kubeconfig admin.conf --http.port 0', 'from outside, on this machine only'),
  async handler(argv) {
    // The other commands need no web server.
    const { serveResponse } = await import('../responding.ts');
    await serveResponse(readConfig(argv, []));
  },
};
