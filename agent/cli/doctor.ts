/**
 * `dpi-agent doctor`: what keeps this machine, or this pod, from inspecting, and what mends it. It looks at what
 * `check` looks at, and at the machine, the disk, each right at the API server, Elasticsearch, the clock, and the agent
 * that runs. Changes nothing.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readdir, stat, statfs } from 'node:fs/promises';
import { connect as connectTo } from 'node:net';
import { release } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import type { Argv, CommandModule } from 'yargs';
import { interfaceState } from '../capture/interfaces.ts';
import { probeCapture } from '../capture/probe.ts';
import { staticEndpoints } from '../config/endpoints.ts';
import { onNode } from '../endpoints/endpoint.ts';
import { loadConfig, type Config } from '../config/load.ts';
import { sinkEntries, type SinkEntry } from '../config/sinks.ts';
import { findEngine } from '../engine/find.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import type { Right } from '../kube/api.ts';
import { captureSettings } from '../lane.ts';
import { discoverResourceApi } from '../kube/resources.ts';
import { askStatus } from '../observe/ask.ts';
import type { Snapshot } from '../observe/snapshot.ts';
import { SendError } from '../ship/destination.ts';
import { get } from '../ship/elasticsearch/classify.ts';
import { namesOf, TEMPLATE_VERSION, type Names } from '../ship/elasticsearch/template.ts';
import { check, existingPart, type CheckArgv } from './check.ts';
import { EXIT } from './exit.ts';
import { print, type Finding } from './finding.ts';
import { plural } from './print.ts';
import {
  CLUSTER_FLAGS,
  COMMON_FLAGS,
  configSources,
  connect,
  followsCluster,
  interfaceFlag,
  socketOf,
} from './setup.ts';
import { size } from './status-view.ts';

const OWN = ['output', 'interface'];
/** What a probe may take; those that `check` has too have limits of their own. */
const PROBE_MILLIS = 10_000;
const MAX_INTERFACES = 20;
const LIBRARIES = ['native', 'node-pcap'] as const;
/** Below it, the state directory's disk has no room for alerts that wait. */
const STATE_BYTES = 256 << 20;
const CLOCK_WARNING_MILLIS = 5_000;
/** Tokens and certificates are refused beyond it. */
const CLOCK_ERROR_MILLIS = 60_000;

/** capabilities(7), by their numbers. */
const CAPABILITIES =
  'chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore'
    .toUpperCase()
    .split(' ');

/** What the agent asks of the API server: the rules of deploy/rbac.yaml, but for the group of the resources. */
export const RIGHTS: (Omit<Right, 'verb' | 'group'> & { verbs: Right['verb'][]; what: string })[] = [
  { resource: 'pods', verbs: ['list', 'watch'], what: 'without it no pod of this node is found' },
  { resource: 'services', verbs: ['list'], what: 'without it events do not name Services' },
  { resource: 'deeppacketinspections', verbs: ['get', 'list', 'watch'], what: 'without it no resource is followed' },
  { resource: 'deeppacketinspections/status', verbs: ['get', 'patch'], what: 'without it no status is written' },
];

export const command: CommandModule<object, CheckArgv> = {
  command: 'doctor',
  builder: (args: Argv) =>
    args
      .options({ ...COMMON_FLAGS, ...CLUSTER_FLAGS })
      .option('interface', interfaceFlag('Interface to look at too'))
      .option('output', {
        alias: 'o',
        choices: ['table', 'json'],
        default: 'table',
        describe: 'json: a list of findings',
      })
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

/** Whether these take events is known only by sending one. */
function otherSinks(config: Config): Finding[] {
  return [...entriesOf(config, 'http'), ...entriesOf(config, 'opensearch')].map(({ name }) => ({
    level: 'info',
    subject: name,
    message: `not asked: dpi-agent sinks test ${name} sends a sample`,
  }));
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

const REMEDY_SLOW = 'look at the network and the load on the way there, and run doctor again';

function kernel(): Finding {
  return { level: 'info', subject: 'kernel', message: `Linux ${release()}, Node.js ${process.versions.node}` };
}

function capabilities(): Finding {
  const effective = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`,
  );
  const names = CAPABILITIES.filter((_, bit) => ((effective >> BigInt(bit)) & 1n) === 1n);
  const who = process.getuid?.() === 0 ? 'root' : `uid ${process.getuid?.()}`;
  const lacking = CAPABILITIES.filter((name) => !names.includes(name));
  const which =
    lacking.length === 0
      ? 'all capabilities'
      : lacking.length < names.length
        ? `all capabilities but ${lacking.join(', ')}`
        : names.join(', ') || 'no capability';
  return { level: 'info', subject: 'rights', message: `${who} with ${which}` };
}

/** The libraries that `run` would not take; `check` says which one it takes. */
async function otherLibraries(config: Config): Promise<Finding[]> {
  const settings = captureSettings(config);
  const used = await probeCapture(settings);
  const others = LIBRARIES.filter((name) => name !== used.library && name !== settings.library);
  return Promise.all(
    others.map(async (library): Promise<Finding> => {
      const probed = await probeCapture({ ...settings, library });
      const message =
        probed.library === undefined
          ? `${probed.reason}; it is not needed`
          : `${library} can be loaded too (capture.library ${library})`;
      return { level: 'info', subject: 'capture', message };
    }),
  );
}

/** What `check` does not say of an engine: whether it matches patterns as fast as it could. */
async function searchMethods(config: Config): Promise<Finding[]> {
  const engine = await findEngine(config.engine.type, config.engine.binary);
  if (engine.kind === 'missing' || engine.install.name !== 'snort') return [];
  const { searchMethods: methods } = engine.install;
  if (methods.length > 0) return [{ level: 'ok', subject: 'engine', message: `built with ${methods.join(', ')}` }];
  return [
    {
      level: 'info',
      subject: 'engine',
      message: 'built without Hyperscan: patterns are matched by ac_bnfa, which takes several times the CPU',
      remedy: 'build Snort 3 with Hyperscan or Vectorscan',
    },
  ];
}

async function disks(config: Config): Promise<Finding[]> {
  const subject = 'disk';
  const free = async (path: string): Promise<number> => {
    const { bavail, bsize } = await statfs(existingPart(path));
    return bavail * bsize;
  };
  const { directory, maxSize } = config.journal;
  const files = await readdir(directory).catch(() => []);
  // The oldest may be evicted meanwhile.
  const sizes = files
    .filter((name) => name.endsWith('.ndjson'))
    .map((name) =>
      stat(join(directory, name)).then(
        (file) => file.size,
        () => 0,
      ),
    );
  const used = (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
  const [journal, state] = [await free(directory), await free(config.stateDirectory)];
  const missing = maxSize - used - journal;
  const room = `${directory} has ${size(journal)} free`;
  return [
    missing > 0
      ? {
          level: 'warning',
          subject,
          message: `${room}, ${size(missing)} less than the journal may still take: alerts would wait in the state directory`,
          remedy: `make room, or set journal.maxSize to ${Math.max(2, Math.floor((used + journal) / (2 << 20)))}MiB`,
        }
      : { level: 'ok', subject, message: `${room}, the journal may take ${size(Math.max(0, maxSize - used))} more` },
    state < STATE_BYTES
      ? {
          level: 'warning',
          subject,
          message: `${config.stateDirectory} has ${size(state)} free: alerts that wait for the journal may not fit`,
          remedy: 'make room, or set stateDirectory to another disk',
        }
      : { level: 'ok', subject, message: `${config.stateDirectory} has ${size(state)} free` },
  ];
}

/** Frames of a pod are as large as its veth lets them be; nothing needs to be switched off for that. */
async function offloads(names: string[]): Promise<Finding[]> {
  const there = names.filter((name) => interfaceState(name).is !== 'absent');
  const findings = await Promise.all(
    there.slice(0, MAX_INTERFACES).map(async (name): Promise<Finding> => {
      const mtu = readFileSync(`/sys/class/net/${name}/mtu`, 'latin1').trim();
      const features = await promisify(execFile)('ethtool', ['-k', name], { timeout: PROBE_MILLIS / 2 }).then(
        ({ stdout }) =>
          [...stdout.matchAll(/^(tcp-segmentation|generic-segmentation|generic-receive)-offload: (on|off)/gm)]
            .map(([, feature, state]) => `${SHORT[feature ?? '']} ${state}`)
            .join(', '),
        () => 'ethtool is not there to tell its offloads',
      );
      return { level: 'info', subject: 'offload', message: `${name}: MTU ${mtu}, ${features}` };
    }),
  );
  const more = there.length - findings.length;
  return more > 0
    ? [...findings, { level: 'info', subject: 'offload', message: `and ${plural(more, 'more interface')}` }]
    : findings;
}

const SHORT: Record<string, string> = {
  'tcp-segmentation': 'TSO',
  'generic-segmentation': 'GSO',
  'generic-receive': 'GRO',
};

/** Each right by itself, and the server's clock. That it answers at all, `check` has said. */
async function cluster(config: Config): Promise<Finding[]> {
  if (!followsCluster(config)) return [];
  const client = await connect(config).catch(() => undefined);
  if (client === undefined) return [];
  const signal = AbortSignal.timeout(PROBE_MILLIS);
  let api;
  try {
    api = await discoverResourceApi(client, signal);
  } catch {
    return [];
  }
  const served = api?.split('/')[0] ?? 'projectcalico.org';
  const findings: Finding[] = [];
  for (const { resource, verbs, what } of RIGHTS) {
    const group = resource.startsWith('deeppacketinspections') ? served : '';
    const full = group === '' ? resource : resource.replace(/^\w+/, (name) => `${name}.${group}`);
    for (const verb of verbs) {
      findings.push(
        (await client.may({ verb, group, resource }, signal))
          ? { level: 'ok', subject: 'api right', message: `${verb} ${full}` }
          : {
              level: 'error',
              subject: 'api right',
              message: `may not ${verb} ${full}: ${what}`,
              remedy: 'kubectl apply -f deploy/rbac.yaml',
            },
      );
    }
  }
  const ahead = client.clockAhead();
  if (ahead !== undefined) findings.push(clock(ahead, client.server));
  return findings;
}

/** @param ahead Milliseconds. */
export function clock(ahead: number, server: string): Finding {
  const seconds = Math.abs(Math.round(ahead / 1000));
  if (Math.abs(ahead) < CLOCK_WARNING_MILLIS) {
    return { level: 'ok', subject: 'clock', message: `within ${seconds + 1} s of ${server}` };
  }
  return {
    level: Math.abs(ahead) < CLOCK_ERROR_MILLIS ? 'warning' : 'error',
    subject: 'clock',
    message: `${seconds} s ${ahead > 0 ? 'behind' : 'ahead of'} ${server}: events have wrong times, and tokens may be refused`,
    remedy: 'timedatectl set-ntp true, or whatever keeps this machine in time',
  };
}

const REMEDIES: Record<string, string> = {
  unreachable: 'start it, or correct sinks.elasticsearch.nodes',
  tls: 'correct sinks.elasticsearch.caFile, or the certificate',
  unauthorized:
    'correct sinks.elasticsearch.apiKeyFile, or username and passwordFile; docs/delivery.md says how to make a key',
};

type EntryOf<Kind extends SinkEntry['kind']> = SinkEntry & { kind: Kind };

function entriesOf<Kind extends SinkEntry['kind']>({ sinks }: Config, kind: Kind): EntryOf<Kind>[] {
  const isOf = (entry: SinkEntry): entry is EntryOf<Kind> => entry.kind === kind;
  return sinkEntries(sinks).filter(isOf);
}

async function elasticsearch(config: Config): Promise<Finding[]> {
  const entries = entriesOf(config, 'elasticsearch');
  if (entries.length === 0) {
    return [{ level: 'info', subject: 'elasticsearch', message: 'no nodes: nothing is sent there' }];
  }
  return (await Promise.all(entries.map((entry) => oneElasticsearch(entry, config.cluster)))).flat();
}

async function oneElasticsearch(
  { name: subject, settings }: EntryOf<'elasticsearch'>,
  name: string,
): Promise<Finding[]> {
  // Its client takes 30 MB.
  const { createElasticsearch } = await import('../ship/elasticsearch/elasticsearch.ts');
  const timeoutMillis = Math.min(settings.timeoutMillis, PROBE_MILLIS / 2);
  const perNode = await Promise.all(
    settings.nodes.map(async (node): Promise<{ findings: Finding[]; answers: boolean }> => {
      const log = pino({ level: 'silent' });
      const client = createElasticsearch({
        config: { ...settings, nodes: [node], timeoutMillis },
        cluster: name,
        log,
      });
      const ask = (method: 'GET' | 'POST', path: string, body?: object): ReturnType<typeof client.ask> =>
        client.ask(method, path, body, AbortSignal.timeout(PROBE_MILLIS));
      try {
        const { status, body } = await ask('GET', '/_security/_authenticate');
        const user = get(body, 'username');
        const message =
          status === 200 && typeof user === 'string'
            ? `${node} answers, as user ${user}`
            : `${node} answers, and knows no users`;
        return {
          findings: [
            { level: 'ok', subject, message },
            ...(await rights(ask, { subject, settings, names: namesOf(name, settings.schema) }, user)),
          ],
          answers: true,
        };
      } catch (error) {
        const remedy = REMEDIES[error instanceof SendError ? error.failure : ''] ?? REMEDY_SLOW;
        return { findings: [{ level: 'error', subject, message: messageOf(error), remedy }], answers: false };
      } finally {
        await client.close();
      }
    }),
  );
  // All nodes are of one cluster: its rights and template are told once.
  const first = perNode.findIndex(({ answers }) => answers);
  return perNode.flatMap(({ findings }, index) => (index === first ? findings : findings.slice(0, 1)));
}

async function rights(
  ask: (method: 'GET' | 'POST', path: string, body?: object) => Promise<{ status: number; body: unknown }>,
  { subject, settings, names }: { subject: string; settings: EntryOf<'elasticsearch'>['settings']; names: Names },
  user: unknown,
): Promise<Finding[]> {
  const { manageTemplate } = settings;
  const findings: Finding[] = [];
  if (typeof user === 'string') {
    const wanted = {
      cluster: manageTemplate ? ['manage_index_templates'] : [],
      index: manageTemplate ? INDEX_RIGHTS : INDEX_RIGHTS.slice(0, 2),
    };
    const { body } = await ask('POST', '/_security/user/_has_privileges', {
      cluster: wanted.cluster,
      index: [{ names: [names.index], privileges: wanted.index }],
    });
    const privileges = [get(body, 'cluster'), get(get(body, 'index'), names.index)];
    const missing = [
      ...wanted.cluster.filter((right) => get(privileges[0], right) !== true),
      ...wanted.index
        .filter((right) => get(privileges[1], right) !== true)
        .map((right) => `${right} on ${names.index}`),
    ];
    findings.push(
      missing.length === 0
        ? { level: 'ok', subject, message: `${user} has all rights on ${names.index}` }
        : {
            level: 'error',
            subject,
            message: `${user} lacks ${missing.join(', ')}`,
            remedy: 'give its role, or the API key, what docs/delivery.md lists under "In Elasticsearch"',
          },
    );
  }
  const { status, body } = await ask('GET', `/_index_template/${names.template}`);
  const [entry] = [get(body, 'index_templates')].flat();
  const version = Number(get(get(get(entry, 'index_template'), '_meta'), 'template_version'));
  if (status === 200 && version === TEMPLATE_VERSION) {
    findings.push({ level: 'ok', subject, message: `template ${names.template} is there, version ${version}` });
  } else if (status === 200 || status === 404) {
    const is = status === 404 ? 'is not there' : `is of version ${Number.isNaN(version) ? 'unknown' : version}`;
    findings.push(
      manageTemplate
        ? { level: 'info', subject, message: `template ${names.template} ${is}: an agent makes it before it sends` }
        : {
            level: 'warning',
            subject,
            message: `template ${names.template} ${is}, and sinks.elasticsearch.manageTemplate is false`,
            remedy: 'make it, or set sinks.elasticsearch.manageTemplate to true',
          },
    );
  }
  return findings;
}

const INDEX_RIGHTS = ['create_doc', 'create_index', 'manage'];

async function syslog(config: Config): Promise<Finding[]> {
  return (await Promise.all(entriesOf(config, 'syslog').map(oneSyslog))).flat();
}

async function oneSyslog({ name: subject, settings: { address, protocol } }: EntryOf<'syslog'>): Promise<Finding[]> {
  if (protocol === 'udp') return [{ level: 'info', subject, message: `${address} by UDP: nobody confirms anything` }];
  const [, host = '', port] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    const socket = connectTo({ host, port: Number(port), timeout: PROBE_MILLIS / 2 });
    const done = (finding: Finding): void => {
      socket.destroy();
      resolve([finding]);
    };
    const failed = (message: string): void =>
      done({
        level: 'error',
        subject,
        message: `${address}: ${message}`,
        remedy: 'start the collector, or correct sinks.syslog.address',
      });
    socket.once('connect', () => done({ level: 'ok', subject, message: `${address} takes connections` }));
    socket.once('timeout', () => failed('no answer'));
    socket.once('error', (error) => failed(error.message));
  });
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
