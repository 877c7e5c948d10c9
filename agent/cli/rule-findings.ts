/**
 * What `check` finds of rules: those that can't be read, translated or loaded, and whether the engine takes the rest.
 */
import type { Config } from '../config/load.ts';
import type { EngineInstall } from '../engine/engine.ts';
import { planSandbox, type Sandbox } from '../engine/sandbox.ts';
import { messageOf } from '../files/errors.ts';
import { changeWarnings, engineRulesOf, findConfiguredSets, loadConfiguredSets, noRules } from '../rulesets/open.ts';
import type { RefusedBy, SeenRule } from '../rulesets/sets.ts';
import type { Finding } from './finding.ts';
import { grouped, plural } from './print.ts';
import { useOf, type SetUse } from './rules/use.ts';
import { createDriver, followsCluster, place, withClusterNetworks } from './setup.ts';
import { thresholdNotes } from './threshold-notes.ts';
import { tryRules, waitingRules, type TriedRules } from './try-rules.ts';

type Sets = Awaited<ReturnType<typeof loadConfiguredSets>>;

/** Findings of a kind that are listed; the rest is counted. */
const MAX_LISTED = 20;
const subject = 'rules';
const REMEDIES: Record<RefusedBy, string> = {
  translation: 'write it in the syntax of the engine, or do without',
  setting: 'set what it names, or do without',
  files: 'put the file beside the rule, or do without',
};

const SANDBOX_REMEDIES = {
  root: 'let setpriv and unshare of util-linux work here (CAP_SETPCAP, CAP_SYS_ADMIN, no seccomp against them), or accept it',
  other: 'run as root with CAP_SETUID, CAP_SETGID and CAP_SYS_ADMIN, or accept it',
};

export async function checkRules(given: Config, install: EngineInstall): Promise<Finding[]> {
  try {
    const config = await withClusterNetworks(given);
    const sandbox = await planSandbox(String(config.engine.user), config.engine.isolateNetwork);
    const seen: SeenRule[] = [];
    const sets = await loadConfiguredSets(config, install, (rule) => seen.push(rule));
    const { defaults } = await engineRulesOf(config, sets);
    const { sets: there, used } = await findConfiguredSets(config, install.name);
    const findings = [
      ...sandboxFindings(sandbox),
      ...useFindings(config, useOf(config, there)),
      ...unread(sets),
      ...leftOut(sets, install),
      ...duplicates(sets),
      ...notes(changeWarnings(sets, config.ruleChanges), 'correct the line or take it out'),
      ...notes(
        thresholdNotes(used.flatMap((name) => there.get(name) ?? [])),
        'docs/rule-tuning.md describes the policy',
      ),
    ];
    const nothing = noRules(sets);
    if (nothing !== undefined)
      return [...findings, { level: 'error', subject, message: nothing, remedy: 'name other rules or sets' }];
    const driver = createDriver(config, install);
    const tried = await tryRules(config, { install, driver, sandbox }, sets.index, defaults);
    const waiting = waitingRules(seen, sets.index, tried);
    return [...findings, ...failed(tried, install), ...waits(waiting), ...verdict(tried, install, sets, defaults)];
  } catch (error) {
    const message = messageOf(error);
    return [{ level: 'error', subject, message, remedy: 'correct rules, ruleSets or engine.user' }];
  }
}

function sandboxFindings({ missing }: Sandbox): Finding[] {
  return missing.map((what) => ({
    level: 'warning',
    subject: 'rights',
    message: `the engine runs without ${what}`,
    remedy: SANDBOX_REMEDIES[process.getuid?.() === 0 ? 'root' : 'other'],
  }));
}

/**
 * Sets that are to come, or are there and not used. In a cluster, resources may name one that the configuration does
 * not.
 */
function useFindings(config: Config, { loaded, notUsed }: SetUse): Finding[] {
  const level = followsCluster(config) ? 'info' : 'warning';
  const awaited = config.ruleSets.filter((name) => !loaded.includes(name));
  const toCome = awaited.map((name): Finding => {
    const message = `the set ${name} is not there yet`;
    return { level: 'warning', subject, message, remedy: 'dpi-agent rules update brings it, and run does' };
  });
  const unused = notUsed.map((name): Finding => ({
    level,
    subject,
    message: `the set ${name} is there, and ruleSets does not name it: it is not used`,
    remedy: 'add it to ruleSets, name it in a resource, or take its folder away',
  }));
  return [...toCome, ...unused];
}

function unread({ problems }: Sets): Finding[] {
  return problems.slice(0, MAX_LISTED).map(({ file, line, reason }) => ({
    level: 'warning',
    subject,
    message: `${file}:${line}: ${reason}`,
    remedy: 'correct the rule',
  }));
}

function leftOut({ refused }: Sets, { name }: EngineInstall): Finding[] {
  const findings = refused.slice(0, MAX_LISTED).map(({ gid, sid, by, file, line, reason }): Finding => {
    const why = by === 'translation' ? `is not translated for ${name}` : 'is left out';
    const message = `${place({ file, line })}: rule ${gid}:${sid} ${why}: ${reason}`;
    return { level: 'warning', subject, message, remedy: REMEDIES[by] };
  });
  const message = `and ${grouped(refused.length - MAX_LISTED)} more are left out: dpi-agent rules check names them`;
  return refused.length > MAX_LISTED ? [...findings, { level: 'warning', subject, message }] : findings;
}

function duplicates(sets: Sets): Finding[] {
  return sets.duplicates.slice(0, MAX_LISTED).map(({ gid, sid, kept, dropped }) => ({
    level: 'warning',
    subject,
    message: `${place(dropped)}: rule ${gid}:${sid} stands at ${place(kept)} too, which is the one that counts`,
    remedy: 'keep one of them',
  }));
}

/** Lines of files beside the rules that do not do what they seem to. */
function notes(lines: readonly { line: string; reason: string }[], remedy: string): Finding[] {
  return lines
    .slice(0, MAX_LISTED)
    .map(({ line, reason }) => ({ level: 'warning', subject, message: `${line}: ${reason}`, remedy }));
}

/** Rules that are loaded, and wait for what only refused ones set. */
function waits(waiting: ReturnType<typeof waitingRules>): Finding[] {
  return waiting.slice(0, MAX_LISTED).map(({ signature, reason, ...at }) => ({
    level: 'warning',
    subject,
    message: `${place(at)}: rule ${signature} ${reason}`,
    remedy: 'mend those rules, or do without',
  }));
}

/** Rules that the engine does not load. */
function failed(tried: TriedRules, { name }: EngineInstall): Finding[] {
  const findings = tried.failed.slice(0, MAX_LISTED).map(({ file, line, reason, skipped }): Finding => ({
    level: skipped ? 'warning' : 'error',
    subject,
    message: `${place({ file, line })}: ${skipped ? `${name} skips it: ` : ''}${reason}`,
    remedy: 'correct the rule or take it out',
  }));
  const message = `and ${grouped(tried.failed.length - MAX_LISTED)} more: dpi-agent rules check names them`;
  return tried.failed.length > MAX_LISTED ? [...findings, { level: 'error', subject, message }] : findings;
}

/** What the engine says of all. */
function verdict(tried: TriedRules, { name }: EngineInstall, { index }: Sets, defaults: readonly string[]): Finding[] {
  if (tried.refused.length === 0 && tried.failed.every(({ skipped }) => skipped)) {
    const message = `${name} accepts ${plural(index.size, 'rule')} of the sets ${defaults.join(', ')}`;
    return [{ level: 'ok', subject, message }];
  }
  return tried.refused.map(({ what, reason }) => ({
    level: 'error',
    subject,
    message: `${name} refuses ${what}: ${reason}`,
    remedy: 'look at engine.extraConfig and engine.arguments',
  }));
}
