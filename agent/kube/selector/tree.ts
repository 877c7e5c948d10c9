/**
 * What a text says. Negation has one form: `a != "b"` is `not` of `a == "b"`, `not in` is `not` of `in` (both select
 * what lacks the label), and there is no `not` of a `not`.
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
