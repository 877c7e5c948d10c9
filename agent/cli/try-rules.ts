/**
 * Which rules an engine takes, of sets that are read once: it loads them in a process of its own, and what it refuses
 * is left out until it takes the rest, as an agent that runs does it.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/load.ts';
import type { EngineDriver, EngineInstall } from '../engine/engine.ts';
import type { Sandbox } from '../engine/sandbox.ts';
import { validateRules, verdictOf, type Verdict } from '../engine/validate.ts';
import { admit, indexOf, type Candidate, type FailedRule, type SetVersion } from '../rulesets/admit.ts';
import { stageCandidate } from '../rulesets/candidate.ts';
import { readOverrides } from '../rulesets/overrides.ts';
import type { RuleIndex, SeenRule } from '../rulesets/sets.ts';
import { findWaiting } from '../rulesets/waiting.ts';
import { place } from './setup.ts';

const MAX_WARNINGS = 10;
/** Rules that are named in one reason. */
const MAX_NAMED = 3;

/** A rule that needs a word, and is no error. */
export interface PassedRule {
  signature: string;
  file: string;
  line: number;
  reason: string;
}

export interface TriedRules {
  /** What the engine loads. */
  taken: RuleIndex;
  /** Each once, in the order of the sets: refused, or skipped for what it requires. */
  failed: (FailedRule & { skipped: boolean })[];
  /** Sets of which it is not known what the engine has against them, and `engine.extraConfig`, likewise. */
  refused: { what: string; reason: string }[];
  /** What the engine says against rules that it takes. */
  warnings: string[];
  millis: number;
}

/** @throws Error with the engine's reason, where it takes nothing. */
export async function tryRules(
  config: Config,
  { install, driver, sandbox }: { install: EngineInstall; driver: EngineDriver; sandbox: Sandbox },
  index: RuleIndex,
  names: Iterable<string>,
): Promise<TriedRules> {
  const overrides = await readOverrides(config.engine.extraConfig);
  const output = install.name === 'snort' ? config.engine.output : 'json';
  const laneDirectory = await mkdtemp(join(tmpdir(), 'dpi-agent-rules-'));
  const started = performance.now();
  let warnings: string[] = [];
  const skipped = new Set<string>();
  const validate = async (tried: Candidate): Promise<Verdict> => {
    const left = indexOf(tried.sets.values());
    // An engine may refuse to have none at all.
    if (left.size === 0) return { is: 'accepted' };
    const engineRules = stageCandidate(tried, left, [...tried.sets.keys()], []);
    const options = { laneDirectory, driver, install, sandbox: { ...sandbox, session: 'shared' as const }, output };
    const exit = await validateRules({ ...options, engineRules: () => engineRules });
    warnings = driver.ruleWarnings?.(exit.output, MAX_WARNINGS) ?? [];
    const verdict = verdictOf(exit, driver, engineRules);
    if (verdict.is === 'accepted') for (const rule of verdict.skipped ?? []) skipped.add(place(rule));
    return verdict;
  };
  try {
    await chmod(laneDirectory, 0o711);
    const sets = new Map([...names].map((name) => [name, versionOf(name, index)]));
    const { variables } = config;
    const given: Candidate = { sets, variables, ...(overrides === undefined ? {} : { overrides }) };
    const admitted = await admit(given, { good: undefined, leaveOut: true, validate });
    const { candidate, refused, overridesRefused } = admitted;
    const failed = new Map<string, FailedRule & { skipped: boolean }>();
    for (const rule of [...candidate.sets.values()].flatMap((set) => set.failed)) {
      const key = `${rule.file}:${rule.line}`;
      if (!failed.has(key)) failed.set(key, { ...rule, skipped: skipped.has(key) });
    }
    return {
      taken: indexOf(candidate.sets.values()),
      failed: [...failed.values()],
      refused: [
        ...[...refused].map(([what, reason]) => ({ what: `the set ${what}`, reason })),
        ...(overridesRefused === undefined ? [] : [{ what: 'engine.extraConfig', reason: overridesRefused }]),
      ],
      warnings,
      millis: Math.round(performance.now() - started),
    };
  } finally {
    await rm(laneDirectory, { recursive: true, force: true });
  }
}

/** Rules that the engine loads, and that wait for what only refused ones set. @param index What it was given. */
export function waitingRules(
  seen: readonly SeenRule[],
  index: RuleIndex,
  { taken, failed }: Pick<TriedRules, 'taken' | 'failed'>,
): PassedRule[] {
  const places = new Set(failed.map(place));
  const refused = [
    ...seen.filter(({ outcome }) => outcome.kind === 'refused').map(({ rule }) => rule),
    ...[...index.values()].filter((rule) => places.has(place(rule))),
  ];
  return findWaiting(taken.values(), refused).map(({ rule, bit, setBy }) => {
    const named = setBy.slice(0, MAX_NAMED).map((setter) => `${setter.gid}:${setter.sid} (${place(setter)})`);
    const more = setBy.length > MAX_NAMED ? ` and ${setBy.length - MAX_NAMED} more` : '';
    const reason = `waits in vain for ${bit}, which only refused rules set: ${named.join(', ')}${more}`;
    const { gid, sid, file, line } = rule;
    return { signature: `${gid}:${sid}`, file, line, reason };
  });
}

function versionOf(name: string, index: RuleIndex): SetVersion {
  const rules = [...index.values()]
    .filter(({ sets }) => sets.includes(name))
    .map((rule) => ({ ...rule, sets: [name] }));
  return { name, hash: name, changedAt: 0, rules, failed: [] };
}
