/**
 * When engines are started anew for changed rules that they can't go over to while they run: packets that come before an
 * engine has loaded them all are lost, so a moment with few packets costs least.
 */
import type { Clock } from '../files/clock.ts';

/** Counters of packets are reported each second. */
const LOOK_MILLIS = 2_000;
/** So few packets a second are quiet anywhere. */
const FEW_PACKETS = 10;
/** Else a tenth of what is usual is, once so many looks say what that is. */
const LEARNED_LOOKS = 15;
const QUIET_SHARE = 0.1;

export interface Waiting {
  /** Packets of all endpoints up to now. */
  packets: () => number;
  mostMillis: number;
  clock: Pick<Clock, 'now' | 'wait'>;
  signal: AbortSignal;
}

/** Resolves in a quiet moment (`quiet`), when the time is up (`late`), or when the signal is aborted. */
export async function waitForQuiet({
  packets,
  mostMillis,
  clock,
  signal,
}: Waiting): Promise<'quiet' | 'late' | 'aborted'> {
  const end = clock.now() + mostMillis;
  const rates: number[] = [];
  let [lookedAt, before] = [clock.now(), packets()];
  for (let rest = mostMillis; rest > 0; rest = end - clock.now()) {
    await clock.wait(Math.min(LOOK_MILLIS, rest), signal);
    if (signal.aborted) return 'aborted';
    const [now, count] = [clock.now(), packets()];
    // An endpoint that goes takes its counters with it.
    rates.push((Math.max(0, count - before) * 1000) / Math.max(1, now - lookedAt));
    if (isQuiet(rates)) return 'quiet';
    [lookedAt, before] = [now, count];
  }
  return 'late';
}

function isQuiet(rates: readonly number[]): boolean {
  const last = rates.at(-1) ?? Infinity;
  if (last <= FEW_PACKETS) return true;
  const usual = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  return rates.length > LEARNED_LOOKS && last <= usual * QUIET_SHARE;
}
