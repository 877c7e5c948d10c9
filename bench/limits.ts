/** A control group with limits, as the kubelet makes one for a container. Version 1 and 2 of cgroups. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The kubelet's, in µs. */
const PERIOD = 100_000;
const ROOT = '/sys/fs/cgroup';

export interface LimitedGroup {
  /** Takes a process in; its children follow. */
  add(pid: number): void;
  /** Times that the kernel killed one of its processes for memory. */
  killed(): number;
  /** When its processes have ended. */
  remove(): void;
}

/** @param limits CPUs, and bytes of memory. @throws Error when groups can't be made here. */
export function createLimitedGroup(name: string, limits: { cpus: number; memory: number }): LimitedGroup {
  const unified = existsSync(join(ROOT, 'cgroup.controllers'));
  const files: [controller: string, file: string, value: string][] = unified
    ? [
        ['cpu', 'cpu.max', `${limits.cpus * PERIOD} ${PERIOD}`],
        ['memory', 'memory.max', `${limits.memory}`],
      ]
    : [
        ['cpu', 'cpu.cfs_period_us', `${PERIOD}`],
        ['cpu', 'cpu.cfs_quota_us', `${limits.cpus * PERIOD}`],
        ['memory', 'memory.limit_in_bytes', `${limits.memory}`],
      ];
  const at = (controller: string, file = ''): string => join(ROOT, unified ? '' : controller, name, file);
  const groups = [...new Set(files.map(([controller]) => at(controller)))];
  const remove = (): void => {
    for (const group of groups) if (existsSync(group)) rmdirSync(group);
  };
  // Those of a benchmark that was killed: its processes ended after it.
  remove();
  try {
    if (unified) writeFileSync(join(ROOT, 'cgroup.subtree_control'), '+cpu +memory');
    for (const group of groups) mkdirSync(group);
    for (const [controller, file, value] of files) writeFileSync(at(controller, file), value);
  } catch (error) {
    remove();
    throw new Error(`control groups can't be made here: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  return {
    add(pid) {
      for (const group of groups) writeFileSync(join(group, 'cgroup.procs'), `${pid}`);
    },
    killed() {
      const counts = readFileSync(at('memory', unified ? 'memory.events' : 'memory.oom_control'), 'utf8');
      return Number(/^oom_kill (\d+)/m.exec(counts)?.[1] ?? 0);
    },
    remove,
  };
}
