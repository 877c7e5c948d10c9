/**
 * The operator's changes to rules: which are turned on and off, and what is replaced in their texts. Before a rule is
 * translated, so the same for both engines.
 *
 *     disable  1:21562                                  # or 21562; 1:220-3264 is all from the first to the second
 *     disable  class:misc-activity set:community        # all of a line's conditions have to hold
 *     enable   re:"/POLICY-OTHER .*telnet/i"            # of the rule's text; quotes where there are blanks
 *     disable  file:emerging-games*.rules               # the file's name, or its path
 *     modify   21562  "\$HTTP_PORTS" "any"              # each match of the first, by the second; \1 to \9 are its groups
 *
 * A line changes what the lines before it left. In quotes, `\"` is a quotation mark, and any other backslash stands for
 * itself. `#` begins a comment at the start of a line or behind a blank.
 *
 * Invariants: the rules come out in the order in which they came, as many; a rule keeps its gid, its sid and its place
 * in the file; one that a line would make something else stays as it was, and the line is told of.
 */
import { globTester, parsePattern, PatternError, type Pattern } from '../pattern.ts';
import { stripControls } from '../text.ts';
import { parseRules, type RuleInfo } from './rule.ts';

const MAX_CHANGES = 10_000;
const MAX_PROBLEMS = 100;

export interface Change {
  /** From 1, in the operator's file. */
  line: number;
  action: 'enable' | 'disable' | 'modify';
  conditions: readonly Condition[];
  /** Only of `modify`. */
  replace?: { from: Pattern; to: string };
}

type Condition =
  | { kind: 'signature'; gid?: number; sid: number; last: number }
  | { kind: 'class' | 'set'; name: string }
  | { kind: 'file'; glob: string; matches: (text: string) => boolean }
  | { kind: 're'; pattern: Pattern };

export interface LineProblem {
  line: number;
  reason: string;
}

/** @returns the changes, or what is wrong with each line, at most 100. */
export function parseChanges(text: string): { changes: Change[] } | { problems: LineProblem[] } {
  const changes: Change[] = [];
  const problems: LineProblem[] = [];
  for (const [index, content] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = index + 1;
    try {
      const words = wordsOf(content);
      if (words.length > 0) changes.push({ line, ...parseChange(words) });
      if (changes.length > MAX_CHANGES)
        throw new PatternError(`is one too many: expected at most ${MAX_CHANGES} changes`);
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      problems.push({ line, reason: stripControls(error.message) });
      if (problems.length >= MAX_PROBLEMS || changes.length > MAX_CHANGES) break;
    }
  }
  return problems.length > 0 ? { problems } : { changes };
}

/** A condition as a line has it, for a command line too. @throws PatternError */
export function parseCondition(word: string): Condition {
  const [, kind = '', value = ''] = /^(class|set|file|re):(.*)$/s.exec(word) ?? [];
  if (kind !== '' && value === '') throw new PatternError(`${shown(word)}: expected something behind ${kind}:`);
  if (kind === 'class' || kind === 'set') return { kind, name: value.toLowerCase() };
  if (kind === 'file') return { kind, glob: value, matches: globTester(value) };
  if (kind === 're') {
    try {
      return { kind, pattern: parsePattern(value) };
    } catch (error) {
      throw error instanceof PatternError ? new PatternError(`${shown(word)}: ${error.message}`) : error;
    }
  }
  const [, gid, sid, last] = /^(?:(\d{1,10}):)?(\d{1,10})(?:-(\d{1,10}))?$/.exec(word) ?? [];
  if (sid === undefined) {
    throw new PatternError(
      `${shown(word)}: expected 1:21562, 21562, 1:220-3264, class:NAME, set:NAME, file:NAME or re:EXPRESSION`,
    );
  }
  const span = { sid: Number(sid), last: Number(last ?? sid) };
  if (span.last < span.sid) throw new PatternError(`${shown(word)}: expected the lower number first`);
  return { kind: 'signature', ...span, ...(gid === undefined ? {} : { gid: Number(gid) }) };
}

function parseChange(words: string[]): Omit<Change, 'line'> {
  const [action, ...rest] = words;
  if (action !== 'enable' && action !== 'disable' && action !== 'modify') {
    throw new PatternError(`${shown(action ?? '')}: expected enable, disable or modify`);
  }
  const replacement = action === 'modify' ? rest.splice(-2) : [];
  if (rest.length === 0) {
    throw new PatternError(
      action === 'modify' ? 'expected modify CONDITION "what" "by what"' : `expected a condition behind ${action}`,
    );
  }
  const conditions = rest.map(parseCondition);
  const [from, to] = replacement;
  if (from === undefined || to === undefined) return { action, conditions };
  try {
    return { action, conditions, replace: { from: parsePattern(from), to } };
  } catch (error) {
    throw error instanceof PatternError ? new PatternError(`${shown(from)}: ${error.message}`) : error;
  }
}

/** Words of a line; quotation marks may stand anywhere in one. */
function wordsOf(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quoted = false;
  for (let at = 0; at < line.length; at++) {
    const character = line.charAt(at);
    if (quoted && character === '\\' && line.charAt(at + 1) === '"') {
      word += '"';
      at++;
    } else if (character === '"') {
      quoted = !quoted;
      word ??= '';
    } else if (!quoted && /\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (!quoted && character === '#' && word === undefined) {
      return words;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (quoted) throw new PatternError('a quotation mark is missing');
  return word === undefined ? words : [...words, word];
}

/** For a message: short, and no control characters. */
function shown(text: string): string {
  return JSON.stringify(stripControls(text.slice(0, 80)));
}

export interface Modifier {
  /** The rules of one file. @param set The rule set that the file is of. */
  modify(rules: readonly RuleInfo[], set: string): RuleInfo[];
  /** Rules that each change met so far, and of `modify` that had its text, in the order of the changes. */
  touched(): { line: number; rules: number }[];
  /** What could not be done; at most 100. */
  problems(): LineProblem[];
}

interface ModifierState {
  readonly changes: readonly Change[];
  /** How many rules each met. */
  readonly touched: Map<Change, number>;
  readonly problems: LineProblem[];
  /** Expressions that took too long. */
  readonly broken: Set<Change>;
}

export function createModifier(changes: readonly Change[]): Modifier {
  const touched = new Map<Change, number>(changes.map((change) => [change, 0]));
  const state: ModifierState = { changes, touched, problems: [], broken: new Set() };
  return {
    modify: (rules, set) => modify(state, rules, set),
    touched: () => changes.map((change) => ({ line: change.line, rules: touched.get(change) ?? 0 })),
    problems: () => [...state.problems],
  };
}

function modify(state: ModifierState, rules: readonly RuleInfo[], set: string): RuleInfo[] {
  const result = [...rules];
  for (const change of state.changes) {
    if (state.broken.has(change)) continue;
    try {
      applyToAll(state, change, result, set);
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      state.broken.add(change);
      noteProblem(state, change.line, `the expression ${error.message}`);
    }
  }
  return result;
}

/** Changes rules in place. @throws PatternError when the change's expression takes too long. */
function applyToAll(state: ModifierState, change: Change, rules: RuleInfo[], set: string): void {
  const { touched } = state;
  for (const index of indicesMet(change, rules, set)) {
    const rule = rules[index];
    if (rule === undefined) continue;
    const changed = apply(state, change, rule);
    if (changed === undefined) continue;
    touched.set(change, (touched.get(change) ?? 0) + 1);
    if (changed !== rule) rules[index] = { ...changed, changes: [...(rule.changes ?? []), change.line] };
  }
}

/** Which rules meet all conditions of a change. */
function indicesMet({ conditions }: Change, rules: readonly RuleInfo[], set: string): number[] {
  let indices = [...rules.keys()];
  // Expressions last: they see what the other conditions left.
  for (const condition of conditions.toSorted((a, b) => Number(a.kind === 're') - Number(b.kind === 're'))) {
    if (condition.kind === 're') {
      const texts = indices.map((index) => rules[index]?.text ?? '');
      indices = condition.pattern.matching(texts).flatMap((found) => indices[found] ?? []);
    } else {
      indices = indices.filter((index) => {
        const rule = rules[index];
        return rule !== undefined && holds(condition, rule, set);
      });
    }
  }
  return indices;
}

/** Undefined where it has nothing to do. */
function apply(state: ModifierState, { line, action, replace }: Change, rule: RuleInfo): RuleInfo | undefined {
  if (action === 'disable') return { ...rule, enabled: false };
  if (action === 'enable') return enable(state, line, rule);
  const text = replace?.from.replace(rule.text, replace.to);
  if (text === undefined) return undefined;
  const result = reread(rule, text);
  if (result === undefined) {
    const about = `${rule.gid}:${rule.sid}`;
    noteProblem(state, line, `${about} would no longer be one rule with this signature: it stays as it is`);
  }
  return result ?? rule;
}

function enable(state: ModifierState, line: number, rule: RuleInfo): RuleInfo {
  if (rule.enabled) return rule;
  // Turned off by a line, not commented out.
  if (!rule.text.startsWith('#')) return { ...rule, enabled: true };
  const uncommented = rule.text.replaceAll(/^[ \t]*#[# \t]*/gm, '');
  const result = reread(rule, uncommented);
  if (result === undefined)
    noteProblem(state, line, `${rule.gid}:${rule.sid} is no whole rule without its #: it stays off`);
  return result ?? rule;
}

function noteProblem({ problems }: ModifierState, line: number, reason: string): void {
  if (problems.length < MAX_PROBLEMS) problems.push({ line, reason });
}

function holds(condition: Exclude<Condition, { kind: 're' }>, rule: RuleInfo, set: string): boolean {
  switch (condition.kind) {
    case 'signature':
      return rule.sid >= condition.sid && rule.sid <= condition.last && (condition.gid ?? rule.gid) === rule.gid;
    case 'class':
      return rule.classtype.toLowerCase() === condition.name;
    case 'set':
      return set === condition.name;
    case 'file':
      return condition.matches(
        condition.glob.includes('/') ? rule.file : rule.file.slice(rule.file.lastIndexOf('/') + 1),
      );
  }
}

/** The rule with another text, at its place; undefined when that is not one rule of its signature. */
function reread(rule: RuleInfo, text: string): RuleInfo | undefined {
  const { rules, problems } = parseRules(text, { file: rule.file });
  const [read, ...others] = rules;
  if (read === undefined || others.length > 0 || problems.length > 0 || read.text !== text.trim()) return undefined;
  if (read.gid !== rule.gid || read.sid !== rule.sid) return undefined;
  return { ...read, line: rule.line, endLine: rule.endLine, enabled: read.enabled };
}
