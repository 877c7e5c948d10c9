/** Selectors and labels for the property tests: few names and values, so that they meet. */
import * as fc from 'fast-check';
import type { Selector } from '../../../agent/kube/selector/selector.ts';

const LABELS = ['a', 'in', 'has', 'not', 'app.kubernetes.io/name', 'projectcalico.org/namespace', '__proto__'];
const VALUES = ['', 'x', 'y', 'xyx', "'", '"', ' ', '\n', 'é😀', '&& !has(a)'];

const label = fc.constantFrom(...LABELS);
const value = fc.oneof(
  fc.constantFrom(...VALUES),
  fc.string({ maxLength: 8 }).map((text) => text.replaceAll('"', '')),
);

/** Trees as parseSelector makes them: no `not` of a `not`, two operands or more. */
export const selectors: fc.Arbitrary<Selector> = fc.letrec<{ any: Selector; positive: Selector }>((tie) => ({
  any: fc.oneof(
    { weight: 3, arbitrary: tie('positive') },
    { weight: 1, arbitrary: tie('positive').map((operand): Selector => ({ kind: 'not', operand })) },
  ),
  positive: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<Selector>({ kind: 'all' }, { kind: 'global' }),
    fc.record({ kind: fc.constant('has' as const), label }),
    fc.record({
      kind: fc.constant('compare' as const),
      label,
      operator: fc.constantFrom('==' as const, 'contains' as const, 'starts with' as const, 'ends with' as const),
      value,
    }),
    fc.record({
      kind: fc.constant('in' as const),
      label,
      values: fc.array(value, { maxLength: 4 }).map((values) => new Set(values)),
    }),
    fc.record({
      kind: fc.constantFrom('and' as const, 'or' as const),
      operands: fc.array(tie('any'), { minLength: 2, maxLength: 4 }),
    }),
  ),
})).any;

export const labels: fc.Arbitrary<Record<string, string>> = fc.dictionary(label, fc.constantFrom(...VALUES));

/** Pieces of the language and of what is nearly the language. */
export const pieces: fc.Arbitrary<string> = fc.constantFrom(
  ...`== = != ! && & || | ( ) { } , " ' % é \u001B[2J "x" 'y'`.split(' '),
  ...'a in not notin has has( all( global( contains starts ends with startswith has(a) all() global()'.split(' '),
  ' ',
  '\t',
  '\n',
  '\uD800',
  'a == "x"',
  `a in {"x", 'y',}`,
  'a not in {}',
  'a starts with "x"',
);
