/**
 * Rewrites what the code knows of docs/: the table of keys in configuration.md, between its two markers, and openapi.json.
 *   node dist/scripts/docs.js
 * test/docs.test.ts fails when the page is stale.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeConfig, type ConfigRow } from '../agent/config/describe.ts';
import { openApi } from '../agent/ui/openapi.ts';

export const PAGE = 'docs/configuration.md';
export const API = 'docs/openapi.json';
export const BEGIN = '<!-- keys: written by scripts/docs.ts -->';
export const END = '<!-- keys: end -->';

/** The page with its table as the schema has it. @throws Error when the page lacks a marker. */
export function withKeys(page: string): string {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin === -1 || end < begin) throw new Error(`${PAGE} needs the lines ${BEGIN} and ${END}, in this order`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${keyTable(describeConfig())}\n${page.slice(end)}`;
}

/** A Markdown table, its columns padded as prettier pads them. */
function keyTable(rows: ConfigRow[]): string {
  const cells = rows.map(({ key, type, default: fallback, description }) => [
    `\`${key}\``,
    type,
    fallback === '' ? '' : `\`${fallback}\``,
    description,
  ]);
  const table = [['Key', 'Value', 'Default', 'Meaning'], ...cells].map((row) => row.map(escaped));
  const widths = [0, 1, 2, 3].map((column) => Math.max(3, ...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [lines[0], rule, ...lines.slice(1), ''].join('\n');
}

/** Outside of code, `<name>` would be taken for HTML, and `*` for emphasis. */
function escaped(text: string): string {
  return text
    .split(/(`[^`]*`)/)
    .map((part) => (part.startsWith('`') ? part : part.replaceAll(/[<*]/g, String.raw`\$&`)))
    .join('')
    .replaceAll('|', String.raw`\|`);
}

const self = fileURLToPath(import.meta.url);
if (process.argv[1] !== undefined && resolve(process.argv[1]) === self) {
  // From dist/scripts/.
  const root = join(self, '../../..');
  writeFileSync(join(root, PAGE), withKeys(readFileSync(join(root, PAGE), 'utf8')));
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  writeFileSync(join(root, API), `${JSON.stringify(openApi(version), null, 2)}\n`);
}
