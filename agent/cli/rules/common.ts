/** What the subcommands of `dpi-agent rules` share: their flags, and the rules that there are. */
import type { Config } from '../../config/load.ts';
import type { EngineInstall, EngineName } from '../../engine/engine.ts';
import { findEngine } from '../../engine/find.ts';
import { findConfiguredSets, loadWithChanges, type ConfiguredSets, type EngineVersion } from '../../rulesets/open.ts';
import { SET_NAME, type RuleSet, type SeenRule } from '../../rulesets/sets.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { COMMON_FLAGS } from '../setup.ts';

const { config, engine, rules } = COMMON_FLAGS;
export const RULES_FLAGS = {
  config,
  engine,
  rules,
  'rule-sets': COMMON_FLAGS['rule-sets'],
  output: { alias: 'o', choices: ['table', 'json'], default: 'table', describe: 'json: for programs' },
} as const;

/** Flags of theirs that are no keys of the configuration. */
export const OWN = ['output'];

export const ENGINES: readonly EngineName[] = ['snort', 'suricata'];
/** Whose rules are shown where no engine is installed. */
export const SNORT: EngineVersion = { name: 'snort' };
export const TITLES = { snort: 'Snort', suricata: 'Suricata' } as const;

/** The name of a set that can be downloaded. @param where What it was given by. @throws CommandError */
export function setNamed(where: string, name: string): string {
  if (SET_NAME.test(name) && name !== 'custom') return name;
  const shown = JSON.stringify(stripControls(name));
  throw new CommandError(`${where}: ${shown}: expected a name of a-z, 0-9 and "-", not custom`);
}

/** The engine that would run; undefined where none is installed. */
export async function installedEngine({ engine: { type, binary } }: Config): Promise<EngineInstall | undefined> {
  const found = await findEngine(type, binary);
  return found.kind === 'found' ? found.install : undefined;
}

/** @throws CommandError that says what to install. */
export async function neededEngine({ engine: { type, binary } }: Config): Promise<EngineInstall> {
  const found = await findEngine(type, binary);
  if (found.kind === 'missing') throw new CommandError(`no engine: ${found.reason}`);
  return found.install;
}

export interface Survey {
  sets: ReadonlyMap<string, RuleSet>;
  /** Names of those that resources get that name none. */
  used: string[];
  loaded: ConfiguredSets;
  /** Every rule of every file of every set, in order. */
  seen: SeenRule[];
}

/** All rules of all sets, as the engine would get them. @throws CommandError */
export async function surveyRules(configuration: Config, whose: EngineVersion): Promise<Survey> {
  return failing(async () => {
    const { sets, used } = await findConfiguredSets(configuration, whose.name);
    const seen: SeenRule[] = [];
    const loaded = await loadWithChanges(configuration, whose, [...sets.values()], (rule) => seen.push(rule));
    return { sets, used, loaded, seen };
  });
}

/** Errors that say what is wrong with the input end the command, without a stack trace. */
export async function failing<T>(action: () => Promise<T>, exitCode: number = EXIT.usage): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof CommandError || !(error instanceof Error)) throw error;
    throw new CommandError(
      stripControls(error.message.replaceAll('\n', '\u0000')).replaceAll('\u0000', '\n'),
      exitCode,
    );
  }
}

/** One object on stdout. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`);
}
