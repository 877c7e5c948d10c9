/**
 * The sources of the configuration, followed by an agent that runs: a new version takes the way of every change of
 * rules, up to the canary.
 */
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import type { EngineInstall } from '../engine/engine.ts';
import { messageOf } from '../files/errors.ts';
import type { LiveRules } from '../rulesets/live.ts';
import { followSources, type SourceSchedule } from '../rulesets/schedule.ts';
import { requestOf, setOf, type RuleSource } from '../rulesets/sources.ts';
import { updateSet, type UpdateOptions, type UpdateResult } from '../rulesets/update.ts';
import { useOfSets } from './rules/use.ts';
import { checkVersion } from './rules/version-check.ts';
import { version } from './version.ts';

const MAX_NOTES = 5;

/** Where there is nothing else to inspect by, the start waits for the sources, one after the other. */
export async function bringFirstRules(config: Config, install: EngineInstall, log: Logger): Promise<void> {
  const sources = config.ruleSources.filter((each) => config.ruleSets.includes(setOf(each)));
  if (sources.length === 0 || (await useOfSets(config, install.name)).loaded.length > 0) return;
  for (const source of sources) {
    try {
      const { version: brought, rules } = await updateSource(config, install, source, log);
      log.info({ source: source.name, version: brought, rules }, 'rule source: the first rules are there');
    } catch (error) {
      log.error({ source: source.name, reason: messageOf(error) }, 'rule source: no rules');
    }
  }
}

/**
 * The engine loads a version before it goes live, and the canary proves it after that; else the one before comes back.
 */
export function startRuleSources(
  config: Config,
  install: EngineInstall,
  rules: Pick<LiveRules, 'prove'>,
  log: Logger,
): SourceSchedule {
  const { rulesDirectory, ruleSources } = config;
  return followSources({
    sources: ruleSources,
    rulesDirectory,
    log,
    update: (source, signal) =>
      updateSource(config, install, source, log, { signal, prove: () => rules.prove(setOf(source)) }),
  });
}

async function updateSource(
  config: Config,
  install: EngineInstall,
  source: RuleSource,
  log: Logger,
  options: Pick<UpdateOptions, 'signal' | 'prove'> = {},
): Promise<UpdateResult> {
  const set = setOf(source);
  return updateSet({
    ...(await requestOf(source, install)),
    ...options,
    rulesDirectory: config.rulesDirectory,
    userAgent: `dpi-agent/${version()}`,
    async check(directory) {
      const notes = await checkVersion(config, install, set, directory);
      for (const note of notes.slice(0, MAX_NOTES)) log.warn({ source: source.name, set, note }, 'rule source');
    },
  });
}
