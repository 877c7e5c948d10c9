/**
 * Which process a pid is: the number is used again, and its start time tells the processes apart that had it.
 *
 * Not told: processes of another pid namespace or of another machine. They are not in this /proc.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { errorCode } from './errors.ts';

/**
 * `<pid> <start time in clock ticks since boot> <boot id>`: what tells a process from any other that has, or had, its
 * pid; empty when it is not running. It is the same before and after exec.
 */
export function identityOf(pid: number): string {
  const start = startTimeOf(pid);
  return start === undefined ? '' : `${pid} ${start} ${readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? ''}`;
}

/** When a process that runs was started, in clock ticks since the boot; undefined when it does not run. */
export function startTimeOf(pid: number): string | undefined {
  // proc(5): the command's name is in parentheses and may hold any character; behind it come the state and, 20th, the
  // start time.
  const stat = readProc(`/proc/${pid === process.pid ? 'self' : pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** The pid in an identity while the process runs; undefined when it is gone, or the text is no identity. */
export function runningPid(identity: string): number | undefined {
  const pid = Number(identity.split(' ')[0]);
  return Number.isSafeInteger(pid) && pid > 0 && identityOf(pid) === identity ? pid : undefined;
}

/** Whether /proc shows the processes of this one's pid namespace; in another one's their numbers are not ours. */
export function isOwnProc(): boolean {
  return readlinkSync('/proc/self') === String(process.pid);
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    // ESRCH: the process went away while its entry was read.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}
