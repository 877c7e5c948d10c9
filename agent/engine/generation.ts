/**
 * One generation of an engine: a folder, a FIFO, a child process, and how it ended.
 *
 *   <lane folder>/<generation>/           root's, 0711
 *     packets.fifo                        the agent writes, the engine's group reads
 *     config/                             the engine's configuration
 *     config/rules-<number>/              its rules; a reload makes another one of these
 *     output/                             the engine's: alerts
 *     state/                              the agent's: what was read and deleted
 *     generation.json                     what a later agent must know to read the alerts to the end
 *     engine.pid                          the engine's process (files/process.ts), for a later agent; empty: it has none
 *
 * The engine can change nothing but output/, so it can't make the agent, which may be root, write anywhere else.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CANARY_FILE, canaryRule, createToken } from './canary.ts';
import { addEngineCounters, createCounterFilter, takeReport, type EngineCounters } from './counters.ts';
import type { EngineCommand, EngineDriver, EngineInstall, EngineName, GenerationInput } from './engine.ts';
import { identityOf, isOwnProc } from '../files/process.ts';
import { createRotator } from './rotate.ts';
import { filesOf, unstage, type EngineRules } from './rules.ts';
import { makeFifo, spawnSandboxed, type Sandbox } from './sandbox.ts';

export const GENERATION_FILE = 'generation.json';
export const ENGINE_FILE = 'engine.pid';
/** Between two looks at a file of reports. */
const REPORT_MILLIS = 1_000;
/** Between two looks at the size of the alert file. */
const ROTATE_MILLIS = 1_000;
/** How much of a child's first and last output an error carries. */
const OUTPUT_BYTES = 32 * 1024;
/** Former rules of a generation whose alerts a later agent may still read. */
const KEPT_RULES = 4;

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

export interface GenerationOptions {
  lane: string;
  laneDirectory: string;
  driver: EngineDriver;
  install: EngineInstall;
  sandbox: Sandbox;
  /** What the next generation is to inspect by. */
  engineRules: () => EngineRules;
  output: 'json' | 'unified2';
  mode: 'live' | 'replay';
  expectedBytes?: number;
}

/** Makes the folders and the FIFO, and starts the engine, which waits for the FIFO's writer. @throws Error on a full disk and the like. */
export async function startGeneration(options: GenerationOptions): Promise<Generation> {
  const stamp = new Date().toISOString().replace(/[-:]/g, '').replace(/\..*/, 'Z');
  const name = `${options.lane}-${stamp}-${randomBytes(3).toString('hex')}`;
  let rules = options.engineRules();
  const laidOut = layOut(options, rules, name);
  const { directory } = laidOut;
  let { input } = laidOut;
  const token = options.mode === 'live' ? createToken() : undefined;
  let command: EngineCommand;
  try {
    if (token !== undefined) addCanary(input, token);
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
  // Before the child: of an agent that dies right here, the next one must find the folder.
  replaceFile(join(directory, GENERATION_FILE), JSON.stringify(record));
  const child = spawnSandboxed(options.sandbox, options.install.binary, command.arguments, input.outputDirectory);
  /** Of its rules. */
  let revision = 0;
  const output = boundedOutput();
  let counters: EngineCounters | undefined;
  const source = command.counters;
  const filter =
    source?.from === 'output'
      ? createCounterFilter(source, (increment) => {
          counters = addEngineCounters(counters ?? { analysed: 0, encrypted: {} }, increment);
        })
      : undefined;
  child.stdout?.setEncoding('utf8').on('data', (text: string) => output.add(filter?.push(text) ?? text));
  child.stderr?.setEncoding('utf8').on('data', output.add);
  const exited = new Promise<EngineExit>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, output: String(error) }));
    child.once('close', (code, signal) => {
      output.add(filter?.end() ?? '');
      resolve({ code, signal, output: output.text() });
    });
  });
  noteEngine(directory, child);
  if (source?.from === 'file') {
    const timer = setInterval(() => {
      void takeReport(input.outputDirectory, source.name).then(
        (line) => {
          counters = (line === undefined ? undefined : source.read(line)) ?? counters;
        },
        () => undefined,
      );
    }, REPORT_MILLIS).unref();
    void exited.then(() => clearInterval(timer));
  }
  if (command.rotation !== undefined) {
    const rotate = createRotator(input.outputDirectory, command.alertFile, command.rotation, (signal) =>
      child.kill(signal),
    );
    let saidWhy = false;
    const timer = setInterval(() => {
      try {
        rotate();
      } catch (error) {
        if (!saidWhy) output.add(`cannot rotate the alert file: ${String(error)}\n`);
        saidWhy = true;
      }
    }, ROTATE_MILLIS).unref();
    void exited.then(() => clearInterval(timer));
  }
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
    counters: () => counters,
    kill: (signal) => child.kill(signal),
    rules: () => rules,
    stage(next) {
      const newToken = createToken();
      const staged = stageRules(input, next, ++revision);
      addCanary(staged, newToken);
      return {
        token: newToken,
        async apply() {
          const before = input;
          // Told or not, it is what it may inspect by from now on.
          input = staged;
          rules = next;
          await options.driver.reload(options.install, before, staged, (signal) => child.kill(signal));
          await forgetRules(staged.configDirectory, revision);
        },
      };
    },
  };
}

/** @throws Error when it can't be written; then the engine is ended, and nothing is left behind. */
function noteEngine(directory: string, child: ChildProcess): void {
  try {
    const identity = child.pid === undefined || !isOwnProc() ? '' : identityOf(child.pid);
    replaceFile(join(directory, ENGINE_FILE), identity);
  } catch (error) {
    child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function addCanary(input: GenerationInput, token: string): void {
  input.canaryFile = join(input.rulesDirectory, CANARY_FILE);
  writeFileSync(input.canaryFile, canaryRule(token));
}

/** What checking rules may cost. */
export interface ValidationLimits {
  millis: number;
  /** Resident memory of the process. */
  bytes: number;
}

/** How a validation ended; `stopped`: it was ended by a limit, and which. */
export type Validation = EngineExit & { stopped?: string };

/** An address space is several times what is resident of it; this only stops what grows faster than it is looked at. */
const ADDRESS_SPACE_FACTOR = 8;
const LOOK_MILLIS = 50;
/** Of the last ones that are let through, in an engine that checks rules: an error for each of many rules. */
const VALIDATION_OUTPUT_BYTES = 1 << 20;

/** Loads configuration and rules in a process of its own, and says what the engine has against them. Leaves nothing behind. */
export async function validateRules(
  options: Omit<GenerationOptions, 'lane' | 'mode'>,
  limits: ValidationLimits = { millis: 300_000, bytes: Infinity },
): Promise<Validation> {
  const name = `validate-${process.pid}-${randomBytes(3).toString('hex')}`;
  const rules = options.engineRules();
  const { directory, input } = layOut({ ...options, mode: 'live' }, rules, name);
  try {
    const args = await options.driver.validateArguments(options.install, input);
    const cap = limits.bytes === Infinity ? undefined : limits.bytes * ADDRESS_SPACE_FACTOR;
    const child = spawnSandboxed(options.sandbox, options.install.binary, args, input.outputDirectory, cap);
    const output = boundedOutput(VALIDATION_OUTPUT_BYTES);
    child.stdout?.setEncoding('utf8').on('data', output.add);
    child.stderr?.setEncoding('utf8').on('data', output.add);
    let stopped: string | undefined;
    const stop = (why: string): void => {
      stopped ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => stop(`it took more than ${Math.round(limits.millis / 1000)} s`), limits.millis);
    const watch = setInterval(() => {
      if (residentBytes(child.pid) > limits.bytes) stop(`it took more than ${limits.bytes >> 20} MB of memory`);
    }, LOOK_MILLIS);
    preferForKill(child.pid);
    const exit = await new Promise<EngineExit>((resolve) => {
      child.once('error', (error) => resolve({ code: null, signal: null, output: String(error) }));
      child.once('close', (code, signal) => resolve({ code, signal, output: unstage(output.text(), rules.files) }));
    });
    clearTimeout(timer);
    clearInterval(watch);
    return stopped === undefined ? exit : { ...exit, stopped };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Of a process that runs; 0 where nothing says so. */
function residentBytes(pid: number | undefined): number {
  try {
    const pages = readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1];
    return Number(pages) * 4096;
  } catch {
    return 0;
  }
}

/** Where memory is short, this process goes first, and not the engine that inspects. */
function preferForKill(pid: number | undefined): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, '1000');
  } catch {
    // It ended, or another /proc is here.
  }
}

function layOut(
  options: Pick<GenerationOptions, 'laneDirectory' | 'sandbox' | 'output' | 'mode' | 'expectedBytes'>,
  rules: EngineRules,
  name: string,
): { directory: string; input: GenerationInput } {
  const directory = join(options.laneDirectory, name);
  try {
    return { directory, input: fillIn(options, rules, directory) };
  } catch (error) {
    // It will be tried again, in another folder.
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function fillIn(options: Parameters<typeof layOut>[0], rules: EngineRules, directory: string): GenerationInput {
  const fifo = fifoOf(directory);
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
  const { mode, output, expectedBytes } = options;
  const base = { mode, fifo, configDirectory, outputDirectory, output };
  return stageRules(expectedBytes === undefined ? base : { ...base, expectedBytes }, rules, 0);
}

/** What a later agent must know of a generation's rules, to tell whose an alert is. */
interface RulesRecord {
  /** When they were staged, in microseconds since the epoch. */
  since: number;
  defaults: readonly string[];
  /** The sets of each file, by its name. */
  files: Record<string, readonly string[]>;
}

/** The file of a `RulesRecord` in a folder of rules. */
const RECORD = 'rules.json';

type BaseInput = Omit<GenerationInput, 'rulesDirectory' | 'ruleFiles' | 'policies' | 'overridesFile' | 'canaryFile'>;

/** Writes rules into a folder of their own. */
function stageRules(base: BaseInput, rules: EngineRules, revision: number): GenerationInput {
  const rulesDirectory = join(base.configDirectory, `rules-${revision}`);
  mkdirSync(rulesDirectory, { mode: 0o755 });
  const pathOf = (name: string): string => join(rulesDirectory, name);
  for (const { name, text } of rules.files) writeFileSync(pathOf(name), text, { mode: 0o644 });
  const record: RulesRecord = {
    since: Date.now() * 1000,
    defaults: rules.defaults,
    files: Object.fromEntries(rules.files.map(({ name, sets }) => [name, sets])),
  };
  writeFileSync(pathOf(RECORD), JSON.stringify(record));
  const paths = (sets: readonly string[]): string[] => filesOf(rules, sets).map(({ name }) => pathOf(name));
  const { mode, fifo, configDirectory, outputDirectory, output, expectedBytes } = base;
  const input: GenerationInput = {
    mode,
    fifo,
    configDirectory,
    outputDirectory,
    output,
    rulesDirectory,
    ruleFiles: paths(rules.defaults),
    policies: rules.policies.map(({ id, vlans, sets }) => ({ id, vlans, ruleFiles: paths(sets) })),
  };
  if (expectedBytes !== undefined) input.expectedBytes = expectedBytes;
  if (rules.overrides !== undefined) {
    input.overridesFile = pathOf('overrides');
    writeFileSync(input.overridesFile, rules.overrides, { mode: 0o644 });
  }
  return input;
}

/** Those long before are not needed to read what is left of the alerts. */
async function forgetRules(configDirectory: string, revision: number): Promise<void> {
  await rm(join(configDirectory, `rules-${revision - KEPT_RULES}`), { recursive: true, force: true });
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

/** The folders of rules of a generation, in the order in which they were in force. */
export function ruleFolders(directory: string): string[] {
  const config = join(directory, 'config');
  const number = (name: string): number => Number(name.slice('rules-'.length));
  try {
    const names = readdirSync(config).filter((name) => /^rules-\d+$/.test(name));
    return names.toSorted((a, b) => number(a) - number(b)).map((name) => join(config, name));
  } catch {
    return [];
  }
}

export function fifoOf(directory: string): string {
  return join(directory, 'packets.fifo');
}

/** An engine that waits for a writer to open its FIFO gets one, and with it the end of its input. */
export function releaseReader(fifo: string): void {
  try {
    closeSync(openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK));
  } catch {
    // Nobody waits.
  }
}

/** Keeps the first and the last 32 KiB of a stream. */
function boundedOutput(limit = OUTPUT_BYTES): { add: (chunk: string) => void; text: () => string } {
  let head = '';
  let tail = '';
  let dropped = 0;
  function cut(): void {
    dropped += Math.max(0, tail.length - limit);
    tail = tail.slice(-limit);
  }
  return {
    add(chunk) {
      let text = chunk;
      const room = limit - head.length;
      head += text.slice(0, room);
      text = text.slice(room);
      tail += text;
      if (tail.length > 2 * limit) cut();
    },
    text() {
      cut();
      return dropped === 0 ? head + tail : `${head}\n[… ${dropped} characters left out …]\n${tail}`;
    },
  };
}
