/**
 * Replaces a file in one step: whoever reads it, also after a power cut, finds the old content or the new, whole.
 *
 * `<path>.new` is written and synced, then takes the name (rename(2)), then the folder is synced, so that the name is
 * on disk when the call returns. After an error before the rename the old file is there. What a crash leaves of
 * `<path>.new` is overwritten by the next call.
 *
 * Not promised: anything between two writers of one path at a time. That a `<path>.new` which is left changes its mode,
 * or that an owner is kept.
 */
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { open, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode } from './errors.ts';

/** Errors are those of node:fs. */
export interface ReplaceFileSystem {
  open(path: string, flags: string, mode?: number): Promise<Pick<FileHandle, 'writeFile' | 'sync' | 'close'>>;
  rename(from: string, to: string): Promise<void>;
}

/** @param mode Of the new file, less what the umask takes. @throws the system's error. */
export async function replaceFile(
  path: string,
  content: string,
  mode: number,
  fileSystem: ReplaceFileSystem = { open, rename },
): Promise<void> {
  const next = nextTo(path);
  const handle = await fileSystem.open(next, 'w', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fileSystem.rename(next, path);
  await syncDirectory(dirname(path), fileSystem);
}

/** As `replaceFile`, and nothing else runs until the disk has it. */
export function replaceFileSync(path: string, content: string | Uint8Array, mode: number): void {
  replaceFileByPieces(path, [content], mode);
}

/** The same for content that need not be in memory as a whole. */
export function replaceFileByPieces(path: string, pieces: Iterable<string | Uint8Array>, mode: number): void {
  const next = nextTo(path);
  withFileSync(openSync(next, 'w', mode), (fd) => {
    for (const piece of pieces) writeFileSync(fd, piece);
    fsyncSync(fd);
  });
  renameSync(next, path);
  syncDirectorySync(dirname(path));
}

/** Puts names on disk that files of a folder got or lost. @throws the system's error. */
export async function syncDirectory(
  directory: string,
  fileSystem: Pick<ReplaceFileSystem, 'open'> = { open },
): Promise<void> {
  const handle = await fileSystem.open(directory, 'r');
  try {
    await handle.sync().catch(passNoFolders);
  } finally {
    await handle.close();
  }
}

/** As `syncDirectory`, and nothing else runs until the disk has it. */
export function syncDirectorySync(directory: string): void {
  withFileSync(openSync(directory, 'r'), (fd) => {
    try {
      fsyncSync(fd);
    } catch (error) {
      passNoFolders(error);
    }
  });
}

const nextTo = (path: string): string => `${path}.new`;

/** EINVAL, by fsync(2): this file system does not sync folders. */
function passNoFolders(error: unknown): void {
  if (errorCode(error) !== 'EINVAL') throw error;
}

function withFileSync(fd: number, use: (fd: number) => void): void {
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}
