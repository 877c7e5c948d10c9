/** A ring, and what of its statistics an endpoint's counters have by now. */
import type { Counters } from '../protocol.ts';
import type { Ring } from '../ring.ts';

export interface Counted {
  readonly ring: Ring;
  received: number;
  dropped: number;
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
  const { received, dropped, ring } = counted;
  counters[cause] += Math.max(0, received - dropped - ring.statistics().delivered);
}

export function isRead({ ring }: Counted): boolean {
  const { received, dropped, delivered } = ring.statistics();
  return delivered >= received - dropped;
}
