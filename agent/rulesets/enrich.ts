/** What a rule's text knows and an engine's alert does not say. */
import type { Alert } from '../engine/alert.ts';
import type { RuleInfo } from './rule.ts';

/** Texts of the rule for formats without any, such as unified2. */
export function withRule(alert: Alert, rule: RuleInfo | undefined): Alert {
  if (rule === undefined || (alert.message !== '' && alert.classification !== '')) return alert;
  return {
    ...alert,
    message: alert.message === '' ? rule.message : alert.message,
    classification: alert.classification === '' ? rule.classtype : alert.classification,
  };
}

/** References, CVE ids and the MITRE ATT&CK keys `mitre_technique` and `mitre_tactic` of the rule's metadata. */
export function ruleFacts(rule: RuleInfo): {
  references: string[];
  cves: string[];
  mitreIds: string[];
  mitreTactic?: string;
  mitigations: string[];
} {
  const [mitreTactic] = rule.metadata['mitre_tactic'] ?? [];
  return {
    references: rule.references.map(({ type, id }) => `${type},${id}`),
    cves: rule.references
      .filter(({ type }) => type.toLowerCase() === 'cve')
      .map(({ id }) => (/^cve-/i.test(id) ? id.toUpperCase() : `CVE-${id}`)),
    mitreIds: [...(rule.metadata['mitre_technique'] ?? [])],
    ...(mitreTactic === undefined ? {} : { mitreTactic }),
    mitigations: [...(rule.metadata['mitigation'] ?? [])],
  };
}
