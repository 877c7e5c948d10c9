import { expect, test } from '@jest/globals';
import { waitForQuiet } from '../../agent/rulesets/quiet.ts';

/** @param rates Packets a second, of each look of two seconds; the last one goes on. */
async function wait(rates: readonly number[], mostMillis = 300_000): Promise<[string, seconds: number]> {
  let now = 0;
  let looks = 0;
  let count = 0;
  const outcome = await waitForQuiet({
    packets: () => count,
    mostMillis,
    clock: {
      now: () => now,
      async wait(millis) {
        now += millis;
        count += ((rates[looks++] ?? rates.at(-1) ?? 0) * millis) / 1000;
      },
    },
    signal: new AbortController().signal,
  });
  return [outcome, now / 1000];
}

test.each<[string, number[], [string, number]]>([
  ['at once where hardly a packet comes', [3], ['quiet', 2]],
  ['when few come', [5000, 800, 9], ['quiet', 6]],
  ['when a tenth of what is usual comes, once that is known', [...Array<number>(15).fill(5000), 400], ['quiet', 32]],
  ['not when a tenth comes before that is known', [5000, 400, 400, 400, 5000], ['late', 300]],
  ['at the latest when the time is up', [5000], ['late', 300]],
  ['also where endpoints take their counters with them', [5000, -4000], ['quiet', 4]],
])('the moment comes %s', async (_, rates, expected) => expect(await wait(rates)).toEqual(expected));

test('what calls it off ends it', async () => {
  const controller = new AbortController();
  const waiting = waitForQuiet({
    packets: () => 0,
    mostMillis: 1000,
    clock: {
      now: () => 0,
      wait: (_, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    },
    signal: controller.signal,
  });
  controller.abort();
  expect(await waiting).toBe('aborted');
});
