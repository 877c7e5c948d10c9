/** What a rule's text knows and an engine's alert does not say. */
import type { Alert } from '../engine/alert.ts';
import { attackFacts, type AttackFacts } from './attack.ts';
import { BUILT_IN_VOCABULARY, classOf, linkOf, type RuleVocabulary } from './classes.ts';
import type { RuleInfo } from './rule.ts';

/** Suricata's for a rule whose class it does not know. */
const DEFAULT_PRIORITY = 3;

/**
 * The rule's texts and its priority for formats without any, such as unified2; and the class as the rule's own set
 * defines it, which engines do not know.
 */
export function withRule(alert: Alert, rule: RuleInfo | undefined, vocabulary = BUILT_IN_VOCABULARY): Alert {
  if (rule === undefined) return alert;
  const { ownClass } = rule;
  if (ownClass === undefined && alert.message !== '' && alert.classification !== '' && alert.priority > 0) return alert;
  const said = alert.classification === '' || ownClass !== undefined ? undefined : alert.classification;
  const isSaid =
    alert.priority > 0 && ownClass === undefined && (said !== undefined || alert.priority !== DEFAULT_PRIORITY);
  return {
    ...alert,
    message: alert.message === '' ? rule.message : alert.message,
    classification: said ?? classOf(rule, vocabulary)?.text ?? rule.classtype,
    priority: isSaid ? alert.priority : priorityOf(rule, vocabulary) || alert.priority,
  };
}

/** 1 is the most severe; 0 where neither the rule nor its class says. */
export function priorityOf(
  rule: Pick<RuleInfo, 'priority' | 'classtype' | 'ownClass'>,
  vocabulary: RuleVocabulary,
): number {
  return rule.priority ?? classOf(rule, vocabulary)?.priority ?? 0;
}

export interface RuleFacts extends AttackFacts {
  classtype: string;
  references: string[];
  /** References as URLs, of the types that have any; each once. */
  links: string[];
  cves: string[];
  /** The whole rule, on one line. */
  text: string;
}

/** References with their links, CVE ids, MITRE ATT&CK and mitigations. Made once for a rule. */
export function ruleFacts(rule: RuleInfo, vocabulary: RuleVocabulary = BUILT_IN_VOCABULARY): RuleFacts {
  const before = made.get(rule);
  if (before?.vocabulary === vocabulary) return before.facts;
  const cves = [
    ...new Set(
      rule.references
        .filter(({ type }) => type.toLowerCase() === 'cve')
        .map(({ id }) => (/^cve-/i.test(id) ? id.toUpperCase() : `CVE-${id}`)),
    ),
  ];
  const facts: RuleFacts = {
    classtype: rule.classtype,
    references: rule.references.map(({ type, id }) => `${type},${id}`),
    links: [
      ...new Set(rule.references.flatMap((reference) => linkOf(reference, vocabulary, rule.ownReferences) ?? [])),
    ],
    cves,
    text: onOneLine(rule.text),
    ...attackFacts(rule, cves),
  };
  made.set(rule, { vocabulary, facts });
  return facts;
}

/** Without the backslashes of continued lines. */
function onOneLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return lines
    .map((line) => (line.endsWith('\\') ? line.slice(0, -1).trimEnd() : line))
    .filter((line) => line !== '')
    .join(' ');
}

/** A rule fires again and again. */
const made = new WeakMap<RuleInfo, { vocabulary: RuleVocabulary; facts: RuleFacts }>();
