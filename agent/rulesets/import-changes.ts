/**
 * Changes of rules as pulledpork, suricata-update and Oinkmaster have them, as lines of the operator's own file
 * (modify.ts): `disablesid.conf`, `enable.conf`, `modifysid.conf` and their like.
 *
 *     1:1034, 1:220-1:3264          pulledpork: signatures and spans of them
 *     pcre:heartbleed  re:…         expressions, over the rule's text, in any case
 *     VRT-web-iis  group:emerging-icmp.rules  filename:*deleted*
 *     MS09-008  cve:2009-0008       references
 *     metadata: deployment Perimeter
 *     2019401 "from" "to"           of modify
 *     disablesid 1324, 1325         Oinkmaster: the line says what it does
 *
 * Formats: https://github.com/shirkdog/pulledpork/tree/master/etc,
 * https://suricata-update.readthedocs.io/en/latest/update.html
 *
 * Not promised: that a line which is not understood is guessed at. It is a problem, with its number.
 */
import { parseChanges, type LineProblem } from './modify.ts';

export type ImportedAction = 'enable' | 'disable' | 'modify';

export interface ImportedChanges {
  /** In the order of the file; each once. */
  lines: string[];
  problems: LineProblem[];
}

/** What lines are without a word that says so, by the name of their file; undefined where it does not say. */
export function actionOfFile(name: string): ImportedAction | undefined {
  const [, action] = /(?:^|[^a-z])(enable|disable|modify)(?:sid)?s?(?:[^a-z]|$)/i.exec(name) ?? [];
  return action === undefined ? undefined : ACTIONS[action.toLowerCase()];
}

const ACTIONS: Readonly<Record<string, ImportedAction>> = { enable: 'enable', disable: 'disable', modify: 'modify' };

/** @param action Of lines that do not say it themselves. */
export function importChanges(text: string, action: ImportedAction): ImportedChanges {
  const lines = new Set<string>();
  const problems: LineProblem[] = [];
  for (const [index, content] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const found = importLine(content.trim(), action);
    if (typeof found === 'string') {
      problems.push({ line: index + 1, reason: found });
      continue;
    }
    for (const line of found) {
      const checked = parseChanges(line);
      if ('problems' in checked) problems.push({ line: index + 1, reason: checked.problems[0]?.reason ?? line });
      else lines.add(line);
    }
  }
  return { lines: [...lines], problems };
}

/** Lines of the operator's file, or why there are none. */
function importLine(content: string, action: ImportedAction): string[] | string {
  if (content === '' || content.startsWith('#')) return [];
  const [, word, rest = ''] = /^(enable|disable|modify|local|drop|reject)sid\s+(.*)$/.exec(content) ?? [];
  if (word === undefined) return action === 'modify' ? importModify(content) : importTurn(content, action);
  const own = ACTIONS[word];
  if (own === undefined) return `${word}sid has no like here: nothing is dropped or kept from updates by such a line`;
  return own === 'modify' ? importModify(rest) : importTurn(rest, own);
}

function importTurn(content: string, action: 'enable' | 'disable'): string[] | string {
  const conditions = conditionsOf(content);
  return typeof conditions === 'string' ? conditions : conditions.map((condition) => `${action} ${condition}`);
}

/** `1:10 "from" "to"`; of Oinkmaster with a `|` between. */
function importModify(content: string): string[] | string {
  const [, what, from, to] =
    /^(.*?\S)\s+"((?:[^"\\]|\\.)*)"\s*\|?\s*"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(content) ?? [];
  if (what === undefined || from === undefined || to === undefined)
    return `${shown(content)}: expected which rules, "what" and "by what"`;
  const conditions = what === '*' ? ['re:.'] : conditionsOf(what);
  if (typeof conditions === 'string') return conditions;
  const groups = to.replaceAll(/\\g<(\d)>/g, String.raw`\$1`);
  return conditions.map((condition) => `modify ${condition} "${withFlags(from)}" "${groups}"`);
}

/** Conditions of one line; or why it is not understood. */
function conditionsOf(content: string): string[] | string {
  const [, kind = '', value = ''] = /^(re|pcre|metadata|group|filename):\s*(.*?)\s*$/.exec(content) ?? [];
  switch (kind) {
    case 're':
    case 'pcre':
      return [expression(value)];
    case 'metadata': {
      const [key = '', ...values] = value.split(/[\s,]+/);
      return [expression(`metadata\\s*:[^;]*\\b${[key, ...values].map(escaped).join('\\s+')}\\b`)];
    }
    case 'group':
      return [quoted(`file:${value.replace(/\.rules$/, '')}.rules`)];
    case 'filename':
      return [quoted(`file:${value.slice(value.lastIndexOf('/') + 1)}`)];
    default:
  }
  const items = content
    .replace(/\s#.*$/, '')
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean);
  const found: string[] = [];
  for (const item of items) {
    const condition = conditionOf(item);
    if (condition === undefined) return `${shown(item)} is not understood`;
    found.push(condition);
  }
  return found;
}

function conditionOf(item: string): string | undefined {
  if (/^(?:\d{1,10}:)?\d{1,10}$/.test(item)) return item;
  const [, gid = '', first, last] = /^(\d{1,10}:)?(\d{1,10})\s*-\s*(?:\d{1,10}:)?(\d{1,10})$/.exec(item) ?? [];
  if (first !== undefined && last !== undefined) return `${gid}${first}-${last}`;
  const [, type, id] = /^(cve|bugtraq|nessus|url|osvdb|arachnids|mcafee)[:,]\s*(\S+)$/i.exec(item) ?? [];
  if (type !== undefined && id !== undefined) return expression(`reference\\s*:\\s*${type}\\s*,\\s*${escaped(id)}\\b`);
  if (/^MS[\d()[\]|\\d+-]+$/.test(item)) return expression(item);
  // The names of categories are those of files, behind who made them.
  const [, category] = /^(?:VRT|ET|Custom|Community|GPL)-([\w.-]+)$/.exec(item) ?? [];
  return category === undefined ? undefined : `file:*${category}.rules`;
}

/** In any case, as these tools look for it. */
function expression(source: string): string {
  return quoted(`re:/${source.replace(/^\(\?i\)/, '')}/i`);
}

/** Python's and Perl's flag at the beginning, as JavaScript has it. */
function withFlags(source: string): string {
  return source.startsWith('(?i)') ? `/${source.slice(4)}/i` : source;
}

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`);

function quoted(word: string): string {
  return /[\s"#]/.test(word) ? `"${word.replaceAll(/(?<!\\)"/g, String.raw`\"`)}"` : word;
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 80));
