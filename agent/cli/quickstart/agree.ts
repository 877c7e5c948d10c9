/** Asks whether to go on. */
import { createInterface } from 'node:readline/promises';
import { isTerminal } from '../print.ts';

/** Without a terminal, nobody agrees. */
export async function agreed(question: string, say: (line: string) => void): Promise<boolean> {
  if (!isTerminal(process.stdin) || !isTerminal(process.stdout)) {
    say('\nNothing was changed: --yes goes on without asking.');
    return false;
  }
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await lines.question(`\n${question} [y/N] `);
  lines.close();
  return /^y(es)?$/i.test(answer.trim());
}
