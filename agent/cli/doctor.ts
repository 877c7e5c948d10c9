/**
 * `dpi-agent doctor`: what keeps this machine, or this pod, from inspecting, and what mends it. It looks at what
 * `check` looks at, and at the machine, the disk, each right at the API server, Elasticsearch, the clock, and the agent
 * that runs. Changes nothing.
 */
import type { Argv, CommandModule } from 'yargs';
import { staticEndpoints } from '../config/endpoints.ts';
import { loadConfig, type Config } from '../config/load.ts';
import { onNode } from '../endpoints/endpoint.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { askStatus } from '../observe/ask.ts';
import type { Snapshot } from '../observe/snapshot.ts';
import { check, type CheckArgv } from './check.ts';
import { cluster } from './doctor/cluster.ts';
import { PROBE_MILLIS, REMEDY_SLOW } from './doctor/limits.ts';
import { capabilities, disks, kernel, offloads, otherLibraries, searchMethods } from './doctor/machine.ts';
import { elasticsearch, otherSinks, syslog } from './doctor/sinks.ts';
import { EXIT } from './exit.ts';
import { FINDING_FLAGS, print, type Finding } from './finding.ts';
import { plural } from './print.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, configSources, interfaceFlag, socketOf } from './setup.ts';

const OWN = ['output', 'interface'];

export const command: CommandModule<object, CheckArgv> = {
  command: 'doctor',
  builder: (args: Argv) =>
    args
      .options({ ...COMMON_FLAGS, ...CLUSTER_FLAGS })
      .option('interface', interfaceFlag('Interface to look at too'))
      .options(FINDING_FLAGS)
      .strict(false)
      .example('$0 doctor --config dpi-agent.yaml', '')
      .example('$0 doctor -o json | jq \'.[] | select(.level == "error")\'', 'what is wrong')
      .example(
        'kubectl exec -n tigera-dpi <pod> -- $0 doctor -c /etc/dpi-agent/dpi-agent.yaml',
        'on a node of a cluster',
      )
      .epilogue('Exit codes: 0 nothing wrong, 3 warnings, 1 errors.') as Argv<CheckArgv>,
  async handler(argv) {
    const findings = await diagnose(argv);
    print(findings, argv.output);
    const has = (level: Finding['level']): boolean => findings.some((finding) => finding.level === level);
    process.exitCode = has('error') ? EXIT.failed : has('warning') ? EXIT.warnings : EXIT.ok;
  },
};

async function diagnose(argv: CheckArgv): Promise<Finding[]> {
  const machine = [kernel(), capabilities()];
  const loaded = loadConfig(configSources({ ...argv }, OWN));
  if ('errors' in loaded) return [...machine, ...(await check(argv))];
  const { config } = loaded;
  const running = await askStatus({ socket: socketOf(config) }, PROBE_MILLIS).catch((error: unknown) => error as Error);
  const interfaces = [
    ...staticEndpoints(config).flatMap(onNode),
    ...(argv.interface ?? []),
    ...(running instanceof Error ? [] : running.endpoints.flatMap(({ taps }) => taps))
      .filter(({ side }) => side === 'host')
      .map((tap) => tap.interface),
  ];
  const rest = await Promise.all([
    check(argv),
    within('capture', otherLibraries(config)),
    within('engine', searchMethods(config)),
    within('disk', disks(config)),
    within('offload', offloads([...new Set(interfaces)])),
    within('cluster', cluster(config)),
    within('elasticsearch', elasticsearch(config)),
    within('syslog', syslog(config)),
  ]);
  return [...machine, ...rest.flat(), ...otherSinks(config), ...agent(config, running)];
}

/** A probe that takes too long, or fails where it should not, is a finding too. */
async function within(subject: string, probe: Promise<Finding[]>): Promise<Finding[]> {
  const timer = new AbortController();
  const late = new Promise<Finding[]>((resolve) => {
    const timeout = setTimeout(() => {
      resolve([{ level: 'error', subject, message: `no answer within ${PROBE_MILLIS / 1000} s`, remedy: REMEDY_SLOW }]);
    }, PROBE_MILLIS);
    timer.signal.addEventListener('abort', () => clearTimeout(timeout));
  });
  try {
    return await Promise.race([probe, late]);
  } catch (error) {
    return [{ level: 'error', subject, message: messageOf(error) }];
  } finally {
    timer.abort();
  }
}

function agent(config: Config, running: Snapshot | Error): Finding[] {
  const subject = 'agent';
  const socket = socketOf(config);
  if (running instanceof Error) {
    const code = errorCode(running);
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      return [{ level: 'info', subject, message: `none runs here (nobody answers at ${socket})` }];
    }
    return [
      {
        level: 'warning',
        subject,
        message: `${socket}: ${running.message}`,
        remedy: code === 'EACCES' ? "run doctor as the agent's user, mostly root" : 'look at the log of the agent',
      },
    ];
  }
  const oneWay = running.endpoints.filter(({ coverage }) => coverage.oneWay !== undefined);
  const waiting = running.endpoints.filter(({ state }) => state.is === 'waiting');
  const stalled = running.sinks.filter(({ circuit }) => circuit === 'open');
  return [
    {
      level: running.state === 'inspecting' ? 'ok' : 'info',
      subject,
      message: `pid ${running.agent.pid} is ${running.state}, with ${plural(running.endpoints.length, 'endpoint')}`,
    },
    ...running.problems.map((message): Finding => ({ level: 'error', subject, message, remedy: 'docs/operations.md' })),
    ...waiting.map(({ id, state }): Finding => {
      const reason = state.is === 'waiting' ? state.reason : '';
      return { level: 'warning', subject, message: `${id} is not captured: ${reason}`, remedy: 'dpi-agent explain' };
    }),
    ...oneWay.map(({ id, coverage }): Finding => ({
      level: 'error',
      subject,
      message: `of ${id}, only ${coverage.oneWay} passes its interface`,
      remedy: 'docs/operations.md#only-one-direction-is-seen',
    })),
    ...stalled.map(({ name, lastError, pending }): Finding => ({
      level: 'error',
      subject,
      message: `sink ${name} is stalled with ${plural(pending, 'event')} pending: ${lastError ?? 'unknown'}`,
      remedy: 'docs/operations.md#a-sink-is-stalled',
    })),
  ];
}
