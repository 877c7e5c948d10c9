/**
 * The folder of a generation of an engine: its layout, and what a later agent reads of it.
 *
 *   <lane folder>/<generation>/           root's, 0711
 *     packets.fifo                        the agent writes, the engine's group reads
 *     config/                             the engine's configuration
 *     config/rules-<number>/              its rules; a reload makes another one of these
 *     config/iprep/                       reputations that rules ask for
 *     config/data/                        files that rules name, under names that tell their contents
 *     output/                             the engine's: alerts
 *     patterns/                           the engine's: what it compiled of its rules, so that a reload compiles only
 *                                         what changed
 *     state/                              the agent's: what was read and deleted
 *     generation.json                     what a later agent must know to read the alerts to the end
 *     engine.pid                          the engine's process (files/process.ts), for a later agent; empty: it has
 *                                         none
 *
 * The engine can change nothing but output/ and patterns/, so it can't make the agent, which may be root, write anywhere else.
 */
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncAboveSync } from '../files/folder.ts';
import { replaceFileSync } from '../files/replace.ts';
import { loadNativeMeanwhile } from '../native.ts';
import { CANARY_FILE, canaryRule } from './canary.ts';
import type { EngineName, GenerationInput } from './engine.ts';
import { filesOf, type DataFile, type EngineRules } from './rules.ts';
import { makeFifo, type Sandbox } from './sandbox.ts';

export const GENERATION_FILE = 'generation.json';
export const ENGINE_FILE = 'engine.pid';
/** In a folder of rules: a `RulesRecord`. */
export const RULES_FILE = 'rules.json';
/** Below the configuration; the staged rules name it. */
const DATA_FOLDER = 'data';
/** Likewise. */
const REPUTATION_FOLDER = 'iprep';
export const CATEGORIES_FILE = 'categories.txt';
export const REPUTATION_FILE = 'reputation.list';
/** Some 3 KB for each rule, of those in use and of some that were. */
const MAX_PATTERNS_BYTES = 256 << 20;
/** Former rules of a generation whose alerts a later agent may still read. */
const KEPT_RULES = 4;

/** What generation.json holds. */
export interface GenerationRecord {
  name: string;
  engine: EngineName;
  version: string;
  alertFile: string;
  stamped: boolean;
  output: 'json' | 'unified2';
}

/** What a later agent must know of a generation's rules, to tell whose an alert is. */
export interface RulesRecord {
  /** When they were staged, in microseconds since the epoch. */
  since: number;
  defaults: readonly string[];
  /** The sets of each file, by its name. */
  files: Record<string, readonly string[]>;
  /** Names in config/data/; absent where there are none. */
  data?: readonly string[];
}

export interface FolderOptions {
  laneDirectory: string;
  sandbox: Sandbox;
  output: 'json' | 'unified2';
  mode: 'live' | 'replay';
  expectedBytes?: number;
  /** Absolute path of a capture file that the engine reads by itself, in place of the FIFO. */
  file?: string;
}

/**
 * Makes the folders, the FIFO and the rules.
 * @throws Error on a full disk and the like; then nothing is left behind.
 */
export async function layOut(
  options: FolderOptions,
  rules: EngineRules,
  name: string,
): Promise<{ directory: string; input: GenerationInput }> {
  // For FIFOs and timers.
  await loadNativeMeanwhile();
  const directory = join(options.laneDirectory, name);
  try {
    return { directory, input: fillIn(options, rules, directory) };
  } catch (error) {
    // It will be tried again, in another folder.
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

function fillIn(options: FolderOptions, rules: EngineRules, directory: string): GenerationInput {
  const fifo = options.file ?? fifoOf(directory);
  const configDirectory = join(directory, 'config');
  const outputDirectory = join(directory, 'output');
  mkdirSync(options.laneDirectory, { recursive: true, mode: 0o711 });
  mkdirSync(directory, { mode: 0o711 });
  mkdirSync(configDirectory, { mode: 0o755 });
  const patternsDirectory = options.mode === 'live' ? join(directory, 'patterns') : undefined;
  const ofEngine = [outputDirectory, ...(patternsDirectory === undefined ? [] : [patternsDirectory])];
  for (const path of ofEngine) mkdirSync(path, { mode: 0o700 });
  mkdirSync(join(directory, 'state'), { mode: 0o700 });
  // What is read of its alerts is on disk by the generation's name.
  syncAboveSync(join(directory, 'state'));
  const { uid, gid } = options.sandbox;
  if (uid !== undefined) assertReachable(directory, uid);
  const isOurs = options.file === undefined;
  if (isOurs) makeFifo(fifo);
  if (uid !== undefined && gid !== undefined) {
    if (isOurs) chownSync(fifo, 0, gid);
    for (const path of ofEngine) chownSync(path, uid, gid);
  }
  const { mode, output, expectedBytes } = options;
  const base = {
    mode,
    fifo,
    configDirectory,
    outputDirectory,
    output,
    ...(patternsDirectory === undefined ? {} : { patternsDirectory }),
    ...(expectedBytes === undefined ? {} : { expectedBytes }),
  };
  return stageRules(base, rules, 0);
}

type BaseInput = Omit<
  GenerationInput,
  | 'rulesDirectory'
  | 'ruleFiles'
  | 'policies'
  | 'variables'
  | 'reputationDirectory'
  | 'overridesFile'
  | 'overrides'
  | 'canaryFile'
>;

/** Writes rules into a folder of their own. */
export function stageRules(base: BaseInput, rules: EngineRules, revision: number): GenerationInput {
  const rulesDirectory = join(base.configDirectory, `rules-${revision}`);
  mkdirSync(rulesDirectory, { mode: 0o755 });
  const pathOf = (name: string): string => join(rulesDirectory, name);
  for (const { name, text } of rules.files) writeFileSync(pathOf(name), text, { mode: 0o644 });
  const record: RulesRecord = {
    since: Date.now() * 1000,
    defaults: rules.defaults,
    files: Object.fromEntries(rules.files.map(({ name, sets }) => [name, sets])),
    ...(rules.data === undefined ? {} : { data: rules.data.map(({ name }) => name) }),
  };
  stageData(base.configDirectory, rules.data ?? []);
  const reputationDirectory = join(base.configDirectory, REPUTATION_FOLDER);
  if (rules.reputation !== undefined) stageReputation(reputationDirectory, rules.reputation);
  writeFileSync(pathOf(RULES_FILE), JSON.stringify(record));
  const paths = (sets: readonly string[]): string[] => filesOf(rules, sets).map(({ name }) => pathOf(name));
  const { mode, fifo, configDirectory, outputDirectory, patternsDirectory, output, expectedBytes } = base;
  const input: GenerationInput = {
    mode,
    fifo,
    configDirectory,
    outputDirectory,
    output,
    rulesDirectory,
    ruleFiles: paths(rules.shared ?? rules.defaults),
    policies: rules.policies.map(({ id, vlans, sets }) => ({ id, vlans, ruleFiles: paths(sets) })),
  };
  if (patternsDirectory !== undefined) input.patternsDirectory = patternsDirectory;
  if (expectedBytes !== undefined) input.expectedBytes = expectedBytes;
  if (rules.reputation !== undefined) input.reputationDirectory = reputationDirectory;
  if (rules.variables !== undefined) input.variables = rules.variables;
  if (rules.overrides !== undefined) {
    input.overrides = rules.overrides;
    input.overridesFile = pathOf('overrides');
    writeFileSync(input.overridesFile, rules.overrides, { mode: 0o644 });
  }
  return input;
}

/** A file that is there has the same content: its name says so. */
function stageData(configDirectory: string, data: readonly DataFile[]): void {
  if (data.length === 0) return;
  const directory = join(configDirectory, DATA_FOLDER);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const there = new Set(readdirSync(directory));
  for (const { name, content } of data) {
    if (!there.has(name)) replaceFileSync(join(directory, name), content, 0o644);
  }
}

/** In place: an engine that reloads reads the files that it was started with. */
function stageReputation(directory: string, { categories, list }: NonNullable<EngineRules['reputation']>): void {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  replaceFileSync(join(directory, CATEGORIES_FILE), categories, 0o644);
  replaceFileSync(join(directory, REPUTATION_FILE), list, 0o644);
}

/**
 * Patterns of rules long gone stay in their folder: it is emptied where they have become many, and the engine compiles
 * all once more. File by file, as the engine, which owns the folder, could put a link into the way of more.
 */
export function boundPatterns(directory: string, maxBytes = MAX_PATTERNS_BYTES): void {
  const files = readdirSync(directory).map((name) => join(directory, name));
  const sizes = files.map((file) => lstatSync(file, { throwIfNoEntry: false })?.size ?? 0);
  if (sizes.reduce((all, size) => all + size, 0) <= maxBytes) return;
  for (const file of files) {
    try {
      unlinkSync(file);
    } catch {
      // A folder, which no engine makes there.
    }
  }
}

/** Those long before are not needed to read what is left of the alerts. */
export async function forgetRules(configDirectory: string, revision: number): Promise<void> {
  await rm(join(configDirectory, `rules-${revision - KEPT_RULES}`), { recursive: true, force: true });
  const directory = join(configDirectory, DATA_FOLDER);
  if (!existsSync(directory)) return;
  const records = ruleFolders(dirname(configDirectory)).map(dataOf);
  // What one needs that can't be read is not known.
  if (records.includes(undefined)) return;
  const used = new Set(records.flat());
  const unused = (await readdir(directory)).filter((name) => !used.has(name));
  await Promise.all(unused.map((name) => rm(join(directory, name), { force: true })));
}

/** What the rules in a folder name beside themselves; undefined where that can't be read. */
function dataOf(folder: string): readonly string[] | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, RULES_FILE), 'utf8')) as RulesRecord;
    return record.data ?? [];
  } catch {
    return undefined;
  }
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

export function addCanary(input: GenerationInput, token: string): void {
  input.canaryFile = join(input.rulesDirectory, CANARY_FILE);
  writeFileSync(input.canaryFile, canaryRule(token));
}

export function writeGenerationRecord(directory: string, record: GenerationRecord): void {
  replaceFileSync(join(directory, GENERATION_FILE), JSON.stringify(record), 0o644);
}

/** @param identity Of the engine's process; empty: it has none. */
export function writeEngineIdentity(directory: string, identity: string): void {
  replaceFileSync(join(directory, ENGINE_FILE), identity, 0o644);
}
