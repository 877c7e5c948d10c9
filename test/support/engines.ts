/**
 * The real engines for tests: found if installed, run over a capture file with a configuration of their own.
 *
 * A test for an engine that is missing is skipped with one line that says so; it never fails for that.
 */
import { describe } from '@jest/globals';
import { execFile, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Alert } from '../../agent/engine/alert.ts';
import type { EngineDriver, EngineName, GenerationInput, RuleError } from '../../agent/engine/engine.ts';
import { createSnortDriver } from '../../agent/engine/snort/snort.ts';
import { createSuricataDriver } from '../../agent/engine/suricata/suricata.ts';

export interface TestEngine {
  name: EngineName;
  /** Absolute path of the executable. */
  binary: string;
  /** Suricata's, as it prints it. */
  version?: string;
  /** Snort: where the DAQ modules are when they lie beside the executable. */
  daqDirectory?: string;
}

export interface EngineAlert {
  gid: number;
  sid: number;
  rev: number;
  message: string;
  source: string;
  sourcePort?: number;
  destination: string;
  destinationPort?: number;
}

const TITLES = { snort: 'Snort 3', suricata: 'Suricata' } as const;
const FOLDERS = ['/usr/local/bin', '/usr/local/snort/bin', '/opt/snort/bin'];

/**
 * The engine that `$DPI_AGENT_TEST_SNORT` (`_SURICATA`) names, or the first of the right version on PATH and in the
 * usual folders.
 */
export function findTestEngine(name: EngineName): TestEngine | undefined {
  for (const candidate of candidates(name)) {
    if (!isExecutable(candidate)) continue;
    const version = spawnSync(candidate, ['-V'], { encoding: 'utf8', timeout: 120_000 });
    if (name === 'snort' && !/Version 3\./.test(`${version.stdout}${version.stderr}`)) continue;
    const daqDirectory = resolve(dirname(realpathSync(candidate)), '../lib/daq');
    const printed = /Suricata version (\S+)/.exec(version.stdout)?.[1];
    const known = printed === undefined ? {} : { version: printed };
    return {
      name,
      binary: candidate,
      ...known,
      ...(name === 'snort' && existsSync(daqDirectory) ? { daqDirectory } : {}),
    };
  }
  return undefined;
}

/** `describe` with the engine, or `describe.skip` and a line on stderr. `body` only declares tests and hooks. */
export function describeEngine(name: EngineName, body: (engine: TestEngine) => void): void {
  const engine = findTestEngine(name);
  if (engine) {
    describe(TITLES[name], () => body(engine));
    return;
  }
  process.stderr.write(`skipped: ${TITLES[name]} is not installed (looked at ${candidates(name).join(', ')})\n`);
  describe.skip(TITLES[name], () => body({ name, binary: '' }));
}

/**
 * Runs the engine once over a capture file and returns its alerts in the order it wrote them.
 *
 * @param more Further arguments of the engine, last.
 */
export async function runEngineOnPcap(
  engine: TestEngine,
  pcapPath: string,
  ruleFiles: string[],
  more: string[] = [],
): Promise<EngineAlert[]> {
  const folder = await mkdtemp(join(tmpdir(), 'dpi-agent-engine-'));
  try {
    return engine.name === 'snort'
      ? await runSnort(engine, pcapPath, ruleFiles, folder, more)
      : await runSuricata(engine, pcapPath, ruleFiles, folder, more);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs the engine as the agent does for a replay, with its configuration, and reads its alerts as the agent does. */
export async function replayWithDriver(engine: TestEngine, pcapPath: string, ruleFiles: string[]): Promise<Alert[]> {
  const folder = await mkdtemp(join(tmpdir(), 'dpi-agent-engine-'));
  try {
    const install = { name: engine.name, binary: engine.binary, version: '', searchMethods: [] };
    const input = replayInput(folder, pcapPath, ruleFiles);
    const command = await testDriver(engine).prepare(install, input);
    await run(engine.binary, command.arguments);
    const names = (await readdir(folder)).filter((name) => name.startsWith(command.alertFile)).toSorted();
    const decoder = command.createDecoder();
    const decoded = [];
    for (const name of names) decoded.push(...decoder.push(await readFile(join(folder, name))));
    return [...decoded, ...decoder.end()].map((item) => {
      if (item.kind === 'alert') return item.alert;
      throw new Error(`an alert that is not read: ${item.reason}`);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What the engine refuses of rules, with the agent's configuration. */
export async function refusedRules(engine: TestEngine, ruleFiles: string[]): Promise<RuleError[]> {
  const folder = await mkdtemp(join(tmpdir(), 'dpi-agent-engine-'));
  try {
    const install = { name: engine.name, binary: engine.binary, version: '', searchMethods: [] };
    const driver = testDriver(engine);
    const args = await driver.validateArguments(install, replayInput(folder, '', ruleFiles));
    const { stdout, stderr } = spawnSync(engine.binary, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
    return driver.ruleErrors(`${stdout}${stderr}`, 1000);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function replayInput(folder: string, fifo: string, ruleFiles: string[]): GenerationInput {
  const directories = { configDirectory: folder, rulesDirectory: folder, outputDirectory: folder };
  return { mode: 'replay', fifo, ...directories, ruleFiles, policies: [], output: 'json' };
}

function testDriver(engine: TestEngine): EngineDriver {
  const settings = { arguments: [] };
  return engine.name === 'snort'
    ? createSnortDriver({ ...settings, searchMethod: 'auto' })
    : createSuricataDriver(settings);
}

async function runSnort(engine: TestEngine, pcapPath: string, ruleFiles: string[], folder: string, more: string[]) {
  const configuration = snortConfiguration(engine.binary);
  const rules = join(folder, 'all.rules');
  await writeFile(rules, ruleFiles.map((file) => `include ${resolve(file)}\n`).join(''));
  const fields = 'gid sid rev msg src_addr src_port dst_addr dst_port';
  const overrides = `network = { checksum_eval = 'none' } alert_json = { file = true, fields = '${fields}' }`;
  await run(engine.binary, [
    ...(engine.daqDirectory === undefined ? [] : ['--daq-dir', engine.daqDirectory]),
    '-q',
    '-c',
    configuration,
    '-R',
    rules,
    '--lua',
    overrides,
    '-r',
    pcapPath,
    '-s',
    '65535',
    '-k',
    'none',
    '-l',
    folder,
    ...more,
  ]);
  return (await jsonLines(join(folder, 'alert_json.txt'))).map((row) => ({
    gid: Number(row['gid']),
    sid: Number(row['sid']),
    rev: Number(row['rev']),
    message: String(row['msg']),
    source: String(row['src_addr']),
    destination: String(row['dst_addr']),
    ...ports(row['src_port'], row['dst_port']),
  }));
}

async function runSuricata(engine: TestEngine, pcapPath: string, ruleFiles: string[], folder: string, more: string[]) {
  const configuration = join(folder, 'suricata.yaml');
  await writeFile(configuration, suricataConfiguration(ruleFiles.map((file) => resolve(file))));
  await run(engine.binary, [
    '-c',
    configuration,
    '-r',
    pcapPath,
    '-l',
    folder,
    '-k',
    'none',
    '--runmode',
    'single',
    '--init-errors-fatal',
    ...more,
  ]);
  const rows = await jsonLines(join(folder, 'eve.json'));
  return rows.flatMap((row): EngineAlert[] => {
    const alert = row['alert'];
    if (!isRecord(alert)) return [];
    return [
      {
        gid: Number(alert['gid']),
        sid: Number(alert['signature_id']),
        rev: Number(alert['rev']),
        message: String(alert['signature']),
        source: String(row['src_ip']),
        destination: String(row['dest_ip']),
        ...ports(row['src_port'], row['dest_port']),
      },
    ];
  });
}

function suricataConfiguration(ruleFiles: string[]): string {
  const protocols = ['http', 'http2', 'tls', 'ssh', 'smtp', 'ftp', 'redis'].map(
    (name) => `    ${name}: { enabled: yes }`,
  );
  return `%YAML 1.1
---
vars:
  address-groups: { HOME_NET: any, EXTERNAL_NET: any, HTTP_SERVERS: any, DNS_SERVERS: any, SQL_SERVERS: any }
  port-groups: { HTTP_PORTS: '80', SSH_PORTS: '22', SHELLCODE_PORTS: '!80', ORACLE_PORTS: '1521' }
outputs:
  - eve-log: { enabled: yes, filetype: regular, filename: eve.json, types: [{ alert: {} }] }
stats: { enabled: no }
stream: { checksum-validation: no }
app-layer:
  protocols:
${protocols.join('\n')}
    dns: { tcp: { enabled: yes, detection-ports: { dp: 53 } }, udp: { enabled: yes, detection-ports: { dp: 53 } } }
classification-file: /etc/suricata/classification.config
reference-config-file: /etc/suricata/reference.config
default-rule-path: /
rule-files: ${JSON.stringify(ruleFiles)}
`;
}

function snortConfiguration(binary: string): string {
  const prefix = resolve(dirname(realpathSync(binary)), '..');
  const places = [join(prefix, 'etc/snort/snort.lua'), '/etc/snort/snort.lua'];
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw new Error(`no snort.lua for ${binary} (looked at ${places.join(', ')})`);
  return found;
}

/**
 * Both engines return 0 with alerts and without, and another code for a rule that they can't load; that is an error
 * with the end of what they printed.
 */
async function run(binary: string, args: string[]): Promise<void> {
  try {
    await promisify(execFile)(binary, args, { maxBuffer: 64 * 1024 * 1024, timeout: 600_000 });
  } catch (error) {
    const { stdout = '', stderr = '' } = isRecord(error) ? error : {};
    throw new Error(`${binary} failed: ${`${String(stdout)}${String(stderr)}`.slice(-8192)}`, { cause: error });
  }
}

async function jsonLines(path: string): Promise<Record<string, unknown>[]> {
  if (!existsSync(path)) return [];
  const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line.trim() !== '');
  return lines.map((line) => {
    const row: unknown = JSON.parse(line);
    if (!isRecord(row)) throw new TypeError(`${path} has a line that is no object: ${line}`);
    return row;
  });
}

function ports(source: unknown, destination: unknown) {
  return {
    ...(source === undefined ? {} : { sourcePort: Number(source) }),
    ...(destination === undefined ? {} : { destinationPort: Number(destination) }),
  };
}

function candidates(name: EngineName): string[] {
  const named = process.env[`DPI_AGENT_TEST_${name.toUpperCase()}`];
  if (named !== undefined && named !== '') return [resolve(named)];
  const path = (process.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/'));
  return [...new Set([...path, ...FOLDERS])].map((folder) => join(folder, name));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
