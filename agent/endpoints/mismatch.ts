/** Says why a selector does not select a pod: the first part of it that fails, and the label as it is. */
import type { Labels } from '../kube/selector/selector.ts';
import { matches, printSelector, type Selector } from '../kube/selector/selector.ts';

/** @returns undefined when it selects. */
export function mismatch(selector: Selector, labels: Labels): string | undefined {
  if (matches(selector, labels)) return undefined;
  if (selector.kind === 'and') {
    for (const operand of selector.operands) {
      const failing = mismatch(operand, labels);
      if (failing !== undefined) return failing;
    }
  }
  const text = printSelector(selector);
  const tested = selector.kind === 'not' ? selector.operand : selector;
  if (!('label' in tested)) return `not ${text}`;
  const value = typeof labels === 'function' ? labels(tested.label) : labels[tested.label];
  return `not ${text}: ${tested.label} is ${value === undefined ? 'absent' : JSON.stringify(value)}`;
}
