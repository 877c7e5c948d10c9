/**
 * Folders that are there after a power cut, once what is in them is: a folder's name is in its parent, which has to be
 * synced.
 */
import { dirname } from 'node:path';
import { errorCode } from './errors.ts';
import type { FileSystem } from './file-system.ts';
import { syncDirectory } from './replace.ts';

/**
 * Makes the folder, and those above it, where they are missing. Syncs those above it up to the mount point, whoever
 * made them: an earlier call may have failed before that, or its process died.
 *
 * Not promised: that its name is on disk when a folder above it may not be read, which has to be opened for that.
 * @throws the system's error.
 */
export async function makeDirectory(
  path: string,
  mode: number,
  fileSystem: Pick<FileSystem, 'mkdir' | 'open' | 'stat'>,
): Promise<void> {
  await fileSystem.mkdir(path, { recursive: true, mode });
  const { dev } = await fileSystem.stat(path);
  for (let folder = path, parent = dirname(path); parent !== folder; folder = parent, parent = dirname(parent)) {
    if ((await fileSystem.stat(parent)).dev !== dev) return;
    try {
      await syncDirectory(parent, fileSystem);
    } catch (error) {
      if (errorCode(error) !== 'EACCES') throw error;
    }
  }
}

/** @throws the system's error, when that is not that it is missing. */
export async function isThere(path: string, fileSystem: Pick<FileSystem, 'stat'>): Promise<boolean> {
  try {
    await fileSystem.stat(path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
