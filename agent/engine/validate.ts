/** Whether an engine takes rules: it loads them in a process of its own, which is bounded and leaves nothing behind. */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { messageOf } from '../files/errors.ts';
import type { EngineDriver, RuleError } from './engine.ts';
import { boundedOutput, exitOf, type EngineExit } from './exit.ts';
import { layOut } from './folder.ts';
import type { GenerationOptions } from './generation.ts';
import { residentBytes, spareBytes } from './memory.ts';
import { placesOfData, unstage, type EngineRules } from './rules.ts';
import { spawnSandboxed } from './sandbox.ts';

/** What checking rules may cost. */
export interface ValidationLimits {
  millis: number;
  /** Resident memory of the process. */
  bytes: number;
}

/** How a validation ended; `stopped`: it was ended by a limit, and which. */
export type Validation = EngineExit & { stopped?: string };

/** What an engine says of one rule, by the place that it came from. */
export interface RuleVerdict {
  file: string;
  line: number;
  reason: string;
  /** It may only follow from an error in the rule before. */
  follows?: true;
}

/**
 * What an engine says of rules. `skipped`: rules that it does not load, without an error. `errors`: what is wrong with
 * some rules.
 */
export type Verdict =
  { is: 'accepted'; skipped?: RuleVerdict[] } | { is: 'refused'; reason: string; errors: RuleVerdict[] };

export type ValidationOptions = Omit<GenerationOptions, 'lane' | 'mode'>;

/** Longest time that rules may take to check beside an agent that inspects, and that much more for each of many. */
const JUDGING_MILLIS = 120_000;
const JUDGING_RULE_MILLIS = 5;
/** Between these is the memory that they may take meanwhile. */
const LEAST_BYTES = 256 << 20;
const MOST_BYTES = 2 ** 31;
/** Errors of a verdict, at most. */
const MAX_ERRORS = 10_000;
/** Reasons of one rule, at most. */
const MAX_REASONS = 3;
/** An address space is several times what is resident of it; this only stops what grows faster than it is looked at. */
const ADDRESS_SPACE_FACTOR = 8;
const LOOK_MILLIS = 50;
/** Of the last ones that are let through, in an engine that checks rules: an error for each of many rules. */
const OUTPUT_BYTES = 1 << 20;

/** Loads configuration and rules, and says what the engine has against them. */
export async function validateRules(
  options: ValidationOptions,
  limits: ValidationLimits = { millis: 300_000, bytes: Infinity },
): Promise<Validation> {
  const name = `validate-${process.pid}-${randomBytes(3).toString('hex')}`;
  const rules = options.engineRules();
  const { directory, input } = await layOut({ ...options, mode: 'live' }, rules, name);
  try {
    const args = await options.driver.validateArguments(options.install, input);
    const cap = limits.bytes === Infinity ? undefined : limits.bytes * ADDRESS_SPACE_FACTOR;
    const child = spawnSandboxed(options.sandbox, options.install.binary, args, input.outputDirectory, cap);
    const output = boundedOutput(OUTPUT_BYTES);
    child.stdout?.setEncoding('utf8').on('data', output.add);
    child.stderr?.setEncoding('utf8').on('data', output.add);
    const limit = enforce(limits, child);
    preferForKill(child.pid);
    const exit = await exitOf(child, () => unstage(output.text(), rules));
    const stopped = limit.end();
    return stopped === undefined ? exit : { ...exit, stopped };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * The same beside an agent that inspects, which must not suffer from it.
 * @throws Error when the engine can't be started.
 */
export async function judgeRules(options: ValidationOptions): Promise<Verdict> {
  const rules = options.engineRules();
  const validation = await validateRules(options, limitsBeside(rules)).catch((error: unknown) => {
    throw new Error(`${options.install.name} cannot be started: ${messageOf(error)}`);
  });
  return verdictOf(validation, options.driver, rules);
}

/** What a validation says of the rules, by the places that they came from. */
export function verdictOf(exit: Validation, driver: EngineDriver, rules: EngineRules): Verdict {
  if (exit.code === 0 && exit.stopped === undefined) {
    return { is: 'accepted', skipped: verdictsOf(driver.skippedRules?.(exit.output, MAX_ERRORS) ?? []) };
  }
  const found = driver.ruleErrors(exit.output, MAX_ERRORS);
  const last = exit.output.trimEnd().split('\n').at(-1) ?? '';
  const reason =
    exit.stopped ??
    found.map((error) => error.reason)[0] ??
    `${driver.name} ended with ${exit.signal ?? exit.code ?? 'nothing'}: ${last}`;
  return { is: 'refused', reason, errors: exit.stopped === undefined ? verdictsOf(placed(found, rules)) : [] };
}

/**
 * What an engine says of a file that rules name, it says of each of those, where it says of no rule at all that it is
 * wrong.
 */
function placed(errors: readonly RuleError[], rules: EngineRules): RuleError[] {
  if (errors.some(({ file }) => file !== undefined)) return [...errors];
  return errors.flatMap((error) => {
    if (error.file !== undefined) return [error];
    const places = placesOfData(error.reason, rules);
    return places.length === 0 ? [error] : places.map(({ file, fileLine }) => ({ ...error, file, line: fileLine }));
  });
}

/** Reasons for each rule, without those that only follow from its own; at most `MAX_REASONS` of one. */
export function verdictsOf(errors: readonly RuleError[]): RuleVerdict[] {
  const places = new Map<string, { file: string; line: number; reasons: string[]; follows: boolean }>();
  for (const { file, line, reason, follows = false } of errors) {
    if (file === undefined || line === undefined) continue;
    const key = `${file}:${line}`;
    const found = places.get(key) ?? { file, line, reasons: [], follows };
    places.set(key, found);
    // What follows from an error of this very rule says nothing more.
    if (found.reasons.length > 0 && follows) continue;
    if (found.reasons.length < MAX_REASONS && !found.reasons.includes(reason)) found.reasons.push(reason);
  }
  return [...places.values()].map(({ file, line, reasons, follows }) => ({
    file,
    line,
    reason: reasons.join('; '),
    ...(follows ? { follows } : {}),
  }));
}

/** Ends the process at a limit. @returns what ends that, and says which limit was reached. */
function enforce(limits: ValidationLimits, child: ChildProcess): { end(): string | undefined } {
  let stopped: string | undefined;
  const stop = (why: string): void => {
    stopped ??= why;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => stop(`it took more than ${Math.round(limits.millis / 1000)} s`), limits.millis);
  const watch = setInterval(() => {
    if (residentBytes(child.pid) > limits.bytes) stop(`it took more than ${limits.bytes >> 20} MB of memory`);
  }, LOOK_MILLIS);
  return {
    end() {
      clearTimeout(timer);
      clearInterval(watch);
      return stopped;
    },
  };
}

/** Where memory is short, this process goes first, and not the engine that inspects. */
function preferForKill(pid: number | undefined): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, '1000');
  } catch {
    // It ended, or another /proc is here.
  }
}

/** What checking rules may take beside an agent that inspects: of memory, a part of what the container still has. */
function limitsBeside({ files }: EngineRules): ValidationLimits {
  const rules = files.reduce((sum, { origins }) => sum + origins.length, 0);
  return {
    millis: JUDGING_MILLIS + rules * JUDGING_RULE_MILLIS,
    bytes: Math.max(LEAST_BYTES, Math.min(MOST_BYTES, 0.8 * spareBytes())),
  };
}
