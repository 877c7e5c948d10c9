/** How long a request to a destination may take, and what else ends it. */
import { SendError } from '../destination.ts';

export interface Limit {
  /** Of who asks. */
  signal: AbortSignal;
  /** Of the sink. */
  closing: AbortSignal;
  timeoutMillis: number;
  /** Called once the time is over. */
  late: () => SendError;
}

/** @throws The signal's reason when it is aborted; what `late` gives; SendError when the sink closes. */
export async function withinTime<T>(
  { signal, closing, timeoutMillis, late }: Limit,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const abort = (): void => limit.abort(new SendError('unreachable', 'the sink is closed'));
  const timer = setTimeout(() => limit.abort(late()), timeoutMillis);
  // Not AbortSignal.any: it leaks on signals that live long (https://github.com/nodejs/node/issues/55351).
  for (const from of [signal, closing]) from.addEventListener('abort', abort);
  if (closing.aborted) abort();
  try {
    return await run(limit.signal);
  } catch (error) {
    signal.throwIfAborted();
    // Clients throw errors of their own.
    limit.signal.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    for (const from of [signal, closing]) from.removeEventListener('abort', abort);
  }
}
