/** What of the rule sets that are there the configuration loads, and how it is told to load more. */
import { readFile, realpath, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Config } from '../../config/load.ts';
import { EditError, withRuleSets } from '../../config/edit.ts';
import type { EngineName } from '../../engine/engine.ts';
import { errorCode, messageOf } from '../../files/errors.ts';
import { replaceFile } from '../../files/replace.ts';
import { sourcesOf, unusedSets } from '../../rulesets/open.ts';
import { defaultSets, findSets, type RuleSet } from '../../rulesets/sets.ts';
import { CommandError, EXIT } from '../exit.ts';
import { followsCluster } from '../setup.ts';

export interface SetUse {
  /** Sets that are loaded for whoever names none. */
  loaded: string[];
  notUsed: string[];
}

/** @throws CommandError that names what can't be read. */
export async function useOfSets(config: Config, engine: EngineName): Promise<SetUse> {
  const sets = await findSets(sourcesOf(config, engine)).catch((error: unknown) => {
    throw new CommandError(messageOf(error));
  });
  return useOf(config, sets);
}

export function useOf(config: Config, sets: ReadonlyMap<string, RuleSet>): SetUse {
  return {
    loaded: defaultSets(config.ruleSets, sets).filter((name) => sets.has(name)),
    notUsed: unusedSets(config, sets),
  };
}

/** In a cluster, resources that come later may name them. */
export async function logUnusedSets(config: Config, engine: EngineName, log: Logger): Promise<void> {
  const { loaded, notUsed } = await useOfSets(config, engine);
  if (notUsed.length === 0) return;
  const message = 'rule sets are there that ruleSets does not name: resources get them that name them, and no others';
  log[followsCluster(config) ? 'info' : 'warn']({ notUsed, ruleSets: loaded }, message);
}

/** For people. @param file The configuration, where one was named. */
export function useLines({ loaded, notUsed }: SetUse, file: string | undefined): string[] {
  const place = file === undefined ? 'the configuration' : file;
  return [
    `loaded by the configuration (ruleSets): ${loaded.join(', ') || 'none'}`,
    ...notUsed.map((name) => `${name} (not used): add it to ruleSets in ${place}, or name it in a resource`),
    ...(notUsed.length === 0 || file === undefined ? [] : ['rules update --use adds what was updated to ruleSets']),
  ];
}

/** @throws CommandError that says why the file can't be changed. */
export async function useSets(config: Config, file: string | undefined, names: readonly string[]): Promise<void> {
  if (file === undefined) throw new CommandError('flag --use: name the configuration file with --config');
  if (process.env['DPI_AGENT_RULE_SETS'] !== undefined) {
    throw new CommandError('flag --use: DPI_AGENT_RULE_SETS counts before the file: add the set there');
  }
  if (names.every((name) => config.ruleSets.includes(name))) return;
  try {
    // A link stays one.
    const path = await realpath(file);
    const { mode } = await stat(path);
    await replaceFile(path, withRuleSets(await readFile(path, 'utf8'), names, config.ruleSets), mode & 0o777);
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined && !(error instanceof EditError)) throw error;
    const advice: Record<string, string> = {
      EROFS: 'it is read-only: change what it is mounted from (a ConfigMap)',
      EACCES: 'permission denied',
    };
    const reason = error instanceof EditError ? error.message : (advice[code ?? ''] ?? code);
    const sets = names.join(', ');
    throw new CommandError(`cannot change ${file}: ${reason}: add ${sets} to its ruleSets by hand`, EXIT.failed);
  }
}
