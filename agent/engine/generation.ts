/**
 * One generation of an engine: a folder, a FIFO, a child process, and how it ended.
 *
 *   <lane folder>/<generation>/           root's, 0711
 *     packets.fifo                        the agent writes, the engine's group reads
 *     config/                             the engine's configuration and its rules
 *     output/                             the engine's: alerts
 *     state/                              the agent's: what was read and deleted
 *     generation.json                     what a later agent must know to read the alerts to the end
 *
 * The engine can change nothing but output/, so it can't make the agent, which may be root, write anywhere else.
 */
import { randomBytes } from 'node:crypto';
import { chownSync, mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CANARY_FILE, canaryRule, createToken } from './canary.ts';
import type { EngineCommand, EngineDriver, EngineInstall, EngineName, GenerationInput } from './engine.ts';
import { unstage, type StagedFile } from './rules.ts';
import { makeFifo, spawnSandboxed, type Sandbox } from './sandbox.ts';

/** How much of a child's first and last output an error carries. */
const OUTPUT_BYTES = 32 * 1024;

export interface EngineExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** First and last 32 KiB of what the engine printed. */
  output: string;
}

/** What generation.json holds. */
export interface GenerationRecord {
  name: string;
  engine: EngineName;
  version: string;
  alertFile: string;
  stamped: boolean;
  output: 'json' | 'unified2';
}

export interface Generation {
  /** `<lane>-<UTC time>-<random>`, without a colon. */
  name: string;
  directory: string;
  fifo: string;
  outputDirectory: string;
  stateDirectory: string;
  command: EngineCommand;
  /** What its canary's rule fires on; a replay has none. */
  token: string | undefined;
  pid: number;
  /** Milliseconds, monotonic. */
  startedAt: number;
  exited: Promise<EngineExit>;
  kill: (signal: NodeJS.Signals) => void;
}

export interface GenerationOptions {
  lane: string;
  laneDirectory: string;
  driver: EngineDriver;
  install: EngineInstall;
  sandbox: Sandbox;
  ruleFiles: readonly StagedFile[];
  output: 'json' | 'unified2';
  mode: 'live' | 'replay';
  expectedBytes?: number;
}

/** Makes the folders and the FIFO, and starts the engine, which waits for the FIFO's writer. @throws Error on a full disk and the like. */
export async function startGeneration(options: GenerationOptions): Promise<Generation> {
  const stamp = new Date().toISOString().replace(/[-:]/g, '').replace(/\..*/, 'Z');
  const name = `${options.lane}-${stamp}-${randomBytes(3).toString('hex')}`;
  const { directory, input } = layOut(options, name);
  const token = options.mode === 'live' ? createToken() : undefined;
  let command: EngineCommand;
  try {
    if (token !== undefined) {
      input.canaryFile = join(input.configDirectory, CANARY_FILE);
      writeFileSync(input.canaryFile, canaryRule(token));
    }
    command = await options.driver.prepare(options.install, input);
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  const record: GenerationRecord = {
    name,
    engine: options.install.name,
    version: options.install.version,
    alertFile: command.alertFile,
    stamped: command.stamped,
    output: options.output,
  };
  // Before the child: an agent that dies right here must find the folder, and the child by it.
  const recordFile = join(directory, 'generation.json');
  writeFileSync(`${recordFile}.new`, JSON.stringify(record));
  renameSync(`${recordFile}.new`, recordFile);
  const child = spawnSandboxed(options.sandbox, options.install.binary, command.arguments, input.outputDirectory);
  const output = boundedOutput();
  child.stdout?.on('data', output.add);
  child.stderr?.on('data', output.add);
  const exited = new Promise<EngineExit>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, output: String(error) }));
    child.once('close', (code, signal) => resolve({ code, signal, output: output.text() }));
  });
  return {
    name,
    directory,
    fifo: input.fifo,
    outputDirectory: input.outputDirectory,
    stateDirectory: join(directory, 'state'),
    command,
    token,
    pid: child.pid ?? 0,
    startedAt: performance.now(),
    exited,
    kill: (signal) => child.kill(signal),
  };
}

/** Loads configuration and rules in a process of its own, and says what the engine has against them. Leaves nothing behind. */
export async function validateRules(options: Omit<GenerationOptions, 'lane' | 'mode'>): Promise<EngineExit> {
  const name = `validate-${process.pid}-${randomBytes(3).toString('hex')}`;
  const { directory, input } = layOut({ ...options, mode: 'live' }, name);
  try {
    const args = await options.driver.validateArguments(options.install, input);
    const child = spawnSandboxed(options.sandbox, options.install.binary, args, input.outputDirectory);
    const output = boundedOutput();
    child.stdout?.on('data', output.add);
    child.stderr?.on('data', output.add);
    return await new Promise<EngineExit>((resolve) => {
      child.once('error', (error) => resolve({ code: null, signal: null, output: String(error) }));
      child.once('close', (code, signal) =>
        resolve({ code, signal, output: unstage(output.text(), options.ruleFiles) }),
      );
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function layOut(
  options: Pick<GenerationOptions, 'laneDirectory' | 'ruleFiles' | 'sandbox' | 'output' | 'mode' | 'expectedBytes'>,
  name: string,
): { directory: string; input: GenerationInput } {
  const directory = join(options.laneDirectory, name);
  try {
    return { directory, input: fillIn(options, directory) };
  } catch (error) {
    // It will be tried again, in another folder.
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function fillIn(options: Parameters<typeof layOut>[0], directory: string): GenerationInput {
  const fifo = join(directory, 'packets.fifo');
  const configDirectory = join(directory, 'config');
  const outputDirectory = join(directory, 'output');
  mkdirSync(options.laneDirectory, { recursive: true, mode: 0o711 });
  mkdirSync(directory, { mode: 0o711 });
  mkdirSync(configDirectory, { mode: 0o755 });
  mkdirSync(outputDirectory, { mode: 0o700 });
  mkdirSync(join(directory, 'state'), { mode: 0o700 });
  makeFifo(fifo);
  const { uid, gid } = options.sandbox;
  if (uid !== undefined) assertReachable(directory, uid);
  if (uid !== undefined && gid !== undefined) {
    chownSync(fifo, 0, gid);
    chownSync(outputDirectory, uid, gid);
  }
  const ruleFiles = options.ruleFiles.map(({ name, text }) => {
    const path = join(configDirectory, name);
    writeFileSync(path, text, { mode: 0o644 });
    return path;
  });
  const { mode, output, expectedBytes } = options;
  const input: GenerationInput = { mode, fifo, configDirectory, outputDirectory, ruleFiles, output };
  if (expectedBytes !== undefined) input.expectedBytes = expectedBytes;
  return input;
}

/** @throws Error that names the first folder on the way that the engine's user can't pass through. */
function assertReachable(directory: string, uid: number): void {
  const steps = directory.split('/').filter(Boolean);
  steps.forEach((_, index) => {
    const path = `/${steps.slice(0, index + 1).join('/')}`;
    const { mode, uid: owner } = statSync(path);
    const passes = owner === uid ? (mode & 0o100) !== 0 : (mode & 0o001) !== 0;
    if (!passes && uid !== 0) {
      throw new Error(
        `the engine's user (uid ${uid}) cannot pass through ${path}: run  chmod o+x ${path}  or set stateDirectory or engine.user`,
      );
    }
  });
}

/** Generations that earlier agents left in a lane's folder, oldest first. */
export async function leftGenerations(laneDirectory: string): Promise<(GenerationRecord & { directory: string })[]> {
  let names: string[];
  try {
    names = await readdir(laneDirectory);
  } catch {
    return [];
  }
  const found: (GenerationRecord & { directory: string })[] = [];
  for (const name of names.sort()) {
    const directory = join(laneDirectory, name);
    try {
      const record = JSON.parse(readFileSync(join(directory, 'generation.json'), 'utf8')) as GenerationRecord;
      found.push({ ...record, name, directory });
    } catch {
      // The agent died while it made this one: nothing was inspected yet.
      await rm(directory, { recursive: true, force: true });
    }
  }
  return found;
}

/** Processes that an earlier agent started for this generation and that still run. */
export async function processesOf(directory: string): Promise<number[]> {
  const found: number[] = [];
  // In a pid namespace with another one's /proc its numbers are not ours.
  if (readlinkSync('/proc/self') !== String(process.pid)) return found;
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      if (readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(`${directory}/`)) found.push(Number(entry));
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** Keeps the first and the last 32 KiB of a stream. */
function boundedOutput(): { add: (chunk: Buffer) => void; text: () => string } {
  let head = '';
  let tail = '';
  let dropped = 0;
  function cut(): void {
    dropped += Math.max(0, tail.length - OUTPUT_BYTES);
    tail = tail.slice(-OUTPUT_BYTES);
  }
  return {
    add(chunk) {
      let text = chunk.toString('utf8');
      const room = OUTPUT_BYTES - head.length;
      head += text.slice(0, room);
      text = text.slice(room);
      tail += text;
      if (tail.length > 2 * OUTPUT_BYTES) cut();
    },
    text() {
      cut();
      return dropped === 0 ? head + tail : `${head}\n[… ${dropped} characters left out …]\n${tail}`;
    },
  };
}
