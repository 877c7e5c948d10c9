/**
 * Calico's selector language: which labels a resource is about.
 *
 * The language, and what it means, are those of Calico's own parser (projectcalico/calico, libcalico-go/lib/selector):
 *
 *     selector   := "" | or                          "" is all()
 *     or         := and ("||" and)*
 *     and        := operation ("&&" operation)*      binds tighter than ||
 *     operation  := "!"* ( "(" or ")" | "has(" label ")" | "all(" ")" | "global(" ")" | comparison )
 *     comparison := label ("==" | "!=" | "contains" | "starts with" | "ends with") string
 *                 | label ("in" | "not in") "{" (string ("," string)* ","?)? "}"
 *     label      := 1 to 512 of A-Z a-z 0-9 _ . / -
 *     string     := "…" or '…', of any characters but its own quote; there are no escapes
 *
 * Blanks are spaces and tabs only: a line break outside a string is an error. They may stand between any two tokens, but not
 * within `has(`, `all(` and `global(`; `startswith`, `endswith` and `notin` may do without theirs. Operators and functions are
 * not reserved: `in in {"in"}` is about a label `in`. `!` negates the one operation after it: `!a == "b"` is `!(a == "b")`.
 *
 * Whether a resource may have an empty selector is the business of its schema, not of the language.
 */

/**
 * What a text says. Negation has one form: `a != "b"` is `not` of `a == "b"`, `not in` is `not` of `in` (both select what lacks
 * the label), and there is no `not` of a `not`.
 */
export type Selector =
  | { kind: 'all' }
  | { kind: 'global' }
  | { kind: 'has'; label: string }
  | { kind: 'compare'; label: string; operator: Comparison; value: string }
  | { kind: 'in'; label: string; values: ReadonlySet<string> }
  | { kind: 'not'; operand: Selector }
  /** Two operands or more, in the order of the text. */
  | { kind: 'and' | 'or'; operands: readonly Selector[] };

export type Comparison = '==' | 'contains' | 'starts with' | 'ends with';

export { matches } from './evaluate.ts';
export type { Labels } from './evaluate.ts';
export { MAX_SELECTOR_DEPTH, MAX_SELECTOR_LENGTH, parseSelector, SelectorError } from './parse.ts';
export { printSelector } from './print.ts';
