/**
 * Regular expressions and globs that an operator wrote: none of them can hold up the process, however it is written.
 *
 * Expressions have JavaScript's own syntax, as `expression` or `/expression/flags` (flags: i, m, s, u). A look at texts
 * that takes longer than its time ends with an error; V8 interrupts an expression in the middle of its backtracking.
 */
import { createContext, Script } from 'node:vm';
import { errorCode, messageOf } from './files/errors.ts';
import { isLike } from './files/glob.ts';

/** For all texts of one call. */
const LOOK_MILLIS = 1_000;
const MAX_PATTERN_LENGTH = 1_000;

export interface Pattern {
  /** As it was written. */
  source: string;
  /** Indices of the texts that it matches. @throws PatternError when that takes too long. */
  matching(texts: readonly string[]): number[];
  /**
   * The text with each match replaced (`\1` to `\9` are the groups, `\0` the match); undefined where nothing matches.
   * @throws PatternError
   */
  replace(text: string, replacement: string): string | undefined;
}

export class PatternError extends Error {}

const MATCHING = new Script('texts.flatMap((text, index) => expression.test(text) ? [index] : [])');
const REPLACE = new Script(
  String.raw`text.replace(expression, (...groups) => replacement.replace(/\\([0-9\\])/g, (_, digit) => digit === '\\' ? '\\' : typeof groups[digit] === 'string' ? groups[digit] : ''))`,
);

/** @throws PatternError that says what is wrong with it. */
export function parsePattern(source: string, millis = LOOK_MILLIS): Pattern {
  if (source === '') throw new PatternError('is empty');
  if (source.length > MAX_PATTERN_LENGTH) throw new PatternError(`is longer than ${MAX_PATTERN_LENGTH} characters`);
  const delimited = /^\/(.+)\/([imsu]*)$/s.exec(source);
  let expression: RegExp;
  try {
    expression = new RegExp(delimited?.[1] ?? source, delimited?.[2] ?? '');
  } catch (error) {
    throw new PatternError(`is no regular expression: ${messageOf(error)}`);
  }
  const everywhere = new RegExp(expression.source, `${expression.flags}g`);

  function look(script: Script, values: object): unknown {
    try {
      return script.runInContext(createContext(values), { timeout: millis });
    } catch (error) {
      if (errorCode(error) === 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
        throw new PatternError(`takes longer than ${millis} ms: write it without repetitions inside of repetitions`);
      }
      throw error;
    }
  }

  return {
    source,
    matching: (texts) => [...(look(MATCHING, { expression, texts }) as number[])],
    replace(text, replacement) {
      const result = String(look(REPLACE, { expression: everywhere, text, replacement }));
      return result === text && this.matching([text]).length === 0 ? undefined : result;
    },
  };
}

/** `*` stands for any characters, also none; all else for itself. */
export function globTester(glob: string): (text: string) => boolean {
  const parts = glob.split('*');
  return (text) => isLike(parts, text);
}
