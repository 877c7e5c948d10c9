/**
 * Decides on a change of a few rules by a look at those alone: the others, which inspect, the engine has taken before,
 * and to load thousands again takes it seconds.
 *
 * Not promised: that the engine takes them together with the others. If it does not, the canary says so after the swap,
 * and then all are looked at.
 */
import { admit, type Admitted, type AdmitOptions, type Candidate, type SetVersion } from './admit.ts';
import type { IndexedRule } from './sets.ts';

/** More than so many are a change of its own kind, and worth a look at all. */
const MAX_ADDITIONS = 500;

/** @param good What inspects. @returns undefined where a look at the additions does not do. */
export async function admitAdditions(
  offered: Candidate,
  { good, ...options }: AdmitOptions & { good: Candidate },
): Promise<Admitted | undefined> {
  const additions = additionsTo(good, offered);
  if (additions === undefined) return undefined;
  if (additions.sets.size === 0) return { candidate: offered, refused: new Map() };
  try {
    const admitted = await admit(additions, { ...options, good: undefined });
    if (admitted.refused.size > 0 || admitted.overridesRefused !== undefined) return undefined;
    return { candidate: withAdmitted(offered, additions, admitted.candidate), refused: new Map() };
  } catch {
    // None of them is accepted, for a reason that may be of all.
    return undefined;
  }
}

/** Of the sets that changed, the rules that are new. @returns undefined where they can't be looked at by themselves. */
function additionsTo(good: Candidate, offered: Candidate): Candidate | undefined {
  if (settingsOf(good) !== settingsOf(offered)) return undefined;
  const sets = new Map<string, SetVersion>();
  let count = 0;
  for (const [name, set] of offered.sets) {
    const rules = newRules(good.sets.get(name), set);
    count += rules.length;
    // Files that rules name are of all that name them.
    if (count > MAX_ADDITIONS || rules.some(namesFiles)) return undefined;
    if (rules.length > 0) sets.set(name, { ...set, rules });
  }
  return { ...offered, sets };
}

function settingsOf({ variables, overrides }: Candidate): string {
  return JSON.stringify([variables, overrides]);
}

function newRules(good: SetVersion | undefined, { hash, rules }: SetVersion): IndexedRule[] {
  if (good?.hash === hash) return [];
  const taken = new Set(good?.rules.map(({ staged }) => staged));
  return rules.filter(({ staged }) => !taken.has(staged));
}

function namesFiles({ data = [], reputation }: IndexedRule): boolean {
  return data.length > 0 || reputation !== undefined;
}

/** Without those of the additions that were left out, and with what came in their place. */
function withAdmitted(offered: Candidate, additions: Candidate, admitted: Candidate): Candidate {
  const sets = new Map(offered.sets);
  for (const [name, { rules: tried }] of additions.sets) {
    const [set, taken] = [offered.sets.get(name), admitted.sets.get(name)];
    if (set === undefined || taken === undefined) continue;
    const kept = new Set(taken.rules);
    const leftOut = new Set(tried.filter((rule) => !kept.has(rule)));
    const rules = [
      ...set.rules.filter((rule) => !leftOut.has(rule)),
      ...taken.rules.filter((rule) => !tried.includes(rule)),
    ];
    sets.set(name, { ...set, rules, failed: taken.failed });
  }
  return { ...offered, sets };
}
