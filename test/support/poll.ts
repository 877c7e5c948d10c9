import { setTimeout as sleep } from 'node:timers/promises';

/** Nothing that a test waits for takes this long, on a slow machine either: it will not come. */
const PATIENCE_MILLIS = 120_000;

/** From the end of one question to the next; several times as long as the question took, so that others get the CPU. */
const PAUSE_MILLIS = 50;
const MAX_PAUSE_MILLIS = 1_000;

/** Asks again and again until `ask` gives something other than false or undefined. */
export async function poll<T>(ask: () => T | Promise<T>): Promise<Exclude<T, false | undefined>> {
  for (const end = performance.now() + PATIENCE_MILLIS; ;) {
    const asked = performance.now();
    const found = await ask();
    if (found !== false && found !== undefined) return found as Exclude<T, false | undefined>;
    if (performance.now() > end) throw new Error(`what the test waits for did not come: ${ask.toString()}`);
    await sleep(Math.min(MAX_PAUSE_MILLIS, Math.max(PAUSE_MILLIS, 3 * (performance.now() - asked))));
  }
}
