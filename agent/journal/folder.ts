/**
 * A journal's folder, for its writer: which segments there are, and making new ones.
 *
 * A segment's name is on disk before it is written to.
 */
import type { Stats } from 'node:fs';
import { errorCode } from '../files/errors.ts';
import type { FileSystem, OpenFile } from '../files/file-system.ts';
import { makeDirectory } from '../files/folder.ts';
import { syncDirectory } from '../files/replace.ts';
import { journalError } from './error.ts';
import { listSegments, segmentPath } from './segment.ts';

/** What of the file system tests make fail. */
export interface JournalIo {
  /** A new file. */
  create(file: string): Promise<OpenFile>;
  write(handle: OpenFile, buffer: Buffer, offset: number, position: number): Promise<number>;
  sync(handle: OpenFile): Promise<void>;
  truncate(handle: OpenFile, length: number): Promise<void>;
}

/** What is around a journal. */
export interface JournalSystem {
  fileSystem: FileSystem;
  /** @returns the function that gives it back. */
  lock: (directory: string) => () => void;
  /** @returns the function that ends it. */
  every: (millis: number, action: () => void) => () => void;
}

export interface Segment {
  sequence: number;
  size: number;
  /** Wall clock, ms since the epoch; of no meaning while it is empty. */
  firstWrite: number;
  lastWrite: number;
}

/** The segment that grows. */
export interface Active {
  segment: Segment;
  handle: OpenFile;
  /** Complete lines in it. */
  lines: number;
  /** The file, to tell it from another one of the same name. */
  file: Pick<Stats, 'dev' | 'ino'>;
  /** Somebody else deleted, moved or changed it: nothing is written to it any more. */
  replaced: boolean;
}

export interface Folder {
  readonly directory: string;
  /** What segments are called. */
  readonly name: string;
  readonly fileSystem: FileSystem;
  readonly io: JournalIo;
  readonly lock: JournalSystem['lock'];
  /** Wall clock, ms since the epoch. */
  readonly now: () => number;
  /** Oldest first; the last one is the active one, unless somebody deleted that. */
  segments: Segment[];
  /** Absent while it could not be taken again. */
  unlock: (() => void) | undefined;
}

/** What is in the folder. */
export async function findSegments({ directory, name, fileSystem }: Folder): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const sequence of await listSegments(directory, name, fileSystem)) {
    const { size, mtimeMs, birthtimeMs } = await fileSystem.stat(segmentPath(directory, sequence, name));
    // A file system that doesn't know births says 0.
    segments.push({ sequence, size, firstWrite: Math.min(birthtimeMs || mtimeMs, mtimeMs), lastWrite: mtimeMs });
  }
  return segments;
}

export function pathOf({ directory, name }: Folder, { sequence }: Segment): string {
  return segmentPath(directory, sequence, name);
}

export function bytesOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { size }) => sum + size, 0);
}

/** @param sequence the next higher one when somebody else's file has it. */
export async function createSegment(folder: Folder, sequence: number): Promise<Active> {
  const { directory, fileSystem } = folder;
  const time = folder.now();
  const segment: Segment = { sequence, size: 0, firstWrite: time, lastWrite: time };
  const path = pathOf(folder, segment);
  let handle: OpenFile;
  try {
    handle = await createFile(folder, path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return createSegment(folder, sequence + 1);
    throw error;
  }
  try {
    await syncDirectory(directory, fileSystem);
    const file = await fileSystem.stat(path);
    folder.segments.push(segment);
    return { segment, handle, lines: 0, file, replaced: false };
  } catch (error) {
    await handle.close();
    await fileSystem.unlink(path).catch(() => undefined);
    throw error;
  }
}

/**
 * What is empty may have been left by an attempt that failed; a number that nobody had would be an event that never
 * comes.
 */
async function createFile({ io, fileSystem }: Folder, path: string): Promise<OpenFile> {
  try {
    return await io.create(path);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST' || (await fileSystem.stat(path)).size > 0) throw error;
    return fileSystem.open(path, 'r+');
  }
}

/** The folder and the lock may be gone with the segment. */
export async function makeAgain(folder: Folder): Promise<void> {
  const { directory, name, fileSystem, lock } = folder;
  await makeFolder(directory, fileSystem);
  folder.unlock?.();
  folder.unlock = undefined;
  folder.unlock = lock(directory);
  const left = new Set(await listSegments(directory, name, fileSystem));
  folder.segments = folder.segments.filter(({ sequence }) => left.has(sequence));
}

/** @throws JournalError */
export async function makeFolder(directory: string, fileSystem: FileSystem): Promise<void> {
  try {
    await makeDirectory(directory, 0o750, fileSystem);
  } catch (error) {
    throw journalError('create the folder', directory, error);
  }
}
