/** What the kernel says of a process and its descendants. */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ, the unit of times in /proc: 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** The process and its living descendants. */
export function processTree(pid: number): number[] {
  const children = quiet(() => readdirSync(`/proc/${pid}/task`), []).flatMap((task) =>
    quiet(() => readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1'), '')
      .split(' ')
      .filter(Boolean)
      .map(Number),
  );
  return [pid, ...children.flatMap(processTree)];
}

/** User and system time of a process and its descendants, in seconds, with those that ended and were waited for. */
export function cpuSeconds(pid: number): number {
  return processTree(pid).reduce((sum, one) => sum + ownSeconds(one, 'with-reaped'), 0);
}

/** The same by the processes' names, without those that ended. */
export function cpuByName(pid: number): Record<string, number> {
  const times: Record<string, number> = {};
  for (const one of processTree(pid)) {
    const name = nameOf(one);
    times[name] = (times[name] ?? 0) + ownSeconds(one, 'alone');
  }
  return times;
}

/** User and system time, in seconds, of this process's children that ended, and of theirs. */
export function reapedSeconds(): number {
  const fields = stat(process.pid);
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}

function ownSeconds(pid: number, mode: 'alone' | 'with-reaped'): number {
  const fields = quiet(() => stat(pid), []);
  const ticks = fields.slice(11, mode === 'alone' ? 13 : 15);
  return ticks.reduce((sum, field) => sum + Number(field), 0) / TICKS_PER_SECOND;
}

/** The fields of /proc/<pid>/stat from the third on (proc(5)): utime, stime, cutime and cstime are at 11 to 14. */
function stat(pid: number): string[] {
  const line = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name before may contain anything.
  return line.slice(line.lastIndexOf(')') + 2).split(' ');
}

/** "agent", "capture", or the program's name. */
function nameOf(pid: number): string {
  const words = quiet(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1'), '').split('\0');
  if (words.some((word) => /\/(capture|bundle)\/main\.js$/.test(word))) return 'capture';
  if (words.some((word) => word.endsWith('dpi-agent.js'))) return 'agent';
  return (words[0] ?? '').split('/').at(-1) || 'ended';
}

export interface Memory {
  /** Bytes: pages that are shared count by their share. */
  pss: number;
  rss: number;
  /** Bytes of packet rings (mapped sockets), which are part of `pss`. */
  rings: number;
}

/** Memory of a process and its descendants, by name. */
export function memoryByName(pid: number): Record<string, Memory> {
  const found: Record<string, Memory> = {};
  for (const one of processTree(pid)) {
    const name = nameOf(one);
    const sum = (found[name] ??= { pss: 0, rss: 0, rings: 0 });
    const rollup = quiet(() => readFileSync(`/proc/${one}/smaps_rollup`, 'latin1'), '');
    sum.pss += kibibytes(rollup, 'Pss');
    sum.rss += kibibytes(rollup, 'Rss');
    sum.rings += ringBytes(one);
  }
  return found;
}

function ringBytes(pid: number): number {
  let inRing = false;
  let bytes = 0;
  for (const line of quiet(() => readFileSync(`/proc/${pid}/smaps`, 'latin1'), '').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) inRing = line.includes('socket:[');
    else if (inRing && line.startsWith('Pss:')) bytes += kibibytes(line, 'Pss');
  }
  return bytes;
}

function kibibytes(text: string, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
}

/** Processes end at any time; then there is nothing to read. */
function quiet<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
