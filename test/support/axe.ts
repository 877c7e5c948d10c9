/** Checks a page that is shown against WCAG 2.2 AA, as far as axe-core can. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

/** In light and dark. @returns what is wrong: the theme, the rule, the elements. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  const problems: string[] = [];
  await page.evaluate(AXE);
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    const found = await page.evaluate<{ id: string; targets: string[] }[]>(
      `axe.run(document, { runOnly: ${JSON.stringify(RULES)} }).then(({ violations }) =>
        violations.map(({ id, nodes }) => ({ id, targets: nodes.slice(0, 5).map(({ target }) => target.join(' ')) })))`,
    );
    problems.push(...found.map(({ id, targets }) => `${colorScheme}: ${id}: ${targets.join(', ')}`));
  }
  await page.emulateMedia({ colorScheme: 'light' });
  return problems;
}
