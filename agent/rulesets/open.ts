/**
 * From settings to rules as an engine gets them: the sets that there are, the operator's changes, the translation, the overrides. Reads
 * once; live.ts goes on from here for rules that follow their files.
 *
 * Not promised: that an engine takes them. That is for the engine to say.
 */
import type { EngineName } from '../engine/engine.ts';
import type { EngineRules } from '../engine/rules.ts';
import { SURICATA_VARIABLES } from '../engine/suricata/suricata.ts';
import type { LiveHooks } from './candidate.ts';
import { readChanges } from './changes.ts';
import { createModifier, type Modifier } from './modify.ts';
import { readOverrides } from './overrides.ts';
import {
  defaultSets,
  findSets,
  loadSets,
  stageSets,
  unknownSet,
  type LoadedSets,
  type RuleHooks,
  type RuleSet,
  type SetSources,
} from './sets.ts';
import { translateRule } from './translate/translate.ts';

/** The keys of the configuration that say which rules there are, and what becomes of them. */
export interface RuleSettings {
  rulesDirectory: string;
  rules: readonly string[];
  ruleSets: readonly string[];
  ruleChanges: string;
  engine: { extraConfig?: string | undefined };
}

export interface ConfiguredSets extends LoadedSets {
  changes: Pick<Modifier, 'touched' | 'problems'>;
}

export function sourcesOf(settings: Pick<RuleSettings, 'rulesDirectory' | 'rules'>, engine: EngineName): SetSources {
  return { rulesDirectory: settings.rulesDirectory, paths: settings.rules, engine };
}

/** All sets that there are, and the names of those that are used. @throws Error that says which set there is not. */
export async function findConfiguredSets(
  settings: Pick<RuleSettings, 'rulesDirectory' | 'rules' | 'ruleSets'>,
  engine: EngineName,
): Promise<{ sets: Map<string, RuleSet>; used: string[] }> {
  const sets = await findSets(sourcesOf(settings, engine));
  const used = defaultSets(settings.ruleSets, sets);
  for (const name of used) if (!sets.has(name)) throw new Error(`ruleSets: ${unknownSet(name, sets)}`);
  return { sets, used };
}

/** What becomes of a rule on its way to the engine: the operator's changes, and then the translation. */
function hooksOf(modifier: Modifier, engine: EngineName): RuleHooks {
  const hooks: RuleHooks = { modify: (rules, set) => modifier.modify(rules, set) };
  if (engine === 'suricata') hooks.translate = (rule) => translateRule(rule, SURICATA_VARIABLES);
  return hooks;
}

/**
 * The same, for rules that follow their files. @param version The agent's: another one may translate otherwise.
 * @throws Error that lists what is wrong with the changes.
 */
export async function readLiveHooks(file: string, engine: EngineName, version: string): Promise<LiveHooks> {
  const changes = await readChanges(file);
  const hooks = hooksOf(createModifier(changes), engine);
  return { hooks, hash: JSON.stringify([version, changes]), files: [file] };
}

/** Reads sets as the engine gets them, with the operator's changes. @throws Error that lists what is wrong with those. */
export async function loadWithChanges(
  settings: Pick<RuleSettings, 'ruleChanges'>,
  engine: EngineName,
  sets: readonly RuleSet[],
  seen?: RuleHooks['seen'],
): Promise<ConfiguredSets> {
  const changes = createModifier(await readChanges(settings.ruleChanges));
  const hooks = { ...hooksOf(changes, engine), ...(seen === undefined ? {} : { seen }) };
  return { ...(await loadSets(sets, engine, hooks)), changes };
}

/** @throws Error that says which set there is not, that there are no rules, or what is wrong with the changes. */
export async function loadConfiguredSets(settings: RuleSettings, engine: EngineName): Promise<ConfiguredSets> {
  const { sets, used } = await findConfiguredSets(settings, engine);
  if (used.length === 0) throw new Error('no rules: name some with --rules or --rule-sets');
  return loadWithChanges(
    settings,
    engine,
    used.flatMap((name) => sets.get(name) ?? []),
  );
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
  settings: Pick<RuleSettings, 'engine'>,
  { index }: Pick<LoadedSets, 'index'>,
): Promise<EngineRules> {
  const defaults = [...new Set([...index.values()].flatMap((rule) => rule.sets))];
  const overrides = await readOverrides(settings.engine.extraConfig);
  return {
    files: stageSets(index, new Set(defaults)),
    defaults,
    policies: [],
    ...(overrides === undefined ? {} : { overrides }),
  };
}
