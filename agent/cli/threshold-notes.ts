/** What a set brings of an engine's thresholds: no engine gets them here, the policy has their like. */
import { existsSync } from 'node:fs';
import { thresholdLines } from '../alerts/threshold-config.ts';
import { besideOf, type RuleSet } from '../rulesets/sets.ts';

const NAMES = ['threshold.config', 'threshold.conf'];
/** Entries of a file that are named. */
const MAX_NAMED = 20;

export interface ThresholdNote {
  /** The file, or `file:line`. */
  line: string;
  reason: string;
}

export function thresholdNotes(sets: readonly RuleSet[]): ThresholdNote[] {
  const files = new Set(sets.flatMap((set) => NAMES.flatMap((name) => besideOf(set, name))));
  return [...files].filter((file) => existsSync(file)).flatMap(notesOf);
}

function notesOf(file: string): ThresholdNote[] {
  const entries = thresholdLines(file);
  if (entries.length === 0) return [];
  const reason = `its ${entries.length} entries have no effect: no engine gets them, they belong into the policy (alerts.policy)`;
  const named = entries.slice(0, MAX_NAMED).map((entry) => {
    const [, line = file, what = entry] = /^(.*?:\d+): (.*)$/s.exec(entry) ?? [];
    return { line, reason: what };
  });
  return [{ line: file, reason }, ...named];
}
