/** What every command that inspects has to put together first: configuration, engine, rights, rules. */
import { realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { loadConfig, type Config, type ConfigSources } from '../config/load.ts';
import type { EngineDriver, EngineInstall } from '../engine/engine.ts';
import { findEngine } from '../engine/find.ts';
import { planSandbox, type Sandbox } from '../engine/sandbox.ts';
import { createSnortDriver } from '../engine/snort/snort.ts';
import { createSuricataDriver } from '../engine/suricata/suricata.ts';
import { messageOf } from '../files/errors.ts';
import { loadNativeMeanwhile } from '../native.ts';
import { loadVocabulary, type RuleVocabulary } from '../rulesets/classes.ts';
import type { EngineRules } from '../engine/rules.ts';
import type { LiveRules } from '../rulesets/live.ts';
import {
  changeWarnings,
  engineRulesOf,
  loadConfiguredSets,
  type EngineVersion,
  noRules,
  openConfiguredRules,
  type ConfiguredSets,
} from '../rulesets/open.ts';
import { asksForPods, withNetworks } from '../rule-variables.ts';
import type { RuleIndex } from '../rulesets/sets.ts';
import type { ApiClient, Diagnosable } from '../kube/api.ts';
import { CommandError } from './exit.ts';
import { version } from './version.ts';

/** Flags that are keys of the configuration, under the names that are quick to type. */
export const COMMON_FLAGS = {
  config: { alias: 'c', type: 'string', describe: 'Configuration file (YAML)', normalize: true },
  engine: {
    alias: 'e',
    choices: ['auto', 'snort', 'suricata'],
    describe: 'Inspection engine; auto takes Snort 3 where it is installed',
  },
  rules: {
    alias: 'r',
    type: 'string',
    array: true,
    nargs: 1,
    describe: 'Rule file or folder, for the set custom (repeatable)',
  },
  'rule-sets': {
    type: 'string',
    describe: 'Rule sets to load, separated by commas; custom is added where there is one',
  },
  'log-level': {
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal'],
    describe: 'Least level of the log (stderr)',
  },
} as const;

/** Flags of the commands that talk to an API server. */
export const CLUSTER_FLAGS = {
  kubeconfig: {
    type: 'string',
    describe: "File with the API server's address and credentials; default: the pod's, else as kubectl finds them",
  },
  context: { type: 'string', describe: "The kubeconfig's context; default: its current one" },
} as const;

/** @param describe What the command does with them. */
export function interfaceFlag(describe: string) {
  return { alias: 'i', type: 'string', array: true, nargs: 1, describe: `${describe} (repeatable)` } as const;
}

/** Of each kind; `dpi-agent check` lists them all. */
const MAX_RULE_WARNINGS = 5;

export const place = ({ file, line }: { file: string; line: number }): string => `${file}:${line}`;

/** Names of flags that are not keys of the configuration, or are keys under another name. */
const RENAMED: Record<string, string> = {
  engine: 'engine.type',
  kubeconfig: 'kubernetes.kubeconfig',
  context: 'kubernetes.context',
};

/** The sources of a command's configuration. `own`: flags that are not keys of it. */
export function configSources(argv: Record<string, unknown>, own: readonly string[]): ConfigSources {
  const flags: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(argv)) {
    if (value === undefined || name === '_' || name === '$0' || name === 'config' || own.includes(name)) continue;
    // yargs adds a camel-case twin of each name with dashes, and one letter for each alias.
    if (name.length === 1 || name.includes('-')) continue;
    flags[RENAMED[name] ?? name] = value;
  }
  return { ...(typeof argv['config'] === 'string' ? { file: argv['config'] } : {}), env: process.env, flags };
}

/** @throws CommandError that lists every error. */
export function readConfig(argv: Record<string, unknown>, own: readonly string[]): Config {
  return unlessWrong(loadConfig(configSources(argv, own)));
}

/** @throws CommandError that lists every error. */
export function unlessWrong(loaded: ReturnType<typeof loadConfig>): Config {
  if ('errors' in loaded) throw new CommandError(loaded.errors.map((error) => error.message).join('\n'));
  return loaded.config;
}

/** Whether resources and pods of a cluster are followed. In a pod the environment names the API server. */
export function followsCluster({ kubernetes: { follow, kubeconfig } }: Config): boolean {
  if (follow !== 'auto') return follow === 'on';
  return kubeconfig !== undefined || process.env['KUBERNETES_SERVICE_HOST'] !== undefined;
}

/** Where the agent of this configuration answers `dpi-agent status`. */
export function socketOf({ http, stateDirectory }: Pick<Config, 'http' | 'stateDirectory'>): string {
  return resolve(http.socket ?? join(stateDirectory, 'agent.sock'));
}

/** Loaded only where it is used. @throws CommandError when there are no credentials. */
export async function connect(config: Config): Promise<ApiClient & Diagnosable> {
  const { createClient } = await import('../kube/client.ts');
  const { kubeconfig, context } = config.kubernetes;
  try {
    return await createClient({
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    });
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

const NETWORKS_MILLIS = 10_000;

/** With the networks of the cluster where variables ask for them. @throws CommandError where it can't be asked. */
export async function withClusterNetworks(config: Config): Promise<Config> {
  if (!asksForPods(config.variables)) return config;
  const client = await connectForPods(config);
  const { readClusterNetworks } = await import('../kube/cluster-networks.ts');
  const signal = AbortSignal.timeout(NETWORKS_MILLIS);
  try {
    const { networks } = await readClusterNetworks(client, signal);
    return { ...config, variables: withNetworks(config.variables, networks) };
  } catch (error) {
    throw new CommandError(`variables: pods: ${messageOf(error)}`);
  }
}

async function connectForPods(config: Config): Promise<ApiClient> {
  if (followsCluster(config)) return connect(config);
  throw new CommandError(
    'variables: pods: there is no cluster to ask: name one with --kubeconfig, or addresses with --variables.HOME_NET',
  );
}

export function createDriver(config: Config, install: EngineInstall): EngineDriver {
  const { searchMethod, memoryLimit, arguments: args } = config.engine;
  const allowScripts = config.rulesLua;
  return install.name === 'snort'
    ? createSnortDriver({ searchMethod, memoryLimit, arguments: args })
    : createSuricataDriver({ memoryLimit, allowScripts, arguments: args });
}

export interface Inspection {
  install: EngineInstall;
  driver: EngineDriver;
  sandbox: Sandbox;
  vocabulary: RuleVocabulary;
}

/** Where the engine's own reference.config and classification.config are, if anywhere. */
export function engineFolder({ name, binary }: EngineInstall): string {
  return name === 'suricata' ? '/etc/suricata' : join(dirname(realpathSync(binary)), '..', 'etc', 'snort');
}

/** @throws CommandError when there is no engine, or the engine's user can't be had. */
export async function prepareInspection(config: Config, log: Logger): Promise<Inspection> {
  // Each starts programs that take some 50 ms.
  const planned = planSandbox(String(config.engine.user), config.engine.isolateNetwork);
  planned.catch(() => undefined);
  void loadNativeMeanwhile();
  const engine = await findEngine(config.engine.type, config.engine.binary);
  if (engine.kind === 'missing') throw new CommandError(`no engine: ${engine.reason}`);
  const { install, why } = engine;
  log.info({ engine: install.name, version: install.version, binary: install.binary, why }, 'engine');
  try {
    const sandbox = await planned;
    if (sandbox.missing.length > 0)
      log.warn({ missing: sandbox.missing }, 'the engine runs with more rights than it needs');
    const vocabulary = loadVocabulary(engineFolder(install), [config.rulesDirectory]);
    return { install, driver: createDriver(config, install), sandbox, vocabulary };
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

/** The rules of a command that does not follow their files; it logs what is wrong with them. @throws CommandError */
export async function loadRulesOnce(
  config: Config,
  engine: EngineVersion,
  log: Logger,
): Promise<{ index: RuleIndex; engineRules: EngineRules }> {
  try {
    const loaded = await loadConfiguredSets(config, engine);
    logProblems(loaded, config.ruleChanges, log);
    const nothing = noRules(loaded);
    if (nothing !== undefined) throw new Error(nothing);
    const engineRules = await engineRulesOf(config, loaded);
    log.info({ rules: loaded.index.size, refused: loaded.refused.length, sets: engineRules.defaults }, 'rules');
    return { index: loaded.index, engineRules };
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

function logProblems(loaded: ConfiguredSets, changesFile: string, log: Logger): void {
  const { problems, duplicates, refused } = loaded;
  for (const { file, line, reason } of problems.slice(0, MAX_RULE_WARNINGS)) log.warn({ file, line, reason }, 'rule');
  for (const { sid, kept, dropped } of duplicates.slice(0, MAX_RULE_WARNINGS)) {
    log.warn({ sid, kept: place(kept), dropped: place(dropped) }, 'rule stands twice');
  }
  for (const warning of changeWarnings(loaded, changesFile).slice(0, MAX_RULE_WARNINGS)) {
    log.warn(warning, 'change of rules');
  }
  for (const { sid, file, line, reason } of refused.slice(0, MAX_RULE_WARNINGS))
    log.warn({ sid, file, line, reason }, 'rule is left out');
}

/**
 * Rules that follow their files.
 * @throws CommandError when there are none that the engine takes, or a set or path does not exist.
 */
export async function openLiveRules(config: Config, inspection: Inspection, log: Logger): Promise<LiveRules> {
  try {
    return await openConfiguredRules(config, inspection, version(), log);
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}
