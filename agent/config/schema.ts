/**
 * The agent's configuration: one schema for file, environment, flags, and the documentation's tables.
 *
 * A key's path gives its names: `engine.searchMethod` in YAML, `DPI_AGENT_ENGINE_SEARCH_METHOD`,
 * `--engine.searchMethod`. Every key but `node` has its default here (or is optional); `node` gets its default where
 * the environment is known.
 */
import { isIP } from 'node:net';
import * as z from 'zod';
import { asExpression, problemsOf, VARIABLE_NAME } from '../rule-variables.ts';
import { about, boolean, bytes, formatSize, integer, label, list, millis, text } from './leaves.ts';
import { ALWAYS, checkCertificate, clusterName, setName, httpUrl } from './schema/common.ts';
import { endpoints } from './schema/endpoints.ts';
import { respond, respondServing } from './schema/respond.ts';
import { ruleServer, ruleServing } from './schema/rule-server.ts';
import { ruleSources } from './schema/rule-sources.ts';
import { sinks } from './schema/sinks.ts';

const engine = z
  .strictObject({
    type: about(
      z.enum(['auto', 'snort', 'suricata']).prefault('auto'),
      'one of auto, snort, suricata',
      'The inspection engine; auto takes Snort 3 where it is installed, else Suricata.',
    ),
    binary: about(
      text().optional(),
      'a path',
      "The engine's executable; by default it is looked up in the folders of PATH.",
    ),
    output: about(
      z.enum(['json', 'unified2']).prefault('json'),
      'one of json, unified2',
      'Format of the alerts that the engine writes; unified2 needs engine.type snort.',
    ),
    searchMethod: about(
      z
        .string()
        .regex(/^[a-z0-9_]{1,64}$/)
        .prefault('auto'),
      'auto, or a name of a-z, 0-9 and _',
      'The pattern matcher of the engine; auto takes the fastest that the engine was built with.',
    ),
    user: about(
      z
        .union([
          z.preprocess(
            (value) => (typeof value === 'string' && /^\d{1,10}$/.test(value) ? Number(value) : value),
            z.int().min(0).max(4_294_967_294),
          ),
          z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/),
        ])
        .prefault('auto'),
      'auto, the name of a user, or a uid',
      'The user that the engine runs as; auto is uid 65534 when the agent runs as root, else its own user.',
    ),
    memoryLimit: about(
      bytes('128MiB', '1024GiB').prefault('768MiB'),
      'a size from 128MiB to 1024GiB, such as 768MiB',
      "What each lane's engine shall take at most, rules included: bounds the flows and streams that it keeps.",
    ),
    extraConfig: about(
      text().optional(),
      'a path',
      "The operator's own overrides, in the engine's language; loaded last, and again when the file changes.",
    ),
    isolateNetwork: about(
      boolean().prefault(true),
      'true or false',
      'Whether the engine runs in a network namespace of its own, without any interface.',
    ),
    arguments: about(
      list(text()).prefault([]),
      'a list of texts',
      "Further arguments of the engine's command line, added last.",
    ),
  })
  .superRefine((value, context) => {
    if (value.output === 'unified2' && (value.type === 'auto' || value.type === 'suricata')) {
      context.addIssue({
        code: 'custom',
        path: ['output'],
        params: { other: ['engine', 'type'] },
        message: `unified2 is written by Snort only: expected engine.type snort with it, got ${value.type}`,
      });
    }
  }, ALWAYS);

const variables = z
  .record(
    z.string().regex(VARIABLE_NAME),
    z.preprocess((value) => asExpression(value) ?? value, z.string().min(1)),
  )
  .superRefine((values, context) => {
    for (const [name, message] of problemsOf(values)) context.addIssue({ code: 'custom', path: [name], message });
  });

const RING = ['512KiB', '1GiB'] as const;
const ringText = `a size from ${RING[0]} to ${RING[1]}, such as 4MiB`;

const capture = z
  .strictObject({
    library: about(
      z.enum(['auto', 'native', 'node-pcap']).prefault('auto'),
      'one of auto, native, node-pcap',
      'What packets are captured by; auto takes the native part of this project, and node-pcap where that cannot be loaded.',
    ),
    snaplen: about(
      integer(65_535, 262_144).prefault(262_144),
      'an integer from 65535 to 262144',
      'Bytes of a packet that are captured; longer ones are truncated and counted.',
    ),
    ringSize: about(bytes(...RING).prefault('512KiB'), ringText, "The kernel's ring buffer for each endpoint."),
    maxRingSize: about(
      bytes(...RING).prefault('64MiB'),
      ringText,
      'How far a ring may grow when its endpoint drops packets; at least capture.ringSize.',
    ),
    timeoutMillis: about(
      millis(1, 1000).prefault(30),
      'milliseconds from 1 to 1000, such as 30ms',
      'How long the kernel may at most hold packets back to hand them over together; larger rings take less.',
    ),
    filter: about(
      text().optional(),
      'a BPF expression, as tcpdump takes it',
      'Packets that do not match are not inspected.',
    ),
    queueSize: about(
      bytes('512KiB', '1GiB').prefault('4MiB'),
      'a size from 512KiB to 1GiB, such as 4MiB',
      'Memory of each lane that packets go through, 4MiB to 256MiB of it; while the engine does not read, packets wait in their rings.',
    ),
    shunt: about(
      z.enum(['on', 'off']).prefault('on'),
      'on or off',
      'Whether encrypted bulk, which nobody can inspect, is kept from the engine and counted.',
    ),
    shuntAfter: about(
      bytes('1KiB', '1GiB').prefault('64KiB'),
      'a size from 1KiB to 1GiB, such as 64KiB',
      'How much encrypted data of a flow, in each direction, the engine gets all the same.',
    ),
    promiscuous: about(
      boolean().prefault(false),
      'true or false',
      'Whether interfaces are put into promiscuous mode; the host side of a veth needs none.',
    ),
    side: about(
      z.enum(['auto', 'host', 'pod']).prefault('auto'),
      'one of auto, host, pod',
      "Where pods of the cluster are captured: on the node's interfaces, in their own network namespaces, or there only where the node shows not all.",
    ),
    loopback: about(
      boolean().prefault(false),
      'true or false',
      "Whether the loopback in a pod's network namespace is inspected too, such as what a sidecar proxy has decrypted.",
    ),
  })
  .superRefine((value, context) => {
    if (value.maxRingSize < value.ringSize) {
      context.addIssue({
        code: 'custom',
        path: ['maxRingSize'],
        params: { other: ['capture', 'ringSize'] },
        message: `expected at least capture.ringSize, ${formatSize(value.ringSize)}`,
      });
    }
  }, ALWAYS);

const journal = z
  .strictObject({
    directory: about(
      text().prefault('/var/log/calico/snort-alerts'),
      'a path',
      'Folder of the event log; one writer at a time.',
    ),
    segmentSize: about(
      bytes('1MiB', '256MiB').prefault('64MiB'),
      'a size from 1MiB to 256MiB',
      'A file of the log is closed when it reaches this size.',
    ),
    maxSize: about(
      bytes('2MiB', '1024GiB').prefault('1GiB'),
      'a size from 2MiB to 1024GiB',
      'Disk budget of the log; the oldest files are deleted and their events counted. At least twice journal.segmentSize.',
    ),
    segmentAge: about(
      millis(60_000, 2_592_000_000).prefault('1d'),
      'a time from 1m to 30d, such as 6h',
      'A file of the log is closed when its first event is as old as this.',
    ),
    maxAge: about(
      millis(0, 315_360_000_000).prefault('30d'),
      'a time up to 3650d, such as 7d',
      'Files whose last event is as old as this are deleted and their events counted; 0 keeps them.',
    ),
    fsync: about(
      boolean().prefault(true),
      'true or false',
      'Whether events are on the disk before they count as read; false trades a power cut against speed.',
    ),
  })
  .superRefine((value, context) => {
    if (value.maxSize < 2 * value.segmentSize) {
      context.addIssue({
        code: 'custom',
        path: ['maxSize'],
        params: { other: ['journal', 'segmentSize'] },
        message: `expected at least twice journal.segmentSize, ${formatSize(2 * value.segmentSize)}`,
      });
    }
  }, ALWAYS);

const kubernetes = z.strictObject({
  follow: about(
    z.enum(['auto', 'on', 'off']).prefault('auto'),
    'one of auto, on, off',
    'Whether DeepPacketInspection resources and the pods of this node are followed; auto does in a pod, or with a kubeconfig.',
  ),
  kubeconfig: about(
    text().optional(),
    'a path',
    "File with the API server's address and credentials; by default those that a pod has, else those that kubectl takes.",
  ),
  context: about(
    text(253).optional(),
    "a name of one of the file's contexts",
    "The kubeconfig's context; by default its current one.",
  ),
  status: about(
    z.enum(['resource', 'node']).prefault('resource'),
    'one of resource, node',
    'Where this node writes its status: into each resource, or into one object of its own, which the operator reads and sums up; the operator sets node.',
  ),
});

/** An address, or a network that is not everything. */
function isNetwork(value: string): boolean {
  const [address = '', bits, ...rest] = value.split('/');
  const most = isIP(address) === 4 ? 32 : 128;
  if (isIP(address) === 0 || address.includes('%') || rest.length > 0) return false;
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= most);
}

const ui = z
  .strictObject({
    source: about(
      z.enum(['auto', 'journal', 'elasticsearch']).prefault('auto'),
      'one of auto, journal, elasticsearch',
      'Where dpi-agent ui has its alerts from; auto takes Elasticsearch, or OpenSearch, where a sink names one.',
    ),
    address: about(
      z
        .string()
        .refine((address) => isIP(address) !== 0)
        .prefault('127.0.0.1'),
      'an IPv4 or IPv6 address',
      'The address that the page listens on; other than loopback only with access control, and TLS.',
    ),
    port: about(integer(0, 65_535).prefault(9098), 'an integer from 0 to 65535', 'Its port; 0 takes a free one.'),
    access: about(
      z.enum(['auto', 'kubernetes', 'password', 'none']).prefault('auto'),
      'one of auto, kubernetes, password, none',
      'Who may see it: tokens of the cluster, users of ui.passwordFile, everybody; auto takes what there is.',
    ),
    passwordFile: about(
      text().optional(),
      'a path',
      'File of users and hashed passwords, as dpi-agent ui --hash-password prints them; read again when it changes.',
    ),
    tlsCertFile: about(
      text().optional(),
      'a path',
      "PEM file of the page's certificate, with its chain; read again when it changes.",
    ),
    tlsKeyFile: about(text().optional(), 'a path', 'PEM file of its key.'),
    behindTlsProxy: about(
      boolean().prefault(false),
      'true or false',
      'Whether a proxy before the page does TLS, and nobody else reaches it; ui.trustedProxies names it.',
    ),
    trustedProxies: about(
      list(z.string().refine(isNetwork)).prefault([]),
      'a list of IP addresses and networks (10.0.0.0/8)',
      "Proxies before the page: what their X-Forwarded headers say of where a request is from is believed, and nobody else's.",
    ),
    publicUrl: about(
      httpUrl.optional(),
      'a URL',
      'The address of the page as people reach it, such as https://dpi.example.com: messages of sinks link to it.',
    ),
    acknowledgeKeyFile: about(
      text().optional(),
      'a path',
      'File with the key of links by which an alert is acknowledged: messages of sinks carry them, the page checks them (docs/destinations.md); read again when it changes.',
    ),
    acknowledgeFor: about(
      millis(60_000, 2_592_000_000).prefault('7d'),
      'a time from 1m to 30d, such as 7d',
      'How long such a link may be used.',
    ),
    acknowledgeTokensFile: about(
      text().optional(),
      'a path',
      'File with tokens of programs that may acknowledge alerts, a line each, <name>:<token>; read again when it changes.',
    ),
    kibanaUrl: about(
      httpUrl.optional(),
      'a URL',
      "Kibana's address, such as https://kibana.example.com: alerts get links to it.",
    ),
    clusters: about(
      list(clusterName())
        .refine((names) => names.length <= 20)
        .prefault([]),
      'a list of at most 20 names of clusters',
      "Further clusters whose alerts are in the same Elasticsearch: the page shows one cluster's at a time (docs/ui.md).",
    ),
    agents: about(
      list(z.string().refine((value) => value.startsWith('/') || httpUrl.safeParse(value).success)).prefault([]),
      'a list of URLs (http://127.0.0.1:9097) and paths of sockets',
      "Agents whose status the page shows; by default this machine's, and in a cluster those of ui.agentNamespace.",
    ),
    agentNamespace: about(
      label().prefault('tigera-dpi'),
      'a name of a namespace (RFC 1123 label)',
      "Namespace of the agents' pods.",
    ),
    policyConfigMap: about(
      z
        .string()
        .regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/)
        .optional(),
      'a name of a ConfigMap',
      'ConfigMap in ui.agentNamespace that the page tunes alerts in, in place of the files of alerts.policy and ruleChanges (docs/ui.md).',
    ),
    marksFile: about(
      text().optional(),
      'a path',
      'File of what was acknowledged and dismissed, where alerts are from the journal; by default marks.ndjson in stateDirectory.',
    ),
    journalAlerts: about(
      integer(1_000, 1_000_000).prefault(1_000_000),
      'an integer from 1000 to 1000000',
      'Alerts that the page holds in memory, the newest, where they are from the journal; a million take about 500 MB.',
    ),
  })
  .superRefine(checkCertificate, ALWAYS);

/** The whole configuration. Ids 1..4093 are for endpoints (VLAN tags), so there are no more of them than that. */
export const schema = z.strictObject({
  node: about(text(253), 'a name of 1 to 253 characters', "The node's name, as events and metrics give it."),
  cluster: about(
    clusterName().prefault('cluster'),
    'a name of a-z, 0-9, ".", "_" and "-", at most 100 characters',
    'The name of the cluster: a part of the index name.',
  ),
  logLevel: about(
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).prefault('info'),
    'one of trace, debug, info, warn, error, fatal',
    "The least level that the agent's log shows.",
  ),
  logFormat: about(
    z.enum(['auto', 'json', 'pretty']).prefault('auto'),
    'one of auto, json, pretty',
    "Format of the agent's log; auto is pretty on a terminal, else JSON.",
  ),
  stateDirectory: about(
    text().prefault('/var/lib/dpi-agent'),
    'a path',
    "Folder for the engine's configuration, its pipes and its output; of one agent at a time.",
  ),
  lanes: about(
    z.union([z.literal('auto'), integer(1, 64)]).prefault(1),
    'auto, or an integer from 1 to 64',
    "Capture and engine processes that share the endpoints; auto: as many as the container's limits carry, also once they change.",
  ),
  rules: about(
    list(text()).prefault([]),
    'a list of paths',
    "The operator's own rule files and folders: the set custom, with the files directly in rulesDirectory.",
  ),
  rulesDirectory: about(
    text().prefault('/usr/etc/snort/rules'),
    'a path',
    'Folder of rule sets, each a folder; it may be missing.',
  ),
  ruleSets: about(
    list(setName()).prefault(['kubernetes']),
    'a list of names of rule sets',
    'Rule sets of resources that name none; custom is always one of them where it has files.',
  ),
  ruleSources: about(
    ruleSources,
    'a list of mappings, at most 64',
    'Where rule sets come from by themselves (docs/rules.md); not settable by the environment.',
  ),
  ruleServer: ruleServer.prefault({}),
  ruleServing: ruleServing.prefault({}),
  respond: respond.prefault({}),
  respondServing: respondServing.prefault({}),
  ruleChanges: about(
    text().prefault('/etc/dpi-agent/rule-changes.conf'),
    'a path',
    'File of rules that are turned on, turned off or changed (docs/rule-tuning.md); it may be missing.',
  ),
  variables: about(
    variables.prefault({}),
    'names without $, such as HOME_NET, each with addresses, networks or ports; as text NAME=value with blanks between',
    'What variables in rules stand for, as HOME_NET and HTTP_PORTS; those that are not named keep their defaults (docs/rules.md).',
  ),
  rulesLua: about(
    boolean().prefault(false),
    'true or false',
    'Whether rules may run Lua scripts that come with their set (Suricata): a script does what the engine may do.',
  ),
  rulesLeaveOut: about(
    boolean().prefault(true),
    'true or false',
    'Whether a rule that the engine refuses is left out, so that the rest loads; false refuses its set as a whole.',
  ),
  rulesQuietWait: about(
    millis(0, 3_600_000).prefault('5m'),
    'a time from 0 to 1h, such as 5m',
    'How long changed rules that engines can only start anew with wait at most for a moment with few packets.',
  ),
  engine: engine.prefault({}),
  capture: capture.prefault({}),
  journal: journal.prefault({}),
  sinks: sinks.prefault({}),
  alerts: z
    .strictObject({
      mergeMillis: about(
        millis(0, 5000).prefault(100),
        'milliseconds from 0 to 5000, such as 100ms',
        'How long an alert waits for the same packet seen at its other end; 0 reports both.',
      ),
      burst: about(
        integer(0, 1_000_000).prefault(1000),
        'an integer from 0 to 1000000',
        'Alerts of one signature at one endpoint that become an event each, at once, before they are folded into one; 0 never folds.',
      ),
      ratePerSecond: about(
        integer(1, 1_000_000).prefault(10),
        'an integer from 1 to 1000000',
        'How many of them do so in the long run, for each second.',
      ),
      foldMillis: about(
        millis(1000, 600_000).prefault(10_000),
        'milliseconds from 1000 to 600000, such as 10s',
        'How long alerts are folded into one event with their count.',
      ),
      policy: about(
        text().optional(),
        'a path',
        'File of what is suppressed and of thresholds (docs/rule-tuning.md); read again when it changes.',
      ),
    })
    .prefault({}),
  coverage: z
    .strictObject({
      windowMillis: about(
        millis(1000, 86_400_000).prefault('5m'),
        'a time from 1s to 1d, such as 5m',
        'How long ago a pod may last have been seen to send, or to receive, to count as that.',
      ),
    })
    .prefault({}),
  evidence: z
    .strictObject({
      payload: about(
        boolean().prefault(true),
        'true or false',
        'Whether events carry bytes of the packet that fired the rule.',
      ),
      maxBytes: about(
        integer(0, 65_535).prefault(1024),
        'an integer from 0 to 65535',
        'At most this many bytes of it for each event.',
      ),
      rule: about(boolean().prefault(true), 'true or false', 'Whether events carry the text of the rule that fired.'),
      keep: about(
        z.enum(['full', 'headers', 'off']).prefault('off'),
        'one of full, headers, off',
        "What is kept of the packets of an alert's flow (docs/evidence.md); a resource's annotation goes before.",
      ),
      memory: about(
        bytes('1MiB', '256MiB').prefault('32MiB'),
        'a size from 1MiB to 256MiB, such as 32MiB',
        'Memory of each lane for the latest packets, of which those of an alert are taken.',
      ),
      wholeRate: about(
        bytes('0', '1024GiB').prefault('4MiB'),
        'a size from 0 to 1024GiB, such as 4MiB',
        "How much a second of each endpoint's packets of more than 8 KiB is kept whole there, beyond 16 MiB at once; of the others the first KiB is.",
      ),
      after: about(
        millis(0, 60_000).prefault('2s'),
        'a time up to 60s, such as 2s',
        'How long packets that follow an alert are waited for, unless their connection ends.',
      ),
      packets: about(
        integer(1, 100_000).prefault(1000),
        'an integer from 1 to 100000',
        'At most this many packets for each alert.',
      ),
      bytes: about(
        bytes('64KiB', '16MiB').prefault('256KiB'),
        'a size from 64KiB to 16MiB, such as 1MiB',
        'At most this many bytes of packets for each alert.',
      ),
      maxSize: about(
        bytes('1MiB', '1024GiB').prefault('512MiB'),
        'a size from 1MiB to 1024GiB',
        "Disk budget of the alerts' packets; the oldest are deleted and counted.",
      ),
      maxAge: about(
        millis(0, 315_360_000_000).prefault('7d'),
        'a time up to 3650d, such as 7d',
        'Packets that are as old as this are deleted and counted; 0 keeps them.',
      ),
    })
    .prefault({}),
  canary: z
    .strictObject({
      interval: about(
        millis(0, 600_000)
          .refine((value) => value === 0 || value >= 100)
          .prefault('10s'),
        '0, or milliseconds from 100 to 600000, such as 10s',
        "How often a frame of the agent's own goes through each lane, to prove that it inspects; 0 sends none.",
      ),
    })
    .prefault({}),
  kubernetes: kubernetes.prefault({}),
  http: z
    .strictObject({
      port: about(
        integer(0, 65_535).prefault(9097),
        'an integer from 0 to 65535',
        'Port of /health, /readiness and /metrics, and for this machine of /status; 0 serves none.',
      ),
      address: about(
        z
          .string()
          .refine((address) => isIP(address) !== 0)
          .optional(),
        'an IPv4 or IPv6 address',
        'The address that it listens on; by default all of the machine.',
      ),
      socket: about(
        text().optional(),
        'a path',
        'Unix socket that dpi-agent status asks; by default agent.sock in stateDirectory.',
      ),
    })
    .prefault({}),
  ui: ui.prefault({}),
  endpoints: about(
    endpoints,
    'a list of mappings, at most 4093',
    'Interfaces to inspect without Kubernetes; not settable by the environment.',
  ),
});

/** A configuration that has passed every check; sizes in bytes, times in milliseconds. */
export type Config = z.infer<typeof schema>;
export type ConfigEndpoint = Config['endpoints'][number];
