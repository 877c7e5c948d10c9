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
 * Blanks are spaces and tabs only: a line break outside a string is an error. They may stand between any two tokens,
 * but not within `has(`, `all(` and `global(`; `startswith`, `endswith` and `notin` may do without theirs. Operators
 * and functions are not reserved: `in in {"in"}` is about a label `in`. `!` negates the one operation after it: `!a ==
 * "b"` is `!(a == "b")`.
 *
 * Whether a resource may have an empty selector is the business of its schema, not of the language.
 */

export { matches } from './evaluate.ts';
export type { Labels } from './evaluate.ts';
export { MAX_SELECTOR_DEPTH, MAX_SELECTOR_LENGTH, parseSelector, SelectorError } from './parse.ts';
export { printSelector } from './print.ts';
export type { Selector } from './tree.ts';
