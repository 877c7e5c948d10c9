import { describe, expect, test } from '@jest/globals';
import { attackFacts, type AttackFacts } from '../../agent/rulesets/attack.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';

function factsOf(options: string, cves: string[] = []): AttackFacts {
  const [rule] = parseRules(`alert tcp any any -> any any (${options} sid:1;)`, { file: 'x.rules' }).rules;
  if (rule === undefined) throw new Error('no rule');
  return attackFacts(rule, cves);
}

describe('what a rule states', () => {
  test('counts, in the keys of this project and of Emerging Threats', () => {
    expect(factsOf('metadata:mitre_technique T1190, mitre_tactic TA0001; classtype:coin-mining;')).toMatchObject({
      mitreIds: ['T1190'],
      mitreTactic: 'TA0001',
      mitreSource: 'rule',
    });
    expect(
      factsOf(
        'metadata:attack_target Client_Endpoint, mitre_tactic_id TA0011, mitre_tactic_name Command_And_Control, mitre_technique_id t1071, mitre_technique_name X;',
      ),
    ).toEqual({ mitreIds: ['T1071'], mitreTactic: 'TA0011', mitreSource: 'rule', mitigations: [] });
  });

  test('is not completed by what would follow from the class', () => {
    expect(factsOf('metadata:mitre_technique T1190; classtype:coin-mining;')).not.toHaveProperty('mitreTactic');
  });

  test('its mitigations too', () => {
    expect(factsOf('metadata:mitigation Patch it; classtype:coin-mining;', ['CVE-1-1']).mitigations).toEqual([
      'Patch it',
    ]);
  });
});

describe('what follows from the class', () => {
  test('says that it does', () => {
    expect(factsOf('classtype:network-scan;')).toMatchObject({
      mitreIds: ['T1046'],
      mitreTactic: 'TA0007',
      mitreSource: 'class',
    });
    expect(factsOf('classtype:Denial-Of-Service;')).toEqual({
      mitreIds: [],
      mitreTactic: 'TA0040',
      mitreSource: 'class',
      mitigations: [],
    });
  });

  test('is nothing where the class says only how bad it is', () => {
    for (const classtype of ['attempted-admin', 'misc-attack', 'trojan-activity', 'constructor', '']) {
      expect(factsOf(`classtype:${classtype};`)).toEqual({ mitreIds: [], mitigations: [] });
    }
  });

  test('is what the category says, where a message has one', () => {
    expect(factsOf('msg:"MALWARE-CNC Win.Trojan.Bredolab outbound"; classtype:trojan-activity;')).toMatchObject({
      mitreTactic: 'TA0011',
      mitreSource: 'class',
    });
    expect(factsOf('msg:"About MALWARE-CNC "; classtype:trojan-activity;')).not.toHaveProperty('mitreTactic');
  });

  test('an update is a mitigation wherever there is a CVE', () => {
    expect(factsOf('classtype:misc-attack;', ['CVE-2021-44228']).mitigations).toEqual([
      'Update what is affected by CVE-2021-44228.',
    ]);
  });
});
