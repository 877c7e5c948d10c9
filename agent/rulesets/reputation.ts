/**
 * Reputations of addresses, as rules with `iprep` ask for them: a set's own, for Suricata, which has one list for all.
 *
 * Formats, a line each, `#` comments (https://docs.suricata.io/en/suricata-7.0.10/reputation/ipreputation/ip-reputation-format.html):
 * `categories.txt` has `<id>,<short name>,<description>`, lists have `<address or network>,<category id>,<score>`.
 *
 * Invariants: categories of one name are one, whatever number a set gives them. Lines that are no entry are skipped.
 */
import type { EngineRules } from '../engine/rules.ts';

/** Lists beside it. */
export const LIST_NAME = /\.list$|^(?:ip-?rep|reputation)[\w-]*\.(?:txt|csv)$/i;
/** Suricata's own limit. */
const MAX_CATEGORIES = 60;

export interface Reputation {
  /** By the number that the set's lists use. */
  categories: readonly { id: number; name: string; text: string }[];
  /** What the lists have, one behind the other. */
  list: string;
  /** Where all of it is from. */
  files: readonly string[];
}

export function asksReputation({ staged }: { staged: string }): boolean {
  return /\biprep\s*:/.test(staged);
}

export function parseCategories(text: string): Reputation['categories'] {
  return [...text.matchAll(/^[ \t]*(\d{1,3})[ \t]*,[ \t]*([^,\r\n]{1,31}?)[ \t]*,([^\r\n]*)/gm)].map(
    ([, id, name = '', description = '']) => ({ id: Number(id), name, text: description.trim() }),
  );
}

/** All as one. @throws Error where there are more categories than Suricata takes. */
export function mergeReputations(all: Iterable<Reputation>): EngineRules['reputation'] {
  const ids = new Map<string, number>();
  const categories: string[] = [];
  const lists: string[] = [];
  for (const { categories: own, list } of new Set(all)) {
    const numbers = new Map<number, number>();
    for (const { id, name, text } of own) {
      const number = ids.get(name) ?? ids.size + 1;
      if (!ids.has(name)) categories.push(`${number},${name},${text}\n`);
      ids.set(name, number);
      numbers.set(id, number);
    }
    lists.push(renumbered(list, numbers));
  }
  if (ids.size > MAX_CATEGORIES)
    throw new Error(`iprep: the sets have ${ids.size} categories together: expected at most ${MAX_CATEGORIES}`);
  return ids.size === 0 ? undefined : { categories: categories.join(''), list: lists.join('') };
}

function renumbered(list: string, numbers: ReadonlyMap<number, number>): string {
  const entries = list.matchAll(
    /^[ \t]*([0-9A-Fa-f.:/]{2,64})[ \t]*,[ \t]*(\d{1,3})[ \t]*,[ \t]*(\d{1,3})[ \t]*\r?$/gm,
  );
  let result = '';
  for (const [, address = '', category, score] of entries) {
    const number = numbers.get(Number(category));
    if (number !== undefined) result += `${address},${number},${score}\n`;
  }
  return result;
}
