/**
 * What differs between two states of rules: by signature (`gid:sid`), whatever the files are called and in whatever
 * order they have their rules. Of several rules of one signature the one with the highest rev counts, as in a set.
 * Rules are compared as they stand in their files, before the operator's changes; blanks between options are no change.
 */
import { CLASSES_FILE, readClasses, type RuleVocabulary } from './classes.ts';
import { priorityOf } from './enrich.ts';
import { findRuleFiles, readRuleFile, ruleKey } from './files.ts';
import { parseRules, ruleOptions, type RuleInfo } from './rule.ts';
import { besideOf } from './sets.ts';

export interface DiffedRule {
  gid: number;
  sid: number;
  /** Of the new one, where there are two. */
  rev: number;
  message: string;
  classtype: string;
  /** 1 is the most severe; 0 where nothing says. */
  priority: number;
  enabled: boolean;
}

export interface ChangedRule extends DiffedRule {
  formerRev: number;
  /** What of it: `action`, `header`, `on` or `off`, and names of options; sorted. */
  changes: string[];
}

export interface RuleDiff {
  added: DiffedRule[];
  removed: DiffedRule[];
  changed: ChangedRule[];
  /** How many are the same. */
  same: number;
}

/**
 * All rules of a folder or a file, also those that are commented out, by signature.
 * @throws Error that names what can't be read.
 */
export async function readRules(path: string): Promise<Map<string, RuleInfo>> {
  const rules = new Map<string, RuleInfo>();
  const files = await findRuleFiles(path);
  const set = { files: files.map((file) => ({ path: file, syntax: 'either' as const })) };
  const classes = new Map(besideOf(set, CLASSES_FILE).flatMap((file) => [...readClasses(file)]));
  for (const file of files) {
    for (const rule of parseRules(await readRuleFile(file), { file }).rules) {
      const other = rules.get(ruleKey(rule));
      if (other !== undefined && rule.rev <= other.rev) continue;
      const ownClass = classes.get(rule.classtype.toLowerCase());
      rules.set(ruleKey(rule), ownClass === undefined ? rule : { ...rule, ownClass });
    }
  }
  return rules;
}

export function diffRules(
  before: ReadonlyMap<string, RuleInfo>,
  after: ReadonlyMap<string, RuleInfo>,
  vocabulary: RuleVocabulary,
): RuleDiff {
  const diff: RuleDiff = { added: [], removed: [], changed: [], same: 0 };
  for (const [key, rule] of after) {
    const former = before.get(key);
    const changes = former === undefined ? [] : changesOf(former, rule);
    if (former === undefined) diff.added.push(asDiffed(rule, vocabulary));
    else if (changes.length === 0) diff.same++;
    else diff.changed.push({ ...asDiffed(rule, vocabulary), formerRev: former.rev, changes });
  }
  for (const [key, rule] of before) if (!after.has(key)) diff.removed.push(asDiffed(rule, vocabulary));
  return diff;
}

function asDiffed(rule: RuleInfo, vocabulary: RuleVocabulary): DiffedRule {
  const { gid, sid, rev, message, classtype, enabled } = rule;
  return { gid, sid, rev, message, classtype, priority: priorityOf(rule, vocabulary), enabled };
}

function changesOf(before: RuleInfo, after: RuleInfo): string[] {
  const changes = new Set<string>();
  if (before.enabled !== after.enabled) changes.add(after.enabled ? 'on' : 'off');
  if (before.text === after.text) return [...changes];
  if (before.action !== after.action) changes.add('action');
  if (withoutAction(before) !== withoutAction(after)) changes.add('header');
  const [former, present] = [valuesOf(before), valuesOf(after)];
  for (const key of new Set([...former.keys(), ...present.keys()]))
    if (former.get(key) !== present.get(key)) changes.add(key);
  return [...changes].toSorted();
}

const withoutAction = ({ header }: RuleInfo): string => header.replace(/^\S+\s*/, '');

/** All values of each option, in their order. */
function valuesOf(rule: RuleInfo): Map<string, string> {
  const values = new Map<string, string>();
  for (const { key, value } of ruleOptions(rule)) values.set(key, `${values.get(key) ?? ''}${value};`);
  return values;
}

export interface ClassSum {
  classtype: string;
  priority: number;
  added: number;
  removed: number;
  changed: number;
}

/** How many of each class and priority, the most severe first. */
export function sumByClass({ added, removed, changed }: RuleDiff): ClassSum[] {
  const sums = new Map<string, ClassSum>();
  const count = (what: 'added' | 'removed' | 'changed', rules: readonly DiffedRule[]): void => {
    for (const { classtype, priority } of rules) {
      const key = `${priority} ${classtype}`;
      const sum = sums.get(key) ?? { classtype, priority, added: 0, removed: 0, changed: 0 };
      sum[what]++;
      sums.set(key, sum);
    }
  };
  count('added', added);
  count('removed', removed);
  count('changed', changed);
  const rank = ({ priority }: ClassSum): number => (priority === 0 ? Infinity : priority);
  return [...sums.values()].toSorted((a, b) => rank(a) - rank(b) || a.classtype.localeCompare(b.classtype));
}
