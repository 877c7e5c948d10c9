/** The commands by name: what the list of them says, and where they are. */

/** Only the one that is asked for is loaded. */
export const COMMANDS = {
  run: {
    describe: 'Inspect the traffic of pods or interfaces until SIGTERM or SIGINT',
    load: () => import('./run.ts'),
  },
  status: {
    describe: 'Show what a running agent inspects, at what rates, and what is wrong',
    load: () => import('./status.ts'),
  },
  replay: {
    describe: 'Inspect recorded packets (pcap, pcapng, also gzip) and print the alerts',
    load: () => import('./replay.ts'),
  },
  check: {
    describe: 'Check configuration, engine, rules, rights and interfaces without starting',
    load: () => import('./check.ts'),
  },
  doctor: {
    describe: 'Find out what keeps this machine from inspecting, with the command that mends it',
    load: () => import('./doctor.ts'),
  },
  explain: {
    describe: 'Show which pods a selector would inspect, and why not the others',
    load: () => import('./explain.ts'),
  },
  ui: {
    describe: 'Serve the Alerts page: search, follow and handle alerts in a browser',
    load: () => import('./ui.ts'),
  },
  rules: {
    describe: 'Show, check, test, update, enable and disable rules; find the noisy ones',
    load: () => import('./rules.ts'),
  },
  policy: {
    describe: 'Show what makes alerts fewer, try it on the journal, add to it and take out of it',
    load: () => import('./policy.ts'),
  },
  operator: {
    describe: 'Keep the DaemonSet of a cluster as its resources want it, until SIGTERM or SIGINT',
    load: () => import('./operator.ts'),
  },
  quickstart: {
    describe: 'Set a cluster up, inspect pods of a selector, and prove it by a test request',
    load: () => import('./quickstart.ts'),
  },
  uninstall: {
    describe: 'Take out of a cluster what quickstart or deploy/ brought into it',
    load: () => import('./uninstall.ts'),
  },
  sinks: {
    describe: 'Show where events go, and send a test to a destination',
    load: () => import('./sinks.ts'),
  },
  events: {
    describe: 'Search the journal and follow it; send again what a sink refused',
    load: () => import('./events.ts'),
  },
  respond: {
    describe: 'Cut pods off the network, and let them go',
    load: () => import('./respond.ts'),
  },
  completion: {
    describe: 'Print what completes commands and flags in bash, zsh or fish',
    load: () => import('./completion.ts'),
  },
  man: {
    describe: 'Print the manual page',
    load: () => import('./man.ts'),
  },
} as const;
