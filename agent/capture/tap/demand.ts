/**
 * The size of ring that an interface's traffic needs: it grows before it is full, and becomes small again after a quiet
 * time.
 */
const RING_GROWTH = 4;
/** A ring that brought less than this part of it at a time, for so long, is too large. */
const QUIET_PART = 16;
const QUIET_MILLIS = 60_000;
/**
 * A small ring has two blocks, of which the kernel closes each at a timeout: one that is read so often in a second has
 * no time to spare.
 */
const STEADY_READS = 20;
const FULL_SHARE = 1 / 2;

export interface Demand {
  /** Bytes that were read since the ring was empty. */
  burst: number;
  /** In this second. */
  reads: number;
  /** When a burst was large for the ring, or reads were many; on the clock of performance.now(). */
  busyAt: number;
}

export function newDemand(): Demand {
  return { burst: 0, reads: 0, busyAt: performance.now() };
}

/** @returns which part of the ring was filled since it was last empty. */
export function noteRead(demand: Demand, bytes: number, ringSize: number): number {
  demand.burst += bytes;
  if (bytes > 0) demand.reads++;
  const share = demand.burst / ringSize;
  if (share >= 1 / QUIET_PART) demand.busyAt = performance.now();
  return share;
}

/** @returns the size that is wanted of a ring of which this part was filled; undefined: as it is. */
export function sizeAfterRead(share: number, ringSize: number): number | undefined {
  return share >= FULL_SHARE ? ringSize * RING_GROWTH : undefined;
}

/**
 * After each second.
 * @param least The size of a ring on a quiet interface.
 * @param lost Packets that had no room in it.
 * @returns the size that is wanted; undefined: as it is.
 */
export function sizeAfterSecond(demand: Demand, ringSize: number, least: number, lost: number): number | undefined {
  const isSteady = demand.reads >= STEADY_READS;
  if (isSteady) demand.busyAt = performance.now();
  if (lost > 0) return ringSize * RING_GROWTH;
  if (isSteady) return Math.max(ringSize, least * RING_GROWTH);
  return performance.now() - demand.busyAt > QUIET_MILLIS ? least : undefined;
}
