/** The command line from its source, in a process of its own: what tests that need no build start. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { PROJECT } from './project.ts';

/** Node's arguments; those of the command come behind them. */
export const FROM_SOURCE: readonly string[] = [
  '--import',
  join(PROJECT, 'test/journal/fixtures/typescript.mjs'),
  join(PROJECT, 'agent/cli/main.ts'),
];

/** For a shell. */
export function commandLine(...args: string[]): string {
  return [process.execPath, ...FROM_SOURCE, ...args]
    .map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`)
    .join(' ');
}

export async function runFromSource(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [...FROM_SOURCE, ...args], { env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as unknown[];
  return { code, stdout, stderr };
}
