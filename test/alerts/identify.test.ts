import { describe, expect, test } from '@jest/globals';
import { identify, type Identification } from '../../agent/alerts/identify.ts';
import { BUILT_IN_VOCABULARY } from '../../agent/rulesets/classes.ts';
import type { RuleIndex } from '../../agent/rulesets/sets.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';
import { endpointOf, engineAlert } from '../support/attributed.ts';

const RULE = 'alert tcp any any -> any any (msg:"From the rule"; classtype:trojan-activity; sid:7; rev:2;)';

const alert = engineAlert({
  sid: 7,
  rev: 2,
  message: '',
  priority: 0,
});

const pod = endpointOf('pod', {
  id: 'shop/pod',
  namespace: 'shop',
  addresses: ['10.0.0.2'],
  resources: ['shop/strict', 'shop/default'],
  ruleSets: { 'shop/strict': ['strict'] },
});

const position = { generation: 'g', offset: 17 };

function by(changes: Partial<Identification> = {}): Identification {
  const [rule] = parseRules(RULE, { file: 'test.rules' }).rules;
  const rules = { get: (key: string) => (key === '1:7' ? rule : undefined) } as unknown as RuleIndex;
  return {
    rules,
    vocabulary: BUILT_IN_VOCABULARY,
    owners: { owner: (vlan) => (vlan === 1 ? pod : undefined), at: () => [pod] },
    sensor: { engine: { name: 'snort', version: '3' }, node: 'node' },
    ...changes,
  };
}

describe('an alert', () => {
  test('has the texts and the facts of its rule, its position, and is one for each resource that selects its pod', () => {
    const identified = identify(alert, position, by());
    expect(identified.map(({ resource }) => resource)).toEqual(['shop/strict', 'shop/default']);
    for (const copy of identified) {
      expect(copy).toMatchObject({
        position,
        seenAt: [{ id: 'shop/pod' }],
        alert: { message: 'From the rule', classification: 'A Network Trojan was detected', priority: 1 },
        rule: { classtype: 'trojan-activity' },
      });
    }
  });

  test('is none of a resource that did not ask for its signature', () => {
    const asks = (ruleSets: readonly string[] | undefined): boolean => ruleSets?.includes('strict') === true;
    expect(identify(alert, position, by({ asks })).map(({ resource }) => resource)).toEqual(['shop/strict']);
  });

  test('of a rule that is not known has what the engine said, and no facts', () => {
    const [first] = identify({ ...alert, sid: 8, message: 'From the engine' }, position, by());
    expect(first?.alert.message).toBe('From the engine');
    expect(first).not.toHaveProperty('rule');
  });

  test('of an id that nobody held is nobody’s', () => {
    expect(identify({ ...alert, vlan: 2 }, position, by())).toEqual([]);
  });
});
