/** The bytes that a rule of either engine looks for, as its text has them. */
import { parseRules, ruleOptions } from './rule.ts';
import { parsePattern } from './translate/pattern.ts';

/** Of one rule. */
const MAX_CONTENTS = 64;

export interface Content {
  bytes: Buffer;
  /** In any case. */
  nocase: boolean;
}

/** Those that have to be there, in the rule's order. Empty where the text is no rule. */
export function contentsOf(text: string): Content[] {
  const [rule] = parseRules(text, { file: '' }).rules;
  const contents: Content[] = [];
  let last: Content | undefined;
  for (const { key, value } of rule === undefined ? [] : ruleOptions(rule)) {
    if (key === 'content' || key === 'uricontent') {
      last = contentOf(value);
      if (last !== undefined && contents.length < MAX_CONTENTS) contents.push(last);
    } else if (key === 'nocase' && last !== undefined) last.nocase = true;
  }
  return contents;
}

/** undefined: it must not be there, or is none. */
function contentOf(value: string): Content | undefined {
  const [, text, rest = ''] = /^"((?:[^"\\]|\\.)*)"\s*(?:,(.*))?$/s.exec(value) ?? [];
  if (text === undefined) return undefined;
  try {
    return { bytes: parsePattern(text), nocase: rest.split(',').some((word) => word.trim() === 'nocase') };
  } catch {
    return undefined;
  }
}
