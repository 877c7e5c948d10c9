/**
 * From settings to rules as an engine gets them: the sets that there are, the operator's changes, the translation, the
 * overrides. Read once, or followed by live.ts.
 *
 * Not promised: that an engine takes them. That is for the engine to say.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { EngineInstall, EngineName } from '../engine/engine.ts';
import type { GenerationOptions } from '../engine/generation.ts';
import type { EngineRules } from '../engine/rules.ts';
import { locate, SNORT_PLACES } from '../engine/find.ts';
import { installedVariables, snortVariables } from '../engine/snort/snort.ts';
import { suricataVariables } from '../engine/suricata/suricata.ts';
import { judgeRules } from '../engine/validate.ts';
import type { VariableValues } from '../rule-variables.ts';
import type { LiveHooks } from './candidate.ts';
import { readChanges } from './changes.ts';
import { whyDead } from './dead.ts';
import { openRules, type LiveRules } from './live.ts';
import { createModifier, type Modifier } from './modify.ts';
import { readOverrides } from './overrides.ts';
import { setOf, type RuleSource } from './sources.ts';
import {
  CUSTOM,
  defaultSets,
  findSets,
  loadSets,
  namedBy,
  stageSets,
  unknownSet,
  type LoadedSets,
  type RuleHooks,
  type RuleSet,
  type SetSources,
} from './sets.ts';
import { abilitiesOf } from './translate/abilities.ts';
import { translateRule } from './translate/translate.ts';

/** The keys of the configuration that say which rules there are, and what becomes of them. */
export interface RuleSettings {
  rulesDirectory: string;
  rules: readonly string[];
  ruleSets: readonly string[];
  ruleChanges: string;
  /** What rules name, as far as it is set. */
  variables: VariableValues;
  /** Whether they may run scripts that come with them. */
  rulesLua: boolean;
  engine: { extraConfig?: string | undefined; binary?: string | undefined };
  /** What brings sets that need not be there yet. */
  ruleSources: readonly Pick<RuleSource, 'name' | 'set'>[];
  /** Likewise, and which ones it brings is known only there. */
  ruleServer: { url?: string | undefined };
}

/** Likewise, for rules that follow their files; `variables` may be others at each look. */
export interface LiveSettings extends RuleSettings {
  rulesLeaveOut: boolean;
  /** Where the last good rules are kept. */
  stateDirectory: string;
  endpoints: readonly { ruleSets?: string[] | undefined }[];
  /** How long a change for which engines start anew waits for a quiet moment, in milliseconds. */
  rulesQuietWait: number;
  engine: RuleSettings['engine'] & Pick<GenerationOptions, 'output'> & { memoryLimit: number };
}

export interface ConfiguredSets extends LoadedSets {
  changes: Pick<Modifier, 'touched' | 'problems'>;
}

export function sourcesOf(settings: Pick<RuleSettings, 'rulesDirectory' | 'rules'>, engine: EngineName): SetSources {
  return { rulesDirectory: settings.rulesDirectory, paths: settings.rules, engine };
}

/**
 * All sets that there are, and the names of those that are used, but for those that their sources have yet to bring.
 * @throws Error that says which set there is not.
 */
export async function findConfiguredSets(
  settings: Pick<RuleSettings, 'rulesDirectory' | 'rules' | 'ruleSets' | 'ruleSources' | 'ruleServer'>,
  engine: EngineName,
): Promise<{ sets: Map<string, RuleSet>; used: string[] }> {
  const sets = await findSets(sourcesOf(settings, engine));
  const awaited = awaitedSets(settings);
  const used = defaultSets(settings.ruleSets, sets).filter((name) => sets.has(name) || !awaited.includes(name));
  for (const name of used) if (!sets.has(name)) throw new Error(`ruleSets: ${unknownSet(name, sets)}`);
  return { sets, used };
}

function awaitedSets({
  ruleSets,
  ruleSources,
  ruleServer,
}: Pick<RuleSettings, 'ruleSets' | 'ruleSources' | 'ruleServer'>): string[] {
  return [...ruleSources.map(setOf), ...(ruleServer.url === undefined ? [] : ruleSets)];
}

/** Sets of the operator's that are there, and that nothing of the configuration names. */
export function unusedSets(
  settings: Pick<LiveSettings, 'rulesDirectory' | 'ruleSets' | 'endpoints'>,
  sets: ReadonlyMap<string, RuleSet>,
): string[] {
  const named = new Set([
    ...settings.ruleSets,
    CUSTOM,
    ...settings.endpoints.flatMap(({ ruleSets }) => ruleSets ?? []),
  ]);
  const own = join(settings.rulesDirectory, '/');
  return [...sets.values()]
    .filter(({ name, files }) => !named.has(name) && files.some(({ path }) => path.startsWith(own)))
    .map(({ name }) => name);
}

/** Which engine rules are for; without a version, whichever it is. */
export type EngineVersion = Pick<EngineInstall, 'name'> & Partial<Pick<EngineInstall, 'version'>>;

type HookSettings = Pick<RuleSettings, 'variables' | 'rulesLua' | 'engine'>;

/**
 * What becomes of a rule on its way to the engine: the operator's changes, what it names, and then the translation.
 * `about`: what of the settings makes a difference to it.
 */
async function hooksOf(
  modifier: Modifier,
  { variables, rulesLua: allowScripts, engine: { extraConfig, binary } }: HookSettings,
  { name: engine, version }: EngineVersion,
): Promise<{ hooks: RuleHooks; about: unknown }> {
  const modify: RuleHooks['modify'] = (rules, set) => modifier.modify(rules, set);
  const overrides = (await readOverrides(extraConfig)) ?? '';
  if (engine === 'snort') {
    const path = await locate(binary ?? engine, SNORT_PLACES);
    const known = snortVariables(variables, path === undefined ? {} : await installedVariables(path));
    // What Lua makes of a name, only Snort knows.
    const isPlain = (header: string): boolean =>
      [...header.matchAll(/\$(\w+)/g)].every(([, name = '']) => !overrides.includes(name));
    const refuse: RuleHooks['refuse'] = ({ header }) => (isPlain(header) ? whyDead(header, known) : undefined);
    return { hooks: { modify, refuse }, about: [known, overrides] };
  }
  const known = suricataVariables(variables, overrides);
  const abilities = abilitiesOf(version);
  const refuse: RuleHooks['refuse'] = ({ header }) => whyDead(header, known);
  return {
    hooks: { modify, refuse, translate: (rule) => translateRule(rule, known, abilities), allowScripts },
    about: [known, allowScripts],
  };
}

/** Reads sets as the engine gets them, with the operator's changes. @throws Error that lists what is wrong there. */
export async function loadWithChanges(
  settings: Pick<RuleSettings, 'ruleChanges'> & HookSettings,
  engine: EngineVersion,
  sets: readonly RuleSet[],
  seen?: RuleHooks['seen'],
): Promise<ConfiguredSets> {
  const changes = createModifier(await readChanges(settings.ruleChanges));
  const { hooks: common } = await hooksOf(changes, settings, engine);
  const hooks = { ...common, ...(seen === undefined ? {} : { seen }) };
  return { ...(await loadSets(sets, engine.name, hooks)), changes };
}

/** @throws Error that says which set there is not, that there are no rules, or what is wrong with the changes. */
export async function loadConfiguredSets(
  settings: RuleSettings,
  engine: EngineVersion,
  seen?: RuleHooks['seen'],
): Promise<ConfiguredSets> {
  const { sets, used } = await findConfiguredSets(settings, engine.name);
  if (used.length === 0) throw new Error('no rules: name some with --rules or --rule-sets');
  return loadWithChanges(
    settings,
    engine,
    used.flatMap((name) => sets.get(name) ?? []),
    seen,
  );
}

/** Why there is nothing to inspect by; undefined where there are rules. */
export function noRules({ index, problems, refused, disabled }: LoadedSets): string | undefined {
  if (index.size > 0) return undefined;
  const [first] = [...refused, ...problems];
  if (first !== undefined) return `no rules: ${first.file}:${first.line}: ${first.reason}`;
  return disabled > 0
    ? `no rules: all ${disabled} of them are commented out or turned off`
    : 'no rules: the files have none';
}

/** What the operator should know of the changes: what could not be done, and lines that change nothing. */
export function changeWarnings({ changes }: ConfiguredSets, file: string): { line: string; reason: string }[] {
  return [
    ...changes.problems().map(({ line, reason }) => ({ line: `${file}:${line}`, reason })),
    ...changes
      .touched()
      .filter(({ rules }) => rules === 0)
      .map(({ line }) => ({ line: `${file}:${line}`, reason: 'changes no rule' })),
  ];
}

/** What an engine gets of rules that do not change. @throws Error that names an overrides file that can't be read. */
export async function engineRulesOf(
  settings: Pick<RuleSettings, 'variables' | 'engine'>,
  { index }: Pick<LoadedSets, 'index'>,
): Promise<EngineRules> {
  const defaults = [...new Set([...index.values()].flatMap((rule) => rule.sets))];
  const overrides = await readOverrides(settings.engine.extraConfig);
  return {
    files: stageSets(index, new Set(defaults)),
    ...namedBy(index, new Set(defaults)),
    defaults,
    policies: [],
    variables: settings.variables,
    ...(overrides === undefined ? {} : { overrides }),
  };
}

/**
 * Rules that follow their files.
 * @param version The agent's: another one may translate otherwise.
 * @throws Error when there are none that the engine takes, or a set or path does not exist.
 */
export async function openConfiguredRules(
  settings: LiveSettings,
  { install, driver, sandbox }: Pick<GenerationOptions, 'install' | 'driver' | 'sandbox'>,
  version: string,
  log: Logger,
): Promise<LiveRules> {
  const overridesFile = settings.engine.extraConfig;
  const engine = {
    laneDirectory: join(settings.stateDirectory, 'validate'),
    driver,
    install,
    sandbox: { ...sandbox, session: 'shared' },
    output: install.name === 'snort' ? settings.engine.output : 'json',
  } as const;
  await rm(engine.laneDirectory, { recursive: true, force: true });
  return openRules({
    sources: sourcesOf(settings, install.name),
    ruleSets: settings.ruleSets,
    alsoUsed: settings.endpoints.flatMap(({ ruleSets }) => ruleSets ?? []),
    variables: () => settings.variables,
    ...(overridesFile === undefined ? {} : { overridesFile }),
    leaveOut: settings.rulesLeaveOut,
    awaited: awaitedSets(settings),
    hooks: () => readLiveHooks(settings, install, version),
    directory: join(settings.stateDirectory, 'rules'),
    engine: `${install.name} ${install.version}`,
    memoryLimit: settings.engine.memoryLimit,
    quietMillis: settings.rulesQuietWait,
    validate: (rules) => judgeRules({ ...engine, engineRules: () => rules }),
    log,
  });
}

/** @throws Error that lists what is wrong with the changes. */
async function readLiveHooks(
  settings: Pick<RuleSettings, 'ruleChanges'> & HookSettings,
  engine: EngineVersion,
  version: string,
): Promise<LiveHooks> {
  const changes = await readChanges(settings.ruleChanges);
  const { hooks, about } = await hooksOf(createModifier(changes), settings, engine);
  return { hooks, hash: JSON.stringify([version, changes, about]), files: [settings.ruleChanges] };
}
