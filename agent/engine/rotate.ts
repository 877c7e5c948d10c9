/**
 * Rotates an alert file for an engine that does not do it: renames a large one, and has the engine open another.
 *
 * The engine writes on into the renamed file until it opens the new one, and then never again: so a reader that leaves
 * a file only when a newer one exists, and a read after that gave nothing, misses no line (readers/tail.ts).
 *
 * The folder is the engine's, which may be hostile: nothing is opened, and a rename takes a link for itself.
 */
import { lstatSync, renameSync } from 'node:fs';
import { join } from 'node:path';

export interface Rotation {
  /** Bytes beyond which a file is put aside. */
  bytes: number;
  /** What makes the engine close its files and open them by their names. It is sent only once the alert file exists. */
  reopen: NodeJS.Signals;
}

/**
 * @param directory Where nothing was rotated yet.
 * @returns what to call every now and then. @throws Error of node:fs; the next call tries again.
 */
export function createRotator(
  directory: string,
  base: string,
  { bytes, reopen }: Rotation,
  kill: (signal: NodeJS.Signals) => void,
): () => void {
  const live = join(directory, base);
  let number = 0;
  let rotated = false;
  return () => {
    const stats = lstatSync(live, { throwIfNoEntry: false });
    if (stats?.isFile() && stats.size > bytes) {
      // Counted first: where a name can't be had, the next one is tried.
      renameSync(live, `${live}.${++number}`);
      rotated = true;
      kill(reopen);
    } else if (stats === undefined && rotated) {
      // It has written nothing since, or a full disk kept it from making the file: then it writes nowhere until told.
      kill(reopen);
    }
  };
}
