/**
 * Reads the text of rule files of Snort 3 and Suricata: what a rule says about itself (message, class, references,
 * metadata), not what it matches.
 *
 * Invariants: never throws, whatever the text; takes time and memory linear in its length; a damaged rule ends at the
 * latest where a line starts the next rule, also a commented-out one. Rules longer than `MAX_RULE_LENGTH` are problems,
 * not rules.
 *
 * Understood: `#` comments, Snort's block comments (`/* … *\/` and lines `#begin` to `#end`), backslash at a line's end
 * (also before blanks), bodies over several lines with comments inside, several rules on one line, a last option
 * without its semicolon, commented-out rules. Not promised: that an engine accepts what is accepted here. Nothing that
 * a rule matches is checked, `include` is not followed (it is reported), variables are not replaced.
 */
import { lineOfSnort2 } from '../engine/snort/snort2.ts';

/** Characters in one rule; the engines' own limits are lower (Suricata: 8,192) or unstated. */
export const MAX_RULE_LENGTH = 262_144;
/** Problems listed for one text; the others are only counted. */
export const MAX_PROBLEMS = 1000;

export interface Reference {
  /** `cve`, `url`, `bugtraq`, …: as the rule has it. */
  type: string;
  id: string;
}

/** What a class (`classtype`) means. */
export interface RuleClass {
  /** "A Network Trojan was detected" */
  text: string;
  /** 1 is the most severe. */
  priority: number;
}

export interface RuleInfo {
  action: string;
  /** Lower case: `tcp`, `http`, …; absent in rules with an action alone. */
  protocol?: string;
  /** All that stands before the parenthesis, with single spaces. */
  header: string;
  /** Generator; 1 unless the rule names another. */
  gid: number;
  sid: number;
  /** 0 unless given. */
  rev: number;
  /** The rule's `msg`, without quotes and escapes; empty unless given. */
  message: string;
  /** Short name of the class (`trojan-activity`); empty unless given. */
  classtype: string;
  priority?: number;
  references: readonly Reference[];
  /** Key to values, in the rule's order; a key without a value has the value ''. The object has no prototype. */
  metadata: Readonly<Record<string, readonly string[]>>;
  file: string;
  /** From 1. */
  line: number;
  endLine: number;
  /** False for a rule that is commented out. */
  enabled: boolean;
  /** What its set's own `classification.config` says of its class; absent where that says nothing. */
  ownClass?: RuleClass;
  /**
   * What its set's own `reference.config` says of the types of its references, in lower case; absent where that says
   * nothing.
   */
  ownReferences?: Readonly<Record<string, string>>;
  /** Lines of the operator's changes that changed it; absent where none did. */
  changes?: readonly number[];
  /** As it stands in the file: from the action, or the `#` that comments it out, to the closing parenthesis. */
  text: string;
}

export interface RuleProblem {
  /** From 1. */
  line: number;
  reason: string;
}

export interface ParsedRules {
  rules: RuleInfo[];
  /** At most `MAX_PROBLEMS`, in the order of the text. */
  problems: RuleProblem[];
  /** Problems beyond those listed. */
  unlistedProblems: number;
}

/** Actions of Snort 3 (with Snort 2's) and of Suricata. */
const ACTIONS = new Set(
  [
    'alert',
    'block',
    'drop',
    'file_id',
    'log',
    'pass',
    'react',
    'reject',
    'rewrite',
    'sdrop',
    'activate',
    'dynamic',
  ].concat(['config', 'rejectsrc', 'rejectdst', 'rejectboth']),
);
const LONGEST_ACTION = 10;
/** A backslash at a line's end; of a rule that is commented out, the next line has its `#` too. */
const CONTINUATION = /\\[ \t\r]*\n/g;
const CONTINUED_VALUE = /\\[ \t\r]*\n(?:[ \t]*#)?/g;
const NO_REFERENCES: readonly Reference[] = Object.freeze([]);
const NO_METADATA = Object.freeze(emptyMetadata());

const TAB = 9;
const NEWLINE = 10;
const RETURN = 13;
const SPACE = 32;
const QUOTE = 34;
const HASH = 35;
const OPEN = 40;
const CLOSE = 41;
const COLON = 58;
const SEMICOLON = 59;
const BACKSLASH = 92;

/** `file` is only put into the rules. */
export function parseRules(text: string, { file }: { file: string }): ParsedRules {
  const lines = lineCounter(text);
  const rules: RuleInfo[] = [];
  const problems: RuleProblem[] = [];
  let unlistedProblems = 0;
  const problem = (position: number, reason: () => string): void => {
    if (problems.length < MAX_PROBLEMS) problems.push({ line: lines.at(position), reason: reason() });
    else unlistedProblems += 1;
  };

  let position = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  /** Only white space, or a whole rule, stands between the line's start and `position`. */
  let afterRule = false;
  while (position < text.length) {
    const code = text.charCodeAt(position);
    if (isSpace(code)) {
      if (code === NEWLINE) afterRule = false;
      position += 1;
    } else if (code === BACKSLASH && (position + 1 >= text.length || isSpace(text.charCodeAt(position + 1)))) {
      position += 1;
    } else if (startsBlock(text, position)) {
      const end = blockEnd(text, position);
      if (end === undefined) problem(position, () => 'a block comment without its end: all that follows is a comment');
      position = end ?? text.length;
    } else {
      const start = ruleStart(text, position);
      if (start !== undefined && (start.enabled || !afterRule)) {
        const read = readRule(text, position, start);
        if (read.kind === 'rule') {
          read.rule.file = file;
          read.rule.line = lines.at(position);
          read.rule.endLine = lines.at(read.end);
          rules.push(read.rule);
          position = read.end;
          afterRule = true;
          continue;
        }
        if (start.enabled) {
          problem(position, () => read.reason);
          position = read.resume;
          afterRule = false;
          continue;
        }
      } else if (code !== HASH) {
        problem(position, afterRule ? () => 'text behind a rule' : notARule(text, position));
      }
      position = lineEnd(text, position);
    }
  }
  return { rules, problems, unlistedProblems };
}

/** `end`: just behind the rule, whose file and lines the caller fills in. `resume`: where to look for the next one. */
type ReadRule = { kind: 'rule'; rule: RuleInfo; end: number } | { kind: 'damaged'; reason: string; resume: number };

interface RuleStart {
  enabled: boolean;
  /** Where the action's word stands. */
  action: number;
  actionEnd: number;
}

/** Whether a rule starts at a line's first character that is not white space: its action, perhaps behind `#`. */
function ruleStart(text: string, position: number): RuleStart | undefined {
  const action = skipHashes(text, position);
  const enabled = action === position;
  let actionEnd = action;
  while (actionEnd - action <= LONGEST_ACTION && isWord(text.charCodeAt(actionEnd))) actionEnd += 1;
  const next = text.charCodeAt(actionEnd);
  const ends = isSpace(next) || next === OPEN || next === BACKSLASH;
  if (!ends || !ACTIONS.has(text.slice(action, actionEnd))) return undefined;
  return isConfigOfSnort2(text, action) ? undefined : { enabled, action, actionEnd };
}

/**
 * Suricata has rules whose action is `config`; what Snort 2 calls so is a line with one word, or with one before a
 * colon.
 */
function isConfigOfSnort2(text: string, position: number): boolean {
  if (!text.startsWith('config', position)) return false;
  return /^config[ \t]+\w*[ \t\r]*(?:[:\n]|$)/.test(text.slice(position, position + 80));
}

function readRule(text: string, start: number, { enabled, action, actionEnd }: RuleStart): ReadRule {
  const limit = start + MAX_RULE_LENGTH;
  const damaged = (reason: string, at: number): ReadRule => ({ kind: 'damaged', reason, resume: nextRule(text, at) });

  const open = headerEnd(text, actionEnd, enabled);
  if (open.kind === 'none') return damaged('a rule without "("', open.at);
  const header = text.slice(action, open.at).replaceAll(CONTINUATION, ' ');
  const words = header.split(/[\s#]+/).filter((word) => word !== '');
  const rule: RuleInfo = {
    action: text.slice(action, actionEnd),
    header: words.join(' '),
    gid: 1,
    sid: 0,
    rev: 0,
    message: '',
    classtype: '',
    references: NO_REFERENCES,
    metadata: NO_METADATA,
    file: '',
    line: 0,
    endLine: 0,
    enabled,
    text: '',
  };
  const protocol = words[1]?.toLowerCase();
  if (protocol !== undefined) rule.protocol = protocol;

  const lists: Lists = {};
  let wrong: string | undefined;
  const body = eachOption(text, open.at + 1, { enabled, limit }, ({ key, value }) => {
    wrong ??= describe(rule, lists, key, value);
  });
  if (body.kind === 'stopped') return damaged(unfinished(body.at, limit, body.inQuotes), body.at);
  const position = body.close;
  const end = position + 1;
  if (wrong !== undefined) return { kind: 'damaged', reason: wrong, resume: end };
  if (rule.sid === 0) return { kind: 'damaged', reason: 'a rule without sid', resume: end };
  if (lists.references) rule.references = lists.references;
  if (lists.metadata) rule.metadata = lists.metadata;
  rule.text = text.slice(start, end);
  return { kind: 'rule', rule, end };
}

export interface RuleOption {
  key: string;
  /**
   * Without the white space around it, over continued lines; with quotation marks and escapes. Empty for an option
   * without one.
   */
  value: string;
}

/** All options of a rule that `parseRules` has read, in their order. */
export function ruleOptions({ text, enabled }: RuleInfo): RuleOption[] {
  const options: RuleOption[] = [];
  const start = skipHashes(text, 0);
  const open = headerEnd(text, start, enabled);
  eachOption(text, open.at + 1, { enabled, limit: MAX_RULE_LENGTH }, ({ key, value }) => {
    options.push({ key, value: joined(value) });
  });
  return options;
}

/**
 * The rule's text with other options in place of some, at their places.
 * @param replace What is to stand there, without the semicolon; undefined where the option stays.
 */
export function replaceOptions(
  { text, enabled }: Pick<RuleInfo, 'text' | 'enabled'>,
  replace: (option: RuleOption) => string | undefined,
): string {
  const open = headerEnd(text, skipHashes(text, 0), enabled);
  let result = '';
  let copied = 0;
  eachOption(text, open.at + 1, { enabled, limit: MAX_RULE_LENGTH }, ({ key, value }, start, end) => {
    const other = replace({ key, value: joined(value) });
    if (other === undefined) return;
    result += `${text.slice(copied, start)}${other};`;
    copied = end;
  });
  return result + text.slice(copied);
}

type Body = { kind: 'closed'; close: number } | { kind: 'stopped'; at: number; inQuotes: boolean };

/** Reads options up to the parenthesis that closes the rule. */
function eachOption(
  text: string,
  start: number,
  { enabled, limit }: { enabled: boolean; limit: number },
  onOption: (option: RuleOption, start: number, end: number) => void,
): Body {
  let position = start;
  for (;;) {
    const gap = skipGap(text, position, enabled, limit);
    if (gap.stopped) return { kind: 'stopped', at: gap.at, inQuotes: false };
    if (text.charCodeAt(gap.at) === CLOSE) return { kind: 'closed', close: gap.at };
    const option = readOption(text, gap.at, enabled, limit);
    if (option.kind === 'stopped') return option;
    onOption(option, gap.at, option.end);
    position = option.end;
  }
}

function unfinished(at: number, limit: number, inQuotes = false): string {
  if (at >= limit) return `a rule of more than ${MAX_RULE_LENGTH.toLocaleString('en')} characters`;
  return inQuotes ? 'a rule without its end: a quotation mark is missing' : 'a rule without its end';
}

/** What a rule may have several of; absent while it has none, as in most rules. */
interface Lists {
  references?: Reference[];
  metadata?: Record<string, string[]>;
}

/** Takes over what an option says; returns what is wrong with it. */
function describe(rule: RuleInfo, lists: Lists, key: string, value: string): string | undefined {
  switch (key) {
    case 'gid':
    case 'sid': {
      const number = wholeNumber(plain(value));
      if (number === undefined || number === 0) return `${key} is not a number from 1 to 4294967295: ${shown(value)}`;
      rule[key] = number;
      return undefined;
    }
    case 'rev':
    case 'priority': {
      const number = wholeNumber(plain(value));
      if (number === undefined) return `${key} is not a number from 0 to 4294967295: ${shown(value)}`;
      rule[key] = number;
      return undefined;
    }
    case 'msg':
      rule.message = plain(value);
      return undefined;
    case 'classtype':
      rule.classtype = plain(value);
      return undefined;
    case 'reference': {
      const whole = plain(value);
      const comma = whole.indexOf(',');
      if (comma <= 0) return `reference is not <type>,<id>: ${shown(whole)}`;
      (lists.references ??= []).push({ type: whole.slice(0, comma).trim(), id: whole.slice(comma + 1).trim() });
      return undefined;
    }
    case 'metadata':
      for (const part of plain(value).split(',')) {
        const pair = part.trim();
        if (pair === '') continue;
        const blank = pair.search(/\s/);
        const name = blank < 0 ? pair : pair.slice(0, blank);
        ((lists.metadata ??= emptyMetadata())[name] ??= []).push(blank < 0 ? '' : pair.slice(blank).trim());
      }
      return undefined;
    default:
      return undefined;
  }
}

type ReadOption =
  { kind: 'option'; key: string; value: string; end: number } | { kind: 'stopped'; at: number; inQuotes: boolean };

/**
 * Reads `key;` or `key:value;`, up to just behind the semicolon, or up to the parenthesis that closes the rule.
 * Quotation marks protect semicolons, except in `pcre`, whose patterns may have single ones (both engines read it so).
 */
function readOption(text: string, start: number, enabled: boolean, limit: number): ReadOption {
  const values = { from: -1, inQuotes: false, raw: false };
  let key = '';
  let position = start;
  for (; position < text.length && position < limit; position += 1) {
    const code = text.charCodeAt(position);
    if (code === BACKSLASH) {
      // A line's end behind the backslash is looked at below; "\\\r\n" too.
      if (!isLineEnd(text, position + 1)) position += 1;
    } else if (code === NEWLINE) {
      if (!continues(text, position, enabled)) break;
    } else if (code === COLON && values.from < 0) {
      key = text.slice(start, position).trim();
      values.from = position + 1;
      values.raw = key === 'pcre';
    } else if (code === QUOTE && values.from >= 0) {
      values.inQuotes = !values.inQuotes && !values.raw;
    } else if (
      !values.inQuotes &&
      (code === SEMICOLON || (code === CLOSE && endsRule(text, position, values.from < 0)))
    ) {
      const end = code === SEMICOLON ? position + 1 : position;
      if (values.from < 0) return { kind: 'option', key: text.slice(start, position).trim(), value: '', end };
      return { kind: 'option', key, value: text.slice(values.from, position), end };
    }
  }
  return { kind: 'stopped', at: Math.min(position, text.length), inQuotes: values.inQuotes };
}

/** A `)` inside an option is the rule's end if nothing follows on its line, or if the option has no value yet. */
function endsRule(text: string, position: number, withoutValue: boolean): boolean {
  if (withoutValue) return true;
  const next = skipBlanks(text, position + 1);
  return next >= text.length || text.charCodeAt(next) === NEWLINE;
}

/** From `position` to the next option, over white space, continued lines and comments. */
function skipGap(text: string, start: number, enabled: boolean, limit: number): { stopped: boolean; at: number } {
  let position = start;
  while (position < text.length && position < limit) {
    const code = text.charCodeAt(position);
    if (code === NEWLINE) {
      if (!continues(text, position, enabled)) return { stopped: true, at: position };
      position = enabled ? position + 1 : skipHashes(text, position + 1);
    } else if (code === HASH) {
      position = lineEnd(text, position);
    } else if (isSpace(code) || (code === BACKSLASH && isLineEnd(text, position + 1)) || code === SEMICOLON) {
      position += 1;
    } else if (enabled && text.startsWith('/*', position)) {
      const end = blockEnd(text, position, true);
      if (end === undefined) return { stopped: true, at: position };
      position = end;
    } else {
      return { stopped: false, at: position };
    }
  }
  return { stopped: true, at: Math.min(position, text.length) };
}

/** Whether a rule goes on behind this line end: not where another starts, and a commented one only in a comment. */
function continues(text: string, newline: number, enabled: boolean): boolean {
  const first = skipBlanks(text, newline + 1);
  return ruleStart(text, first) === undefined && (enabled || text.charCodeAt(first) === HASH);
}

/** The `(` behind a header, which may stand on a line of its own. */
function headerEnd(text: string, start: number, enabled: boolean): { kind: 'open' | 'none'; at: number } {
  const limit = start + MAX_RULE_LENGTH;
  for (let position = start; position < text.length && position < limit; position += 1) {
    const code = text.charCodeAt(position);
    if (code === OPEN) return { kind: 'open', at: position };
    if (code === BACKSLASH && isLineEnd(text, position + 1)) {
      position = text.indexOf('\n', position);
      if (!continues(text, position, enabled)) return { kind: 'none', at: position };
    } else if (code === NEWLINE) {
      const first = (enabled ? skipBlanks : skipHashes)(text, position + 1);
      return text.charCodeAt(first) === OPEN ? { kind: 'open', at: first } : { kind: 'none', at: position };
    }
  }
  return { kind: 'none', at: Math.min(limit, text.length) };
}

/** Start of the first line behind `position` that starts a rule. */
function nextRule(text: string, position: number): number {
  for (let line = lineEnd(text, position); line < text.length; line = lineEnd(text, line + 1)) {
    const first = skipBlanks(text, line + 1);
    if (ruleStart(text, first) !== undefined || startsBlock(text, first)) return first;
  }
  return text.length;
}

/** Snort's block comments: C's, and lines from `#begin` to `#end`. */
function startsBlock(text: string, position: number): boolean {
  return text.startsWith('/*', position) || isMarker(text, position, '#begin');
}

/**
 * Just behind a block comment; `undefined` without its end. In C's kind, quotation marks protect what is between them
 * on a line. `inRule`: the end must stand before a line that starts a rule.
 */
function blockEnd(text: string, start: number, inRule = false): number | undefined {
  if (!text.startsWith('/*', start)) {
    for (let line = lineEnd(text, start); line < text.length; line = lineEnd(text, line + 1)) {
      if (isMarker(text, line + 1, '#end')) return lineEnd(text, line + 1);
    }
    return undefined;
  }
  let inQuotes = false;
  for (let position = start + 2; position < text.length; position += 1) {
    const code = text.charCodeAt(position);
    if (code === QUOTE) inQuotes = !inQuotes;
    else if (code === NEWLINE) {
      if (inRule && !continues(text, position, true)) return undefined;
      inQuotes = false;
    } else if (!inQuotes && text.startsWith('*/', position)) return position + 2;
  }
  return undefined;
}

/** Markers stand at the very start of a line, in any case. */
function isMarker(text: string, position: number, marker: string): boolean {
  if (text.charCodeAt(position) !== HASH || (position > 0 && text.charCodeAt(position - 1) !== NEWLINE)) return false;
  return text.slice(position, position + marker.length).toLowerCase() === marker;
}

function notARule(text: string, position: number): () => string {
  return () => {
    const line = text.slice(position, Math.min(lineEnd(text, position), position + 80)).trim();
    if (/^include\s/.test(line)) return `include is not followed: ${shown(line.slice(8))}`;
    const hint = lineOfSnort2(/^\w+/.exec(line)?.[0] ?? '');
    return `not a rule: ${shown(line)}${hint === undefined ? '' : `: ${hint}`}`;
  };
}

/** Whether a problem is that of a rule, and not of other text in a file. */
export function isOfRule({ reason }: RuleProblem): boolean {
  return !/^(?:not a rule: |include is not followed: |text behind a rule$|a block comment )/.test(reason);
}

/** A value without its quotation marks and escapes (`\;`, `\"`, `\:`, `\\`, a continued line). */
function plain(value: string): string {
  const whole = joined(value);
  const quoted = whole.length >= 2 && whole.startsWith('"') && whole.endsWith('"') ? whole.slice(1, -1) : whole;
  return quoted.includes('\\') ? quoted.replaceAll(/\\([;":\\])/g, '$1') : quoted;
}

/** A value on one line. */
function joined(value: string): string {
  return value.replaceAll(CONTINUED_VALUE, '').trim();
}

function wholeNumber(value: string): number | undefined {
  if (!/^\d{1,10}$/.test(value)) return undefined;
  const number = Number(value);
  return number <= 0xffff_ffff ? number : undefined;
}

/** For a message: short, printable. */
function shown(value: string): string {
  return JSON.stringify(value.trim().slice(0, 60));
}

function emptyMetadata(): Record<string, string[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Object.create has no better type
  return Object.create(null) as Record<string, string[]>;
}

/** Counts lines; asked with positions that don't fall. */
function lineCounter(text: string): { at: (position: number) => number } {
  let line = 1;
  let next = text.indexOf('\n');
  return {
    at: (position) => {
      while (next >= 0 && next < position) {
        line += 1;
        next = text.indexOf('\n', next + 1);
      }
      return line;
    },
  };
}

/** Position of the next line feed, or the text's length. */
function lineEnd(text: string, position: number): number {
  const end = text.indexOf('\n', position);
  return end < 0 ? text.length : end;
}

/** Also behind white space, which editors leave and both engines pass over. */
function isLineEnd(text: string, position: number): boolean {
  return text.charCodeAt(skipBlanks(text, position)) === NEWLINE;
}

/** White space within a line. */
function skipBlanks(text: string, start: number): number {
  let position = start;
  for (;;) {
    const code = text.charCodeAt(position);
    if (code !== SPACE && code !== TAB && code !== RETURN) return position;
    position += 1;
  }
}

/** White space within a line, and the `#` of a rule that is commented out, perhaps more than once. */
function skipHashes(text: string, start: number): number {
  let position = skipBlanks(text, start);
  while (text.charCodeAt(position) === HASH) position = skipBlanks(text, position + 1);
  return position;
}

function isSpace(code: number): boolean {
  return code === SPACE || (code >= TAB && code <= RETURN);
}

function isWord(code: number): boolean {
  return (code >= 97 && code <= 122) || code === 95;
}
