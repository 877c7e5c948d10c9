/** `dpi-agent ui`, as a user starts it. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PROJECT } from './project.ts';

export interface TestUi {
  url: string;
  /** Lines of its log, in JSON. */
  log: readonly string[];
  stop(): Promise<void>;
}

/** On a free port. @throws Error with its log when it ends before it listens. */
export async function startUi(...flags: string[]): Promise<TestUi> {
  const child = spawn(
    process.execPath,
    [join(PROJECT, 'bin/dpi-agent.js'), 'ui', '--port', '0', '--log-level', 'info', ...flags],
    { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, DPI_AGENT_LOG_FORMAT: 'json' } },
  );
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const log: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const [, found] = /"url":"([^"]+)"/.exec(line) ?? [];
      if (found !== undefined) resolve(found);
    });
    child.once('close', (code) => reject(new Error(`dpi-agent ui ended with status ${code}:\n${log.join('\n')}`)));
  });
  return {
    url,
    log,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
