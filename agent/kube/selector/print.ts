/**
 * Writes a selector in one canonical form, with no more parentheses than it needs. (Calico's own puts them round every
 * `&&` and `||`.)
 */
import type { Selector } from './tree.ts';

/**
 * Text that parseSelector reads as an equal tree: sets sorted, strings in `"` unless they contain one, no `!` before
 * `==` and `in`. It can be longer than the text that the tree came from, at most twice, and so beyond parseSelector's
 * bound.
 * @param selector From parseSelector. A tree made in another way must keep to its rules, for example that no string has
 *   both quotes.
 */
export function printSelector(selector: Selector): string {
  switch (selector.kind) {
    case 'all':
      return 'all()';
    case 'global':
      return 'global()';
    case 'has':
      return `has(${selector.label})`;
    case 'compare':
      return `${selector.label} ${selector.operator} ${quoted(selector.value)}`;
    case 'in':
      return `${selector.label} in ${set(selector.values)}`;
    case 'not':
      return negated(selector.operand);
    case 'and':
      return selector.operands.map((operand) => nested(operand, 'and', 'or')).join(' && ');
    case 'or':
      return selector.operands.map((operand) => nested(operand, 'or')).join(' || ');
  }
}

function negated(operand: Selector): string {
  if (operand.kind === 'compare' && operand.operator === '==') return `${operand.label} != ${quoted(operand.value)}`;
  if (operand.kind === 'in') return `${operand.label} not in ${set(operand.values)}`;
  return `!${nested(operand, 'and', 'or')}`;
}

/** In parentheses, if it is of one of these kinds. */
function nested(selector: Selector, ...kinds: Selector['kind'][]): string {
  const text = printSelector(selector);
  return kinds.includes(selector.kind) ? `(${text})` : text;
}

function set(values: ReadonlySet<string>): string {
  return `{${[...values].sort().map(quoted).join(', ')}}`;
}

function quoted(value: string): string {
  const quote = value.includes('"') ? "'" : '"';
  return quote + value + quote;
}
