/**
 * What a resource is told of the rule sets that it gets: which there are not, which are refused, and which rules are
 * left out.
 */
import type { SetVersion } from './admit.ts';
import { unknownSet, type RuleSet } from './sets.ts';

/** Of one set; the rest is a number. */
const MAX_FAILED_CONDITIONS = 3;

export interface RulesCondition {
  /** All sets that there are. */
  known: ReadonlyMap<string, RuleSet>;
  /** Those that are loaded. */
  sets: ReadonlyMap<string, SetVersion>;
  /** Sets that are refused, and why. */
  refusals: ReadonlyMap<string, string>;
  /** Why the last change failed as a whole. */
  problem: string | undefined;
  overridesProblem: string | undefined;
}

/** @param named The sets of the resource. */
export function conditionsOf(rules: RulesCondition, named: readonly string[]): string[] {
  const { problem, overridesProblem } = rules;
  return [
    ...(problem === undefined ? [] : [problem]),
    ...(overridesProblem === undefined
      ? []
      : [`engine.extraConfig is refused, the last good one stays: ${overridesProblem}`]),
    ...named.flatMap((name) => [...conditionOfSet(rules, name), ...failedRules(name, rules.sets.get(name))]),
  ];
}

function conditionOfSet({ known, sets, refusals }: RulesCondition, name: string): string[] {
  const set = sets.get(name);
  const refusal = refusals.get(name);
  if (!known.has(name)) return [unknownSet(name, known)];
  if (refusal !== undefined && set !== undefined)
    return [`rule set ${name} is refused, its last good rules stay: ${refusal}`];
  if (refusal !== undefined) return [`rule set ${name} is refused: ${refusal}`];
  if (set?.rules.length === 0) return [`rule set ${name} has no rules that can be loaded`];
  return [];
}

function failedRules(name: string, set: SetVersion | undefined): string[] {
  const failed = set?.failed ?? [];
  const messages = failed
    .slice(0, MAX_FAILED_CONDITIONS)
    .map(
      ({ gid, sid, file, line, reason }) =>
        `rule set ${name}: rule ${gid}:${sid} is left out (${file}:${line}): ${reason}`,
    );
  if (failed.length > MAX_FAILED_CONDITIONS)
    messages.push(`rule set ${name}: ${failed.length - MAX_FAILED_CONDITIONS} more rules are left out`);
  return messages;
}
