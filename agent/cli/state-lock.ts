/**
 * The lock of the agent's state: of two agents in one folder, the second would end the first one's engines, read its
 * alerts and lease its ids.
 *
 * Where the disk is full or read-only it is waited for. Meanwhile `/health` says that the agent lives, and `/readiness`
 * what it waits for: a new process would wait as well.
 */
import { join, resolve } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import { onceDiskAllows } from '../files/disk.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { makeDirectorySync } from '../files/folder.ts';
import { LockedError, takeLock } from '../files/lock.ts';
import { readinessOf } from '../observe/readiness.ts';
import { serve } from '../observe/server.ts';
import { CommandError, EXIT } from './exit.ts';

/** @returns what gives it back. @throws CommandError that names who holds it. */
export async function lockState({ stateDirectory, http }: Config, log: Logger): Promise<() => void> {
  const directory = resolve(stateDirectory);
  let problem = '';
  let probes: Promise<() => void> | undefined;
  const attempt = (): (() => void) => {
    makeDirectorySync(directory, 0o711);
    return takeLock(join(directory, 'agent.lock'), 'set stateDirectory to another folder');
  };
  try {
    return await onceDiskAllows(attempt, (error, failures) => {
      problem = `stateDirectory cannot be locked: ${messageOf(error)}`;
      if (failures > 0) return;
      log.error({ err: error }, 'stateDirectory cannot be locked; nothing is inspected until it can');
      probes = serveProbes(http, () => problem, log);
    });
  } catch (error) {
    if (error instanceof LockedError) throw new CommandError(error.message, EXIT.failed);
    throw new CommandError(cannotWrite(directory, error));
  } finally {
    const end = await probes;
    end?.();
  }
}

function cannotWrite(directory: string, error: unknown): string {
  const code = errorCode(error);
  if (code !== 'EACCES' && code !== 'EPERM')
    return `${messageOf(error)}: set stateDirectory to a folder that the agent may write`;
  const elsewhere = 'set stateDirectory and journal.directory to folders that this user may write';
  const advice = process.getuid?.() === 0 ? elsewhere : `run as root, or ${elsewhere}`;
  return `may not write ${directory} (stateDirectory): ${advice} (${code})`;
}

/** Never rejects: a port that is taken is no reason not to wait. @returns what ends it. */
async function serveProbes({ port, address }: Config['http'], problem: () => string, log: Logger): Promise<() => void> {
  if (port === 0) return () => undefined;
  try {
    const server = await serve({
      port,
      ...(address === undefined ? {} : { address }),
      stuck: () => undefined,
      readiness: () => readinessOf(problem()),
      metrics: () => Promise.resolve(''),
    });
    return () => server.close();
  } catch (error) {
    log.error({ err: error, port, address }, 'probes are not served; set http.port or http.address');
    return () => undefined;
  }
}
