/** What an alert is: its rule's texts and facts, whose packet fired it, and which resources asked for it. */
import type { Alert, Position } from '../engine/alert.ts';
import type { RuleVocabulary } from '../rulesets/classes.ts';
import { ruleFacts, withRule } from '../rulesets/enrich.ts';
import { ruleKey } from '../rulesets/files.ts';
import type { RuleIndex } from '../rulesets/sets.ts';
import { attribute, type Owners } from './attribute.ts';
import type { AttributedAlert } from './attributed.ts';

/** By what alerts are identified. */
export interface Identification {
  rules: Pick<RuleIndex, 'get'>;
  /** What classes and types of references mean. */
  vocabulary: RuleVocabulary;
  owners: Owners;
  sensor: Pick<AttributedAlert, 'engine' | 'node'>;
  /**
   * Whether a resource asks for a signature, by the rule sets that it names; undefined: the default ones. All ask where
   * this is not given.
   */
  asks?: (ruleSets: readonly string[] | undefined) => boolean;
}

/** @returns one for each resource that asks; none when nobody held its VLAN id at the packet's time. */
export function identify(
  alert: Alert,
  position: Position,
  { rules, vocabulary, owners, sensor, asks }: Identification,
): AttributedAlert[] {
  const rule = rules.get(ruleKey(alert));
  const attributed = attribute(withRule(alert, rule, vocabulary), position, owners, sensor, asks);
  if (rule === undefined) return attributed;
  return attributed.map((copy) => ({ ...copy, rule: ruleFacts(rule, vocabulary) }));
}
