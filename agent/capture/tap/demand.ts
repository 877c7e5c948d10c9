/**
 * The size of ring that an interface's traffic needs: it grows before it is full, and becomes small again after a quiet
 * time.
 */
const RING_GROWTH = 4;
/** A ring that brought less than this part of it at a time, for so long, is too large. */
const QUIET_PART = 16;
const QUIET_MILLIS = 60_000;
/** A small ring has little time to spare, see timeoutOf: one that is read so often in a second needs more. */
const STEADY_READS = 5;
const FULL_SHARE = 1 / 2;
/** What libpcap makes the blocks of a ring of: its largest packet. */
const BLOCK_BYTES = 262_144;
/** A ring has room for what comes while its process is not run for so long, at a rate that does not fill it. */
const HELD_MILLIS = 100;
/** As long as a large ring needs to come near it. */
const LEAST_TIMEOUT_MILLIS = 10;

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

/**
 * @param share Which part of it was filled.
 * @param least The size of a ring on a quiet interface.
 * @returns the size that is wanted; undefined: as it is.
 */
export function sizeAfterRead(demand: Demand, share: number, ringSize: number, least: number): number | undefined {
  if (share >= FULL_SHARE) return ringSize * RING_GROWTH;
  return demand.reads === STEADY_READS ? Math.max(ringSize, least * RING_GROWTH) : undefined;
}

/**
 * After each second.
 * @param least The size of a ring on a quiet interface.
 * @param lost Packets that had no room in it.
 * @returns the size that is wanted; undefined: as it is.
 */
export function sizeAfterSecond(demand: Demand, ringSize: number, least: number, lost: number): number | undefined {
  if (lost > 0) return ringSize * RING_GROWTH;
  if (demand.reads >= STEADY_READS) {
    demand.busyAt = performance.now();
    return Math.max(ringSize, least * RING_GROWTH);
  }
  return performance.now() - demand.busyAt > QUIET_MILLIS ? least : undefined;
}

/**
 * How long the kernel may wait until it closes a block that has packets, which it does at each such timeout. At a low
 * rate a ring holds as many timeouts as it has other blocks: the fewer, the longer each. The first packets in a quiet
 * ring are given that much later.
 * https://www.kernel.org/doc/html/latest/networking/packet_mmap.html
 *
 * @param most Milliseconds.
 */
export function timeoutOf(ringSize: number, most: number): number {
  const others = Math.max(1, Math.floor(ringSize / BLOCK_BYTES) - 1);
  return Math.min(most, Math.max(LEAST_TIMEOUT_MILLIS, Math.ceil(HELD_MILLIS / others)));
}
