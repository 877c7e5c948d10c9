/** What the benchmarks share: their setting, their results, and that nothing they start outlives them. */
import { appendFileSync, rmSync } from 'node:fs';
import type { ChildProcess } from 'node:child_process';
import type { EngineInstall } from '../agent/engine/engine.ts';
import { createWorkspace, runAgent as runForTest, type RunningAgent, type Workspace } from '../test/support/agent.ts';
import { openLab, type Lab, type Pod } from '../scripts/lab.ts';
import { DEEP_RULE, HELLO_RULE } from './traffic.ts';

export const BENCHMARKS = ['replay', 'cpu', 'memory', 'latency', 'swap', 'kubernetes', 'observe'] as const;
export type BenchmarkName = (typeof BENCHMARKS)[number];

export interface Setting {
  engine: EngineInstall;
  quick: boolean;
  /** Rule files and folders beside the built-in set. */
  rules: string[];
  /** What is being done now; on a terminal only. */
  say(text: string): void;
}

/** One line of the tables. */
export interface Result {
  benchmark: BenchmarkName;
  engine: string;
  what: string;
  /** Readable; empty where there is nothing of the kind. */
  agent: string;
  alone: string;
  /** Smaller is better. */
  value: number;
  unit: 'ratio' | 'MB' | 'ms' | '%' | 'a minute';
  target?: { atLeast: number; aim: number };
  details: Record<string, string | number>;
  /** Why the number is worth nothing. */
  failure?: string;
}

/** One line of a table that compares with nothing. */
export interface Figure {
  engine: string;
  what: string;
  value: string;
  details: string;
}

const cleanups = new Set<() => void>();
process.once('exit', () => {
  for (const cleanup of [...cleanups].toReversed()) attempt(cleanup);
});

/** Calls `cleanup` when this process ends, or when the returned function is called. */
function onExit(cleanup: () => void): () => void {
  cleanups.add(cleanup);
  return () => {
    if (cleanups.delete(cleanup)) attempt(cleanup);
  };
}

function attempt(cleanup: () => void): void {
  try {
    cleanup();
  } catch (error) {
    process.stderr.write(`bench: not cleaned up: ${String(error)}\n`);
  }
}

/** Runs `body` with a folder of its own, and in it the benchmarks' rules. */
export async function withWorkspace<T>(body: (workspace: Workspace) => Promise<T>): Promise<T> {
  const workspace = createWorkspace();
  appendFileSync(workspace.rules, DEEP_RULE + HELLO_RULE);
  // An engine that is just ending may still write.
  const remove = onExit(() => rmSync(workspace.directory, { recursive: true, force: true, maxRetries: 20 }));
  try {
    return await body(workspace);
  } finally {
    remove();
  }
}

/** Runs `body` with network namespaces of its own. */
export async function withLab<T>(body: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = openLab('dpi-bench');
  const close = onExit(() => lab.close());
  try {
    return await body(lab);
  } finally {
    close();
  }
}

/** Lets frames of 24 to 60 KB, as veths carry them where much is sent, go to a pod. */
export function allowLargeFrames(lab: Lab, { netns, interface: device }: Pod): void {
  lab.exec(netns, 'ip', 'link', 'set', 'eth0', 'mtu', '65535');
  lab.exec(lab.node, 'ip', 'link', 'set', device, 'mtu', '65535');
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** Resolves with the child's end; a child that runs when this process ends is ended with SIGTERM. */
export function watch(child: ChildProcess): Promise<Exit> {
  const end = onExit(() => void (child.exitCode === null && child.signalCode === null && child.kill('SIGTERM')));
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      end();
      reject(error);
    });
    child.once('exit', (code, signal) => {
      end();
      resolve({ code, signal });
    });
  });
}

/** Starts the agent as users do, with rings of the default size where `config` says nothing: a test's are larger. */
export function runAgent(options: Parameters<typeof runForTest>[0]): Promise<RunningAgent> {
  return runForTest({ ...options, config: { capture: {}, ...options.config } });
}

/** @throws Error that says what took too long. */
export async function within<T>(millis: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${millis / 1000} s`)), millis);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function median(values: number[]): number {
  return quantile(values, 0.5);
}

/** The smallest value that at least this part of the values does not exceed; NaN without values. */
export function quantile(values: number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? NaN;
}

export function fixed(value: number, digits = 2): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '-';
}

export function grouped(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
