/**
 * Folders that are there after a power cut, once what is in them is: a folder's name is in its parent, which has to be
 * synced.
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from './errors.ts';
import type { FileSystem } from './file-system.ts';
import { syncDirectory, syncDirectorySync, type ReplaceFileSystem } from './replace.ts';

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
  fileSystem: Pick<FileSystem, 'mkdir' | 'stat'> & Pick<ReplaceFileSystem, 'open'>,
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

/** As `makeDirectory`, and nothing else runs until the disk has it. */
export function makeDirectorySync(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
  syncAboveSync(path);
}

/** Puts the name of a folder that is there on disk, and the names of those above it. @throws the system's error. */
export function syncAboveSync(path: string): void {
  const { dev } = statSync(path);
  for (let folder = path, parent = dirname(path); parent !== folder; folder = parent, parent = dirname(parent)) {
    if (statSync(parent).dev !== dev) return;
    try {
      syncDirectorySync(parent);
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
