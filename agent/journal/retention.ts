/** Deletes a journal's oldest segments, and counts their events. The one being written always stays. */
import { errorCode } from '../files/errors.ts';
import { journalError, type JournalError } from './error.ts';
import { bytesOf, pathOf, type Folder, type Segment } from './folder.ts';

export interface Retention {
  /** Bytes of all segments together. */
  readonly maxSize: number;
  /** Milliseconds since the last write; 0: never. */
  readonly maxAge: number;
  /** Events. */
  evicted: number;
  evictedSegments: number;
  /** Why a segment could not be deleted the last time. */
  error: JournalError | undefined;
}

/** Failing to delete must not fail the append that caused it: it is noted, and tried again with the next. */
export async function retain(retention: Retention, folder: Folder, active: Segment): Promise<void> {
  const time = folder.now();
  for (;;) {
    const [oldest, next] = folder.segments;
    if (oldest === undefined || next === undefined || oldest === active) return;
    if (bytesOf(folder.segments) <= retention.maxSize && !isExpired(retention, oldest, time)) return;
    try {
      await folder.fileSystem.unlink(pathOf(folder, oldest));
      retention.evicted += next.sequence - oldest.sequence;
      retention.evictedSegments += 1;
    } catch (error) {
      if (errorCode(error) !== 'ENOENT') {
        retention.error = journalError('delete the old segment', pathOf(folder, oldest), error);
        return;
      }
    }
    retention.error = undefined;
    folder.segments.shift();
  }
}

/** @param time Wall clock, ms since the epoch. */
export function isExpired({ maxAge }: Pick<Retention, 'maxAge'>, { lastWrite }: Segment, time: number): boolean {
  return maxAge > 0 && time - lastWrite > maxAge;
}
