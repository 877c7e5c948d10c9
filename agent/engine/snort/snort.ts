/** Snort 3: its configuration, its command line, and what it says. */
import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { replaceFile } from '../../files/replace.ts';
import {
  asExpression,
  DEFAULT_VARIABLES,
  expand,
  SNORT_HTTP_PORTS,
  withValues,
  type Variables,
  type VariableValues,
} from '../../rule-variables.ts';
import { COUNTERS_SECONDS, countAt, type CounterSource } from '../counters.ts';
import type { EngineCommand, EngineDriver, EngineInstall, GenerationInput, RuleError } from '../engine.ts';
import { createAlertJsonDecoder } from '../readers/alert-json.ts';
import { createUnified2Decoder } from '../readers/unified2.ts';
import { withHint } from './snort2.ts';

const run = promisify(execFile);

/** What its help may take. */
const HELP_MILLIS = 20_000;

/** Fields of alert_json that the decoder reads. */
const FIELDS =
  'timestamp seconds pkt_num vlan gid sid rev msg class priority proto src_addr src_port dst_addr dst_port ' +
  'icmp_type icmp_code service b64_data tcp_seq dir pkt_gen client_pkts client_bytes server_pkts server_bytes flowstart_time';

/** Alert files are rotated at this size, so that what was read can be deleted while Snort runs. */
const ALERT_FILE_MEGABYTES = 64;

/** Frames can be longer than this by their headers; Snort takes no larger snaplen. */
const SNAPLEN = 65_535;

/** Below this, compiling the patterns for hyperscan (seconds, with thousands of rules) takes longer than it saves. */
const WORTH_COMPILING_BYTES = 32 << 20;

/**
 * Of TLS, Snort has the packets' and records' numbers only: a client's hello stands for a flow. Of SSH it has no number
 * of flows, and QUIC it does not know.
 */
const PERF_MONITOR =
  `perf_monitor = { format = 'json', output = 'console', seconds = ${COUNTERS_SECONDS}, packets = 0, ` +
  `modules = { { name = 'daq', pegs = 'analyzed' }, { name = 'ssl', pegs = 'client_hello' } } }`;

/**
 * A list of objects that ends with the engine, on one line: `[{"timestamp":1,"daq":{"analyzed":2}},{"timestamp":…`;
 * what is 0 is left out.
 */
const COUNTERS: CounterSource = {
  from: 'output',
  report: /[[,]\{"timestamp":\d+(?:,"[a-z]+":\{[^{}]*\})*\}/g,
  openings: ['[{"timestamp":', ',{"timestamp":'],
  read(report) {
    let counts: unknown;
    try {
      counts = JSON.parse(report.slice(1));
    } catch {
      return undefined;
    }
    return { analysed: countAt(counts, 'daq', 'analyzed'), encrypted: { tls: countAt(counts, 'ssl', 'client_hello') } };
  },
};

/**
 * What a flow with an unfinished HTTP request takes, measured at 5.7 KB, and something for what waits for reassembly.
 * Snort's own limit, 476,288 flows, lets it take 3 GB.
 */
const FLOW_BYTES = 8 << 10;

export interface SnortSettings {
  /** Bytes that Snort shall take at most; default: Snort's own bounds. */
  memoryLimit?: number;
  /** `auto`: the fastest that this build has, and Snort's default for small inputs. */
  searchMethod: string;
  arguments: string[];
}

export function createSnortDriver(settings: SnortSettings): EngineDriver {
  let keeps: Promise<boolean> | undefined;
  const keepsPatterns = (binary: string): Promise<boolean> => (keeps ??= canKeepPatterns(binary));

  async function writeConfig(install: EngineInstall, input: GenerationInput): Promise<string> {
    for (const { id, ruleFiles } of input.policies) {
      await writeFile(policyFile(input, id), policyLua(install, input, id, ruleFiles));
    }
    const path = join(input.configDirectory, 'snort.lua');
    const { patternsDirectory } = input;
    const patterns =
      patternsDirectory !== undefined && (await keepsPatterns(install.binary)) ? patternsDirectory : undefined;
    // In one step: an engine that reloads by itself never sees a part of it.
    await replaceFile(path, snortLua(install, input, settings, patterns), 0o644);
    return path;
  }

  return {
    name: 'snort',
    async prepare(install, input): Promise<EngineCommand> {
      const config = await writeConfig(install, input);
      const json = input.output === 'json';
      return {
        arguments: [
          ...common(install, config),
          '-r',
          input.fifo,
          '-l',
          input.outputDirectory,
          '-s',
          String(SNAPLEN),
          // UTC and the year in time stamps.
          '-U',
          '-y',
          // Live, a full batch of the default size could take for ever to come.
          ...(input.mode === 'live' ? ['--daq-batch-size', '1'] : []),
          ...settings.arguments,
        ],
        alertFile: json ? 'alert_json.txt' : 'unified2.log',
        stamped: !json,
        createDecoder: json ? createAlertJsonDecoder : createUnified2Decoder,
        ...(input.mode === 'live' ? { counters: COUNTERS } : {}),
      };
    },
    async reload(install, _before, input, kill) {
      await writeConfig(install, input);
      kill('SIGHUP');
    },
    async validateArguments(install, input) {
      const config = await writeConfig(install, input);
      return [...common(install, config), '-T', ...settings.arguments];
    },
    ruleErrors,
    ruleWarnings: (log, limit) => [...log.matchAll(/^WARNING: (.*)$/gm)].map((match) => match[1] ?? '').slice(0, limit),
    analysedPackets: (log) => lastNumber(log, /^[ \t]*analyzed:\s*(\d+)/gm),
  };
}

/** Whether this Snort writes what it compiled of patterns where it reads it; earlier ones read it only, or can't. */
async function canKeepPatterns(binary: string): Promise<boolean> {
  try {
    const { stdout } = await run(binary, ['--help-config', 'search_engine'], { timeout: HELP_MILLIS });
    return /\brule_db_dir: .*\bwriting\b/.test(stdout);
  } catch {
    return false;
  }
}

/** Only hyperscan's patterns can be kept. */
function searchEngine(method: string, patterns: string | undefined): string {
  const kept = patterns === undefined || method !== 'hyperscan' ? '' : `, rule_db_dir = ${quote(patterns)}`;
  return `search_engine = { search_method = ${quote(method)}${kept} }`;
}

function common(install: EngineInstall, config: string): string[] {
  const modules = join(prefix(install.binary), 'lib', 'daq');
  return ['-c', config, ...(existsSync(modules) ? ['--daq-dir', modules] : [])];
}

/** Where Snort is installed: its executable may be linked to from elsewhere. */
function prefix(binary: string): string {
  return resolve(dirname(realpathSync(binary)), '..');
}

function snortLua(
  install: EngineInstall,
  input: GenerationInput,
  settings: SnortSettings,
  patterns: string | undefined,
): string {
  const isSmall = input.expectedBytes !== undefined && input.expectedBytes < WORTH_COMPILING_BYTES;
  const fastest = isSmall ? undefined : install.searchMethods[0];
  const method = settings.searchMethod === 'auto' ? fastest : settings.searchMethod;
  const installed = installedConfig(install.binary);
  const lines = [
    '-- Written by dpi-agent for one generation of the engine; changes are lost.',
    `include ${quote(installed)}`,
    // Checksums of packets that never left the machine are not filled in.
    `network = { checksum_eval = 'none' }`,
    ...(method === undefined ? [] : [searchEngine(method, patterns)]),
    ...(settings.memoryLimit === undefined ? [] : memoryBounds(settings.memoryLimit)),
    ...variablesLua(input.variables),
    `ips = { variables = default_variables, enable_builtin_rules = false, rules = [[`,
    ...[...input.ruleFiles, ...(input.canaryFile === undefined ? [] : [input.canaryFile])].map(
      (file) => `include ${file}`,
    ),
    `]] }`,
    input.output === 'json'
      ? `alert_json = { file = true, limit = ${ALERT_FILE_MEGABYTES}, fields = ${quote(FIELDS)} }`
      : // Time-stamped names: with one name a restart would truncate alerts that nobody has read.
        `unified2 = { limit = ${ALERT_FILE_MEGABYTES}, nostamp = false, legacy_events = false }`,
    ...(input.mode === 'live' ? [PERF_MONITOR] : []),
    ...(input.overridesFile === undefined ? [] : [`include ${quote(input.overridesFile)}`]),
    // Behind the overrides, which may have a binder of their own.
    ...(input.policies.length === 0 ? [] : ['binder = binder or {}']),
    ...input.policies.map(
      ({ id, vlans }) =>
        `table.insert(binder, 1, { when = { vlans = ${quote(vlans.join(' '))} }, use = { ips_policy = ${quote(policyFile(input, id))} } })`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}

const policyFile = (input: GenerationInput, id: number): string => join(input.rulesDirectory, `policy-${id}.lua`);

/** A policy sees no variable of the main configuration. */
function policyLua(
  install: EngineInstall,
  { variables }: GenerationInput,
  id: number,
  ruleFiles: readonly string[],
): string {
  const defaults = join(dirname(installedConfig(install.binary)), 'snort_defaults.lua');
  return [
    `include ${quote(defaults)}`,
    ...variablesLua(variables),
    `ips = { id = ${id}, variables = default_variables, enable_builtin_rules = false, rules = [[`,
    ...ruleFiles.map((file) => `include ${file}`),
    `]] }\n`,
  ].join('\n');
}

/** What rules name, by what is set. @param installed As `installedVariables` gives it. */
export function snortVariables(values: VariableValues, installed: VariableValues = {}): Variables {
  const { addresses, ports } = DEFAULT_VARIABLES;
  const defaults = { addresses, ports: { ...ports, HTTP_PORTS: SNORT_HTTP_PORTS } };
  return withValues(withValues(defaults, installed), values);
}

/** What the installation's own configuration sets, as far as that is plain text. */
export async function installedVariables(binary: string): Promise<VariableValues> {
  try {
    const config = installedConfig(binary);
    const files = [config, join(dirname(config), 'snort_defaults.lua')];
    const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
    return Object.assign({}, ...texts.map(luaTexts)) as VariableValues;
  } catch {
    // Snort says why it does not start.
    return {};
  }
}

/** Names that are set to a text, as an expression. */
function luaTexts(lua: string): VariableValues {
  const found = lua.matchAll(
    /^[ \t]*([A-Za-z_]\w{0,63})[ \t]*=\s*(?:'([^'\n]*)'|"([^"\n]*)"|\[\[([^\]]*)\]\])[ \t]*,?[ \t]*(?:--.*)?$/gm,
  );
  return Object.fromEntries(
    [...found].map(([, name = '', ...texts]) => [name, asExpression(texts.find((text) => text !== undefined)) ?? '']),
  );
}

/**
 * What is set, and what follows from it, in place of what the installation has; of the rest only what it does not have.
 * Without variables within values: in which order Snort takes them is not known.
 */
function variablesLua(values: VariableValues = {}): string[] {
  const variables = snortVariables(values);
  const depends = (value: string): boolean =>
    [...value.matchAll(/\$(\w+)/g)].some(([, name = '']) => isSet(name, allOf(variables)[name] ?? ''));
  const isSet = (name: string, value: string): boolean => Object.hasOwn(values, name) || depends(value);
  const lines = (['addresses', 'ports'] as const).flatMap((kind) => {
    const table = `default_variables.${kind === 'addresses' ? 'nets' : 'ports'}`;
    return Object.entries(variables[kind]).map(([name, value]) => {
      const place = `${table}.${name}`;
      if (isSet(name, value)) return `${place} = ${quote(expand(value, variables[kind]))}`;
      const other = /^\$(\w+)$/.exec(value)?.[1];
      const fallback = other === undefined ? quote(expand(value, variables[kind])) : `${table}.${other}`;
      return `${place} = ${place} or ${fallback}`;
    });
  });
  return ['default_variables = default_variables or { nets = {}, ports = {} }', ...lines];
}

const allOf = ({ addresses, ports }: Variables): VariableValues => ({ ...addresses, ...ports });

/** Three eighths are left to rules and pattern matcher. */
function memoryBounds(limit: number): string[] {
  const tables = Math.floor(limit * (5 / 8));
  return [
    `stream = { max_flows = ${Math.floor(tables / FLOW_BYTES)} }`,
    // What one flow may hold back, for each direction; 4 MB by default.
    `stream_tcp = { queue_limit = { max_bytes = ${Math.min(4 << 20, Math.max(256 << 10, Math.floor(tables / 512)))} } }`,
    // Of the whole process; has an effect only in builds with jemalloc.
    `memory = { cap = ${limit} }`,
  ];
}

/** The configuration that came with this Snort. @throws Error when it is not where Snort installs it. */
function installedConfig(binary: string): string {
  const places = [join(prefix(binary), 'etc', 'snort', 'snort.lua'), '/etc/snort/snort.lua'];
  const config = places.find((path) => existsSync(path));
  if (config === undefined) {
    throw new Error(`Snort's own snort.lua was not found (looked at ${places.join(', ')}): reinstall Snort 3`);
  }
  return config;
}

function quote(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&').replaceAll('\n', '\\n')}'`;
}

/** Lines like `ERROR: /path/x.rules:12 unknown rule keyword: foo.` */
function ruleErrors(log: string, limit: number): RuleError[] {
  const errors: RuleError[] = [];
  for (const match of log.matchAll(/^(?:ERROR|FATAL): (.*)$/gm)) {
    if (errors.length >= limit) break;
    const text = match[1] ?? '';
    // The count of those above.
    if (/^see prior \d+ errors/.test(text)) continue;
    const place = /^([^:]+):(\d+):? (.*)$/.exec(text);
    if (place === null) errors.push({ reason: text });
    else errors.push(errorOf(place[1] ?? '', Number(place[2]), place[3] ?? ''));
  }
  return errors;
}

/** Behind a rule that it can't read to its end, Snort takes parts of the next one for rules. */
const LOST = /^(?:syntax error|unknown rule action|incomplete rule)/;

function errorOf(file: string, line: number, text: string): RuleError {
  const reason = withHint(text);
  return LOST.test(text) ? { file, line, reason, follows: true } : { file, line, reason };
}

function lastNumber(text: string, pattern: RegExp): number | undefined {
  const last = [...text.matchAll(pattern)].at(-1)?.[1];
  return last === undefined ? undefined : Number(last);
}
