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

/** Where the text is read. */
interface Reader {
  readonly text: string;
  /** The next character that is no blank. */
  at: number;
  /** Parentheses that are open. */
  depth: number;
}

/** @throws SelectorError for the first thing that is wrong, or for a text beyond the bounds above. */
export function parseSelector(text: string): Selector {
  if (text.length > MAX_SELECTOR_LENGTH) {
    throw new SelectorError(MAX_SELECTOR_LENGTH, `at most ${MAX_SELECTOR_LENGTH} characters`, `${text.length}`);
  }
  const reader: Reader = { text, at: 0, depth: 0 };
  moveTo(reader, 0);
  if (reader.at === text.length) return { kind: 'all' };
  const selector = parseOr(reader);
  return reader.at === text.length ? selector : fail(reader, '&&, || or the end');
}

function parseOr(reader: Reader): Selector {
  return parseJoined(reader, 'or', '||', parseAnd);
}

function parseAnd(reader: Reader): Selector {
  return parseJoined(reader, 'and', '&&', parseOperation);
}

function parseJoined(
  reader: Reader,
  kind: 'and' | 'or',
  operator: string,
  parseOperand: (reader: Reader) => Selector,
): Selector {
  const first = parseOperand(reader);
  if (!skip(reader, operator)) return first;
  const operands = [first];
  do operands.push(parseOperand(reader));
  while (skip(reader, operator));
  return { kind, operands };
}

function parseOperation(reader: Reader): Selector {
  let negated = false;
  while (match(reader, NOT) !== undefined) negated = !negated;
  const operand = parseParenthesized(reader) ?? parseCall(reader) ?? parseComparison(reader);
  return negated ? not(operand) : operand;
}

function parseParenthesized(reader: Reader): Selector | undefined {
  if (reader.text[reader.at] !== '(') return undefined;
  if (reader.depth === MAX_SELECTOR_DEPTH) return fail(reader, `at most ${MAX_SELECTOR_DEPTH} nested parentheses`);
  reader.depth++;
  skip(reader, '(');
  const inner = parseOr(reader);
  if (!skip(reader, ')')) return fail(reader, '&&, || or a closing )');
  reader.depth--;
  return inner;
}

function parseCall(reader: Reader): Selector | undefined {
  const name = match(reader, FUNCTION);
  if (name === undefined) return undefined;
  const call: Selector =
    name === 'has('
      ? { kind: 'has', label: parseLabel(reader, "a label's name") }
      : { kind: name === 'all(' ? 'all' : 'global' };
  return skip(reader, ')') ? call : fail(reader, 'a closing )');
}

function parseComparison(reader: Reader): Selector {
  const label = parseLabel(reader, "a label's name, has(…), all(), global(), ! or (");
  switch (match(reader, OPERATOR)?.replaceAll(/[ \t]/g, '')) {
    case '==':
      return compare(reader, label, '==');
    case '!=':
      return not(compare(reader, label, '=='));
    case 'contains':
      return compare(reader, label, 'contains');
    case 'startswith':
      return compare(reader, label, 'starts with');
    case 'endswith':
      return compare(reader, label, 'ends with');
    case 'in':
      return { kind: 'in', label, values: parseSet(reader) };
    case 'notin':
      return not({ kind: 'in', label, values: parseSet(reader) });
    default:
      return fail(reader, 'an operator (==, !=, in, not in, contains, starts with, ends with)');
  }
}

function compare(reader: Reader, label: string, operator: Comparison): Selector {
  return { kind: 'compare', label, operator, value: parseString(reader, 'a string in quotes') };
}

function parseLabel(reader: Reader, expected: string): string {
  const start = reader.at;
  const name = match(reader, LABEL) ?? fail(reader, expected);
  if (name.length <= MAX_LABEL_LENGTH) return name;
  reader.at = start;
  return fail(reader, `a label's name of at most ${MAX_LABEL_LENGTH} characters`);
}

function parseString(reader: Reader, expected: string): string {
  const { text, at } = reader;
  const quote = text[at];
  if (quote !== '"' && quote !== "'") return fail(reader, expected);
  const end = text.indexOf(quote, at + 1);
  if (end === -1) throw new SelectorError(at, `a closing ${quote} for the string that begins here`, 'the end');
  moveTo(reader, end + 1);
  return text.slice(at + 1, end);
}

function parseSet(reader: Reader): ReadonlySet<string> {
  const values = new Set<string>();
  if (!skip(reader, '{')) return fail(reader, 'a set such as {"a", "b"}');
  while (!skip(reader, '}')) {
    values.add(parseString(reader, 'a string in quotes or }'));
    if (!skip(reader, ',') && reader.text[reader.at] !== '}') return fail(reader, 'a comma or }');
  }
  return values;
}

/** Steps over a token. @returns false: it is not the next one. */
function skip(reader: Reader, token: string): boolean {
  if (!reader.text.startsWith(token, reader.at)) return false;
  moveTo(reader, reader.at + token.length);
  return true;
}

/** Steps over what a sticky expression matches here. */
function match(reader: Reader, pattern: RegExp): string | undefined {
  pattern.lastIndex = reader.at;
  const token = pattern.exec(reader.text)?.[0];
  if (token !== undefined) moveTo(reader, reader.at + token.length);
  return token;
}

/** Goes to the first character from here on that is not a blank. */
function moveTo(reader: Reader, offset: number): void {
  const { text } = reader;
  let at = offset;
  while (text[at] === ' ' || text[at] === '\t') at++;
  reader.at = at;
}

function fail({ text, at }: Reader, expected: string): never {
  throw new SelectorError(at, expected, tokenAt(text, at));
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
