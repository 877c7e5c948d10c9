/** A ring, and what of its statistics an endpoint's counters have by now. */
import type { Counters } from '../protocol.ts';
import type { Ring } from '../ring.ts';

export interface Counted {
  readonly ring: Ring;
  received: number;
  dropped: number;
  /** So many are read; what comes later can't be kept away from each library's rings, and is not wanted. */
  until?: number;
}

/** Takes in what is new. @param cause What lost packets are counted as. @returns how many were lost. */
export function count(
  counters: Counters,
  counted: Counted,
  cause: 'droppedKernel' | 'droppedQueue' = 'droppedKernel',
): number {
  const { received, dropped } = counted.ring.statistics();
  const lost = dropped - counted.dropped;
  counters.received += received - counted.received;
  counters[cause] += lost;
  counted.received = received;
  counted.dropped = dropped;
  return lost;
}

/** For the last time. @param cause What packets are counted as that the ring has and nobody will read. */
export function countOff(counters: Counters, counted: Counted, cause: 'droppedDetached' | 'droppedQueue'): void {
  count(counters, counted);
  const { received, dropped, until, ring } = counted;
  const { delivered } = ring.statistics();
  const left = Math.max(0, received - dropped - delivered);
  if (until === undefined || delivered < until) {
    counters[cause] += left;
    return;
  }
  counters.received -= left;
  counted.received -= left;
}

/** What it has now is all that is read. */
export function endNow(counters: Counters, counted: Counted): void {
  count(counters, counted);
  counted.until = counted.received - counted.dropped;
}

export function isRead({ ring, until }: Counted): boolean {
  const { received, dropped, delivered } = ring.statistics();
  return delivered >= (until ?? received - dropped);
}
