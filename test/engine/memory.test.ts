import { describe, expect, test } from '@jest/globals';
import { residentBytes, spareBytes, whyNotWhileRunning } from '../../agent/engine/memory.ts';
import type { EngineRules } from '../../agent/engine/rules.ts';

const MIB = 2 ** 20;
const setOf = (name: string, rules: number) => ({
  name: `${name}.rules`,
  sets: [name],
  text: '',
  origins: Array.from({ length: rules }, (_, line) => ({ line, endLine: line, file: '', fileLine: line })),
});
const rules = (...counts: number[]): EngineRules => ({
  files: counts.map((count, index) => setOf(`s${index}`, count)),
  defaults: ['s0'],
  policies: [],
});

describe('an engine goes over to other rules while it runs', () => {
  test('where its limit and the container hold both', () => {
    expect(whyNotWhileRunning('suricata', rules(4_000), rules(4_001), 768 * MIB, Infinity)).toBeUndefined();
    expect(whyNotWhileRunning('snort', rules(30_000), rules(30_000), 768 * MIB, 400 * MIB)).toBeUndefined();
  });

  test('and not where its limit does not: the estimate is the reason', () => {
    expect(whyNotWhileRunning('suricata', rules(4_000), rules(100_000), 768 * MIB, Infinity)).toMatch(
      /^100000 rules beside the 4000 before take about \d+ MB, and engine\.memoryLimit is 768 MB$/,
    );
  });

  test('and not where the container has not enough left', () => {
    expect(whyNotWhileRunning('snort', rules(10), rules(30_000), 768 * MIB, 100 * MIB)).toMatch(
      /and of its limit the container has 100 MB left, which are to hold \d+ MB more$/,
    );
  });

  test('rules of a policy count once more, those that nobody has do not', () => {
    const policy = { id: 2, sets: ['s0', 's1'], vlans: [7] };
    const reason = (next: EngineRules): string | undefined =>
      whyNotWhileRunning('suricata', rules(0), next, 0, Infinity);
    expect(reason(rules(3, 5))).toMatch(/^3 rules/);
    expect(reason({ ...rules(3, 5), shared: ['s0', 's1'] })).toMatch(/^8 rules/);
    expect(reason({ ...rules(3, 5), policies: [policy] })).toMatch(/^11 rules/);
  });
});

test('a process that runs has memory, and what is not known is none', () => {
  expect(residentBytes(process.pid)).toBeGreaterThan(MIB);
  expect(residentBytes(undefined)).toBe(0);
  expect(spareBytes()).toBeGreaterThan(0);
});
