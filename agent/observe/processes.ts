/** What the kernel says of a child: memory and CPU time. */
import { readFileSync } from 'node:fs';

/** USER_HZ, in which /proc gives times: 100 on every architecture of Linux. */
const TICKS = 100;

export interface ProcessUse {
  residentBytes: number;
  cpuSeconds: number;
}

/** Undefined when there is no such process, or /proc is another namespace's. See proc(5). */
export function processUse(pid: number): ProcessUse | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
    // Behind the name, which may hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const ticks = Number(fields[11]) + Number(fields[12]);
    if (resident === undefined || !Number.isFinite(ticks)) return undefined;
    return { residentBytes: Number(resident) * 1024, cpuSeconds: ticks / TICKS };
  } catch {
    return undefined;
  }
}
