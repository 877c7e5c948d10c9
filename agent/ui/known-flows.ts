/**
 * What became known of events' flows after they were journaled: the files of evidence, as they come. A folder is read
 * when it changed, and a file once.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventsOf, findRecord, listDays, type EvidenceRecord } from '../evidence/place.ts';

const LOOK_MILLIS = 2_000;
/** Files that are remembered as read; then all are read once more. */
const MOST_READ = 100_000;

export interface KnownFlowsOptions {
  /** The folder of evidence; it need not be there. */
  directory: string;
  signal: AbortSignal;
  /** Whether the event is one that anybody wants. */
  wants: (eventId: string) => boolean;
  learn: (eventId: string, record: EvidenceRecord) => void;
}

/** Resolves when `signal` is aborted. What can't be read is looked at again with the next change. */
export async function followKnownFlows(options: KnownFlowsOptions): Promise<void> {
  const { directory, signal } = options;
  const read = new Set<string>();
  const changed = new Map<string, number>();
  while (!signal.aborted) {
    try {
      for (const day of await listDays(directory)) {
        const { mtimeMs } = await stat(join(directory, day));
        if (changed.get(day) === mtimeMs) continue;
        await readDay(options, day, read);
        changed.set(day, mtimeMs);
      }
    } catch {
      // Retention may have taken it, or it may not be read: the alerts are there all the same.
    }
    await sleep(LOOK_MILLIS, undefined, { signal }).catch(() => undefined);
  }
}

async function readDay(
  { directory, signal, wants, learn }: KnownFlowsOptions,
  day: string,
  read: Set<string>,
): Promise<void> {
  if (read.size > MOST_READ) read.clear();
  for (const eventId of await eventsOf(directory, day)) {
    if (signal.aborted) return;
    if (read.has(eventId) || !wants(eventId)) continue;
    const record = await findRecord(directory, day, eventId);
    if (record === undefined) continue;
    read.add(eventId);
    learn(eventId, record);
  }
}
