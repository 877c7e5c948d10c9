import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseRules } from '../../agent/rulesets/rule.ts';
import { CASES } from './kubernetes-cases.ts';

const FOLDER = resolve(import.meta.dirname, '../../rules/kubernetes');
const read = (name: string) => readFileSync(resolve(FOLDER, name), 'utf8');
const parse = (file: string) => parseRules(read(file), { file });
const snort = parse('snort.rules');
const suricata = parse('suricata.rules');

/** Short names that the classification files of both engines know. */
const CLASSES = [
  'attempted-admin',
  'attempted-recon',
  'attempted-user',
  'misc-attack',
  'policy-violation',
  'successful-admin',
  'successful-recon-limited',
  'successful-user',
  'trojan-activity',
  'web-application-attack',
];

describe.each([
  ['snort.rules', snort],
  ['suricata.rules', suricata],
])('%s', (_, { rules, problems }) => {
  test('has no damaged rule, none commented out, and each SID once, in order', () => {
    const sids = rules.map(({ sid }) => sid);
    expect(problems).toEqual([]);
    expect(rules.filter(({ enabled }) => !enabled)).toEqual([]);
    expect(sids).toEqual([...new Set(sids)].toSorted((one, other) => one - other));
    expect(sids.length).toBeGreaterThanOrEqual(32);
  });

  test.each(rules)('rule $sid has all its parts', (rule) => {
    expect(rule).toMatchObject({ action: 'alert', gid: 1 });
    expect(rule.sid).toBeGreaterThanOrEqual(1000001);
    expect(rule.sid).toBeLessThanOrEqual(1000999);
    expect(rule.rev).toBeGreaterThanOrEqual(1);
    expect(rule.message).toMatch(/^(?:CLOUD|DNS|EXPLOIT|KUBERNETES|LEAK|MALWARE|MINING|SCAN|SHELL) \S/);
    expect(CLASSES).toContain(rule.classtype);
    expect(rule.references).not.toEqual([]);
    for (const { type, id } of rule.references) {
      expect(`${type} ${id}`).toMatch(/^(?:cve \d{4}-\d{4,}|url (?!https?:)[\w.-]+\.[a-z]+(?:\/\S*)?)$/);
    }
    expect(rule.metadata['mitre_technique']?.join(' ')).toMatch(/^T\d{4}(?:\.\d{3})?(?: T\d{4}(?:\.\d{3})?)*$/);
    expect(rule.metadata['mitre_tactic']?.join(' ')).toMatch(/^TA\d{4}(?: TA\d{4})*$/);
    expect(rule.metadata['created_at']?.join(' ')).toMatch(/^\d{4}-\d\d-\d\d$/);
    expect(rule.text.match(/\bfast_pattern\b/g)).toHaveLength(1);
  });
});

describe('the rule set', () => {
  test('means the same in both syntaxes', () => {
    const said = ({ rules }: typeof snort) =>
      rules.map(({ sid, rev, message, classtype, references, metadata }) => ({
        sid,
        rev,
        message,
        classtype,
        references,
        metadata,
      }));
    expect(said(suricata)).toEqual(said(snort));
  });

  test('has a case for each rule, and no case without its rule', () => {
    const sids = [...new Set(CASES.map(({ sid }) => sid))].toSorted((one, other) => one - other);
    expect(sids).toEqual(snort.rules.map(({ sid }) => sid));
  });

  test('is described in its README, rule by rule', () => {
    const rows = [...read('README.md').matchAll(/^\| (\d{7}) \| \S.* \| (T[\d., T]+) \| \S.* \|$/gm)];
    expect(rows.map(([, sid, techniques]) => ({ sid: Number(sid), techniques: techniques?.trim() }))).toEqual(
      snort.rules.map(({ sid, metadata }) => ({ sid, techniques: metadata['mitre_technique']?.join(', ') })),
    );
  });
});
