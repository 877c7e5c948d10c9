/**
 * Gives memory back after work that made much garbage: V8 lets garbage grow to several times what is in use, and what the
 * process once took of memory it keeps for long.
 *
 * It stops the process for as long as it takes to look at all that is in use: for work that is done rarely only.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Less is not worth a stop. */
const WORTH_BYTES = 64 << 20;

let collect: (() => void) | undefined;

/** @param before Bytes that the heap had in use before the work. */
export function collectGarbage(before: number): void {
  if (process.memoryUsage().heapUsed - before < WORTH_BYTES) return;
  collect ??= exposed();
  collect();
}

/** V8's own function, which is there by a flag only. */
function exposed(): () => void {
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  return typeof found === 'function' ? () => void found() : () => undefined;
}
