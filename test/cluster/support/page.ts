/** The tutorial as a page: what the test did, and what it saw. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT } from '../../support/project.ts';

export type Step = { text: string; command: string; output?: string } | { picture: string; shows: string };

const PAGE = join(PROJECT, 'docs/tutorial.md');
const [START, END] = ['<!-- tutorial:start -->', '<!-- tutorial:end -->'];
/** Lines of one output that are shown. */
const MAX_LINES = 60;

/** Puts the steps between the page's two marks, and the pictures into docs/images. */
export function writeTutorial(steps: readonly Step[], pictures: readonly { name: string; bytes: Buffer }[]): void {
  for (const { name, bytes } of pictures) writeFileSync(join(PROJECT, 'docs/images', `${name}.png`), bytes);
  const text = readFileSync(PAGE, 'utf8');
  const [before, after] = [text.indexOf(START), text.indexOf(END)];
  if (before < 0 || after < before) throw new Error(`${PAGE} has no ${START} … ${END}`);
  writeFileSync(
    PAGE,
    `${text.slice(0, before + START.length)}\n\n${steps.map(markdown).join('\n\n')}\n\n${text.slice(after)}`,
  );
}

function markdown(step: Step): string {
  if ('picture' in step) return `![${step.shows}](images/${step.picture}.png)`;
  const { text, command, output = '' } = step;
  const lines = output.trimEnd().split('\n');
  const shown = lines.length > MAX_LINES ? [...lines.slice(0, MAX_LINES), '…'] : lines;
  return [text, fence('sh', command), output.trim() === '' ? '' : fence('text', shown.join('\n'))]
    .filter((part) => part !== '')
    .join('\n\n');
}

function fence(language: string, text: string): string {
  return `\`\`\`${language}\n${text}\n\`\`\``;
}
