/** `dpi-agent check`: everything `run` needs, looked at without starting it. */
import { existsSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import { readPolicy } from '../alerts/policy-file.ts';
import { interfaceState } from '../capture/interfaces.ts';
import { probeCapture } from '../capture/probe.ts';
import { staticEndpoints } from '../config/endpoints.ts';
import { onNode, tapsOf, type Endpoint } from '../endpoints/endpoint.ts';
import { loadConfig, type Config } from '../config/load.ts';
import { messageOf } from '../files/errors.ts';
import type { ApiList, ApiObject } from '../kube/api.ts';
import { discoverResourceApi, resourcePath } from '../kube/resources.ts';
import { findEngine } from '../engine/find.ts';
import { hasCapability } from '../engine/sandbox.ts';
import { captureSettings } from '../lane.ts';
import { REBUILD } from '../native.ts';
import { whyNotInPods } from '../rights.ts';
import { EXIT } from './exit.ts';
import { FINDING_FLAGS, print, type Finding } from './finding.ts';
import { plural } from './print.ts';
import { checkRules } from './rule-findings.ts';
import { checkRuleServer } from './rule-server-findings.ts';
import { checkSinks } from './sink-findings.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, configSources, connect, interfaceFlag, followsCluster } from './setup.ts';

const OWN = ['output', 'interface'];
const CAP_NET_RAW = 13;
const CLUSTER_MILLIS = 10_000;

export interface CheckArgv {
  output: string;
  interface?: string[];
}

export const command: CommandModule<object, CheckArgv> = {
  command: 'check',
  builder: (args: Argv) =>
    args
      .options({ ...COMMON_FLAGS, ...CLUSTER_FLAGS })
      .option('interface', interfaceFlag('Interface to check too'))
      .options(FINDING_FLAGS)
      .strict(false)
      .example('$0 check --config dpi-agent.yaml', '')
      .example('$0 check --rules my.rules -o json', 'findings for programs') as Argv<CheckArgv>,
  async handler(argv) {
    const findings = await check(argv);
    print(findings, argv.output);
    const worst = findings.some(({ level }) => level === 'error');
    process.exitCode = worst ? EXIT.failed : EXIT.ok;
  },
};

/** Nothing of it hangs: what does not answer is a finding. */
export async function check(argv: CheckArgv): Promise<Finding[]> {
  const loaded = loadConfig(configSources({ ...argv }, OWN));
  if ('errors' in loaded) {
    return loaded.errors.map(({ message }) => ({
      level: 'error',
      subject: 'configuration',
      message,
      remedy: 'correct it; docs/configuration.md lists all keys',
    }));
  }
  const { config } = loaded;
  const findings: Finding[] = [{ level: 'ok', subject: 'configuration', message: `valid, node ${config.node}` }];
  findings.push(...checkRights(), await checkCapture(config), ...(await checkFolders(config)), ...checkPolicy(config));
  findings.push(...(await checkSinks(config.sinks)), ...(await checkRuleServer(config)));
  const named = staticEndpoints(config);
  const interfaces = [...named.flatMap(onNode), ...(argv.interface ?? [])];
  if (followsCluster(config)) findings.push(...checkSides(config), ...(await checkCluster(config)));
  if (interfaces.length > 0 || (named.length === 0 && !followsCluster(config)))
    findings.push(...checkInterfaces(interfaces));
  findings.push(...checkNamespaces(named));
  const engine = await findEngine(config.engine.type, config.engine.binary);
  if (engine.kind === 'missing') {
    findings.push({
      level: 'error',
      subject: 'engine',
      message: engine.reason,
      remedy: 'install an engine or set engine.binary',
    });
    return findings;
  }
  const { install, why } = engine;
  findings.push({
    level: 'ok',
    subject: 'engine',
    message: `${install.name} ${install.version} at ${install.binary} (${why})`,
  });
  findings.push(...(await checkRules(config, install)));
  return findings;
}

function checkRights(): Finding[] {
  const subject = 'rights';
  if (hasCapability(CAP_NET_RAW)) return [{ level: 'ok', subject, message: 'may capture packets (CAP_NET_RAW)' }];
  return [
    {
      level: 'error',
      subject,
      message: 'may not capture packets: CAP_NET_RAW is missing',
      remedy: 'run as root, or grant the capability NET_RAW',
    },
  ];
}

/** Whether pods can be captured on their own side. */
function checkSides({ capture: { side } }: Config): Finding[] {
  const why = side === 'host' ? undefined : whyNotInPods();
  if (why === undefined) return [];
  const message = `what passes no interface of the node is not inspected: ${why}`;
  const remedy = 'grant the capability SYS_ADMIN, or set capture.side to host';
  return [{ level: side === 'pod' ? 'error' : 'info', subject: 'rights', message, remedy }];
}

/** Loads what a capture process of `run` would. */
async function checkCapture(config: Config): Promise<Finding> {
  const subject = 'capture';
  const probed = await probeCapture(captureSettings(config));
  const remedy = REBUILD;
  if (probed.library === undefined) {
    return { level: 'error', subject, message: `nothing can be captured: ${probed.reason}`, remedy };
  }
  const message = `packets are captured by ${probed.library}`;
  return probed.instead === undefined
    ? { level: 'ok', subject, message }
    : { level: 'warning', subject, message: `${message}: ${probed.instead}`, remedy };
}

async function checkFolders(config: Config): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [key, path] of [
    ['stateDirectory', config.stateDirectory],
    ['journal.directory', config.journal.directory],
  ] as const) {
    try {
      await access(existingPart(path), constants.W_OK | constants.X_OK);
      findings.push({ level: 'ok', subject: 'folder', message: `${path} can be written (${key})` });
    } catch (error) {
      const message = `${path} cannot be written: ${messageOf(error)}`;
      findings.push({
        level: 'error',
        subject: 'folder',
        message,
        remedy: `set ${key} to a folder that the agent may write`,
      });
    }
  }
  return findings;
}

function checkPolicy({ alerts: { policy: file }, respond: { url } }: Config): Finding[] {
  if (file === undefined) return [];
  const subject = 'policy';
  const policy = readPolicy(file);
  if ('errors' in policy) {
    const remedy = 'correct it; docs/rule-tuning.md describes it';
    return policy.errors.map((message) => ({ level: 'error', subject, message, remedy }));
  }
  const { suppress, threshold, respond = [], expired } = policy;
  const counts = [
    plural(suppress.length, 'suppression'),
    plural(threshold.length, 'threshold'),
    ...(respond.length === 0 ? [] : [plural(respond.length, 'response')]),
  ];
  return [
    {
      level: 'ok',
      subject,
      message: `${file}: ${counts.join(', ')}`,
    },
    ...(respond.length === 0 || url !== undefined ? [] : [noResponder(subject)]),
    ...expired.map(({ name, place: at }): Finding => {
      return { level: 'warning', subject, message: `${at}: ${name} is over`, remedy: 'take it out' };
    }),
  ];
}

function noResponder(subject: string): Finding {
  const message = 'its responses have nobody to ask: respond.url is not set';
  return { level: 'warning', subject, message, remedy: 'set it, or add the component response (docs/response.md)' };
}

/** The folder, or the nearest one above it that is there and in which it will be made. */
export function existingPart(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : existingPart(dirname(path));
}

function checkInterfaces(names: string[]): Finding[] {
  const subject = 'interface';
  if (names.length === 0) {
    return [
      {
        level: 'warning',
        subject,
        message: 'nothing to inspect',
        remedy: 'name endpoints in the configuration, --interface, or a cluster (--kubeconfig)',
      },
    ];
  }
  return [...new Set(names)].map((name): Finding => {
    const state = interfaceState(name);
    if (state.is === 'up') return { level: 'ok', subject, message: `${name} is up (ifindex ${state.ifindex})` };
    const remedy = 'the agent waits for it; ip link shows the interfaces that there are';
    return {
      level: 'warning',
      subject,
      message: state.is === 'down' ? `${name} is down` : `there is no ${name}`,
      remedy,
    };
  });
}

/** Network namespaces that endpoints of the configuration are in. */
function checkNamespaces(endpoints: readonly Endpoint[]): Finding[] {
  const paths = new Set(endpoints.flatMap((endpoint) => tapsOf(endpoint).flatMap(({ netns }) => netns ?? [])));
  const barred = whyNotInPods();
  return [...paths].map((path): Finding => {
    if (!existsSync(path)) {
      const remedy = 'the agent waits for it; ip netns list shows those below /run/netns';
      return { level: 'warning', subject: 'interface', message: `there is no network namespace ${path}`, remedy };
    }
    if (barred === undefined)
      return { level: 'ok', subject: 'interface', message: `there is a network namespace ${path}` };
    const remedy = 'run as root, or grant the capability SYS_ADMIN';
    return { level: 'error', subject: 'interface', message: `${path} is not inspected: ${barred}`, remedy };
  });
}

/** What `run` asks of the API server, asked once. */
async function checkCluster(config: Config): Promise<Finding[]> {
  const subject = 'cluster';
  const findings: Finding[] = [];
  try {
    const client = await connect(config);
    const signal = AbortSignal.timeout(CLUSTER_MILLIS);
    const api = await discoverResourceApi(client, signal);
    if (api === undefined) {
      findings.push({
        level: 'error',
        subject,
        message: `${client.server} serves no DeepPacketInspection resources`,
        remedy: 'kubectl apply -k deploy/crds/projectcalico.org; docs/kubernetes.md has the variants',
      });
    } else {
      const { items } = await client.get<ApiList<ApiObject>>(resourcePath(api), undefined, signal);
      findings.push({
        level: 'ok',
        subject,
        message: `${client.server} has ${plural(items.length, 'resource')} of ${api}`,
      });
    }
    const query = { fieldSelector: `spec.nodeName=${config.node}` };
    const pods = await client.get<ApiList<ApiObject>>('/api/v1/pods', query, signal);
    if (pods.items.length > 0) {
      findings.push({ level: 'ok', subject, message: `node ${config.node} has ${plural(pods.items.length, 'pod')}` });
    } else {
      findings.push({
        level: 'warning',
        subject,
        message: `no pod is on a node ${config.node}`,
        remedy: "set NODE_NAME, or node, to the node's name in the cluster",
      });
    }
  } catch (error) {
    const message = messageOf(error);
    findings.push({
      level: 'error',
      subject,
      message,
      remedy: 'docs/kubernetes.md lists the rights that the agent needs',
    });
  }
  return findings;
}
