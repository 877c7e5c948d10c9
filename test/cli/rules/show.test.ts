import { expect, test } from '@jest/globals';
import picocolors from 'picocolors';
import { describeRule, joined, linesOf, type ShownRule } from '../../../agent/cli/rules/show.ts';
import type { EngineName } from '../../../agent/engine/engine.ts';
import { BUILT_IN_VOCABULARY } from '../../../agent/rulesets/classes.ts';
import { parseRules } from '../../../agent/rulesets/rule.ts';

const plain = picocolors.createColors(false);

function shown(file: string, engines: EngineName[], options = 'msg:"M";'): ShownRule {
  const [rule] = parseRules(`alert tcp any any -> any any (${options} sid:7; rev:2;)`, { file }).rules;
  if (rule === undefined) throw new Error('no rule');
  const described = describeRule(
    { set: 'own', rule: { ...rule, changes: [3] }, outcome: { kind: 'disabled' } },
    BUILT_IN_VOCABULARY,
    '/changes',
  );
  for (const engine of engines) described.engines[engine] = { given: true };
  return described;
}

test('a set with a file for each engine has one rule: the installed engine’s, with the place of the other', () => {
  const both = [shown('/a/snort.rules', ['snort']), shown('/a/suricata.rules', ['suricata'])];
  expect(joined(both, 'suricata')).toMatchObject([
    {
      file: '/a/suricata.rules',
      engines: { suricata: { given: true }, snort: { given: true, place: '/a/snort.rules:1' } },
    },
  ]);
});

test('rules that an engine has twice stay two', () => {
  const twice = [shown('/a.rules', ['snort', 'suricata']), shown('/b.rules', ['snort', 'suricata'])];
  expect(joined(twice, 'snort')).toHaveLength(2);
});

test('no text of a rule reaches the terminal as it is', () => {
  const evil = '\u001B[2J\u009B31m\r\u202E';
  const lines = linesOf(
    shown(
      `/x${evil}.rules`,
      [],
      `msg:"M${evil}"; content:"c${evil}"; reference:url,u${evil}; classtype:k${evil}; metadata:mitigation m${evil};`,
    ),
    true,
    plain,
  );
  for (const line of lines) expect(line).toMatch(/^[^\p{Cc}\u202E]*$/u);
  expect(lines).toContain('1:7:2  M');
  expect(lines.find((line) => line.startsWith('changed by'))).toBe('changed by  /changes:3');
});
