/** The text of rules, from this machine's rule sets: read when one is asked for first, and again after 10 minutes. */
import type { Logger } from 'pino';
import { findSets, loadSets, type RuleIndex, type SetSources } from '../rulesets/sets.ts';
import { ruleKey } from '../rulesets/files.ts';
import { explainRule } from '../rulesets/explain.ts';
import { MAX_RULE_LENGTH, parseRules } from '../rulesets/rule.ts';
import type { RuleText, RuleWords } from './api.ts';

const KEEP_MILLIS = 600_000;

export function createRules(
  sources: SetSources,
  log: Pick<Logger, 'warn'>,
  now: () => number = () => performance.now(),
): (gid: number, sid: number) => Promise<RuleText | undefined> {
  let known: { until: number; index: Promise<RuleIndex> } | undefined;

  async function load(): Promise<RuleIndex> {
    try {
      const { index } = await loadSets((await findSets(sources)).values(), sources.engine);
      return index;
    } catch (error) {
      log.warn({ err: error }, "rule sets can't be read: alerts are shown without their rules' text");
      return new Map();
    }
  }

  return async (gid, sid) => {
    if (known === undefined || known.until < now()) known = { until: now() + KEEP_MILLIS, index: load() };
    const rule = (await known.index).get(ruleKey({ gid, sid }));
    if (rule === undefined) return undefined;
    const { text, rev, sets, file, line, classtype } = rule;
    return { text, rev, sets: [...sets], file, line, classtype };
  };
}

/** Lines that are enough to understand a rule. */
const MOST_LINES = 20;

/** @returns undefined for what is no rule: the text is from an event. */
export function wordsOf(text: string): RuleWords | undefined {
  if (text === '' || text.length > MAX_RULE_LENGTH) return undefined;
  const [rule] = parseRules(text, { file: 'alert' }).rules;
  if (rule === undefined) return undefined;
  const words = explainRule(rule);
  return { ...words, looksFor: words.looksFor.slice(0, MOST_LINES) };
}
