import { describe, expect, test } from '@jest/globals';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { COMMANDS } from '../agent/cli/commands.ts';
import { OPERATIONS, openApi } from '../agent/ui/openapi.ts';
import { API, BEGIN, END, PAGE, withKeys } from '../scripts/docs.ts';

const ROOT = resolve(import.meta.dirname, '..');

test('the table of keys in docs/configuration.md is what node dist/scripts/docs.js writes', () => {
  const page = readFileSync(join(ROOT, PAGE), 'utf8');
  expect(page).toBe(withKeys(page));
});

test('a page without its markers is refused', () => {
  expect(() => withKeys(`${END}\n${BEGIN}\n`)).toThrow(/needs the lines/);
});

test('README.md names every command in the row of cli/', () => {
  const row = /^\| `cli\/` .*$/m.exec(readFileSync(join(ROOT, 'README.md'), 'utf8'))?.[0] ?? '';
  expect([...row.matchAll(/`([a-z]+)`/g)].map(([, name]) => name)).toEqual(Object.keys(COMMANDS));
});

test('docs/api.md has every request that the Alerts page’s server answers', () => {
  const requests = servedRequests();
  expect(requests.length).toBeGreaterThan(15);
  const page = readFileSync(join(ROOT, 'docs/api.md'), 'utf8');
  for (const request of requests) {
    const [method = '', path = ''] = request.split(' ');
    expect(page).toContain(`\`${method.toUpperCase()} ${path.replace(':id', '<id>')}\``);
  }
});

test('docs/openapi.json is what node dist/scripts/docs.js writes, and has these requests and no others', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(JSON.parse(readFileSync(join(ROOT, API), 'utf8'))).toEqual(openApi(version));
  const documented = Object.entries(OPERATIONS).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method} ${path.replace('{id}', ':id')}`),
  );
  expect(documented.sort()).toEqual(servedRequests().sort());
});

/** Of the Alerts page's server: `get /api/alerts/:id`. */
function servedRequests(): string[] {
  const code = ['server', 'response', 'tuning', 'understanding', 'acknowledge']
    .map((name) => readFileSync(join(ROOT, `agent/ui/${name}.ts`), 'utf8'))
    .join('');
  return [...code.matchAll(/app\.(get|post|put|patch|delete)\('(\/api\/[^']+)'/g)].map(
    ([, method = '', path = '']) => `${method} ${path}`,
  );
}

const pages = ['README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
);

describe.each(pages)('%s', (page) => {
  test('links to files and headings that exist', () => {
    const text = readFileSync(join(ROOT, page), 'utf8');
    const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1] ?? '')
      .filter((link) => !/^[a-z]+:/.test(link) && !exists(page, link));
    expect(broken).toEqual([]);
  });
});

function exists(page: string, link: string): boolean {
  const [path = '', heading] = link.split('#');
  const target = path === '' ? join(ROOT, page) : join(ROOT, dirname(page), path);
  if (!existsSync(target)) return false;
  return heading === undefined || headings(readFileSync(target, 'utf8')).includes(heading);
}

/** Anchors as GitHub makes them of headings. */
function headings(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
