/** Whether a selector selects something, by its labels. */
import type { Selector } from './tree.ts';

/** A label's value by its name; undefined where there is no such label. Of an object only its own properties count. */
export type Labels = Readonly<Record<string, string>> | ((name: string) => string | undefined);

/**
 * Calico gives this label to whatever has a namespace. Its library lets `global()` select everything, but policies get
 * there only with `global()` already replaced by `!has(projectcalico.org/namespace)` ("match all non-namespaced
 * resources").
 */
const NAMESPACE = 'projectcalico.org/namespace';

/**
 * A comparison with a label that is absent is false, so its negation (`!=`, `not in`) is true. `global()` selects what
 * has no label `projectcalico.org/namespace`: no pod, if the caller adds that label as Calico does.
 * @param selector From parseSelector: the depth of the recursion is that of the tree, which it bounds.
 */
export function matches(selector: Selector, labels: Labels): boolean {
  const get =
    typeof labels === 'function'
      ? labels
      : (name: string): string | undefined => (Object.hasOwn(labels, name) ? labels[name] : undefined);
  return evaluate(selector, get);
}

function evaluate(selector: Selector, get: (name: string) => string | undefined): boolean {
  switch (selector.kind) {
    case 'all':
      return true;
    case 'global':
      return get(NAMESPACE) === undefined;
    case 'has':
      return get(selector.label) !== undefined;
    case 'compare': {
      const actual = get(selector.label);
      return actual !== undefined && compare(actual, selector);
    }
    case 'in': {
      const actual = get(selector.label);
      return actual !== undefined && selector.values.has(actual);
    }
    case 'not':
      return !evaluate(selector.operand, get);
    case 'and':
      return selector.operands.every((operand) => evaluate(operand, get));
    case 'or':
      return selector.operands.some((operand) => evaluate(operand, get));
  }
}

function compare(actual: string, { operator, value }: Extract<Selector, { kind: 'compare' }>): boolean {
  switch (operator) {
    case '==':
      return actual === value;
    case 'contains':
      return actual.includes(value);
    case 'starts with':
      return actual.startsWith(value);
    case 'ends with':
      return actual.endsWith(value);
  }
}
