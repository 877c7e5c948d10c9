/** Suricata: its configuration, its command line, and what it says. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMap, isScalar, parseDocument, stringify } from 'yaml';
import {
  DEFAULT_VARIABLES,
  SNORT_HTTP_PORTS,
  withValues,
  type Variables,
  type VariableValues,
} from '../../rule-variables.ts';
import { COUNTERS_SECONDS, countAt, type CounterSource } from '../counters.ts';
import type { EngineCommand, EngineDriver, GenerationInput, RuleError } from '../engine.ts';
import { CATEGORIES_FILE, REPUTATION_FILE } from '../folder.ts';
import { createEveDecoder } from '../readers/eve.ts';
import { reloadSuricata } from './reload.ts';

/** Where Debian, Ubuntu and the source installation put the files that come with Suricata. */
const DATA_PLACES = ['/etc/suricata', '/usr/local/etc/suricata', '/usr/share/suricata'];

/** Suricata's reader passes over an alias: what it stands for would be missing. */
const NO_ALIASES = { aliasDuplicateObjects: false };

const ALERT_FILE = 'eve.json';
/** As Snort's. */
const ALERT_FILE_BYTES = 64 << 20;

/**
 * What rules may name, by what is set. For rules that come from Snort, `SNORT_HTTP_PORTS` and the like are what Snort
 * takes those for, unless they are set too.
 * @param values The settings. @param overrides The operator's, in YAML, whose `vars` count before those.
 */
export function suricataVariables(values: VariableValues = {}, overrides = ''): Variables {
  const own = variablesOf(overrides);
  const given = withValues(DEFAULT_VARIABLES, values);
  const addresses = { ...given.addresses, ...own?.addresses };
  const ports: Record<string, string> = { ...given.ports, ...own?.ports };
  const set = { ...values, ...own?.ports };
  ports['SNORT_HTTP_PORTS'] = Object.hasOwn(set, 'HTTP_PORTS') ? '$HTTP_PORTS' : SNORT_HTTP_PORTS;
  ports['SNORT_FILE_DATA_PORTS'] = Object.hasOwn(set, 'FILE_DATA_PORTS')
    ? '$FILE_DATA_PORTS'
    : '[$SNORT_HTTP_PORTS,110,143]';
  return { addresses, ports };
}

/** The `vars` of a configuration; undefined where it has none, or can't be read. */
function variablesOf(yaml: string): Variables | undefined {
  if (!yaml.includes('vars')) return undefined;
  const document = parseDocument(yaml, { version: '1.1' });
  const group = (name: string): VariableValues => {
    const found: unknown = document.getIn(['vars', name]);
    const entries = isMap(found) ? found.items : [];
    return Object.fromEntries(
      entries.flatMap(({ key, value }) =>
        isScalar(key) && isScalar(value) ? [[String(key.value), String(value.source ?? value.value)]] : [],
      ),
    );
  };
  return document.errors.length === 0 && document.has('vars')
    ? { addresses: group('address-groups'), ports: group('port-groups') }
    : undefined;
}

/**
 * Of one packet, live; 15 by default. Among them may be those of rules that its endpoint did not ask for, which must
 * not push out its own. Memory is taken for those that there are.
 */
const MAX_ALERTS_OF_PACKET = 255;

const STATS_FILE = 'stats.json';

const COUNTERS: CounterSource = {
  from: 'file',
  name: STATS_FILE,
  read(line) {
    let report: unknown;
    try {
      report = JSON.parse(line);
    } catch {
      return undefined;
    }
    const flows = (protocol: string): number => countAt(report, 'stats', 'app_layer', 'flow', protocol);
    return {
      analysed: countAt(report, 'stats', 'decoder', 'pkts'),
      encrypted: { tls: flows('tls'), ssh: flows('ssh'), quic: flows('quic') },
    };
  },
};

/** With this, the tables below have the sizes of Suricata's own configuration file, or more. */
const MEMORY_LIMIT = 768 << 20;

export interface SuricataSettings {
  /** Bytes that Suricata shall take at most; default 768 MiB. */
  memoryLimit?: number;
  /** Bytes beyond which the alert file is rotated; default 64 MiB. */
  alertFileBytes?: number;
  /** Whether rules may run scripts; default not. */
  allowScripts?: boolean;
  arguments: string[];
}

export function createSuricataDriver(settings: SuricataSettings): EngineDriver {
  async function writeConfig(input: GenerationInput): Promise<string> {
    for (const { id, ruleFiles } of input.policies) {
      await writeFile(tenantFile(input, id), toYaml(ruleConfig(input, ruleFiles)));
    }
    const path = join(input.configDirectory, 'suricata.yaml');
    const { vars, ...config } = suricataConfig(input, settings);
    // Its top-level keys take the place of ours before it; of variables it may have only some.
    const include = input.overridesFile === undefined ? {} : { include: [input.overridesFile] };
    await writeFile(path, toYaml({ ...config, ...include, vars }));
    return path;
  }

  return {
    name: 'suricata',
    async prepare(_install, input): Promise<EngineCommand> {
      const config = await writeConfig(input);
      return {
        // A refused rule is an error, as it is with Snort: a rule that is silently left out protects nobody.
        arguments: [
          ...common(config, input),
          '-r',
          input.fifo,
          '--runmode',
          'single',
          '--init-errors-fatal',
          ...settings.arguments,
        ],
        alertFile: ALERT_FILE,
        stamped: false,
        createDecoder: createEveDecoder,
        ...(input.mode === 'live'
          ? {
              counters: COUNTERS,
              // https://docs.suricata.io/en/suricata-7.0.10/output/log-rotation.html; unlike the socket, also where its
              // path is too long.
              rotation: { bytes: settings.alertFileBytes ?? ALERT_FILE_BYTES, reopen: 'SIGHUP' },
            }
          : {}),
      };
    },
    async reload(_install, before, input) {
      await writeConfig(input);
      await reloadSuricata(socketOf(input), before.policies, input.policies, (id) => tenantFile(input, id));
    },
    async validateArguments(_install, input) {
      const config = await writeConfig(input);
      return [...common(config, input), '-T', ...settings.arguments];
    },
    ruleErrors,
    skippedRules,
    ruleWarnings,
    analysedPackets(log) {
      // "i: pcap: read 1 file, 1234 packets, 567890 bytes"
      const last = [...log.matchAll(/pcap: read \d+ files?, (\d+) packets/g)].at(-1)?.[1];
      return last === undefined ? undefined : Number(last);
    },
  };
}

/** YAML 1.1 is what Suricata reads. */
function toYaml(config: unknown): string {
  return `%YAML 1.1\n---\n${stringify(config, NO_ALIASES)}`;
}

const tenantFile = (input: GenerationInput, id: number): string => join(input.rulesDirectory, `tenant-${id}.yaml`);

/** Of unix(7): what the path of a socket may be long. */
const MAX_SOCKET_PATH = 107;

/** Where Suricata takes commands; undefined where the path is too long for a socket. */
function socketOf({ outputDirectory }: GenerationInput): string | undefined {
  const path = join(outputDirectory, 'command.socket');
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH ? path : undefined;
}

function common(config: string, input: GenerationInput): string[] {
  return ['-c', config, '-l', input.outputDirectory, '-k', 'none'];
}

/** What a flow with an unfinished HTTP request takes, parser included, and what of it its entry in the table does. */
const FLOW_BYTES = 16 << 10;
const FLOW_ENTRY_BYTES = 384;
const FLOW_BUCKETS = 65_536;
const BUCKET_BYTES = 64;

/**
 * Three eighths are left to rules and decoders. Parsers have no bounds of their own, so that the number of flows bounds
 * them.
 */
function memoryCaps(limit: number): Record<'defrag' | 'flow' | 'stream' | 'reassembly', string> {
  const share = (part: number): string => `${Math.floor((limit * part) / 1024)}kb`;
  const flows = Math.floor((limit * 5) / 8 / FLOW_BYTES);
  const table = FLOW_BUCKETS * BUCKET_BYTES + flows * FLOW_ENTRY_BYTES;
  return {
    defrag: share(1 / 24),
    flow: `${Math.ceil(table / 1024)}kb`,
    stream: share(1 / 12),
    reassembly: share(1 / 3),
  };
}

/** Buckets of a table: as many as by default, or what an eighth of its memory holds. */
function buckets(limit: number): number {
  return 2 ** Math.min(16, Math.floor(Math.log2(limit / 24 / 8 / 64)));
}

/** What rules need to be loaded. A tenant sees nothing of the main configuration. */
function ruleConfig(input: GenerationInput, ruleFiles: string[]): Record<string, unknown> {
  const { configDirectory, variables, overrides } = input;
  const data = (file: string): string | undefined =>
    DATA_PLACES.map((place) => join(place, file)).find((path) => existsSync(path));
  const { addresses, ports } = suricataVariables(variables, overrides);
  const classification = data('classification.config');
  const reference = data('reference.config');
  return {
    vars: { 'address-groups': addresses, 'port-groups': ports },
    'default-rule-path': configDirectory,
    'rule-files': ruleFiles,
    ...(classification === undefined ? {} : { 'classification-file': classification }),
    ...(reference === undefined ? {} : { 'reference-config-file': reference }),
  };
}

function reputationConfig({ reputationDirectory: directory }: GenerationInput): Record<string, unknown> {
  if (directory === undefined) return {};
  return {
    'reputation-categories-file': join(directory, CATEGORIES_FILE),
    'default-reputation-path': directory,
    'reputation-files': [REPUTATION_FILE],
  };
}

function suricataConfig(
  input: GenerationInput,
  { memoryLimit = MEMORY_LIMIT, allowScripts = false }: SuricataSettings,
): Record<string, unknown> {
  const isLive = input.mode === 'live';
  const socket = isLive ? socketOf(input) : undefined;
  return {
    ...ruleConfig(input, [...input.ruleFiles, ...(input.canaryFile === undefined ? [] : [input.canaryFile])]),
    'multi-detect': tenantsConfig(input),
    ...reputationConfig(input),
    'unix-command': socket === undefined ? { enabled: 'no' } : { enabled: 'yes', filename: socket },
    stats: isLive ? { enabled: 'yes', interval: COUNTERS_SECONDS } : { enabled: 'no' },
    outputs: [ALERT_OUTPUT, ...(isLive ? [STATS_OUTPUT] : [])],
    logging: { 'default-log-level': 'info', outputs: [{ console: { enabled: 'yes', type: 'regular' } }] },
    'app-layer': { protocols: PROTOCOLS },
    vlan: { 'use-for-tracking': true },
    'host-mode': 'sniffer-only',
    'max-pending-packets': 1024,
    ...(isLive ? { 'packet-alert-max': MAX_ALERTS_OF_PACKET } : {}),
    // Rules about checksums: veths don't fill them in; of a file, Suricata finds out by itself whether they are.
    'pcap-file': { 'checksum-checks': isLive ? 'no' : 'auto' },
    'default-packet-size': 1538,
    ...memoryConfig(memoryLimit, isLive),
    detect: { profile: 'medium', 'sgh-mpm-context': 'auto' },
    'mpm-algo': 'auto',
    'spm-algo': 'auto',
    // Landlock and the like are the agent's business: the engine runs without privileges. Suricata 8 runs scripts unless
    // it is told not to.
    security: { 'limit-noproc': true, lua: { 'allow-rules': allowScripts } },
  };
}

function tenantsConfig(input: GenerationInput): Record<string, unknown> {
  const { mode, policies } = input;
  return {
    // Also without policies, where they may come while it runs; else Suricata wants some.
    enabled: mode === 'live' || policies.length > 0 ? 'yes' : 'no',
    default: 'yes',
    selector: 'vlan',
    loaders: 1,
    tenants: policies.map(({ id }) => ({ id, yaml: tenantFile(input, id) })),
    mappings: policies.flatMap(({ id, vlans }) => vlans.map((vlan) => ({ 'vlan-id': vlan, 'tenant-id': id }))),
  };
}

const ALERT_OUTPUT = {
  'eve-log': {
    enabled: 'yes',
    filetype: 'regular',
    filename: ALERT_FILE,
    types: [{ alert: { payload: 'yes', 'payload-buffer-size': '64kb', 'payload-printable': 'no', packet: 'no' } }],
  },
};

const STATS_OUTPUT = {
  'eve-log': {
    enabled: 'yes',
    filetype: 'regular',
    filename: STATS_FILE,
    types: [{ stats: { totals: 'yes', threads: 'no', deltas: 'no', 'null-values': 'no' } }],
  },
};

const ENABLED = { enabled: 'yes' };
const PROTOCOLS = {
  ...Object.fromEntries(
    'tls ssh ftp smb dcerpc nfs tftp krb5 snmp sip mqtt http2 quic rdp rfb'
      .split(' ')
      .map((protocol) => [protocol, ENABLED]),
  ),
  smtp: ENABLED,
  imap: { enabled: 'detection-only' },
  dns: { tcp: ENABLED, udp: ENABLED },
  http: {
    enabled: 'yes',
    libhtp: {
      'default-config': {
        personality: 'IDS',
        'request-body-limit': '1mb',
        'response-body-limit': '1mb',
        // What an alert waits for, at most, before a body is looked at. With 0, Suricata looks at the beginning alone:
        // `file_data` finds nothing of what comes with later segments.
        'request-body-minimal-inspect-size': 1,
        'request-body-inspect-window': '4kb',
        'response-body-minimal-inspect-size': 1,
        'response-body-inspect-window': '16kb',
      },
    },
  },
};

/** What it may hold of fragments, flows and streams. */
function memoryConfig(memoryLimit: number, isLive: boolean): Record<string, unknown> {
  const caps = memoryCaps(memoryLimit);
  return {
    defrag: {
      memcap: caps.defrag,
      'hash-size': buckets(memoryLimit),
      trackers: 65535,
      'max-frags': 65535,
      prealloc: 'no',
      timeout: 60,
    },
    flow: { memcap: caps.flow, 'hash-size': FLOW_BUCKETS, prealloc: 1024 },
    stream: {
      memcap: caps.stream,
      'checksum-validation': 'no',
      // A flow that was under way when its endpoint was attached is inspected from there on; in a file, as by Suricata
      // alone, each packet of it.
      midstream: isLive,
      'async-oneside': false,
      reassembly: {
        memcap: caps.reassembly,
        depth: '1mb',
        'toserver-chunk-size': 2560,
        'toclient-chunk-size': 2560,
        'randomize-chunk-size': 'no',
      },
    },
  };
}

/** Lines like `E: detect: error parsing signature "…" from file x.rules at line 5`; the line before says why. */
function ruleErrors(log: string, limit: number): RuleError[] {
  const errors: RuleError[] = [];
  let reason = '';
  for (const line of log.split('\n')) {
    if (errors.length >= limit) break;
    const text = /^(?:\S+ - )?E(?:rror)?: (.*)$/.exec(line)?.[1];
    // The last line says only that there were errors.
    if (text === undefined || text === 'suricata: Loading signatures failed.') continue;
    // What follows from the line before says nothing more.
    if (reason !== '' && text.startsWith('detect-dataset: failed to set up dataset ')) continue;
    const place = /^detect: error parsing signature "(.*)" from file (.+) at line (\d+)$/.exec(text);
    if (place === null) {
      if (reason !== '') errors.push({ reason });
      reason = text.replace(/^detect[\w-]*: /, '');
    } else {
      const sid = /\bsid\s*:\s*(\d+)/.exec(place[1] ?? '')?.[1];
      errors.push({
        file: place[2] ?? '',
        line: Number(place[3]),
        ...(sid === undefined ? {} : { sid: Number(sid) }),
        reason: reason === '' ? 'not a rule of this version' : withHint(reason),
      });
      reason = '';
    }
  }
  if (reason !== '' && errors.length < limit) errors.push({ reason });
  return errors;
}

/** Suricata says of a category that there is not only that the option is wrong. */
function withHint(reason: string): string {
  return reason.endsWith(' is not a valid setting for iprep')
    ? `${reason}: is there such a category, in categories.txt beside the rules?`
    : reason;
}

/**
 * Lines like `Info: detect: Skipping signature due to missing requirements: … from file x.rules at line 5`, with the
 * reason in the line before.
 */
function skippedRules(log: string, limit: number): RuleError[] {
  const skipped: RuleError[] = [];
  let reason = 'its requirements are not met';
  for (const line of log.split('\n')) {
    if (skipped.length >= limit) break;
    const why = /^(?:\S+ - )?I(?:nfo)?: detect-requires: Suricata did not meet the rule requirements: (.*)$/.exec(
      line,
    )?.[1];
    if (why !== undefined) reason = why;
    const place = /^(?:\S+ - )?I(?:nfo)?: detect: Skipping signature .* from file (.+) at line (\d+)$/.exec(line);
    if (place !== null) skipped.push({ file: place[1] ?? '', line: Number(place[2]), reason });
  }
  return skipped;
}

function ruleWarnings(log: string, limit: number): string[] {
  const found = [...log.matchAll(/^(?:\S+ - )?W(?:arning)?: (.*)$/gm)].map((match) => match[1] ?? '');
  return [...new Set(found)].slice(0, limit);
}
