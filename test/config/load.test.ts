import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Config, ConfigSources } from '../../agent/config/load.ts';
import { loadConfig } from '../../agent/config/load.ts';

let folder: string;
let file: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'config-'));
  file = path.join(folder, 'agent.yaml');
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Given extends Partial<ConfigSources> {
  yaml?: string | Buffer;
}

function load({ yaml, env = {}, flags = {} }: Given): ReturnType<typeof loadConfig> {
  if (yaml === undefined) return loadConfig({ env, flags }, () => 'a-machine');
  writeFileSync(file, yaml);
  return loadConfig({ file, env, flags }, () => 'a-machine');
}

function config(given: Given): Config {
  const loaded = load(given);
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return loaded.config;
}

/** Messages, with the file's path shortened. */
function errors(given: Given): string[] {
  const loaded = load(given);
  return 'errors' in loaded ? loaded.errors.map(({ message }) => message.replaceAll(folder, '')) : [];
}

const BATCH = { batchEvents: 1000, batchSize: 5242880, batchMillis: 200 };

const DEFAULTS: Config = {
  node: 'a-machine',
  cluster: 'cluster',
  logLevel: 'info',
  logFormat: 'auto',
  stateDirectory: '/var/lib/dpi-agent',
  lanes: 1,
  rules: [],
  rulesDirectory: '/usr/etc/snort/rules',
  ruleChanges: '/etc/dpi-agent/rule-changes.conf',
  variables: {},
  rulesLua: false,
  ruleSets: ['kubernetes'],
  ruleSources: [],
  ruleServer: {
    tokenFile: '/var/run/secrets/dpi-agent/rule-server/token',
    every: 60_000,
    maxBytes: 67_108_864,
    timeout: 300_000,
  },
  ruleServing: {
    address: '127.0.0.1',
    port: 9099,
    audience: 'dpi-agent-rule-server',
    serviceAccounts: ['tigera-dpi/tigera-dpi'],
    leaseMillis: 600_000,
  },
  respond: { tokenFile: '/var/run/secrets/dpi-agent/response/token' },
  respondServing: {
    address: '127.0.0.1',
    port: 9100,
    audience: 'dpi-agent-response',
    serviceAccounts: ['tigera-dpi/tigera-dpi'],
    protectedNamespaces: ['tigera-dpi'],
    automatic: false,
    automaticPods: [],
    automaticPerHour: 3,
    automaticAtOnce: 5,
    maxFor: 86_400_000,
  },
  rulesLeaveOut: true,
  rulesQuietWait: 300_000,
  engine: {
    type: 'auto',
    output: 'json',
    searchMethod: 'auto',
    user: 'auto',
    memoryLimit: 805306368,
    isolateNetwork: true,
    arguments: [],
  },
  capture: {
    library: 'auto',
    snaplen: 262144,
    ringSize: 524288,
    maxRingSize: 67108864,
    timeoutMillis: 30,
    queueSize: 4194304,
    shunt: 'on',
    shuntAfter: 65536,
    promiscuous: false,
    side: 'auto',
    loopback: false,
  },
  journal: {
    directory: '/var/log/calico/snort-alerts',
    segmentSize: 67108864,
    maxSize: 1073741824,
    segmentAge: 86_400_000,
    maxAge: 30 * 86_400_000,
    fsync: true,
  },
  sinks: {
    elasticsearch: {
      nodes: [],
      schema: 'calico',
      verifyTls: true,
      manageTemplate: true,
      dataStream: false,
      packetsSize: 256 << 10,
      timeoutMillis: 30_000,
      ...BATCH,
    },
    syslog: { protocol: 'tcp', framing: 'octets', format: 'rfc5424', facility: 'local4', ...BATCH },
    stdout: { enabled: false, ...BATCH },
    deadLetterSize: 67108864,
    list: [],
  },
  alerts: { mergeMillis: 100, burst: 1000, ratePerSecond: 10, foldMillis: 10_000 },
  coverage: { windowMillis: 300_000 },
  evidence: {
    payload: true,
    maxBytes: 1024,
    rule: true,
    keep: 'off',
    memory: 33554432,
    wholeRate: 4194304,
    after: 2000,
    packets: 1000,
    bytes: 262144,
    maxSize: 536870912,
    maxAge: 604_800_000,
  },
  canary: { interval: 10_000 },
  kubernetes: { follow: 'auto', status: 'resource' },
  http: { port: 9097 },
  ui: {
    source: 'auto',
    address: '127.0.0.1',
    port: 9098,
    access: 'auto',
    behindTlsProxy: false,
    trustedProxies: [],
    clusters: [],
    agents: [],
    agentNamespace: 'tigera-dpi',
    acknowledgeFor: 604_800_000,
    journalAlerts: 1_000_000,
  },
  endpoints: [],
};

describe('where a value comes from', () => {
  test('nothing at all gives the defaults', () => {
    expect(config({})).toEqual(DEFAULTS);
    expect(config({ yaml: '' })).toEqual(DEFAULTS);
    expect(config({ yaml: '# nothing\n---\nlanes:\nengine:\n  binary: null\n' })).toEqual(DEFAULTS);
  });

  test('flags win over the environment, that over the file, key by key', () => {
    const yaml = 'lanes: 2\nlogLevel: warn\ncapture: { timeoutMillis: 20, ringSize: 4MiB }\n';
    const env = { DPI_AGENT_LANES: '3', DPI_AGENT_CAPTURE_TIMEOUT_MILLIS: '30' };
    expect(config({ yaml, env, flags: { lanes: 4 } })).toEqual({
      ...DEFAULTS,
      lanes: 4,
      logLevel: 'warn',
      capture: { ...DEFAULTS.capture, timeoutMillis: 30, ringSize: 4194304 },
    });
  });

  test('lists are replaced, not joined', () => {
    const yaml = 'rules: [a, b]\nruleSets: [kubernetes, community]\n';
    const env = { DPI_AGENT_RULES: 'c', DPI_AGENT_RULE_SETS: '' };
    expect(config({ yaml, env })).toMatchObject({ rules: ['c'], ruleSets: [] });
  });

  test('the node is named by the configuration, else by NODE_NAME, else by the machine', () => {
    expect(config({ env: { NODE_NAME: 'worker-1' } }).node).toBe('worker-1');
    expect(config({ env: { NODE_NAME: 'worker-1' }, yaml: 'node: worker-2' }).node).toBe('worker-2');
    expect(config({ env: { NODE_NAME: '' } }).node).toBe('a-machine');
    expect(errors({ env: { NODE_NAME: 'a\u0007b' } })).toEqual([
      'environment variable NODE_NAME: node: "ab": expected a name of 1 to 253 characters',
    ]);
  });

  test('flags may be nested or dotted, in camel case or with hyphens; undefined ones are not there', () => {
    const engine = { ...DEFAULTS.engine, searchMethod: 'hyperscan' };
    for (const flags of [
      { engine: { searchMethod: 'hyperscan' } },
      { 'engine.searchMethod': 'hyperscan' },
      { 'engine.search-method': 'hyperscan', lanes: undefined },
    ]) {
      expect(config({ flags })).toEqual({ ...DEFAULTS, engine });
    }
  });

  test('an empty variable is not set, but for lists', () => {
    expect(config({ env: { DPI_AGENT_LANES: '', DPI_AGENT_ENGINE_BINARY: '' } })).toEqual(DEFAULTS);
  });

  test('variables that the cluster makes for a Service named dpi-agent are nobody’s settings', () => {
    const env = {
      DPI_AGENT_SERVICE_HOST: '10.0.0.1',
      DPI_AGENT_SERVICE_PORT: '9097',
      DPI_AGENT_SERVICE_PORT_METRICS: '9097',
      DPI_AGENT_PORT: 'tcp://10.0.0.1:9097',
      DPI_AGENT_PORT_9097_TCP: 'tcp://10.0.0.1:9097',
      DPI_AGENT_PORT_9097_TCP_PROTO: 'tcp',
      DPI_AGENT_PORT_9097_TCP_PORT: '9097',
      DPI_AGENT_PORT_9097_TCP_ADDR: '10.0.0.1',
      DPI_AGENT_METRICS_SERVICE_HOST: '10.0.0.2',
    };
    expect(config({ env })).toEqual(DEFAULTS);
    expect(errors({ env: { DPI_AGENT_PORT_LANES: '1' } })).toHaveLength(1);
  });
});

describe('kinds of values', () => {
  test.each([
    ['DPI_AGENT_CAPTURE_QUEUE_SIZE', '64MiB', ['capture', 'queueSize'], 64 << 20],
    ['DPI_AGENT_CAPTURE_QUEUE_SIZE', '512k', ['capture', 'queueSize'], 512 << 10],
    ['DPI_AGENT_CAPTURE_QUEUE_SIZE', '1G', ['capture', 'queueSize'], 1 << 30],
    ['DPI_AGENT_CAPTURE_QUEUE_SIZE', '1048576', ['capture', 'queueSize'], 1 << 20],
    ['DPI_AGENT_CAPTURE_QUEUE_SIZE', '1048576B', ['capture', 'queueSize'], 1 << 20],
    ['DPI_AGENT_ALERTS_MERGE_MILLIS', '250ms', ['alerts', 'mergeMillis'], 250],
    ['DPI_AGENT_ALERTS_MERGE_MILLIS', '1.5s', ['alerts', 'mergeMillis'], 1500],
    ['DPI_AGENT_ALERTS_MERGE_MILLIS', '0', ['alerts', 'mergeMillis'], 0],
    ['DPI_AGENT_JOURNAL_FSYNC', 'No', ['journal', 'fsync'], false],
    ['DPI_AGENT_JOURNAL_FSYNC', '1', ['journal', 'fsync'], true],
    ['DPI_AGENT_EVIDENCE_MAX_BYTES', ' 0 ', ['evidence', 'maxBytes'], 0],
    ['DPI_AGENT_ENGINE_USER', '65534', ['engine', 'user'], 65534],
    ['DPI_AGENT_ENGINE_USER', 'nobody', ['engine', 'user'], 'nobody'],
    ['DPI_AGENT_ENGINE_ARGUMENTS', '-A, --x=y', ['engine', 'arguments'], ['-A', '--x=y']],
    ['DPI_AGENT_ENGINE_ARGUMENTS', '["a,b"]', ['engine', 'arguments'], ['a,b']],
    ['DPI_AGENT_NODE', '123', ['node'], '123'],
  ])('%s=%s', (name, value, key, expected) => {
    expect(config({ env: { [name]: value } })).toHaveProperty(key, expected);
  });

  test.each([
    ['capture.queueSize', '1MB'],
    ['capture.queueSize', '1.5MiB'],
    ['capture.queueSize', '511KiB'],
    ['capture.queueSize', '2GiB'],
    ['capture.queueSize', '-1'],
    ['capture.snaplen', '65534'],
    ['capture.snaplen', '1e5'],
    ['capture.timeoutMillis', '0'],
    ['capture.timeoutMillis', '2s'],
    ['capture.timeoutMillis', '1.5ms'],
    ['alerts.mergeMillis', '1h'],
    ['lanes', '0'],
    ['lanes', '65'],
    ['lanes', '1.5'],
    ['lanes', '0x10'],
    ['journal.fsync', 'maybe'],
    ['logLevel', 'INFO'],
    ['engine.type', 'zeek'],
    ['engine.searchMethod', 'ac-bnfa'],
    ['engine.user', 'Root!'],
    ['engine.user', '4294967295'],
    ['engine.arguments', '["a",]'],
    ['engine.arguments', 'a,,b'],
    ['cluster', 'Cluster'],
    ['ruleSets', '../etc'],
    ['stateDirectory', 'a\u0000b'],
  ])('%s refuses %s', (key, value) => {
    const found = load({ flags: { [key]: value } });
    const [error, ...more] = 'errors' in found ? found.errors : [];
    expect(more).toEqual([]);
    expect(error?.source).toBe(`flag --${key}`);
    expect(error?.key.startsWith(key)).toBe(true);
    expect(error?.problem).toMatch(/^expected /);
  });

  test('in YAML a number is no text and a text may be a number', () => {
    expect(config({ yaml: 'lanes: "2"' }).lanes).toBe(2);
    expect(errors({ yaml: 'node: 2' })).toEqual(['/agent.yaml:1:7: node: 2: expected a name of 1 to 253 characters']);
  });
});

describe('errors', () => {
  test('come all at once, each with its source, key, value and what is expected', () => {
    const yaml = [
      'lanes: 99',
      'lanez: 3',
      'snaplen: 70000',
      'engine:',
      '  type: bogus',
      '  binaryPath: /x',
      'journal: 5',
      'endpoints:',
      '  - pod: x',
      '    adresses: []',
      '    labels: { version: 1 }',
    ].join('\n');
    const env = { DPI_AGENT_LANE: '1', DPI_AGENT_EVIDENCE_PAYLOAD: 'maybe' };
    expect(errors({ yaml, env, flags: { 'log-level': 'loud', bogus: 1 } }).toSorted()).toEqual(
      [
        '/agent.yaml:1:8: lanes: 99: expected auto, or an integer from 1 to 64',
        '/agent.yaml:2:1: lanez: unknown key; the nearest known one is lanes',
        '/agent.yaml:3:1: snaplen: unknown key; the nearest known one is capture.snaplen',
        '/agent.yaml:5:9: engine.type: "bogus": expected one of auto, snort, suricata',
        '/agent.yaml:6:3: engine.binaryPath: unknown key; the nearest known one is engine.binary',
        '/agent.yaml:7:10: journal: 5: expected a mapping of keys to values',
        '/agent.yaml:9:5: endpoints[0].interface: missing; expected the name of an interface: 1 to 15 bytes, no "/", ":" or white space',
        '/agent.yaml:10:5: endpoints[0].adresses: unknown key; the nearest known one is endpoints[].addresses',
        '/agent.yaml:11:24: endpoints[0].labels.version: 1: expected Kubernetes labels: a mapping of names to texts (quote numbers and booleans)',
        'environment variable DPI_AGENT_EVIDENCE_PAYLOAD: evidence.payload: "maybe": expected true or false',
        'environment variable DPI_AGENT_LANE is unknown; the nearest known one is DPI_AGENT_LANES',
        'flag --bogus: bogus: unknown key; docs/configuration.md lists all',
        'flag --log-level: logLevel: "loud": expected one of trace, debug, info, warn, error, fatal',
      ].toSorted(),
    );
  });

  test('have their parts apart', () => {
    const found = load({ yaml: 'lanes: 99' });
    expect('errors' in found && found.errors).toEqual([
      {
        source: `${file}:1:8`,
        key: 'lanes',
        value: '99',
        problem: 'expected auto, or an integer from 1 to 64',
        message: `${file}:1:8: lanes: 99: expected auto, or an integer from 1 to 64`,
      },
    ]);
  });

  test('show values quoted, short and without anything that a terminal obeys', () => {
    const hostile = `a\u001B[31mb\u001B]0;title\u0007c\u009B2Jd\u202Ee\r\nf"${'x'.repeat(500)}`;
    const [message = ''] = errors({ flags: { 'engine.type': hostile } });
    expect(message).toBe(
      `flag --engine.type: engine.type: "abcdef\\"${'x'.repeat(73)}…": expected one of auto, snort, suricata`,
    );
    const [unknown = ''] = errors({ flags: { [hostile]: 1 }, env: { [`DPI_AGENT_${hostile}`]: '' } });
    expect(unknown).toMatch(/^environment variable DPI_AGENT_abcdef/);
    const all = errors({ yaml: JSON.stringify({ [hostile]: 1 }), flags: { [hostile]: 1 } });
    expect(all).toHaveLength(2);
    expect(all.join('')).not.toMatch(/[\p{Cc}\u202E]/u);
  });

  test.each([
    [
      'unified2 without Snort',
      { engine: { output: 'unified2', type: 'suricata' } },
      'flag --engine: engine.output: "unified2": unified2 is written by Snort only: expected engine.type snort with it, got suricata (flag --engine)',
    ],
    [
      'unified2 with any engine',
      { 'engine.output': 'unified2' },
      'flag --engine.output: engine.output: "unified2": unified2 is written by Snort only: expected engine.type snort with it, got auto',
    ],
    [
      'a ring beyond the largest',
      { 'capture.ringSize': '128MiB' },
      'flag --capture.ringSize: capture.maxRingSize: expected at least capture.ringSize, 128MiB',
    ],
    [
      'a journal of one segment',
      { 'journal.maxSize': '100MiB' },
      'flag --journal.maxSize: journal.maxSize: "100MiB": expected at least twice journal.segmentSize, 128MiB',
    ],
  ])('tell of values that do not fit each other: %s', (_, flags, message) => {
    expect(errors({ flags })).toEqual([message]);
  });

  test('between keys come together with errors of single keys', () => {
    const found = errors({ flags: { engine: { output: 'unified2', isolateNetwork: 'perhaps' }, lanes: 0 } });
    expect(found).toHaveLength(3);
    expect(config({ flags: { engine: { output: 'unified2', type: 'snort' } } }).engine.output).toBe('unified2');
  });

  test('beyond a hundred are counted', () => {
    const found = errors({ yaml: Array.from({ length: 300 }, (_, index) => `key${index}: 1`).join('\n') });
    expect(found).toHaveLength(101);
    expect(found.at(-1)).toBe('configuration has 200 more errors');
  });
});

describe('endpoints in the configuration', () => {
  test('are named by interface; two that share one, or share a pod, name each other', () => {
    const yaml = [
      'endpoints:',
      '  - { interface: veth0, pod: a }',
      '  - { interface: veth0, pod: b }',
      '  - { interface: veth1, pod: a }',
      '  - { interface: veth2, pod: a, namespace: other }',
      '  - { interface: c }',
      '  - { interface: veth3, pod: c }',
    ].join('\n');
    expect(errors({ yaml })).toEqual([
      '/agent.yaml:3:18: endpoints[1].interface: "veth0": the interface is taken by endpoints[0] (/agent.yaml:2:5)',
      '/agent.yaml:4:30: endpoints[2].pod: "a": the pod default/a is taken by endpoints[0] (/agent.yaml:2:5)',
      '/agent.yaml:7:30: endpoints[5].pod: "c": the pod default/c is taken by endpoints[4] (/agent.yaml:6:5)',
    ]);
  });

  test.each([
    [{ interface: 'sixteen-letters!' }],
    [{ interface: 'ünïcödé-näme' }],
    [{ interface: '..' }],
    [{ interface: 'a/b' }],
    [{ interface: 'a b' }],
    [{ interface: 'eth0:1' }],
    [{ interface: '' }],
    [{ interface: 'v', namespace: 'a.b' }],
    [{ interface: 'v', namespace: 'x'.repeat(64) }],
    [{ interface: 'v', pod: 'Upper' }],
    [{ interface: 'v', pod: '-a' }],
    [{ interface: 'v', owner: 'a_b' }],
    [{ interface: 'v', resource: 'name' }],
    [{ interface: 'v', resource: 'a/b/c' }],
    [{ interface: 'v', resource: '/b' }],
    [{ interface: 'v', resources: [] }],
    [{ interface: 'v', resource: 'a/b', resources: ['a/c'] }],
    [{ interface: 'v', addresses: ['10.0.0'] }],
    [{ interface: 'v', addresses: ['10.0.0.0/8'] }],
    [{ interface: 'v', addresses: ['fe80::1%eth0'] }],
    [{ interface: 'v', labels: { 'bad key': 'x' } }],
    [{ interface: 'v', labels: { app: 'x y' } }],
  ])('refuse %j', (entry) => {
    expect(errors({ flags: { endpoints: [entry] } })).toHaveLength(1);
  });

  test('are not set by the environment', () => {
    expect(errors({ env: { DPI_AGENT_ENDPOINTS: 'veth0' } })[0]).toMatch(
      /^environment variable DPI_AGENT_ENDPOINTS is unknown/,
    );
  });
});

describe('sources of rules in the configuration', () => {
  test('have bounds of their own', () => {
    const yaml = 'ruleSources: [{ name: et, preset: et-open, every: 6h, maxBytes: 128MiB }]';
    expect(config({ yaml }).ruleSources).toEqual([
      {
        name: 'et',
        preset: 'et-open',
        every: 21_600_000,
        maxBytes: 134_217_728,
        secretHeader: 'Authorization',
        timeout: 300_000,
      },
    ]);
  });

  test.each([
    [{ name: 'a' }, 'ruleSources[0].url: expected one of preset, url and file'],
    [{ name: 'a', url: 'https://x/', file: '/x' }, 'expected one of preset, url and file'],
    [{ name: 'a', preset: 'et' }, 'expected one of snort3-community'],
    [{ name: 'a', url: 'ftp://x/' }, 'ruleSources[0].url: "ftp://x/": expected a URL'],
    [{ name: 'a', url: 'https://user:word@x/' }, 'expected a URL'],
    [{ name: 'a', set: 'custom', file: '/x' }, 'ruleSources[0].set: "custom": custom is made of'],
    [{ name: 'custom', file: '/x' }, 'custom is made of'],
    [{ name: 'a', url: 'https://x/', mirror: 'https://y/' }, 'expected a preset with it'],
    [{ name: 'a', preset: 'snort3-registered' }, 'ruleSources[0].secretFile: expected a file with the secret'],
    [{ name: 'a', url: 'https://x/{secret}' }, 'expected a file with the secret'],
    [{ name: 'a', url: 'http://x/', secretFile: '/s' }, 'expected https: a secret goes there'],
    [{ name: 'a', preset: 'et-pro', mirror: 'http://x', secretFile: '/s' }, 'expected https: a secret goes there'],
    [{ name: 'a', file: '/x', every: '30s' }, 'expected a time from 1m to 30d'],
    [{ name: 'a', file: '/x', maxBytes: '2GiB' }, 'expected a size from 1KiB to 1GiB'],
    [{ name: 'a', file: '/x', checksum: 'sha256:12' }, 'expected sha256: and 64 hexadecimal digits'],
  ])('refuse %j', (entry, message) => {
    expect(errors({ flags: { ruleSources: [entry] } })).toEqual([expect.stringContaining(message)]);
  });

  test('take a secret over http to this machine alone', () => {
    const at = (url: string): string[] => errors({ flags: { ruleSources: [{ name: 'a', url, secretFile: '/s' }] } });
    for (const url of ['http://127.0.0.1:1/', 'http://localhost/', 'http://[::1]/x', 'https://x/'])
      expect(at(url)).toEqual([]);
    for (const url of ['http://127.0.0.1.example/', 'http://localhost.example/']) expect(at(url)).toHaveLength(1);
  });

  test('that share a name or a set name each other', () => {
    const yaml = [
      'ruleSources:',
      '  - { name: a, file: /x }',
      '  - { name: a, set: b, file: /x }',
      '  - { name: c, set: a, file: /x }',
    ].join('\n');
    expect(errors({ yaml })).toEqual([
      '/agent.yaml:3:13: ruleSources[1].name: "a": the name is taken by ruleSources[0] (/agent.yaml:2:5)',
      '/agent.yaml:4:21: ruleSources[2].set: "a": the set is taken by ruleSources[0] (/agent.yaml:2:5)',
    ]);
  });
});

describe('the rule server in the configuration', () => {
  test.each([
    [{ url: 'http://rules.example' }, 'ruleServer.url: "http://rules.example": expected a URL with https'],
    [{ url: 'https://user:word@rules.example' }, 'expected a URL with https'],
    [{ url: 'https://rules.example/?x=1' }, 'expected a URL with https'],
    [{ every: '100ms' }, 'ruleServer.every: "100ms": expected a time from 1s to 1d'],
  ])('refuses %j', (ruleServer, message) => {
    expect(errors({ flags: { ruleServer } })).toEqual([expect.stringContaining(message)]);
  });

  test('is reached over http on this machine alone', () => {
    expect(config({ flags: { 'ruleServer.url': 'http://127.0.0.1:1' } }).ruleServer.url).toBe('http://127.0.0.1:1');
  });

  test.each([
    [{ tlsCertFile: '/c' }, 'ruleServing.tlsKeyFile: expected both tlsCertFile and tlsKeyFile'],
    [{ serviceAccounts: ['tigera-dpi'] }, 'expected a list of <namespace>/<name>'],
    [{ audience: 'two words' }, 'expected a text without blanks'],
  ])('refuses to serve by %j', (ruleServing, message) => {
    expect(errors({ flags: { ruleServing } })).toEqual([expect.stringContaining(message)]);
  });
});

describe('the file', () => {
  const bomb = `a0: &a0 [x, x]\n${Array.from({ length: 30 }, (_, index) => `a${index + 1}: &a${index + 1} [*a${index}, *a${index}]\n`).join('')}`;
  test.each<[string, string | Buffer, string]>([
    [
      'that repeats a key',
      'lanes: 1\nnode: x\nlanes: 2',
      '/agent.yaml:3:1 repeats the key "lanes" of the same mapping: expected each key once',
    ],
    ['with an alias bomb', bomb, '/agent.yaml uses aliases too often: expected at most 100 uses'],
    ['nested without end', '['.repeat(100_000), '/agent.yaml:1:51 is nested too deeply: expected fewer than 50 levels'],
    ['that is a list', '- lanes', '/agent.yaml:1:1 expected a mapping of keys to values'],
    ['that is a text', 'lanes', '/agent.yaml:1:1 expected a mapping of keys to values'],
    ['that is larger than 1 MiB', '#'.repeat(1048577), '/agent.yaml is too large: expected at most 1048576 bytes'],
    ['that is not text', Buffer.from([0xff, 0xfe, 0x00]), '/agent.yaml is not UTF-8 text'],
    ['with two documents', 'lanes: 1\n---\nlanes: 2', '/agent.yaml:2:1 has a second document: expected one'],
    [
      'with a tag',
      'lanes: !!js/function 1',
      '/agent.yaml:1:8 is not valid YAML: Unresolved tag: tag:yaml.org,2002:js/function',
    ],
    ['with a list as a key', '? [a]\n: 1', '/agent.yaml:1:3 has a key that is not text'],
    [
      'with a forged prototype',
      '__proto__: { lanes: 3 }',
      '/agent.yaml:1:1: __proto__: unknown key; docs/configuration.md lists all',
    ],
  ])('%s is refused', (_, yaml, message) => {
    expect(errors({ yaml })).toEqual([message]);
  });

  test('with broken YAML is refused at line and column, beside errors of other sources', () => {
    const found = errors({ yaml: 'engine:\n  type: "snort\nlanes: 1', flags: { lanes: 0 } });
    expect(found[0]).toMatch(/^\/agent\.yaml:\d+:\d+ is not valid YAML: /);
    expect(found.at(-1)).toBe('flag --lanes: lanes: 0: expected auto, or an integer from 1 to 64');
  });

  test('may use aliases, also one within itself, and errors tell where the alias is', () => {
    const yaml = 'rules: &r [a]\nengine: &e { type: *e, arguments: *r }';
    expect(errors({ yaml })).toEqual([
      '/agent.yaml:2:20: engine.type: a mapping: expected one of auto, snort, suricata',
    ]);
  });

  test('has errors inside of an alias where the value was written', () => {
    const yaml = 'endpoints:\n  - { interface: a, labels: &l { x: 1 } }\n  - { interface: b, labels: *l }';
    const found = load({ yaml });
    expect('errors' in found && found.errors.map(({ source, key }) => [source, key])).toEqual([
      [`${file}:2:37`, 'endpoints[0].labels.x'],
      [`${file}:2:37`, 'endpoints[1].labels.x'],
    ]);
  });

  test('that is absent, a folder or a pipe is refused at once', () => {
    const pipe = path.join(folder, 'pipe');
    spawnSync('mkfifo', [pipe]);
    mkdirSync(path.join(folder, 'folder'));
    for (const [name, problem] of [
      ['absent.yaml', "can't be read: ENOENT"],
      ['folder', 'is not a regular file'],
      ['pipe', 'is not a regular file'],
    ]) {
      const found = loadConfig({ file: path.join(folder, name ?? ''), env: {}, flags: {} });
      expect('errors' in found && found.errors[0]?.message).toContain(`${name} ${problem}`);
    }
  });
});

describe('sinks', () => {
  test.each([
    ['nodes: [es:9200]', 'sinks.elasticsearch.nodes[0]: "es:9200": expected a list of URLs (https://host:9200)'],
    ['nodes: ["https://u:p@es:9200"]', 'expected a list of URLs (https://host:9200) without user and password'],
    ['username: agent', 'expected both a user (username or usernameFile) and passwordFile, or neither'],
    ['{ passwordFile: /p }', 'expected both a user (username or usernameFile) and passwordFile, or neither'],
    ['{ apiKeyFile: /k, username: u, passwordFile: /p }', 'expected an API key or a user with a password, not both'],
    ['{ username: u, usernameFile: /u, passwordFile: /p }', 'expected username or usernameFile, not both'],
  ])('elasticsearch: %s is refused', (yaml, message) => {
    const text = yaml.startsWith('{') ? yaml : `{ ${yaml} }`;
    expect(errors({ yaml: `sinks: { elasticsearch: ${text} }` }).join()).toContain(message);
  });

  test.each(['syslog', 'syslog:0', 'syslog:65536', 'a b:514', '2001:db8::1:514x'])(
    'syslog at %s is refused',
    (address) => {
      expect(errors({ yaml: `sinks: { syslog: { address: "${address}" } }` }).join()).toContain(
        'expected <host>:<port>',
      );
    },
  );

  test.each(['syslog.example.com:514', '[2001:db8::1]:6514', '10.0.0.1:1'])('syslog at %s is taken', (address) => {
    expect(config({ yaml: `sinks: { syslog: { address: "${address}" } }` }).sinks.syslog.address).toBe(address);
  });
});

describe('variables of rules', () => {
  test('come together from file, environment and flags, name by name', () => {
    const yaml =
      'variables:\n  HOME_NET: [10.0.0.0/8, "!10.1.0.0/16"]\n  HTTP_PORTS: 8080\n  MY_NET: 10.0.0.0/8 192.168.0.0/16\n';
    const env = { DPI_AGENT_VARIABLES: 'EXTERNAL_NET=!$HOME_NET HTTP_PORTS=[80,8080]' };
    expect(config({ yaml, env, flags: { variables: { MY_NET: 'any' } } }).variables).toEqual({
      HOME_NET: '[10.0.0.0/8,!10.1.0.0/16]',
      HTTP_PORTS: '[80,8080]',
      MY_NET: 'any',
      EXTERNAL_NET: '!$HOME_NET',
    });
    const json = '{ "HTTP_PORTS": [80, 8080] }';
    expect(config({ env: { DPI_AGENT_VARIABLES: json } }).variables).toEqual({ HTTP_PORTS: '[80,8080]' });
  });

  test('are checked: each error has its place, the key, the value, and what is right', () => {
    const yaml = 'variables:\n  HOME_NET: 10.0.0.300\n  A-B: any\n  HTTP_PORTS: 10.0.0.0/8\n';
    expect(errors({ yaml })).toEqual([
      expect.stringMatching(/^\/agent\.yaml:3:\d+: variables\.A-B: .*expected names without \$/),
    ]);
    expect(errors({ yaml: yaml.replace('A-B', 'AB') })).toEqual([
      expect.stringMatching(
        /^\/agent\.yaml:2:13: variables\.HOME_NET: "10\.0\.0\.300": expected any, pods, or addresses/,
      ),
      expect.stringMatching(/^\/agent\.yaml:4:15: variables\.HTTP_PORTS: "10\.0\.0\.0\/8": expected any, or ports/),
    ]);
    expect(errors({ env: { DPI_AGENT_VARIABLES: 'HOME_NET' } })).toEqual([
      expect.stringContaining('environment variable DPI_AGENT_VARIABLES: variables: "HOME_NET": expected names'),
    ]);
    expect(errors({ yaml: 'variables: { __proto__: any, EXTERNAL_NET: "!$HOME_NET" }\n' })).toHaveLength(2);
  });
});
