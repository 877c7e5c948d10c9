/**
 * One holder for each folder: a lock file that names it.
 *
 * The file holds the holder's identity (process.ts). It appears complete (hard link), so it is never half written. The
 * holder is gone when the boot is another, no process has the pid, or the one that has it started at another time; then
 * the lock is taken over. Nobody has to clean up after a kill -9.
 *
 * Does not protect from a holder in another pid namespace or on another machine: its process is not in this /proc. On a
 * node, agents share the node's pid namespace.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from './errors.ts';
import { identityOf, runningPid } from './process.ts';

const ATTEMPTS = 5;

/** Another process holds the lock; the message says which, and what to do. */
export class LockedError extends Error {
  override readonly name = 'LockedError';
}

/**
 * Takes the lock of the folder that the file is in; the folder must be there.
 * @param otherwise What to do but to stop the holder, for the message.
 * @returns the function that gives it back, which does not throw. @throws LockedError, or the system's error.
 */
export function takeLock(file: string, otherwise: string): () => void {
  const own = identityOf(process.pid);
  const temporary = `${file}.${process.pid}`;
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // First, for who holds it can be told on a full disk too.
      takeFromGone(file, otherwise);
      writeFileSync(temporary, own, { mode: 0o640 });
      try {
        linkSync(temporary, file);
        return () => release(file, own);
      } catch (error) {
        if (errorCode(error) !== 'EEXIST') throw error;
      }
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  throw new LockedError(`${file} keeps changing hands: start one agent at a time`);
}

function takeFromGone(file: string, otherwise: string): void {
  const holder = read(file);
  if (holder === undefined) return;
  const pid = runningPid(holder);
  if (pid !== undefined) {
    throw new LockedError(`${dirname(file)} is in use by the agent with process id ${pid}: stop it, or ${otherwise}`);
  }
  takeAway(file, holder, `${file}.stale.${process.pid}`);
}

/** Moves a stale lock aside; if in the meantime somebody else took the lock over, that one goes back to its place. */
function takeAway(file: string, stale: string, aside: string): void {
  try {
    renameSync(file, aside);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  try {
    if (read(aside) !== stale) linkSync(aside, file);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function release(file: string, own: string): void {
  try {
    if (read(file) === own) rmSync(file, { force: true });
  } catch {
    // The next one takes it over.
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1').slice(0, 256);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
