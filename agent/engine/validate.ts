/** Whether an engine takes rules: it loads them in a process of its own, which is bounded and leaves nothing behind. */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { boundedOutput, exitOf, type EngineExit } from './exit.ts';
import { layOut } from './folder.ts';
import type { GenerationOptions } from './generation.ts';
import { unstage } from './rules.ts';
import { spawnSandboxed } from './sandbox.ts';

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
const OUTPUT_BYTES = 1 << 20;

/** Loads configuration and rules, and says what the engine has against them. */
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
    const output = boundedOutput(OUTPUT_BYTES);
    child.stdout?.setEncoding('utf8').on('data', output.add);
    child.stderr?.setEncoding('utf8').on('data', output.add);
    const limit = enforce(limits, child);
    preferForKill(child.pid);
    const exit = await exitOf(child, () => unstage(output.text(), rules.files));
    const stopped = limit.end();
    return stopped === undefined ? exit : { ...exit, stopped };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
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
