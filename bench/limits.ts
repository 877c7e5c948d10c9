/** A control group with limits, as the kubelet makes one for a container. Version 1 and 2 of cgroups. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The kubelet's, in µs. */
const PERIOD = 100_000;
const ROOT = '/sys/fs/cgroup';

export interface LimitedGroup {
  /** Takes a process in; its children follow. */
  add(pid: number): void;
  /** Times that its processes had to wait for the next period, and times that the kernel killed one for memory. */
  events(): { throttled: number; killed: number };
  /** When its processes have ended. */
  remove(): void;
}

/** @param limits CPUs, and bytes of memory. @throws Error when groups can't be made here. */
export function createLimitedGroup(name: string, limits: { cpus: number; memory: number }): LimitedGroup {
  const unified = existsSync(join(ROOT, 'cgroup.controllers'));
  const files: [controller: string, file: string, value: string][] = unified
    ? [
        ['', 'cpu.max', `${limits.cpus * PERIOD} ${PERIOD}`],
        ['', 'memory.max', `${limits.memory}`],
      ]
    : [
        ['cpu', 'cpu.cfs_period_us', `${PERIOD}`],
        ['cpu', 'cpu.cfs_quota_us', `${limits.cpus * PERIOD}`],
        ['memory', 'memory.limit_in_bytes', `${limits.memory}`],
      ];
  const groups = [...new Set(files.map(([controller]) => join(ROOT, controller, name)))];
  const at = (controller: string, file: string): string => join(ROOT, unified ? '' : controller, name, file);
  const remove = (): void => {
    for (const group of groups) if (existsSync(group)) rmdirSync(group);
  };
  // Those of a benchmark that was killed: its processes ended after it.
  for (const group of groups) if (existsSync(group)) rmdirSync(group);
  try {
    if (unified) writeFileSync(join(ROOT, 'cgroup.subtree_control'), '+cpu +memory');
    for (const group of groups) mkdirSync(group);
    for (const [controller, file, value] of files) writeFileSync(join(ROOT, controller, name, file), value);
  } catch (error) {
    remove();
    throw new Error(`control groups can't be made here: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  const count = (controller: string, file: string, key: string): number =>
    Number(new RegExp(`^${key} (\\d+)`, 'm').exec(readFileSync(at(controller, file), 'utf8'))?.[1] ?? 0);
  return {
    add(pid) {
      for (const group of groups) writeFileSync(join(group, 'cgroup.procs'), `${pid}`);
    },
    events: () => ({
      throttled: count('cpu', 'cpu.stat', 'nr_throttled'),
      killed: count('memory', unified ? 'memory.events' : 'memory.oom_control', 'oom_kill'),
    }),
    remove,
  };
}
