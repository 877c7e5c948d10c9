/**
 * The sources of the configuration and its rule server, followed by an agent that runs: a new version takes the way of
 * every change of rules, up to the canary.
 */
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import type { FollowedCapture } from '../endpoints/follow/parts.ts';
import type { EngineInstall } from '../engine/engine.ts';
import { messageOf } from '../files/errors.ts';
import type { LiveRules } from '../rulesets/live.ts';
import {
  followRuleServer,
  versionRequest,
  type FollowedServer,
  type RuleServerStatus,
} from '../rulesets/rule-server.ts';
import { follow, type RuleServerSettings } from '../rulesets/rule-server-client.ts';
import { followSources, type SourceSchedule, type SourceStatus } from '../rulesets/schedule.ts';
import { requestOf, setOf, type SourceRequest } from '../rulesets/sources.ts';
import { updateSet, type UpdateOptions, type UpdateResult } from '../rulesets/update.ts';
import { useOfSets } from './rules/use.ts';
import { checkVersion } from './rules/version-check.ts';
import { version } from './version.ts';

const MAX_NOTES = 5;

/** Where there is nothing else to inspect by, the start waits for the sources, one after the other. */
export async function bringFirstRules(config: Config, install: EngineInstall, log: Logger): Promise<void> {
  const sources = config.ruleSources.filter((each) => config.ruleSets.includes(setOf(each)));
  const server = serverOf(config);
  if (sources.length === 0 && server === undefined) return;
  if ((await useOfSets(config, install.name)).loaded.length > 0) return;
  if (server !== undefined) await bringFromServer({ config, install, log }, server);
  for (const source of sources) {
    try {
      const { version: brought, rules } = await updateFrom({ config, install, log }, await requestOf(source, install));
      log.info({ source: source.name, version: brought, rules }, 'rule source: the first rules are there');
    } catch (error) {
      log.error({ source: source.name, reason: messageOf(error) }, 'rule source: no rules');
    }
  }
}

/** What capture tells of a resource's rules, with what their sources say. */
export function withRules<Capture extends Pick<FollowedCapture, 'conditions'>>(
  capture: Capture,
  rules: Pick<LiveRules, 'defaults'>,
  sources: () => FollowedSources | undefined,
): Capture & Required<Pick<FollowedCapture, 'ruleVersions'>> {
  return {
    ...capture,
    conditions: (named) => [...capture.conditions(named), ...(sources()?.conditions(named ?? rules.defaults()) ?? [])],
    ruleVersions(named) {
      const wanted = new Set(named ?? rules.defaults());
      const versions = (sources()?.status() ?? []).flatMap(({ set, version: brought }) =>
        brought === undefined || !wanted.has(set) ? [] : [[set, brought] as const],
      );
      return Object.fromEntries(versions);
    },
  };
}

interface Asking {
  config: Config;
  install: EngineInstall;
  log: Logger;
}

async function bringFromServer(asking: Asking, server: RuleServerSettings): Promise<void> {
  const { config, install, log } = asking;
  try {
    const { sets } = await follow(server, { node: config.node, engine: install.name, inspects: false, sets: {} });
    for (const { set, take } of sets) {
      if (take === undefined || !config.ruleSets.includes(set)) continue;
      const { version: brought, rules } = await updateFrom(asking, await versionRequest(server, set, take));
      log.info({ set, version: brought, rules }, 'rule server: the first rules are there');
    }
  } catch (error) {
    log.error({ reason: messageOf(error) }, 'rule server: no rules');
  }
}

/** The server of the configuration, where it names one. */
export function serverOf({ ruleServer: { url, ...rest } }: Pick<Config, 'ruleServer'>): RuleServerSettings | undefined {
  return url === undefined ? undefined : { url, ...rest };
}

/** What brings rules to an agent that runs. */
export interface FollowedSources {
  /** Of sources and of the server's sets. */
  status: () => SourceStatus[];
  /** Where one is configured. */
  server: () => RuleServerStatus | undefined;
  /** What a resource should know that names these sets. */
  conditions: (named: readonly string[]) => string[];
  stop: () => Promise<void>;
}

/** @param onChange What it tells may be another thing now. */
export function startRuleSources(
  config: Config,
  install: EngineInstall,
  rules: Pick<LiveRules, 'prove' | 'problemOf' | 'status'>,
  log: Logger,
  onChange: () => void,
): FollowedSources {
  const asking = { config, install, log };
  const sources = followOwn(asking, rules);
  const server = followServer(asking, rules, onChange);
  return {
    status: () => [...sources.status(), ...(server?.sets() ?? [])],
    server: () => server?.status(),
    conditions: (named) => server?.conditions(named) ?? [],
    async stop() {
      await Promise.all([sources.stop(), server?.stop()]);
    },
  };
}

/** The engine loads a version before it goes live, and the canary proves it after that; else the one before comes back. */
function followOwn({ config, install, log }: Asking, rules: Pick<LiveRules, 'prove'>): SourceSchedule {
  const { rulesDirectory, ruleSources } = config;
  return followSources({
    sources: ruleSources,
    rulesDirectory,
    log,
    update: async (source, signal) =>
      updateFrom({ config, install, log }, await requestOf(source, install), {
        signal,
        prove: () => rules.prove(setOf(source)),
      }),
  });
}

function followServer(
  asking: Asking,
  rules: Pick<LiveRules, 'prove' | 'problemOf' | 'status'>,
  onChange: () => void,
): FollowedServer | undefined {
  const { config, install, log } = asking;
  const server = serverOf(config);
  if (server === undefined) return undefined;
  return followRuleServer({
    server,
    node: config.node,
    engine: install.name,
    rulesDirectory: config.rulesDirectory,
    own: new Set(config.ruleSources.flatMap((source) => [source.name, setOf(source)])),
    isUsed: (set) => config.ruleSets.includes(set) || rules.status().sets.some(({ name }) => name === set),
    problemOf: rules.problemOf,
    update: (request, signal) => updateFrom(asking, request, { signal, prove: () => rules.prove(request.set) }),
    onChange,
    log,
  });
}

async function updateFrom(
  { config, install, log }: Asking,
  request: SourceRequest,
  options: Pick<UpdateOptions, 'signal' | 'prove'> = {},
): Promise<UpdateResult> {
  const { set } = request;
  return updateSet({
    ...request,
    ...options,
    rulesDirectory: config.rulesDirectory,
    userAgent: `dpi-agent/${version()}`,
    async check(directory) {
      const notes = await checkVersion(config, install, set, directory);
      for (const note of notes.slice(0, MAX_NOTES)) log.warn({ set, note }, 'rule source');
    },
  });
}
