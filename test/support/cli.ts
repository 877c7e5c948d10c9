/** Runs the command line as a user does. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT } from './project.ts';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The command's file, for Node. */
export const COMMAND = join(PROJECT, 'bin/dpi-agent.js');

/** For a shell. */
export function commandLine(...args: string[]): string {
  return [process.execPath, COMMAND, ...args].map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(' ');
}

export async function runCli(
  args: string[],
  /** `timeout`: milliseconds after which it is ended, if it might go on for ever. */
  options: { stdin?: Buffer; env?: NodeJS.ProcessEnv; timeout?: number } = {},
): Promise<CliResult> {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    timeout: options.timeout,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (stderr += String(chunk)));
  // A command that does not read its input closes it.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.stdin);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, stdout, stderr };
}

/** What `rules test` says that fired, by its other arguments: signatures, sorted. */
export async function firedBy(args: string[]): Promise<string[]> {
  const { stdout } = await runCli(['rules', 'test', '-o', 'json', ...args]);
  const { fired } = JSON.parse(stdout) as { fired: { signature: string }[] };
  return fired.map(({ signature }) => signature).toSorted();
}
