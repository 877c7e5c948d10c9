import { expect, test } from '@jest/globals';
import { createFilter } from '../../agent/ship/when.ts';
import { entryOf, eventOf } from './http/support.ts';

const taken = (when: Record<string, unknown>, event: object = eventOf()): boolean => {
  const entry = entryOf({ stdout: {}, when });
  return createFilter(entry.when ?? {})(event as Record<string, unknown>);
};

test.each<[Record<string, unknown>, boolean]>([
  [{}, true],
  [{ severity: 100 }, true],
  [{ severity: 80, namespace: 'shop' }, true],
  [{ namespace: ['pay', 'sh*'] }, true],
  [{ namespace: 'pay, blog' }, false],
  [{ resource: 'shop/*' }, true],
  [{ resource: '*/api' }, false],
  [{ pod: 'shop/db-*' }, true],
  // The inspected pod is not the other end.
  [{ pod: 'shop/cart-*' }, false],
  [{ signature: 21562 }, true],
  [{ signature: ['7', '1:21562'] }, true],
  [{ signature: '3:21562' }, false],
  [{ class: 'Trojan-Activity' }, true],
  [{ class: 'a network trojan was detected' }, true],
  [{ class: ['misc-activity'] }, false],
  [{ tactic: 'TA0011' }, true],
  [{ tactic: ['Discovery', 'command and control'] }, true],
  [{ tactic: 'TA0007' }, false],
  // All criteria have to hold.
  [{ severity: 80, tactic: 'TA0007' }, false],
])('%j takes it: %s', (when, expected) => {
  expect(taken(when)).toBe(expected);
});

test('a tactic that a rule states by its name is the same', () => {
  expect(taken({ tactic: 'TA0011' }, eventOf(0, { mitre_tactic: 'Command_and_Control' }))).toBe(true);
});

test('an event that lacks the field is not taken', () => {
  const foreign = { record: 7, seen_at: 'x' };
  for (const when of [{ severity: 0 }, { namespace: 'a*' }, { pod: '*/*' }, { signature: 1 }, { tactic: 'x' }]) {
    expect(taken(when, foreign)).toBe(false);
  }
});
