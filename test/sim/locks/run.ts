/**
 * One seed is one run of a folder's lock: processes come, take it or are told who has it, give it back, and die within
 * any of their calls; their pids are used again; the machine loses power. Between any two calls of one, others do all
 * that they do, and others between theirs.
 *
 * 27. One process that runs has the lock at a time.
 * 28. Who is told that another has it, is told of one that runs and has it, or is about to.
 * 29. When all are gone, the next one gets it, and what is left is bounded.
 */
import { basename } from 'node:path';
import { LockedError, takeLock, type LockSystem } from '../../../agent/files/lock.ts';
import { seeded } from '../../support/random.ts';
import { errno } from '../disk/nodes.ts';

const FILE = '/state/agent.lock';
const PIDS = 4;
/** How deep others come in between. */
const MAX_DEPTH = 3;

export interface LocksResult {
  /** The obligation, and how. */
  broken?: string;
  taken: number;
  refused: number;
  deaths: number;
  powerCuts: number;
  /** The same for the same seed. */
  digest: number;
}

/** The process is gone, within a call. */
class Killed extends Error {}

interface Process {
  readonly pid: number;
  readonly identity: string;
  isRunning: boolean;
  giveBack: (() => void) | undefined;
}

interface State {
  readonly random: () => number;
  readonly trace: ((line: string) => void) | undefined;
  /** Content by name; names of one file share it. */
  files: Map<string, { content: string }>;
  readonly processes: Map<number, Process>;
  /** Calls so far, and when a pid was last free again. */
  calls: number;
  readonly ends: Map<number, number>;
  starts: number;
  ids: number;
  boot: number;
  depth: number;
  /** How often a call fails as disks do, and how often a process dies within one, 0..1. */
  broken: number;
  deadly: number;
  counts: Omit<LocksResult, 'broken'>;
  failure: string | undefined;
}

/** @param trace Called with each call. */
export async function simulateLocks(seed: number, trace?: (line: string) => void): Promise<LocksResult> {
  const random = seeded(seed);
  const state: State = {
    random,
    trace,
    files: new Map(),
    processes: new Map(),
    calls: 0,
    ends: new Map(),
    starts: 0,
    ids: 0,
    boot: 1,
    depth: 0,
    broken: random() < 0.3 ? 0.1 : 0,
    deadly: 0.02,
    counts: { taken: 0, refused: 0, deaths: 0, powerCuts: 0, digest: 0 },
    failure: undefined,
  };
  for (let act = 0; act < 40 && state.failure === undefined; act++) {
    something(state);
    if (random() < 0.02) cutPower(state);
  }
  Object.assign(state, { broken: 0, deadly: 0 });
  state.depth = MAX_DEPTH;
  for (const process of state.processes.values()) die(state, process);
  const last = begin(state);
  if (last !== undefined) attempt(state, last);
  if (last?.giveBack === undefined) fail(state, 29, 'all are gone, and the lock is not given');
  const left = [...state.files.keys()].filter((name) => name !== FILE);
  if (left.length > 2 * PIDS) fail(state, 29, `${left.length} files are left`);
  return { ...(state.failure === undefined ? {} : { broken: state.failure }), ...state.counts };
}

function fail(state: State, obligation: number, message: string): void {
  state.failure ??= `obligation ${obligation}: ${message}`;
}

/** A process comes, gives the lock back, or dies. */
function something(state: State): void {
  const { random, processes } = state;
  const running = [...processes.values()].filter((each) => each.giveBack !== undefined);
  const [one] = running;
  const what = random();
  if (one !== undefined && what < 0.2) giveBack(state, one);
  else if (one !== undefined && what < 0.4) die(state, one);
  else {
    const process = begin(state);
    if (process !== undefined) attempt(state, process);
  }
}

/** With a pid that nobody has now. */
function begin(state: State): Process | undefined {
  const { random, processes } = state;
  const free = Array.from({ length: PIDS }, (_, index) => index + 1).filter((pid) => !processes.has(pid));
  const pid = free[Math.floor(random() * free.length)];
  if (pid === undefined) return undefined;
  const process: Process = {
    pid,
    identity: `${pid} ${++state.starts} boot${state.boot}`,
    isRunning: true,
    giveBack: undefined,
  };
  processes.set(pid, process);
  return process;
}

function attempt(state: State, process: Process): void {
  const { counts, calls } = state;
  try {
    const release = takeLock(FILE, 'wait', systemOf(state, process));
    if (!process.isRunning) return;
    process.giveBack = release;
    counts.taken += 1;
    state.trace?.(`${process.identity} has it`);
    const other = [...state.processes.values()].find((each) => each !== process && each.giveBack !== undefined);
    if (other !== undefined) fail(state, 27, `${process.identity} has the lock, as has ${other.identity}`);
  } catch (error) {
    if (error instanceof Killed || !process.isRunning) return;
    counts.refused += 1;
    if (error instanceof LockedError) checkRefusal(state, error, calls);
    die(state, process);
  }
}

/** @param since Calls at the beginning of the attempt. */
function checkRefusal(state: State, { message }: LockedError, since: number): void {
  const { processes, ends } = state;
  const pid = Number(/process id (\d+)/.exec(message)?.[1]);
  if (Number.isNaN(pid)) return;
  if (processes.has(pid) || (ends.get(pid) ?? -1) >= since) return;
  fail(state, 28, `${message}: it did not run`);
}

function giveBack(state: State, process: Process): void {
  const { giveBack: release } = process;
  process.giveBack = undefined;
  try {
    release?.();
  } catch (error) {
    if (!(error instanceof Killed)) throw error;
  }
  die(state, process);
}

function die(state: State, process: Process): void {
  if (!process.isRunning) return;
  process.isRunning = false;
  process.giveBack = undefined;
  state.processes.delete(process.pid);
  state.ends.set(process.pid, state.calls);
  state.counts.deaths += 1;
  state.trace?.(`${process.identity} ends`);
}

/** All end, and nothing of the lock was synced: any of it may be there, or be empty. */
function cutPower(state: State): void {
  const { random } = state;
  for (const process of state.processes.values()) die(state, process);
  state.boot += 1;
  state.counts.powerCuts += 1;
  for (const [name, file] of state.files) {
    const fate = random();
    if (fate < 0.3) state.files.delete(name);
    else if (fate < 0.5) file.content = '';
  }
}

function systemOf(state: State, process: Process): LockSystem {
  const { files } = state;
  const call = <T>(name: string, file: string, action: () => T): T => around(state, process, `${name} ${file}`, action);
  return {
    pid: process.pid,
    identityOf: () => process.identity,
    runningPid: (identity) => [...state.processes.values()].find((each) => each.identity === identity)?.pid,
    read: (file) =>
      call('read', file, () => {
        const found = files.get(file);
        if (found === undefined) throw errno('ENOENT', 'open', file);
        return found.content;
      }),
    names: (directory) => call('names', directory, () => [...files.keys()].map((name) => basename(name))),
    id: () => String(++state.ids),
    write: (file, content) => call('write', file, () => void files.set(file, { content })),
    remove: (file) => call('remove', file, () => void files.delete(file)),
    rename: (from, to) =>
      call('rename', from, () => {
        const found = files.get(from);
        if (found === undefined) throw errno('ENOENT', 'rename', from);
        files.delete(from);
        files.set(to, found);
      }),
    link: (from, to) =>
      call('link', to, () => {
        const found = files.get(from);
        if (found === undefined) throw errno('ENOENT', 'link', from);
        if (files.has(to)) throw errno('EEXIST', 'link', to);
        files.set(to, found);
      }),
  };
}

/** Others come before the call, and it may be the last of its process. */
function around<T>(state: State, process: Process, what: string, action: () => T): T {
  const { random, counts } = state;
  if (!process.isRunning) throw new Killed();
  while (state.depth < MAX_DEPTH && random() < 0.3) {
    state.depth += 1;
    something(state);
    state.depth -= 1;
    if (!process.isRunning) throw new Killed();
  }
  state.calls += 1;
  counts.digest = Math.imul(counts.digest ^ what.length ^ process.pid, 0x0100_0193);
  state.trace?.(`${process.identity} ${what}`);
  const death = random() / state.deadly;
  if (death < 1) die(state, process);
  if (death < 0.5) throw new Killed();
  if (random() < state.broken) throw errno('EIO', what, FILE);
  const result = action();
  if (!process.isRunning) throw new Killed();
  return result;
}
