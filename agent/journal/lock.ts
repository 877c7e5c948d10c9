/**
 * One writer for each folder: a lock file that names its holder.
 *
 * `journal.lock` holds `<pid> <start time in clock ticks since boot> <boot id>`. It appears complete (hard link), so it is never half
 * written. The holder is gone when the boot is another, no process has the pid, or the one that has it started at another time;
 * then the lock is taken over. Nobody has to clean up after a kill -9.
 *
 * Does not protect from a writer in another pid namespace or on another machine: its process is not in this /proc. On a
 * node, agents share the node's pid namespace.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { errorCode, JournalError, journalError } from './error.ts';

export const LOCK_NAME = 'journal.lock';

/** Takes the lock of a folder. @returns the function that gives it back. @throws JournalError, ELOCKED when another process holds it. */
export function lockDirectory(directory: string): () => void {
  const file = path.join(directory, LOCK_NAME);
  const own = identity(process.pid);
  const temporary = `${file}.${process.pid}`;
  try {
    for (let attempt = 0; attempt < 5; attempt++) {
      writeFileSync(temporary, own, { mode: 0o640 });
      try {
        linkSync(temporary, file);
        return () => release(file, own);
      } catch (error) {
        if (errorCode(error) !== 'EEXIST') throw error;
      }
      const holder = read(file);
      if (holder === undefined) continue;
      const pid = Number(holder.split(' ')[0]);
      if (Number.isSafeInteger(pid) && pid > 0 && identity(pid) === holder) {
        throw new JournalError(
          'ELOCKED',
          directory,
          `${directory} is in use by the agent with process id ${pid}: stop it, or set journal.directory to another folder`,
        );
      }
      takeAway(file, holder, `${file}.stale.${process.pid}`);
    }
    throw new JournalError('ELOCKED', directory, `${file} keeps changing hands: start one agent at a time`);
  } catch (error) {
    throw journalError('lock', directory, error);
  } finally {
    rmSync(temporary, { force: true });
  }
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
  if (read(file) === own) rmSync(file, { force: true });
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'latin1').slice(0, 256);
  } catch (error) {
    // ESRCH: the process went away while its entry in /proc was read.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/** What tells a process from any other that has, or had, its pid; empty when it is not running. */
function identity(pid: number): string {
  // proc(5): the command's name is in parentheses and may hold any character; behind it come the state and, 20th, the start time.
  const stat = read(`/proc/${pid === process.pid ? 'self' : pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  const [state, start] = [fields[0], fields[19]];
  if (start === undefined || state === 'Z' || state === 'X') return '';
  return `${pid} ${start} ${read('/proc/sys/kernel/random/boot_id')?.trim() ?? ''}`;
}
