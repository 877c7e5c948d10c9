import { describe, expect, test } from '@jest/globals';
import type { Alert } from '../../agent/engine/alert.ts';
import { BUILT_IN_VOCABULARY, parseClasses } from '../../agent/rulesets/classes.ts';
import { ruleFacts, withRule } from '../../agent/rulesets/enrich.ts';
import { parseRules, type RuleInfo } from '../../agent/rulesets/rule.ts';

function rule(options: string): RuleInfo {
  const [parsed] = parseRules(`alert tcp any any -> any any (${options} sid:1; rev:1;)`, { file: 'x.rules' }).rules;
  if (parsed === undefined) throw new Error('no rule');
  return parsed;
}

describe('withRule', () => {
  const alert = { sid: 1, message: '', classification: '', priority: 2 } as Alert;
  const known = rule('msg:"the rule"; classtype:trojan-activity;');

  test('gives an alert without texts the rule’s', () => {
    expect(withRule(alert, known)).toEqual({
      ...alert,
      message: 'the rule',
      classification: 'A Network Trojan was detected',
    });
  });

  test('keeps what the engine said', () => {
    expect(withRule({ ...alert, message: 'engine' }, known)).toMatchObject({
      message: 'engine',
      classification: 'A Network Trojan was detected',
    });
    expect(withRule({ ...alert, classification: 'A Trojan' }, known)).toMatchObject({
      message: 'the rule',
      classification: 'A Trojan',
    });
  });

  test('leaves an alert alone that has both, or whose rule nobody knows', () => {
    const whole = { ...alert, message: 'm', classification: 'c' };
    expect(withRule(whole, known)).toBe(whole);
    expect(withRule(alert, undefined)).toBe(alert);
  });
});

describe('a class', () => {
  const alert = { sid: 1, message: 'm', classification: 'c', priority: 3 } as Alert;

  test('that the set of a rule defines counts before the engine’s, but not before the rule’s own priority', () => {
    const ownClass = { text: 'Our very own class', priority: 1 };
    const own = { ...rule('classtype:own;'), ownClass };
    expect(withRule(alert, own)).toMatchObject({ classification: 'Our very own class', priority: 1, message: 'm' });
    const rated = { ...rule('classtype:own; priority:4;'), ownClass };
    expect(withRule(alert, rated)).toMatchObject({ classification: 'Our very own class', priority: 4 });
  });

  test('that the engine does not know, and the agent does, is the agent’s', () => {
    const unknown = { ...alert, classification: '' };
    expect(withRule(unknown, rule('classtype:trojan-activity;'))).toMatchObject({ priority: 1 });
    expect(withRule(unknown, rule('classtype:nobodys;'))).toMatchObject({ priority: 3, classification: 'nobodys' });
  });
});

describe('priority', () => {
  const alert = { message: 'm', classification: 'c', priority: 0 } as Alert;
  test.each([
    ['classtype:misc-activity; priority:2;', 2],
    ['classtype:Misc-Activity;', 3],
    ['classtype:own;', 0],
    ['msg:"m";', 0],
  ])('of an alert without one is that of %s', (options, priority) => {
    expect(withRule(alert, rule(options)).priority).toBe(priority);
  });

  test('is that of the operator’s own classes', () => {
    const classes = parseClasses('config classification: own,Our own,1\n');
    expect(
      withRule({ ...alert, classification: '' }, rule('classtype:own;'), { ...BUILT_IN_VOCABULARY, classes }),
    ).toEqual({
      ...alert,
      classification: 'Our own',
      priority: 1,
    });
  });
});

describe('ruleFacts', () => {
  test('of a rule that says nothing are empty', () => {
    expect(ruleFacts(rule('msg:"m";'))).toEqual({
      classtype: '',
      references: [],
      links: [],
      cves: [],
      text: rule('msg:"m";').text,
      mitreIds: [],
      mitigations: [],
    });
    const known = rule('msg:"m";');
    expect(ruleFacts(known)).toBe(ruleFacts(known));
  });

  test('has all references, and the CVE ids among them, however they are written', () => {
    const facts = ruleFacts(
      rule(
        'reference:cve,2021-44228; reference:CVE,cve-2014-6271; reference:cve,CVE-2017-0144; reference:url,example.test/a,b;',
      ),
    );
    expect(facts.references).toEqual([
      'cve,2021-44228',
      'CVE,cve-2014-6271',
      'cve,CVE-2017-0144',
      'url,example.test/a,b',
    ]);
    expect(facts.cves).toEqual(['CVE-2021-44228', 'CVE-2014-6271', 'CVE-2017-0144']);
  });

  test('has the text on one line', () => {
    expect(ruleFacts(rule('msg:"m";\\\n    content:"a";\r\n')).text).toMatch(/msg:"m"; content:"a"; \S/);
    expect(ruleFacts(rule('msg:"m";\n\n  content:"a b";')).text).toContain('msg:"m"; content:"a b";');
  });

  test('has techniques, the first tactic and mitigations of the metadata', () => {
    const facts = ruleFacts(
      rule(
        'metadata:mitre_technique T1190, mitre_technique T1059, mitre_tactic Initial Access, mitre_tactic Execution, mitigation Patch it;',
      ),
    );
    expect(facts).toMatchObject({
      mitreIds: ['T1190', 'T1059'],
      mitreTactic: 'Initial Access',
      mitigations: ['Patch it'],
    });
  });
});
