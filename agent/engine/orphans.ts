/**
 * What an earlier agent left of its generations: alerts that nobody has read, and engines that still run.
 *
 * An engine is known by its pid and start time, as the agent noted them when it started it. Whoever else reads or names
 * an engine's files is none. Nothing is deleted that may hold an alert.
 *
 * Not promised: an engine whose agent died before it noted it is told that its input ends, and not killed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { errorCode, messageOf } from '../files/errors.ts';
import { runningPid } from '../files/process.ts';
import { ENGINE_FILE, fifoOf, GENERATION_FILE, type GenerationRecord } from './folder.ts';
import { releaseReader } from './generation.ts';

/** An engine that an earlier agent left gets this long to finish. */
const PATIENCE_MILLIS = 5_000;
const LOOK_MILLIS = 50;
/** Of an engine that was killed. */
const DEATH_MILLIS = 100;

export interface LeftGenerations {
  /** Oldest first. */
  generations: (GenerationRecord & { directory: string })[];
  /** Those whose alerts can't be read, as nobody knows their form; they stay. */
  unreadable: { directory: string; reason: string }[];
}

/** Generations in a lane's folder. Those in which no engine was started yet are deleted. */
export async function leftGenerations(laneDirectory: string): Promise<LeftGenerations> {
  const left: LeftGenerations = { generations: [], unreadable: [] };
  for (const name of await namesIn(laneDirectory)) {
    const directory = join(laneDirectory, name);
    try {
      left.generations.push({ ...readRecord(directory), name, directory });
    } catch (error) {
      if (errorCode(error) === 'ENOENT' && isOutputEmpty(directory)) {
        // The agent died while it made this one.
        await rm(directory, { recursive: true, force: true });
      } else {
        left.unreadable.push({ directory, reason: messageOf(error) });
      }
    }
  }
  return left;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch {
    return [];
  }
}

/** @throws Error that says why there is none. */
function readRecord(directory: string): GenerationRecord {
  const record: unknown = JSON.parse(readFileSync(join(directory, GENERATION_FILE), 'utf8'));
  if (!isGenerationRecord(record)) throw new Error(`${GENERATION_FILE} is not what an agent writes`);
  return record;
}

function isGenerationRecord(value: unknown): value is GenerationRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { engine, alertFile, stamped, output } = value as Record<string, unknown>;
  const isKnown = (engine === 'snort' || engine === 'suricata') && (output === 'json' || output === 'unified2');
  return isKnown && typeof alertFile === 'string' && alertFile !== '' && typeof stamped === 'boolean';
}

function isOutputEmpty(directory: string): boolean {
  try {
    return readdirSync(join(directory, 'output')).length === 0;
  } catch (error) {
    return errorCode(error) === 'ENOENT';
  }
}

type LeftEngine = { is: 'gone' } | { is: 'running'; pid: number } | { is: 'unknown' };

function engineOf(directory: string): LeftEngine {
  let identity: string;
  try {
    identity = readFileSync(join(directory, ENGINE_FILE), 'latin1');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return { is: 'unknown' };
    throw error;
  }
  const pid = runningPid(identity);
  return pid === undefined ? { is: 'gone' } : { is: 'running', pid };
}

/**
 * Resolves when the engines of these generations are gone. Those that still have packets finish them; those that wait
 * for their input's beginning are told that there is none; what does not end then is killed.
 * @throws the system's error where an engine can't be killed.
 */
export async function endOrphans(
  directories: readonly string[],
  log: Logger,
  kill: (pid: number) => void = (pid) => process.kill(pid, 'SIGKILL'),
  patienceMillis = PATIENCE_MILLIS,
): Promise<void> {
  for (const deadline = performance.now() + patienceMillis; performance.now() < deadline; await sleep(LOOK_MILLIS)) {
    const left = directories.filter((directory) => engineOf(directory).is !== 'gone');
    if (left.length === 0) return;
    for (const directory of left) releaseReader(fifoOf(directory));
  }
  for (const directory of directories) {
    const engine = engineOf(directory);
    if (engine.is !== 'running') continue;
    log.warn({ pid: engine.pid }, 'ending an engine that an earlier agent left');
    try {
      kill(engine.pid);
    } catch (error) {
      // ESRCH: it ended by itself.
      if (errorCode(error) !== 'ESRCH') throw error;
    }
  }
  await sleep(DEATH_MILLIS);
}
