/**
 * How long to wait before somebody else's change is put back: not at all the first time, then 1 s, doubled with each
 * further time, up to 5 minutes. So two who want different things do not write for ever. 10 quiet minutes make it
 * prompt again.
 */
const FIRST_MILLIS = 1_000;
const LAST_MILLIS = 300_000;
const QUIET_MILLIS = 600_000;

export interface Patience {
  /** Milliseconds until something may be put back; 0: now. */
  wait(): number;
  /** Something was put back. */
  used(): void;
  /** How often. */
  count(): number;
}

export function createPatience(now: () => number): Patience {
  let count = 0;
  /** In a row. */
  let times = 0;
  let at = -Infinity;
  return {
    wait() {
      if (now() - at > QUIET_MILLIS) times = 0;
      return times === 0 ? 0 : Math.max(0, at + Math.min(FIRST_MILLIS * 2 ** (times - 1), LAST_MILLIS) - now());
    },
    used() {
      count++;
      times++;
      at = now();
    },
    count: () => count,
  };
}
