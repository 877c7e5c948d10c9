/**
 * Reads a selector; the grammar is in selector.ts.
 *
 * Invariants: nothing but a SelectorError is thrown; the time is linear in the text, and the stack does not depend on
 * it: texts and parentheses are bounded, unlike Calico's, far above what anybody writes.
 */
import { plain } from '../../config/text.ts';
import type { Comparison, Selector } from './tree.ts';

/** UTF-16 units. */
export const MAX_SELECTOR_LENGTH = 65_536;
/** Parentheses within parentheses. */
export const MAX_SELECTOR_DEPTH = 100;
const MAX_LABEL_LENGTH = 512;

const FUNCTION = /(?:has|all|global)\(/y;
const LABEL = /[\w./-]+/y;
const NOT = /!(?!=)/y;
const OPERATOR = /==|!=|(?:contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)(?![\w./-])/y;
const TOKEN = /^(?:[\w./-]+|==|!=|&&|\|\||"[^"]*"?|'[^']*'?|[^])/;

/** A text is not a selector. The message is one line of at most 200 printable characters. */
export class SelectorError extends Error {
  override name = 'SelectorError';
  /** Offset of what was found, in UTF-16 units from 0. */
  readonly position: number;
  readonly expected: string;
  readonly found: string;
  constructor(position: number, expected: string, found: string) {
    super(`column ${position + 1}: expected ${expected}, found ${found}`);
    this.position = position;
    this.expected = expected;
    this.found = found;
  }
}

/** @throws SelectorError for the first thing that is wrong, or for a text beyond the bounds above. */
export function parseSelector(text: string): Selector {
  if (text.length > MAX_SELECTOR_LENGTH) {
    throw new SelectorError(MAX_SELECTOR_LENGTH, `at most ${MAX_SELECTOR_LENGTH} characters`, `${text.length}`);
  }
  let at = 0;
  let depth = 0;

  moveTo(0);
  if (at === text.length) return { kind: 'all' };
  const selector = or();
  return at === text.length ? selector : fail('&&, || or the end');

  function or(): Selector {
    return joined('or', '||', () => joined('and', '&&', operation));
  }

  function joined(kind: 'and' | 'or', operator: string, operand: () => Selector): Selector {
    const first = operand();
    if (!take(operator)) return first;
    const operands = [first];
    do operands.push(operand());
    while (take(operator));
    return { kind, operands };
  }

  function operation(): Selector {
    let negated = false;
    while (match(NOT) !== undefined) negated = !negated;
    const operand = parenthesized() ?? call() ?? comparison();
    return negated ? not(operand) : operand;
  }

  function parenthesized(): Selector | undefined {
    if (text[at] !== '(') return undefined;
    if (depth === MAX_SELECTOR_DEPTH) return fail(`at most ${MAX_SELECTOR_DEPTH} nested parentheses`);
    depth++;
    take('(');
    const inner = or();
    if (!take(')')) return fail('&&, || or a closing )');
    depth--;
    return inner;
  }

  function call(): Selector | undefined {
    const name = match(FUNCTION);
    if (name === undefined) return undefined;
    const called: Selector =
      name === 'has(' ? { kind: 'has', label: label("a label's name") } : { kind: name === 'all(' ? 'all' : 'global' };
    return take(')') ? called : fail('a closing )');
  }

  function comparison(): Selector {
    const name = label("a label's name, has(…), all(), global(), ! or (");
    const compare = (operator: Comparison): Selector => ({ kind: 'compare', label: name, operator, value: string() });
    const isIn = (): Selector => ({ kind: 'in', label: name, values: set() });
    switch (match(OPERATOR)?.replaceAll(/[ \t]/g, '')) {
      case '==':
        return compare('==');
      case '!=':
        return not(compare('=='));
      case 'contains':
        return compare('contains');
      case 'startswith':
        return compare('starts with');
      case 'endswith':
        return compare('ends with');
      case 'in':
        return isIn();
      case 'notin':
        return not(isIn());
      default:
        return fail('an operator (==, !=, in, not in, contains, starts with, ends with)');
    }
  }

  function label(expected: string): string {
    const start = at;
    const name = match(LABEL) ?? fail(expected);
    if (name.length <= MAX_LABEL_LENGTH) return name;
    at = start;
    return fail(`a label's name of at most ${MAX_LABEL_LENGTH} characters`);
  }

  function string(expected = 'a string in quotes'): string {
    const quote = text[at];
    if (quote !== '"' && quote !== "'") return fail(expected);
    const end = text.indexOf(quote, at + 1);
    if (end === -1) throw new SelectorError(at, `a closing ${quote} for the string that begins here`, 'the end');
    const value = text.slice(at + 1, end);
    moveTo(end + 1);
    return value;
  }

  function set(): ReadonlySet<string> {
    const values = new Set<string>();
    if (!take('{')) return fail('a set such as {"a", "b"}');
    while (!take('}')) {
      values.add(string('a string in quotes or }'));
      if (!take(',') && text[at] !== '}') return fail('a comma or }');
    }
    return values;
  }

  /** Steps over a token, if it is the next one. */
  function take(token: string): boolean {
    if (!text.startsWith(token, at)) return false;
    moveTo(at + token.length);
    return true;
  }

  /** Steps over what a sticky expression matches here. */
  function match(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    const token = pattern.exec(text)?.[0];
    if (token !== undefined) moveTo(at + token.length);
    return token;
  }

  /** Goes to the first character from here on that is not a blank. */
  function moveTo(offset: number): void {
    at = offset;
    while (text[at] === ' ' || text[at] === '\t') at++;
  }

  function fail(expected: string): never {
    throw new SelectorError(at, expected, tokenAt(text, at));
  }
}

function not(operand: Selector): Selector {
  return operand.kind === 'not' ? operand.operand : { kind: 'not', operand };
}

/**
 * The token at an offset, bounded and printable. Quotes and blanks that only look like ASCII are shown by their
 * numbers.
 */
function tokenAt(text: string, at: number): string {
  const point = text.codePointAt(at);
  if (point === undefined) return 'the end';
  if (point < 0x20 || point > 0x7e) return `U+${point.toString(16).toUpperCase().padStart(4, '0')}`;
  const token = plain(TOKEN.exec(text.slice(at, at + 80))?.[0] ?? '', 40);
  return point === 0x22 || point === 0x27 ? `the string ${token}` : `"${token}"`;
}
