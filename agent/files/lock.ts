/**
 * One holder for each folder: a lock file that names it.
 *
 * The file holds the holder's identity (process.ts). It appears complete (hard link), so it is never half written. The
 * holder is gone when the boot is another, no process has the pid, or the one that has it started at another time; then
 * the lock is taken over. Nobody has to clean up after a kill -9.
 *
 * A stale lock is moved aside to be taken over, `<file>.stale.<pid>.<random>`. What is moved may have become another
 * one's by then, who has the lock: it goes back, and until it has, a file that lies aside is as good as the lock
 * itself.
 *
 * Does not protect from a holder in another pid namespace or on another machine: its process is not in this /proc. On a
 * node, agents share the node's pid namespace.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { errorCode } from './errors.ts';
import { identityOf, runningPid } from './process.ts';

const ATTEMPTS = 5;

/** What is around a lock: node's calls, which nothing comes between, and the processes of the machine. */
export interface LockSystem {
  link(from: string, to: string): void;
  read(file: string): string;
  rename(from: string, to: string): void;
  /** Where it is there. */
  remove(file: string): void;
  write(file: string, content: string): void;
  names(directory: string): string[];
  /** Another one each time. */
  id(): string;
  readonly pid: number;
  identityOf(pid: number): string;
  runningPid(identity: string): number | undefined;
}

const machine: LockSystem = {
  link: linkSync,
  read: (file) => readFileSync(file, 'latin1'),
  rename: renameSync,
  remove: (file) => rmSync(file, { force: true }),
  write: (file, content) => writeFileSync(file, content, { mode: 0o640 }),
  names: (directory) => readdirSync(directory),
  id: () => randomBytes(4).toString('hex'),
  pid: process.pid,
  identityOf,
  runningPid,
};

/** Another process holds the lock; the message says which, and what to do. */
export class LockedError extends Error {
  override readonly name = 'LockedError';
}

/**
 * Takes the lock of the folder that the file is in; the folder must be there.
 * @param otherwise What to do but to stop the holder, for the message.
 * @returns the function that gives it back, which does not throw. @throws LockedError, or the system's error.
 */
export function takeLock(file: string, otherwise: string, system = machine): () => void {
  const own = system.identityOf(system.pid);
  const temporary = `${file}.${system.pid}`;
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // First, for who holds it can be told on a full disk too.
      takeFromGone(file, otherwise, system);
      system.write(temporary, own);
      if (linked(temporary, file, system) && isOurs(file, own, otherwise, system))
        return () => release(file, own, system);
    }
  } finally {
    system.remove(temporary);
  }
  throw new LockedError(`${file} keeps changing hands: start one agent at a time`);
}

function takeFromGone(file: string, otherwise: string, system: LockSystem): void {
  const holder = read(file, system);
  if (holder !== undefined) {
    refuseWhileItRuns(file, holder, otherwise, system);
    takeAway(file, holder, system);
  }
  passAside(file, undefined, otherwise, system);
}

/** @throws LockedError */
function refuseWhileItRuns(file: string, holder: string, otherwise: string, system: LockSystem): void {
  const pid = system.runningPid(holder);
  if (pid === undefined) return;
  throw new LockedError(`${dirname(file)} is in use by the agent with process id ${pid}: stop it, or ${otherwise}`);
}

/**
 * Moves a stale lock aside; where in the meantime somebody else took the lock over, that one goes back to its place.
 */
function takeAway(file: string, stale: string, system: LockSystem): void {
  const aside = `${file}.stale.${system.pid}.${system.id()}`;
  try {
    system.rename(file, aside);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  if (read(aside, system) === stale || linked(aside, file, system)) system.remove(aside);
}

/** @throws LockedError where a lock that lies aside is of a process that runs; others are deleted. */
function passAside(file: string, own: string | undefined, otherwise: string, system: LockSystem): void {
  for (const aside of asideOf(file, system)) {
    const holder = read(aside, system);
    if (holder === undefined || holder === own) continue;
    refuseWhileItRuns(file, holder, otherwise, system);
    system.remove(aside);
  }
}

function asideOf(file: string, system: LockSystem): string[] {
  const folder = dirname(file);
  const prefix = `${basename(file)}.stale.`;
  return system.names(folder).flatMap((name) => (name.startsWith(prefix) ? [join(folder, name)] : []));
}

/**
 * Whether the lock that was just taken is nobody else's: his may have lain aside, and be back. Else it is given back.
 * @throws LockedError
 */
function isOurs(file: string, own: string, otherwise: string, system: LockSystem): boolean {
  let isSure = false;
  try {
    passAside(file, own, otherwise, system);
    isSure = read(file, system) === own;
  } finally {
    if (!isSure) release(file, own, system);
  }
  return isSure;
}

/** @returns false where somebody else has the name. */
function linked(from: string, to: string, system: LockSystem): boolean {
  try {
    system.link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function release(file: string, own: string, system: LockSystem): void {
  try {
    for (const each of [file, ...asideOf(file, system)]) if (read(each, system) === own) system.remove(each);
  } catch {
    // The next one takes it over.
  }
}

function read(file: string, system: LockSystem): string | undefined {
  try {
    return system.read(file).slice(0, 256);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
