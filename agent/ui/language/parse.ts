/**
 * Reads queries in the form of Kibana's language (KQL,
 * https://www.elastic.co/docs/explore-analyze/query-filter/languages/kql):
 *
 *   log4j jndi                        words, each somewhere in the alert
 *   "jndi lookup"                     a text as it is
 *   severity >= high and not pod: (shop/cart-* or ci/*)
 *
 * `and` binds tighter than `or`, and is meant where nothing stands between two. `*` stands for any characters, in words
 * and values without quotes. `\` takes its meaning from the next character.
 *
 * Nothing but a LanguageError is thrown; the time is linear in the text. Of the language, nested fields are not there.
 */
import { distance } from 'fastest-levenshtein';
import { addressNumber } from './address.ts';
import type { Condition } from './condition.ts';
import { allOf, anyOf, anywhere, FIELDS, type Field, type Span, type Value } from './fields.ts';

/** UTF-16 units. */
export const MAX_QUERY = 1000;
/** Words and values. */
const MAX_VALUES = 64;
const MAX_DEPTH = 32;

const BLANKS = /\s*/y;
// Digits in other names would be addresses: fe80::1.
const FIELD = /(ja[34]|[A-Za-z][A-Za-z_.]*)\s*(:|>=|<=|>|<)/iy;
const QUOTED = /"((?:[^"\\]|\\[^])*)"/y;
const WORD = /(?:[^\s()"\\]|\\[^]|\\$)+/y;
const KEYWORD = /(?:and|or|not)(?=[\s()"]|$)/iy;

type Comparison = '>=' | '<=' | '>' | '<';

/** A text that is no query. The message begins with the column. */
export class LanguageError extends Error {
  /** In UTF-16 units, from 0. */
  readonly position: number;
  constructor(position: number, message: string) {
    super(`column ${position + 1}: ${message}`);
    this.position = position;
  }
}

interface Reader {
  readonly text: string;
  at: number;
  depth: number;
  values: number;
}

/** @throws LanguageError for the first thing that is wrong. */
export function parseLanguage(text: string): Condition {
  if (text.length > MAX_QUERY) throw new LanguageError(MAX_QUERY, `expected at most ${MAX_QUERY} characters`);
  const reader: Reader = { text, at: 0, depth: 0, values: 0 };
  take(reader, BLANKS);
  if (reader.at === text.length) return { is: 'all' };
  const condition = alternatives(reader, () => term(reader));
  if (reader.at < text.length) fail(reader, 'there is no ( for this )');
  return condition;
}

function alternatives(reader: Reader, operand: () => Condition): Condition {
  const of = [sequence(reader, operand)];
  while (keyword(reader, 'or')) of.push(sequence(reader, operand));
  return anyOf(of);
}

function sequence(reader: Reader, operand: () => Condition): Condition {
  const of = [negation(reader, operand)];
  for (;;) {
    if (keyword(reader, 'and')) of.push(negation(reader, operand));
    else if (reader.at < reader.text.length && reader.text[reader.at] !== ')' && peek(reader) !== 'or')
      of.push(negation(reader, operand));
    else return allOf(of);
  }
}

function negation(reader: Reader, operand: () => Condition): Condition {
  let negated = false;
  while (keyword(reader, 'not')) negated = !negated;
  const of = inParentheses(reader, operand) ?? operand();
  return negated ? { is: 'not', of } : of;
}

function inParentheses(reader: Reader, operand: () => Condition): Condition | undefined {
  const start = reader.at;
  if (reader.text[start] !== '(') return undefined;
  if (reader.depth === MAX_DEPTH) fail(reader, `expected at most ${MAX_DEPTH} parentheses within each other`);
  reader.depth += 1;
  step(reader, 1);
  const condition = alternatives(reader, operand);
  if (reader.text[reader.at] !== ')') throw new LanguageError(start, 'this ( is not closed');
  step(reader, 1);
  reader.depth -= 1;
  return condition;
}

/** A value, with a field before it or not. */
function term(reader: Reader): Condition {
  const start = reader.at;
  FIELD.lastIndex = start;
  const [head, name = '', operator] = FIELD.exec(reader.text) ?? [];
  if (head === undefined || startsWithAddress(reader)) return anywhere(value(reader, 'a word, a field, not or ('));
  const field = FIELDS.get(name.toLowerCase()) ?? failAt(start, unknownField(name, operator === ':'));
  step(reader, head.length);
  if (operator === ':') {
    const equal = (): Condition => equals(reader, name, field);
    return inParentheses(reader, equal) ?? equal();
  }
  return compared(reader, name, field, operator as Comparison, start);
}

/** `fe80::1` is no field. */
function startsWithAddress(reader: Reader): boolean {
  WORD.lastIndex = reader.at;
  const [word = ''] = WORD.exec(reader.text) ?? [];
  return addressNumber(word.replace(/\/\d+$/, '')) !== undefined;
}

function equals(reader: Reader, name: string, field: Field): Condition {
  const start = reader.at;
  const read = value(reader, `what ${name} is`);
  if (read.length === 2 && read.every((part) => part === '') && field.number !== undefined) {
    return anyOf(field.number.map((of) => ({ is: 'number', of, from: 0 })));
  }
  return field.equals(read) ?? failAt(start, `${name}: expected ${field.expected}`);
}

function compared(reader: Reader, name: string, field: Field, operator: Comparison, at: number): Condition {
  const { span, number } = field;
  if (span === undefined || number === undefined)
    return failAt(at, `${name} has no order: expected ${name}: and a value`);
  const start = reader.at;
  const bounds =
    span(value(reader, `what ${name} is compared with`)) ?? failAt(start, `${name}: expected ${field.expected}`);
  return anyOf(number.map((of) => ({ is: 'number', of, ...rangeOf(operator, bounds) })));
}

function rangeOf(operator: Comparison, { from, below }: Span): { from: number } | { below: number } {
  switch (operator) {
    case '>=':
      return { from };
    case '>':
      return { from: below };
    case '<':
      return { below: from };
    case '<=':
      return { below };
  }
}

function value(reader: Reader, expected: string): Value {
  const start = reader.at;
  reader.values += 1;
  if (reader.values > MAX_VALUES) fail(reader, `expected at most ${MAX_VALUES} words and values`);
  if (reader.text[start] === '"') {
    const quoted = take(reader, QUOTED) ?? failAt(start, 'this quotation mark is not closed');
    return [unescaped(quoted.slice(1, -1))];
  }
  const found = peek(reader);
  if (found !== undefined)
    fail(reader, `expected ${expected}, found ${found}: put it in quotes where it is meant as a text`);
  const word = take(reader, WORD);
  if (word === undefined) return fail(reader, `expected ${expected}, found ${reader.text[start] ?? 'the end'}`);
  return partsOf(word);
}

/** Between the wildcards. */
function partsOf(word: string): string[] {
  const [first = '', ...rest] = word.match(/(?:[^*\\]|\\[^]|\\$)+|\*/g) ?? [];
  const parts = [''];
  for (const token of [first, ...rest]) {
    if (token === '*') parts.push('');
    else parts.push(`${parts.pop() ?? ''}${unescaped(token)}`);
  }
  // Two wildcards are one.
  return parts.filter((part, index) => part !== '' || index === 0 || index === parts.length - 1);
}

function unescaped(text: string): string {
  return text.replaceAll(/\\([^])/g, '$1');
}

function unknownField(name: string, colon: boolean): string {
  const wanted = name.toLowerCase().slice(0, 40);
  const names = [...FIELDS.keys()];
  const nearest = names.toSorted((a, b) => distance(a, wanted) - distance(b, wanted))[0] ?? '';
  const isNear = distance(nearest, wanted) <= Math.max(1, wanted.length / 3);
  const hint = isNear ? `did you mean ${nearest}?` : `there are ${names.join(', ')}.`;
  return `there is no field ${wanted}: ${hint}${colon ? ' A text with a colon stands in quotes.' : ''}`;
}

function keyword(reader: Reader, wanted: 'and' | 'or' | 'not'): boolean {
  if (peek(reader) !== wanted) return false;
  step(reader, wanted.length);
  return true;
}

function peek({ text, at }: Reader): string | undefined {
  KEYWORD.lastIndex = at;
  return KEYWORD.exec(text)?.[0].toLowerCase();
}

/** And the blanks behind it. */
function take(reader: Reader, pattern: RegExp): string | undefined {
  pattern.lastIndex = reader.at;
  const [found] = pattern.exec(reader.text) ?? [];
  if (found !== undefined) step(reader, found.length);
  return found;
}

function step(reader: Reader, length: number): void {
  BLANKS.lastIndex = reader.at + length;
  BLANKS.exec(reader.text);
  reader.at = Math.max(reader.at + length, BLANKS.lastIndex);
}

function fail(reader: Reader, message: string): never {
  return failAt(reader.at, message);
}

function failAt(position: number, message: string): never {
  throw new LanguageError(position, message);
}
