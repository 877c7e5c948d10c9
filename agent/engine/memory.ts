/** Memory of engines: what a process has, what the container still has, and what rules will take, by their number. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineName } from './engine.ts';
import { filesOf, type EngineRules } from './rules.ts';

/**
 * What a rule takes of memory, of thousands that are loaded: measured with the community rules (docs/performance.md). A
 * single one may take any.
 */
const RULE_BYTES: Readonly<Record<EngineName, number>> = { snort: 10 << 10, suricata: 12 << 10 };
const CGROUP = '/sys/fs/cgroup';
/** Limit and use, of cgroup 2 and of cgroup 1. */
const CGROUP_FILES = [
  ['memory.max', 'memory.current'],
  ['memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'],
] as const;

/** Resident, of a process that runs; 0 where nothing says so. */
export function residentBytes(pid: number | undefined): number {
  try {
    const pages = readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1];
    return Number(pages) * 4096;
  } catch {
    return 0;
  }
}

/** What the container still has; Infinity where it has no limit. */
export function spareBytes(): number {
  for (const [max, current] of CGROUP_FILES) {
    const [limit, used] = [numberIn(join(CGROUP, max)), numberIn(join(CGROUP, current))];
    if (Number.isFinite(limit)) return limit - used;
  }
  return Infinity;
}

function numberIn(path: string): number {
  try {
    return Number(readFileSync(path, 'latin1').trim());
  } catch {
    return Number.NaN;
  }
}

/**
 * Why an engine can't go over to other rules while it runs: until it has, it holds those before too.
 * @param memoryLimit What it may take at most, in bytes. @param spare What the container still has.
 * @returns undefined where it can.
 */
export function whyNotWhileRunning(
  engine: EngineName,
  before: EngineRules,
  next: EngineRules,
  memoryLimit: number,
  spare = spareBytes(),
): string | undefined {
  const [held, added] = [rulesIn(before), rulesIn(next)];
  const [both, further] = [(held + added) * RULE_BYTES[engine], added * RULE_BYTES[engine]];
  if (both <= memoryLimit && further <= spare) return undefined;
  const bound =
    both > memoryLimit
      ? `engine.memoryLimit is ${megabytes(memoryLimit)}`
      : `of its limit the container has ${megabytes(spare)} left, which are to hold ${megabytes(further)} more`;
  return `${added} rules beside the ${held} before take about ${megabytes(both)}, and ${bound}`;
}

/** That are loaded: those of a policy once more. */
function rulesIn(rules: EngineRules): number {
  const loaded = [rules.shared ?? rules.defaults, ...rules.policies.map(({ sets }) => sets)];
  return loaded.flatMap((sets) => filesOf(rules, sets)).reduce((sum, { origins }) => sum + origins.length, 0);
}

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MB`;
