/**
 * One generation of an engine: a folder of its own (folder.ts), a child process that reads the FIFO in it, and how it
 * ended.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf, isOwnProc } from '../files/process.ts';
import { createToken } from './canary.ts';
import {
  addEngineCounters,
  createCounterFilter,
  takeReport,
  zeroEngineCounters,
  type CounterSource,
  type EngineCounters,
} from './counters.ts';
import type { EngineCommand, EngineDriver, EngineInstall, GenerationInput } from './engine.ts';
import { boundedOutput, exitOf, type BoundedOutput, type EngineExit } from './exit.ts';
import {
  addCanary,
  boundPatterns,
  forgetRules,
  layOut,
  stageRules,
  writeEngineIdentity,
  writeGenerationRecord,
  type FolderOptions,
} from './folder.ts';
import { createRotator } from './rotate.ts';
import type { EngineRules } from './rules.ts';
import { spawnSandboxed } from './sandbox.ts';

/** Between two looks at a file of reports. */
const REPORT_MILLIS = 1_000;
/** Between two looks at the size of the alert file. */
const ROTATE_MILLIS = 1_000;

export interface Generation {
  /** `<lane>-<UTC time>-<random>`, without a colon. */
  name: string;
  directory: string;
  /** Or the capture file that it reads by itself. */
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
  /** What the engine counted up to its last report; undefined before the first one, and where it gives none. */
  counters(): EngineCounters | undefined;
  kill: (signal: NodeJS.Signals) => void;
  /** What it inspects by, as far as it was told. */
  rules: () => EngineRules;
  /** Writes other rules beside those in use. */
  stage(rules: EngineRules): StagedRules;
}

/** Rules that a generation can go over to. */
export interface StagedRules {
  /** What its canary's rule fires on once they inspect. */
  token: string;
  /** @throws Error when the engine can't go over to them while it runs, or refuses them. */
  apply(): Promise<void>;
}

export interface GenerationOptions extends FolderOptions {
  lane: string;
  driver: EngineDriver;
  install: EngineInstall;
  /** What the next generation is to inspect by. */
  engineRules: () => EngineRules;
}

/**
 * Makes the folders and the FIFO, and starts the engine, which waits for the FIFO's writer.
 * @throws Error on a full disk and the like.
 */
export async function startGeneration(options: GenerationOptions): Promise<Generation> {
  const { install, sandbox, mode } = options;
  const name = nameOf(options.lane);
  const rules = options.engineRules();
  const { directory, input } = await layOut(options, rules, name);
  const { fifo, outputDirectory } = input;
  const token = mode === 'live' ? createToken() : undefined;
  const command = await prepare(options, directory, input, token);
  // Before the child: of an agent that dies right here, the next one must find the folder.
  writeGenerationRecord(directory, {
    name,
    engine: install.name,
    version: install.version,
    alertFile: command.alertFile,
    stamped: command.stamped,
    output: options.output,
  });
  const child = spawnSandboxed(sandbox, install.binary, command.arguments, outputDirectory);
  const running = listenTo(child, command.counters);
  noteEngine(directory, child);
  readReports(running, command.counters, outputDirectory);
  rotateAlerts(running, command, outputDirectory);
  const inUse: RulesInUse = { input, rules, revision: 0 };
  const kill = (signal: NodeJS.Signals): boolean => child.kill(signal);
  return {
    name,
    directory,
    fifo,
    outputDirectory,
    stateDirectory: join(directory, 'state'),
    command,
    token,
    pid: child.pid ?? 0,
    startedAt: performance.now(),
    exited: running.exited,
    counters: () => running.counters,
    kill,
    rules: () => inUse.rules,
    stage: (next) => stage(options, inUse, next, kill),
  };
}

/** `<lane>-<UTC time>-<random>` */
function nameOf(lane: string): string {
  const stamp = new Date().toISOString().replace(/[-:]/g, '').replace(/\..*/, 'Z');
  return `${lane}-${stamp}-${randomBytes(3).toString('hex')}`;
}

/** @throws Error where the driver can't; then nothing is left behind. */
async function prepare(
  { driver, install }: GenerationOptions,
  directory: string,
  input: GenerationInput,
  token: string | undefined,
): Promise<EngineCommand> {
  try {
    if (token !== undefined) addCanary(input, token);
    return await driver.prepare(install, input);
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

/** A child, what it printed and counted so far, and how it will end. */
interface Running {
  child: ChildProcess;
  output: BoundedOutput;
  counters: EngineCounters | undefined;
  exited: Promise<EngineExit>;
}

function listenTo(child: ChildProcess, source: CounterSource | undefined): Running {
  const output = boundedOutput();
  const filter =
    source?.from === 'output'
      ? createCounterFilter(source, (increment) => {
          running.counters = addEngineCounters(running.counters ?? zeroEngineCounters(), increment);
        })
      : undefined;
  child.stdout?.setEncoding('utf8').on('data', (text: string) => output.add(filter?.push(text) ?? text));
  child.stderr?.setEncoding('utf8').on('data', output.add);
  const exited = exitOf(child, () => {
    output.add(filter?.end() ?? '');
    return output.text();
  });
  const running: Running = { child, output, counters: undefined, exited };
  return running;
}

/** @throws Error when it can't be written; then the engine is ended, and nothing is left behind. */
function noteEngine(directory: string, child: ChildProcess): void {
  try {
    writeEngineIdentity(directory, child.pid === undefined || !isOwnProc() ? '' : identityOf(child.pid));
  } catch (error) {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function readReports(running: Running, source: CounterSource | undefined, outputDirectory: string): void {
  if (source?.from !== 'file') return;
  whileItRuns(running, REPORT_MILLIS, () => {
    void takeReport(outputDirectory, source.name).then(
      (line) => {
        running.counters = (line === undefined ? undefined : source.read(line)) ?? running.counters;
      },
      () => undefined,
    );
  });
}

function rotateAlerts(running: Running, { alertFile, rotation }: EngineCommand, outputDirectory: string): void {
  if (rotation === undefined) return;
  const { child, output } = running;
  const rotate = createRotator(outputDirectory, alertFile, rotation, (signal) => child.kill(signal));
  let saidWhy = false;
  whileItRuns(running, ROTATE_MILLIS, () => {
    try {
      rotate();
    } catch (error) {
      if (!saidWhy) output.add(`cannot rotate the alert file: ${String(error)}\n`);
      saidWhy = true;
    }
  });
}

function whileItRuns({ exited }: Running, millis: number, look: () => void): void {
  const timer = setInterval(look, millis).unref();
  void exited.then(() => clearInterval(timer));
}

/** What a generation inspects by, as far as it was told. */
interface RulesInUse {
  input: GenerationInput;
  rules: EngineRules;
  /** Of its rules. */
  revision: number;
}

function stage(
  { driver, install }: GenerationOptions,
  inUse: RulesInUse,
  rules: EngineRules,
  kill: (signal: NodeJS.Signals) => void,
): StagedRules {
  const token = createToken();
  const staged = stageRules(inUse.input, rules, ++inUse.revision);
  addCanary(staged, token);
  return {
    token,
    async apply() {
      const before = inUse.input;
      // Told or not, it is what it may inspect by from now on.
      inUse.input = staged;
      inUse.rules = rules;
      if (staged.patternsDirectory !== undefined) boundPatterns(staged.patternsDirectory);
      await driver.reload(install, before, staged, kill);
      await forgetRules(staged.configDirectory, inUse.revision);
    },
  };
}

/** An engine that waits for a writer to open its FIFO gets one, and with it the end of its input. */
export function releaseReader(fifo: string): void {
  try {
    closeSync(openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK));
  } catch {
    // Nobody waits.
  }
}
