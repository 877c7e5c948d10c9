/**
 * Decides what of changed rules an engine is given: what it refuses is left out, and where that can't be told rule by
 * rule, a whole set stays as it was last good. Tries are bounded, whatever the rules are.
 */
import type { RuleVerdict, Verdict } from '../engine/validate.ts';
import type { VariableValues } from '../rule-variables.ts';
import { ruleKey } from './files.ts';
import { keepRule, type DuplicateRule, type IndexedRule, type RuleIndex } from './sets.ts';

/** Tries in which refused rules are found and left out. */
const MAX_ROUNDS = 12;

/** A rule that is not loaded, and why. */
export interface FailedRule {
  set: string;
  gid: number;
  sid: number;
  file: string;
  line: number;
  reason: string;
}

/** One state of a set: what it has of rules, however they came to be. */
export interface SetVersion {
  name: string;
  /** Of its files, and of all that rules go through on their way. */
  hash: string;
  /** Of all that rules go through alone; absent of one that was kept for the next start. */
  hooksHash?: string;
  /** When the newest of its files was changed, in milliseconds since the epoch. */
  changedAt: number;
  /** Enabled rules, each of this set only. */
  rules: IndexedRule[];
  failed: FailedRule[];
}

export interface Candidate {
  sets: ReadonlyMap<string, SetVersion>;
  /** What rules name, as far as it is set. */
  variables?: VariableValues;
  /** The operator's overrides, in the engine's language. */
  overrides?: string;
}

export interface Admitted {
  candidate: Candidate;
  /** Sets that are as they were, or not there, and why; `overrides`: likewise. */
  refused: Map<string, string>;
  overridesRefused?: string;
}

export interface AdmitOptions {
  /** What was last good; sets that are the same are not suspected. */
  good: Candidate | undefined;
  /** Whether a rule that is refused is left out; else its set is refused. */
  leaveOut: boolean;
  validate: (candidate: Candidate) => Promise<Verdict>;
}

/** @throws Error when nothing of it is accepted, not even what was good. */
export async function admit(offered: Candidate, options: AdmitOptions): Promise<Admitted> {
  const { good, leaveOut, validate } = options;
  const refused = new Map<string, string>();
  let candidate = offered;
  let verdict = await validate(candidate);
  for (let round = 0; round < MAX_ROUNDS && verdict.is === 'refused' && verdict.errors.length > 0; round++) {
    // In the end also those that might only follow from others.
    const next = leaveOutRules(candidate, verdict.errors, round >= MAX_ROUNDS / 2)?.candidate;
    if (next === undefined) break;
    if (!leaveOut) {
      const failed = [...next.sets.values()].flatMap((set) =>
        set.failed.slice(candidate.sets.get(set.name)?.failed.length),
      );
      for (const rule of failed) if (!refused.has(rule.set)) refused.set(rule.set, describeFailed(rule));
      candidate = withGood(candidate, good, new Set(failed.map(({ set }) => set)));
    } else {
      candidate = next;
    }
    verdict = await validate(candidate);
  }
  if (verdict.is === 'accepted') {
    const next = leaveOutRules(candidate, verdict.skipped ?? [], true);
    if (next === undefined || !next.replaced) return { candidate: next?.candidate ?? candidate, refused };
    // What came in their place is to be taken too. It has nothing that could come in its own.
    const again = await admit(next.candidate, options);
    return { ...again, refused: new Map([...refused, ...again.refused]) };
  }

  // It is not known which rule it is. Each set that is new, by itself:
  const { reason } = verdict;
  const suspects = [...candidate.sets.values()].filter((set) => good?.sets.get(set.name)?.hash !== set.hash);
  for (const suspect of suspects) {
    const { overrides: _, ...plain } = candidate;
    const alone = await validate({ ...plain, sets: new Map([[suspect.name, suspect]]) });
    if (alone.is === 'refused') refused.set(suspect.name, alone.reason);
  }
  candidate = withGood(candidate, good, new Set(refused.keys()));
  if ((await validate(candidate)).is === 'accepted') return { candidate, refused };

  // The overrides, or sets that do not go together.
  const { overrides: _, ...plain } = candidate;
  const former = good?.overrides === undefined ? plain : { ...plain, overrides: good.overrides };
  if (candidate.overrides !== good?.overrides && (await validate(former)).is === 'accepted') {
    return { candidate: former, refused, overridesRefused: reason };
  }
  if (good === undefined) throw new Error(reason);
  for (const { name } of suspects) if (!refused.has(name)) refused.set(name, reason);
  return {
    candidate: good,
    refused,
    ...(candidate.overrides === good.overrides ? {} : { overridesRefused: reason }),
  };
}

/**
 * Without the rules that these are about; undefined when there is none that is known. Where a signature has an earlier
 * rule, that takes the place.
 * @param all Also those whose error may only follow from the rule before, which has one too.
 */
function leaveOutRules(
  candidate: Candidate,
  about: readonly RuleVerdict[],
  all: boolean,
): { candidate: Candidate; replaced: boolean } | undefined {
  const errors = new Map(about.map((error) => [`${error.file}:${error.line}`, error]));
  let isLess = false;
  let replaced = false;
  const sets = new Map<string, SetVersion>();
  for (const [name, set] of candidate.sets) {
    const rules: IndexedRule[] = [];
    const failed = [...set.failed];
    let isBehindError = false;
    for (const rule of set.rules) {
      const error = errors.get(`${rule.file}:${rule.line}`);
      if (error === undefined || (error.follows === true && isBehindError && !all)) {
        rules.push(rule);
      } else {
        failed.push(failedOf(name, rule, error.reason));
        if (rule.earlier !== undefined) rules.push({ ...rule.earlier, sets: rule.sets });
        replaced ||= rule.earlier !== undefined;
      }
      isBehindError = error !== undefined;
    }
    isLess ||= failed.length > set.failed.length;
    sets.set(name, { ...set, rules, failed });
  }
  return isLess ? { candidate: { ...candidate, sets }, replaced } : undefined;
}

function failedOf(set: string, { gid, sid, file, line }: IndexedRule, reason: string): FailedRule {
  return { set, gid, sid, file, line, reason };
}

/** With sets as they were last good, or without them. */
function withGood(candidate: Candidate, good: Candidate | undefined, names: ReadonlySet<string>): Candidate {
  const sets = new Map<string, SetVersion>();
  for (const [name, set] of candidate.sets) {
    const version = names.has(name) ? good?.sets.get(name) : set;
    if (version !== undefined) sets.set(name, version);
  }
  return { ...candidate, sets };
}

export function describeFailed({ gid, sid, file, line, reason }: FailedRule): string {
  return `${file}:${line}: rule ${gid}:${sid}: ${reason}`;
}

/** All rules of some sets: each signature once, with all sets that have it. */
export function indexOf(sets: Iterable<SetVersion>, duplicates: DuplicateRule[] = []): RuleIndex {
  const index = new Map<string, IndexedRule>();
  for (const { rules } of sets) for (const rule of rules) keepRule(rule, index, duplicates);
  return index;
}

/** Of each set, how many rules of it are loaded. */
export function countOf({ rules }: SetVersion): number {
  return new Set(rules.map(ruleKey)).size;
}
