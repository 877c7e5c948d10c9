/** Ranges of numbers: `5`, `!5`, `<5`, `>=5`, `5<>9` (without its ends), `5<=>9` (with them), as Snort 3 has them. */
import { refuse, shown } from './refusal.ts';

/** All but one number, or those from `min` to `max`, both included; without end where `max` is absent. */
export type Range = { not: number } | { min: number; max?: number };

export function parseRange(keyword: string, text: string): Range {
  const between = /^(\d+)\s*(<>|<=>)\s*(\d+)$/.exec(text);
  if (between !== null) {
    const inner = between[2] === '<>' ? 1 : 0;
    return notEmpty(keyword, text, { min: Number(between[1]) + inner, max: Number(between[3]) - inner });
  }
  const [, operator = '', digits] = /^(<=?|>=?|!=?|=)?\s*(\d+)$/.exec(text) ?? [];
  if (digits === undefined) refuse(`${keyword} is not a range of numbers: ${shown(text)}`);
  const number = Number(digits);
  switch (operator) {
    case '<':
      return notEmpty(keyword, text, { min: 0, max: number - 1 });
    case '<=':
      return { min: 0, max: number };
    case '>':
      return { min: number + 1 };
    case '>=':
      return { min: number };
    case '!':
    case '!=':
      return { not: number };
    default:
      return { min: number, max: number };
  }
}

function notEmpty(keyword: string, text: string, range: { min: number; max: number }): Range {
  return range.min <= range.max ? range : refuse(`${keyword} can never match: ${shown(text)}`);
}

/** As Suricata writes it: both ends of `<>` are outside. `undefined` where every number is in the range. */
export function printRange(keyword: string, range: Range): string | undefined {
  if ('not' in range) return `${keyword}:!${range.not}`;
  const { min, max } = range;
  if (max === undefined) return min === 0 ? undefined : `${keyword}:>${min - 1}`;
  if (min === max) return `${keyword}:${min}`;
  return min === 0 ? `${keyword}:<${max + 1}` : `${keyword}:${min - 1}<>${max + 1}`;
}
