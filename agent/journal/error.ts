/** What goes wrong with a journal: where, and what an operator can do about it. */
import { errorCode, messageOf } from '../files/errors.ts';

/**
 * `ELOCKED`: another agent writes here. `ECLOSED`: used after `close`. Else the system's own code: ENOSPC, EROFS,
 * EACCES, EIO, …
 */
export class JournalError extends Error {
  override readonly name = 'JournalError';
  readonly code: string;
  readonly path: string;

  constructor(code: string, path: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.path = path;
  }
}

const ADVICE: Record<string, string> = {
  ENOSPC: 'no space left: free some on its file system, or lower journal.maxSize',
  EDQUOT: 'the disk quota is used up: raise it, or lower journal.maxSize',
  EROFS: 'the file system is read-only: mount it writable, or set journal.directory to a folder that is writable',
  EACCES: 'permission denied: let the agent write there, or set journal.directory to another folder',
  EPERM: 'not permitted: let the agent write there, or set journal.directory to another folder',
  ENOTDIR: 'a part of the path is not a folder: remove it, or set journal.directory to another folder',
  EEXIST: 'a file is in the way: remove it, or set journal.directory to another folder',
  EMFILE: "the process has too many files open: raise its limit ('ulimit -n')",
  EIO: 'the disk reports an error: check the kernel log and replace the disk',
};

/** @param what such as "append to". */
export function journalError(what: string, path: string, cause: unknown): JournalError {
  if (cause instanceof JournalError) return cause;
  const code = errorCode(cause) ?? 'EUNKNOWN';
  const reason = ADVICE[code] ?? messageOf(cause);
  return new JournalError(code, path, `can't ${what} ${path}: ${reason} (${code})`, cause);
}
