/** Where a sink finds what becomes known of an event after it was journaled. */
import type { ReadPackets } from './destination.ts';

/** What was found of an event. */
export interface Found {
  /** Fields of its `record`. */
  record: object;
  /** Its capture file. */
  packets: ReadPackets;
}

export interface LateFacts {
  /** How long an event may wait, in milliseconds. */
  readonly patienceMillis: number;
  /** Whether something may still become known of it. */
  isPending(eventId: string): boolean;
  /** @param listener Called when nothing is pending any more of some event. @returns what ends it. */
  onSettled(listener: () => void): () => void;
  /** @returns undefined where nothing is known; `none` where nothing is kept of any. @throws the system's error. */
  find(event: Record<string, unknown>): Promise<Found | 'none' | undefined>;
}

/** Of events that were given on, since the start. */
export interface EvidenceCounts {
  /** What was known went with them. */
  joined: number;
  /** They waited as long as they may. */
  late: number;
  /** Nothing was found: none was kept of them, it could not be read, or the agent died meanwhile. */
  without: number;
}
