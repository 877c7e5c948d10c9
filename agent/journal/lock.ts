/** One writer for each folder of a journal: `journal.lock` names it (files/lock.ts). */
import path from 'node:path';
import { LockedError, takeLock } from '../files/lock.ts';
import { JournalError, journalError } from './error.ts';

export const LOCK_NAME = 'journal.lock';

/** @returns the function that gives it back. @throws JournalError, ELOCKED when another process holds the lock. */
export function lockDirectory(directory: string): () => void {
  try {
    return takeLock(path.join(directory, LOCK_NAME), 'set journal.directory to another folder');
  } catch (error) {
    if (error instanceof LockedError) throw new JournalError('ELOCKED', directory, error.message);
    throw journalError('lock', directory, error);
  }
}
