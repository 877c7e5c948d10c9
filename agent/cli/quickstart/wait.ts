/** Waits for a condition in a cluster, and says what it waits for when it does not come. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError, EXIT } from '../exit.ts';

const LOOK_MILLIS = 500;

/** @param look Undefined as long as it is not so. @throws CommandError with what `why` says after `millis`. */
export async function until<T>(
  millis: number,
  look: () => Promise<T | undefined>,
  why: () => Promise<string> | string,
): Promise<T> {
  const deadline = performance.now() + millis;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new CommandError(await why(), EXIT.failed);
    await sleep(LOOK_MILLIS);
  }
}
