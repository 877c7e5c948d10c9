/**
 * What a lane's frames to itself tell of it: whether it inspects. It counts what becomes of them, and sends none: that
 * is engine/prover.ts.
 *
 * After `MAX_MISSED` misses in a row the lane is missing until a frame returns, however late.
 */
import type { Way } from '../engine/prover.ts';

/** Misses in a row that make a lane unready. */
const MAX_MISSED = 3;

export interface CanaryOptions {
  /** No frames are sent but to prove rules. */
  isOff: boolean;
  /** One returned, after so many seconds. */
  returned: (seconds: number) => void;
  /** Frames return no longer, or again. */
  changed: (status: CanaryStatus) => void;
  /** Milliseconds since the Unix epoch. */
  now?: () => number;
}

export interface CanaryStatus {
  /** `waiting`: none was sent yet. `missing`: the lane does not inspect, as far as the canary tells. */
  is: 'off' | 'waiting' | 'alive' | 'missing';
  missed: number;
  /** Milliseconds since the Unix epoch. */
  lastSuccess?: number;
  /** Of the last one that returned. */
  lastSeconds?: number;
  /** When that one was sent, on the monotonic clock: what went in before it has been inspected. */
  provenAt?: number;
}

export interface Canary {
  missed(): void;
  /** @param way Undefined when it took too long to be known. */
  returned(way: Way | undefined): void;
  status(): CanaryStatus;
}

export function watchCanary({ isOff, returned, changed, now = Date.now }: CanaryOptions): Canary {
  let missed = 0;
  let missedInARow = 0;
  let last: Pick<CanaryStatus, 'lastSuccess' | 'lastSeconds' | 'provenAt'> | undefined;

  function stateOf(): CanaryStatus['is'] {
    if (isOff) return 'off';
    if (missedInARow >= MAX_MISSED) return 'missing';
    return last === undefined && missed === 0 ? 'waiting' : 'alive';
  }

  const status = (): CanaryStatus => ({ is: stateOf(), missed, ...last });

  return {
    missed() {
      missed++;
      missedInARow++;
      if (missedInARow === MAX_MISSED) changed(status());
    },
    returned(way) {
      last = { lastSuccess: now(), ...(way === undefined ? {} : { lastSeconds: way.seconds, provenAt: way.sentAt }) };
      if (way !== undefined) returned(way.seconds);
      const wasMissing = missedInARow >= MAX_MISSED;
      missedInARow = 0;
      if (wasMissing) changed(status());
    },
    status,
  };
}
