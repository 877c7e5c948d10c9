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
import {
  about,
  boolean,
  bytes,
  formatSize,
  integer,
  label,
  list,
  millis,
  qualified,
  subdomain,
  text,
} from './leaves.ts';

/** Static endpoints that name no resource report under this one. */
export const DEFAULT_RESOURCE = 'default/dpi-agent';

/** A rule between keys holds even while a neighbour is wrong, so that all errors come at once. */
const ALWAYS = { when: () => true };

/** The name of a rule set, which is a folder's. */
const setName = () => z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);

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

/** How a sink gathers events into batches. */
const batch = {
  batchEvents: about(
    integer(1, 10_000).prefault(1000),
    'an integer from 1 to 10000',
    'At most this many events are sent together.',
  ),
  batchSize: about(
    bytes('64KiB', '64MiB').prefault('5MiB'),
    'a size from 64KiB to 64MiB',
    'At most this much is sent together, before compression; an event that is larger goes alone.',
  ),
  batchMillis: about(
    millis(0, 60_000).prefault(200),
    'milliseconds from 0 to 60000, such as 200ms',
    'How long an event waits at most for others to be sent with it.',
  ),
};

const caFile = about(
  text().optional(),
  'a path',
  'PEM file of the authorities that are trusted, instead of those that Node.js knows; read again when it changes.',
);

const elasticsearch = z
  .strictObject({
    nodes: about(
      list(
        z.string().refine((value) => {
          const url = URL.canParse(value) ? new URL(value) : undefined;
          return (
            (url?.protocol === 'https:' || url?.protocol === 'http:') && url.username === '' && url.password === ''
          );
        }),
      ).prefault([]),
      'a list of URLs (https://host:9200) without user and password',
      'Elasticsearch nodes; with none, nothing is sent there.',
    ),
    apiKeyFile: about(
      text().optional(),
      'a path',
      'File with an API key, encoded or as `<id>:<key>`; read again when it changes.',
    ),
    username: about(text(256).optional(), 'a name', 'User for basic authentication.'),
    usernameFile: about(text().optional(), 'a path', 'File with that user; read again when it changes.'),
    passwordFile: about(text().optional(), 'a path', 'File with the password; read again when it changes.'),
    caFile,
    verifyTls: about(
      boolean().prefault(true),
      'true or false',
      'Whether the certificate is checked; false sends events, and credentials, to whoever answers.',
    ),
    schema: about(
      z.enum(['calico', 'ecs']).prefault('calico'),
      'one of calico, ecs',
      "The documents' form: Calico's, or the Elastic Common Schema, in an index of its own.",
    ),
    manageTemplate: about(
      boolean().prefault(true),
      'true or false',
      'Whether index template, index and alias are created, and put back when somebody changes them.',
    ),
    timeoutMillis: about(
      millis(1000, 600_000).prefault(30_000),
      'milliseconds from 1000 to 600000, such as 30s',
      'How long an answer may take.',
    ),
    ...batch,
  })
  .superRefine((value, context) => {
    const conflict = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    if (value.apiKeyFile !== undefined && (value.username ?? value.usernameFile ?? value.passwordFile) !== undefined) {
      conflict('apiKeyFile', 'expected an API key or a user with a password, not both');
    }
    if (value.username !== undefined && value.usernameFile !== undefined) {
      conflict('usernameFile', 'expected username or usernameFile, not both');
    }
    if (((value.username ?? value.usernameFile) !== undefined) !== (value.passwordFile !== undefined)) {
      conflict('passwordFile', 'expected both a user (username or usernameFile) and passwordFile, or neither');
    }
  }, ALWAYS);

/** RFC 5424, 6.2.1: by their codes, from 0. */
const FACILITIES = [
  'kern',
  'user',
  'mail',
  'daemon',
  'auth',
  'syslog',
  'lpr',
  'news',
  'uucp',
  'cron',
  'authpriv',
  'ftp',
  'ntp',
  'audit',
  'alert',
  'clock',
  'local0',
  'local1',
  'local2',
  'local3',
  'local4',
  'local5',
  'local6',
  'local7',
] as const;

const syslog = z.strictObject({
  address: about(
    z
      .string()
      .refine(
        (value) =>
          /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):([1-9]\d{0,4})$/.test(value) &&
          Number(value.split(':').at(-1)) < 65_536,
      )
      .optional(),
    '<host>:<port>, such as syslog.example.com:514 or [2001:db8::1]:514',
    'Where events are sent in the format of RFC 5424; without it, nothing is.',
  ),
  protocol: about(
    z.enum(['tcp', 'udp', 'tls']).prefault('tcp'),
    'one of tcp, udp, tls',
    'The transport: TCP with octet counting (RFC 6587), UDP (RFC 5426) or TLS (RFC 5425).',
  ),
  facility: about(z.enum(FACILITIES).prefault('local4'), `one of ${FACILITIES.join(', ')}`, "The messages' facility."),
  caFile,
  ...batch,
});

const sinks = z.strictObject({
  elasticsearch: elasticsearch.prefault({}),
  syslog: syslog.prefault({}),
  stdout: z
    .strictObject({
      enabled: about(
        boolean().prefault(false),
        'true or false',
        'Whether events are written to standard output as NDJSON, each once, also after a restart.',
      ),
      ...batch,
    })
    .prefault({}),
  deadLetterSize: about(
    bytes('1MiB', '1024GiB').prefault('64MiB'),
    'a size from 1MiB to 1024GiB',
    'Disk budget, for each sink, of events that it refused for good; the oldest are deleted and counted.',
  ),
});

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
});

/** An address, or a network that is not everything. */
function isNetwork(value: string): boolean {
  const [address = '', bits, ...rest] = value.split('/');
  const most = isIP(address) === 4 ? 32 : 128;
  if (isIP(address) === 0 || address.includes('%') || rest.length > 0) return false;
  return bits === undefined || (/^[1-9]\d{0,2}$/.test(bits) && Number(bits) <= most);
}

const httpUrl = z.string().refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol));

const ui = z
  .strictObject({
    source: about(
      z.enum(['auto', 'journal', 'elasticsearch']).prefault('auto'),
      'one of auto, journal, elasticsearch',
      'Where dpi-agent ui has its alerts from; auto takes Elasticsearch where sinks.elasticsearch names one.',
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
    kibanaUrl: about(
      httpUrl.optional(),
      'a URL',
      "Kibana's address, such as https://kibana.example.com: alerts get links to it.",
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
    marksFile: about(
      text().optional(),
      'a path',
      'File of what was acknowledged and dismissed, where alerts are from the journal; by default marks.ndjson in stateDirectory.',
    ),
  })
  .superRefine((value, context) => {
    if ((value.tlsCertFile === undefined) !== (value.tlsKeyFile === undefined)) {
      context.addIssue({
        code: 'custom',
        path: [value.tlsCertFile === undefined ? 'tlsCertFile' : 'tlsKeyFile'],
        message: 'expected both tlsCertFile and tlsKeyFile, or neither',
      });
    }
  }, ALWAYS);

const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

const endpoint = z
  .strictObject({
    interface: about(
      z
        .string()
        .regex(/^[^\s/:\p{Cc}]+$/u)
        .refine((name) => Buffer.byteLength(name) <= 15 && name !== '.' && name !== '..'),
      'the name of an interface: 1 to 15 bytes, no "/", ":" or white space',
      "The interface to inspect: the host side of the pod's veth, or with netns an interface in the pod.",
    ),
    netns: about(
      text().optional(),
      'a path',
      'Network namespace that the interface is in, such as /run/netns/x; by default the one of the agent.',
    ),
    namespace: about(label().prefault('default'), 'a name of a namespace (RFC 1123 label)', "The pod's namespace."),
    pod: about(
      subdomain().optional(),
      'a name of a pod (RFC 1123 subdomain)',
      "The pod's name; by default the interface's.",
    ),
    owner: about(
      subdomain().optional(),
      'a name (RFC 1123 subdomain)',
      "The name of the pod's owner (its ReplicaSet); events then say `<owner>-*`.",
    ),
    labels: about(
      z.record(z.string().regex(LABEL_KEY), z.string().regex(LABEL_VALUE)).prefault({}),
      'Kubernetes labels: a mapping of names to texts (quote numbers and booleans)',
      "The pod's labels.",
    ),
    addresses: about(
      list(z.string().refine((address) => isIP(address) !== 0 && !address.includes('%'))).prefault([]),
      'a list of IPv4 and IPv6 addresses',
      "The workload's own addresses; they tell source from destination.",
    ),
    resource: about(
      qualified().optional(),
      '<namespace>/<name>',
      `The DeepPacketInspection that its events name as their origin; by default \`${DEFAULT_RESOURCE}\`.`,
    ),
    resources: about(
      list(qualified()).optional(),
      'a list of <namespace>/<name>',
      'The same, for more than one; each gets its own event.',
    ),
    ruleSets: about(
      list(setName()).optional(),
      'a list of names of rule sets',
      'The rule sets that it is inspected by; by default those of the key of this name above.',
    ),
  })
  .superRefine((value, context) => {
    if (value.resource !== undefined && value.resources !== undefined) {
      context.addIssue({ code: 'custom', path: ['resources'], message: 'expected resource or resources, not both' });
    }
    if (Array.isArray(value.resources) && value.resources.length === 0) {
      context.addIssue({ code: 'custom', path: ['resources'], message: 'expected at least one resource' });
    }
  }, ALWAYS);

/** `params.other` lets the loader say where the first of the two stands. */
function repeated(
  context: z.RefinementCtx,
  index: number,
  key: string,
  other: [list: string, index: number],
  what = `the ${key}`,
): void {
  const message = `${what} is taken by ${other[0]}[${other[1]}]`;
  context.addIssue({ code: 'custom', path: [index, key], params: { other }, message });
}

const endpoints = z
  .array(endpoint)
  .max(4093)
  .prefault([])
  .superRefine((entries, context) => {
    const interfaces = new Map<string, number>();
    const pods = new Map<string, number>();
    for (const [index, entry] of entries.entries()) {
      if (typeof entry?.interface !== 'string') continue;
      const name = `${entry.namespace}/${entry.pod ?? entry.interface}`;
      const key = entry.pod === undefined ? 'interface' : 'pod';
      const where = `${entry.interface} ${entry.netns ?? ''}`;
      const sameInterface = interfaces.get(where);
      const samePod = pods.get(name);
      if (sameInterface !== undefined) repeated(context, index, 'interface', ['endpoints', sameInterface]);
      if (samePod !== undefined && !(key === 'interface' && sameInterface !== undefined)) {
        repeated(context, index, key, ['endpoints', samePod], `the pod ${name}`);
      }
      interfaces.set(where, sameInterface ?? index);
      pods.set(name, samePod ?? index);
    }
  }, ALWAYS);

/** What stands for the secret in a source's URL. */
const SECRET_PLACE = '{secret}';

const sourceUrl = () =>
  z
    .string()
    .max(2048)
    .refine((value) => {
      const url = httpUrl.safeParse(value).success ? new URL(value) : undefined;
      return url !== undefined && url.username === '' && url.password === '';
    });

/** What others on the way could read. */
function isInClear(url: string | undefined): boolean {
  if (url === undefined || !URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  const isLoopback =
    hostname === 'localhost' || hostname === '[::1]' || (isIP(hostname) === 4 && hostname.startsWith('127.'));
  return protocol !== 'https:' && !isLoopback;
}

const ruleSource = z
  .strictObject({
    name: about(setName(), 'a name of a-z, 0-9 and "-"', 'What the source is called in logs, metrics and commands.'),
    set: about(
      setName().optional(),
      'a name of a rule set, other than custom',
      "The rule set that it becomes; by default of the source's name. ruleSets says whether it is loaded.",
    ),
    preset: about(
      z.enum(['snort3-community', 'snort3-registered', 'snort3-subscriber', 'et-open', 'et-pro']).optional(),
      'one of snort3-community, snort3-registered, snort3-subscriber, et-open, et-pro',
      'Where it is from, by name; or url, or file.',
    ),
    url: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      'Where it is from; `{secret}` stands for what secretFile has, `{version}` for that of the rules.',
    ),
    file: about(text().optional(), 'a path', 'The same on this machine.'),
    mirror: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      "A mirror of a preset's site: the address in place of its host, with the same paths below.",
    ),
    version: about(
      z
        .string()
        .regex(/^[A-Za-z0-9._-]{1,32}$/)
        .optional(),
      'a version, such as 7.0.3',
      "The version that the rules are made for, where the address has one; by default Suricata's, or one that the preset knows.",
    ),
    every: about(
      millis(60_000, 2_592_000_000).prefault('1d'),
      'a time from 1m to 30d, such as 6h',
      'How often run looks for a new version; up to a tenth later, so that nodes do not come all at once.',
    ),
    checksum: about(
      z.union([z.string().regex(/^(?:sha256:)?[0-9a-f]{64}$|^(?:md5:)?[0-9a-f]{32}$/i), sourceUrl()]).optional(),
      'sha256: and 64 hexadecimal digits, md5: and 32, or a URL',
      'What it must be, or where that is published; by default what lies beside it as .sha256 or .md5, if anything does.',
    ),
    secretFile: about(
      text().optional(),
      'a path',
      'File with the code or token that the source wants; read at each use.',
    ),
    secretHeader: about(
      z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .prefault('Authorization'),
      'the name of a header',
      'The header that has the secret where the URL has no place for it; Authorization has it as a bearer token.',
    ),
    proxy: about(
      sourceUrl().optional(),
      'a URL with http or https, without user and password',
      'The proxy on the way there; by default that of the environment.',
    ),
    caFile,
    maxBytes: about(
      bytes('1KiB', '1GiB').prefault('64MiB'),
      'a size from 1KiB to 1GiB, such as 64MiB',
      'Most that is downloaded.',
    ),
    timeout: about(
      millis(1000, 3_600_000).prefault('5m'),
      'a time from 1s to 1h, such as 5m',
      'Most that the download may take.',
    ),
  })
  .superRefine((value, context) => {
    const wrong = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    const { preset, url, file, mirror, secretFile } = value;
    if ([preset, url, file].filter((place) => place !== undefined).length !== 1) {
      wrong('url', 'expected one of preset, url and file');
    }
    if ((value.set ?? value.name) === 'custom')
      wrong('set', 'custom is made of files of your own: expected another set');
    if (mirror !== undefined && preset === undefined) wrong('mirror', 'expected a preset with it');
    const needsSecret = preset !== undefined && /-(?:registered|subscriber|pro)$/.test(preset);
    if (secretFile === undefined && (needsSecret || url?.includes(SECRET_PLACE) === true)) {
      wrong('secretFile', 'expected a file with the secret that goes into the URL');
    }
    for (const key of ['url', 'mirror', 'checksum'] as const) {
      if (secretFile !== undefined && isInClear(value[key])) wrong(key, 'expected https: a secret goes there');
    }
  }, ALWAYS);

const ruleSources = z
  .array(ruleSource)
  .max(64)
  .prefault([])
  .superRefine((entries, context) => {
    const names = new Map<string, number>();
    const sets = new Map<string, number>();
    for (const [index, entry] of entries.entries()) {
      if (typeof entry?.name !== 'string') continue;
      const { name, set = name } = entry;
      const sameName = names.get(name);
      const sameSet = sets.get(set);
      if (sameName !== undefined) repeated(context, index, 'name', ['ruleSources', sameName]);
      else if (sameSet !== undefined) {
        repeated(context, index, entry.set === undefined ? 'name' : 'set', ['ruleSources', sameSet], 'the set');
      }
      names.set(name, sameName ?? index);
      sets.set(set, sameSet ?? index);
    }
  }, ALWAYS);

/** The whole configuration. Ids 1..4093 are for endpoints (VLAN tags), so there are no more of them than that. */
export const schema = z.strictObject({
  node: about(text(253), 'a name of 1 to 253 characters', "The node's name, as events and metrics give it."),
  cluster: about(
    z
      .string()
      .regex(/^[a-z0-9][a-z0-9._-]{0,99}$/)
      .prefault('cluster'),
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
    integer(1, 64).prefault(1),
    'an integer from 1 to 64',
    'Capture and engine processes that share the endpoints.',
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
