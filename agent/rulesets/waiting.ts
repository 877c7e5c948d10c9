/**
 * Rules that wait for a flowbit that none of the loaded rules sets: those that do were refused, so that these can't
 * fire.
 *
 * Of `flowbits`, `xbits` and `hostbits`, which are names of their own each.
 */
import { ruleOptions, type RuleInfo } from './rule.ts';

export interface WaitingRule {
  rule: RuleInfo;
  /** `flowbits:name` */
  bit: string;
  /** The rules that set it: refused, or waiting themselves. */
  setBy: RuleInfo[];
}

const KINDS = new Set(['flowbits', 'xbits', 'hostbits']);

interface Bits {
  sets: string[];
  /** Of each, one is enough. */
  needs: string[][];
}

/** @param loaded, refused Rules as they stand in their files. */
export function findWaiting(loaded: Iterable<RuleInfo>, refused: Iterable<RuleInfo>): WaitingRule[] {
  const result: WaitingRule[] = [];
  let alive = [...loaded];
  const dead = [...refused];
  for (let found = waitingNow(alive, dead); found.length > 0; found = waitingNow(alive, dead)) {
    result.push(...found);
    // What they set comes no more either.
    const waiting = new Set(found.map(({ rule }) => rule));
    alive = alive.filter((rule) => !waiting.has(rule));
    dead.push(...waiting);
  }
  return result;
}

function waitingNow(loaded: readonly RuleInfo[], refused: readonly RuleInfo[]): WaitingRule[] {
  const set = new Set<string>();
  const waiting: { rule: RuleInfo; needs: string[] }[] = [];
  for (const rule of loaded) {
    const { sets, needs } = bitsOf(rule);
    for (const bit of sets) set.add(bit);
    for (const need of needs) waiting.push({ rule, needs: need });
  }
  const inVain = waiting.filter(({ needs }) => needs.every((bit) => !set.has(bit)));
  if (inVain.length === 0) return [];
  const setters = new Map<string, RuleInfo[]>();
  for (const rule of refused) {
    for (const bit of bitsOf(rule).sets) setters.set(bit, [...(setters.get(bit) ?? []), rule]);
  }
  return inVain.flatMap(({ rule, needs }) => {
    const bit = needs.find((name) => setters.has(name));
    return bit === undefined ? [] : [{ rule, bit, setBy: setters.get(bit) ?? [] }];
  });
}

/** `flowbits:isset,a|b` needs one of them, `a&b` both, and so do several options. */
function bitsOf(rule: RuleInfo): Bits {
  const bits: Bits = { sets: [], needs: [] };
  if (!/bits\s*:/.test(rule.text)) return bits;
  for (const { key, value } of ruleOptions(rule)) {
    if (!KINDS.has(key)) continue;
    const [operation = '', names = ''] = value.split(',').map((word) => word.trim());
    const named = (text: string): string[] => text.split('|').map((name) => `${key}:${name.trim()}`);
    const groups = names.split('&').map(named);
    if (/^(?:set|setx|toggle)$/.test(operation)) bits.sets.push(...groups.flat());
    else if (operation === 'isset') bits.needs.push(...groups);
  }
  return bits;
}
