/** Signals that ask a command to end. */
import { once } from 'node:events';

/**
 * Aborted at the first SIGTERM or SIGINT; the reason is the signal's name. Further ones change nothing: an end takes
 * seconds, and one that is cut short would leave an engine behind.
 */
export function abortedBySignal(): AbortSignal {
  const ending = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => ending.abort(name));
  return ending.signal;
}

/** Resolves once the signal is aborted. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
