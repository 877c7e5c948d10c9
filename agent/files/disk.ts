/** What a disk may get over by itself is waited for; all else is a mistake in the configuration. */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from './errors.ts';

const PASSING = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE']);
const RETRY_MILLIS = 1_000;

/**
 * Tries every second until the disk lets it.
 * @param waits Called after each failure, with how many were before it.
 * @throws what `attempt` throws for any other reason, and the signal's reason when it is aborted.
 */
export async function onceDiskAllows<T>(
  attempt: () => T | Promise<T>,
  waits: (error: unknown, failures: number) => void,
  signal?: AbortSignal,
): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!PASSING.has(errorCode(error) ?? '')) throw error;
      waits(error, failures);
    }
    await sleep(RETRY_MILLIS, undefined, { signal }).catch(() => {
      throw signal?.reason as Error;
    });
  }
}
