/**
 * What the agent's cgroup keeps it from: CPU time that its limit took, and time in which it waited for CPU or memory
 * (PSI). All of the container or service: the agent, its captures and engines. In cgroup 2 as in cgroup 1, which has no
 * PSI.
 *
 * Formats: the kernel's admin-guide/cgroup-v2.rst (cpu.stat, *.pressure) and scheduler/sched-bwc.rst.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = '/sys/fs/cgroup';

/** What its limits let it have; what is not limited is absent. */
export interface Granted {
  cpus?: number;
  memoryBytes?: number;
}

/** Sums since the cgroup was made. */
export interface LimitsSeen {
  /** Only where there is a CPU limit. */
  cpu?: {
    /** Periods of the limit, 100 ms by default, in which the container ran. */
    periods: number;
    /** Of them, those in which it had to stop before their end. */
    throttled: number;
    throttledSeconds: number;
  };
  /** Seconds in which some of its processes waited for it, where the kernel tells. */
  pressure: { cpu?: number; memory?: number; io?: number };
}

export function readLimits(root = ROOT, own = textOf('/proc/self/cgroup') ?? ''): LimitsSeen {
  const places = placesIn(root, own);
  const cpu = throttlingIn(places);
  return { ...(cpu === undefined ? {} : { cpu }), pressure: pressureIn(places) };
}

/** Read anew each time: a limit may change while the container runs. */
export function readGranted(root = ROOT, own = textOf('/proc/self/cgroup') ?? ''): Granted {
  const cpus = cpusIn(placesIn(root, own));
  const memoryBytes = memoryIn(placesIn(root, own, 'memory'));
  return { ...(cpus === undefined ? {} : { cpus }), ...(memoryBytes === undefined ? {} : { memoryBytes }) };
}

/** Quota and period in microseconds; `max` and -1 for none. */
function cpusIn(places: string[]): number | undefined {
  const [quota, period] = (
    firstOf(places, 'cpu.max') || `${firstOf(places, 'cpu.cfs_quota_us')} ${firstOf(places, 'cpu.cfs_period_us')}`
  )
    .trim()
    .split(/\s+/)
    .map(Number);
  return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? quota / period : undefined;
}

/** `max` for none in cgroup 2, and in cgroup 1 a number that no machine reaches. */
function memoryIn(places: string[]): number | undefined {
  const bytes = Number(firstOf(places, 'memory.max') || firstOf(places, 'memory.limit_in_bytes') || 'none');
  return bytes > 0 && bytes < 2 ** 60 ? bytes : undefined;
}

/**
 * Folders where its cgroup may be, the most likely first: in a container, what is mounted is often its own cgroup,
 * whatever path the kernel names (cgroups(7), cgroup_namespaces(7)).
 */
function placesIn(root: string, own: string, controller: 'cpu' | 'memory' = 'cpu'): string[] {
  const pathOf = (line: RegExp): string => line.exec(own)?.[1] ?? '/';
  const unified = pathOf(/^0::(\/.*)$/m);
  const legacy = pathOf(new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:(/.*)$`, 'm'));
  return [join(root, unified), root, join(root, controller, legacy), join(root, controller)];
}

function throttlingIn(places: string[]): LimitsSeen['cpu'] {
  const text = firstOf(places, 'cpu.stat');
  const [periods, throttled] = [numberOf(text, 'nr_periods'), numberOf(text, 'nr_throttled')];
  const micros = numberOf(text, 'throttled_usec') ?? (numberOf(text, 'throttled_time') ?? 0) / 1000;
  // Both versions count periods only where there is a limit.
  if (periods === undefined || throttled === undefined || periods === 0) return undefined;
  return { periods, throttled, throttledSeconds: micros / 1e6 };
}

function pressureIn(places: string[]): LimitsSeen['pressure'] {
  const pressure: LimitsSeen['pressure'] = {};
  for (const resource of ['cpu', 'memory', 'io'] as const) {
    const total = /^some .*\btotal=(\d+)/m.exec(firstOf(places, `${resource}.pressure`))?.[1];
    if (total !== undefined) pressure[resource] = Number(total) / 1e6;
  }
  return pressure;
}

function firstOf(places: string[], name: string): string {
  for (const place of places) {
    const text = textOf(join(place, name));
    if (text !== undefined) return text;
  }
  return '';
}

function numberOf(text: string, name: string): number | undefined {
  const value = new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1];
  return value === undefined ? undefined : Number(value);
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // This version of cgroups does not have it, or the kernel was built without PSI.
    return undefined;
  }
}
