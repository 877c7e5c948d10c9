/** A command on a terminal of its own, as a person runs it. */
import { spawn, spawnSync } from 'node:child_process';
import { poll } from './poll.ts';

/** Why there is no terminal for a command; undefined when there is. */
export const whyNoTerminal =
  spawnSync('script', ['-qec', 'exit 7', '/dev/null'], { stdio: 'ignore' }).status === 7
    ? undefined
    : 'script of util-linux does not work here';

export interface OnTerminal {
  /** Waits for text on the screen. */
  shows(text: string): Promise<unknown>;
  /** Types Ctrl-C: the kernel sends SIGINT to every process of the terminal's foreground. */
  interrupt(): void;
  /** How it ended, and all that was on the screen, standard error included. */
  ended: Promise<{ code: number | null; screen: string }>;
}

/** @param command Of the shell. */
export function runOnTerminal(command: string, env: NodeJS.ProcessEnv = {}): OnTerminal {
  const child = spawn('script', ['-qfec', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  let screen = '';
  child.stdout.on('data', (chunk) => (screen += String(chunk)));
  return {
    shows: (text) => poll(() => screen.includes(text) || (child.exitCode !== null && screen)),
    interrupt: () => void child.stdin.write('\u0003'),
    ended: new Promise((resolve) => child.once('close', (code) => resolve({ code, screen }))),
  };
}
