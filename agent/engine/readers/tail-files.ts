/**
 * The files that a tail follows, oldest first. A file is known by its inode, not its name.
 *
 * The folder belongs to the engine, which may be hostile: no link, pipe or folder is read.
 */
import { constants, type BigIntStats } from 'node:fs';
import * as promises from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../../files/errors.ts';

/** What a tail does to files; errors are those of node:fs. */
export interface TailFileSystem {
  open(path: string, flags: number | string, mode?: number): Promise<FileHandle>;
  readdir(path: string): Promise<string[]>;
  lstat(path: string): Promise<BigIntStats>;
  readText(path: string): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  mkdir(path: string): Promise<unknown>;
}

export const nodeFileSystem: TailFileSystem = {
  open: (path, flags, mode) => promises.open(path, flags, mode),
  readdir: (path) => promises.readdir(path),
  lstat: (path) => promises.lstat(path, { bigint: true }),
  readText: (path) => promises.readFile(path, 'utf8'),
  rename: (from, to) => promises.rename(from, to),
  unlink: (path) => promises.unlink(path),
  mkdir: (path) => promises.mkdir(path, { recursive: true }),
};

/** Which files. */
export interface TailFiles {
  /** The engine's output folder. It may come later, as the files may. */
  readonly directory: string;
  /** File name without a number. */
  readonly base: string;
  /** Whether the live file has a number too. */
  readonly stamped: boolean;
  readonly fileSystem: TailFileSystem;
}

/** A file of the stream, as listed. */
export interface Listed {
  name: string;
  inode: string;
  size: number;
}

/** A directory is listed until two listings agree, but not more often than this. */
const MAX_LISTINGS = 10;

/** The stream's files, oldest first. */
export async function listFiles(files: TailFiles): Promise<Listed[]> {
  let before = await listOnce(files);
  for (let listings = 1; listings < MAX_LISTINGS; listings++) {
    // A rename during a listing may hide a file from it, but not from two that agree.
    const now = await listOnce(files);
    if (sameFiles(before, now)) return now;
    before = now;
  }
  return before;
}

async function listOnce({ directory, base, stamped, fileSystem }: TailFiles): Promise<Listed[]> {
  const names = await orMissing(fileSystem.readdir(directory), []);
  const numbered = names
    .map((name) => ({ name, number: numberOf(base, name) }))
    .filter(({ number }) => number !== undefined)
    .toSorted((a, b) => compareNumbers(a.number ?? '', b.number ?? ''))
    .map(({ name }) => name);
  if (!stamped && names.includes(base)) numbered.push(base);
  const files: Listed[] = [];
  for (const name of numbered) {
    const stats = await orMissing<BigIntStats | undefined>(fileSystem.lstat(join(directory, name)), undefined);
    if (stats?.isFile()) files.push({ name, inode: String(stats.ino), size: Number(stats.size) });
  }
  return files;
}

/** The number behind `<base>.`, without leading zeros. */
function numberOf(base: string, name: string): string | undefined {
  const match = name.startsWith(`${base}.`) ? /^0*(\d{1,20})$/.exec(name.slice(base.length + 1)) : null;
  return match?.[1];
}

function sameFiles(a: Listed[], b: Listed[]): boolean {
  return a.length === b.length && a.every((file, i) => file.name === b[i]?.name && file.inode === b[i]?.inode);
}

/** Decimal numbers of any length, without leading zeros. */
function compareNumbers(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : Number(a > b);
}

/** Whether the file that is being written is this one, as far as its name tells that. */
export async function isLive({ directory, base, stamped, fileSystem }: TailFiles, inode: string): Promise<boolean> {
  if (stamped) return false;
  const live = await orMissing<BigIntStats | undefined>(fileSystem.lstat(join(directory, base)), undefined);
  return live !== undefined && String(live.ino) === inode;
}

/** Opens what was listed, unless it is no regular file or another one by now. */
export async function openListed({ directory, fileSystem }: TailFiles, file: Listed): Promise<FileHandle | undefined> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await orMissing<FileHandle | undefined>(fileSystem.open(join(directory, file.name), flags), undefined);
  if (!handle) return undefined;
  const stats = await handle.stat({ bigint: true });
  if (stats.isFile() && String(stats.ino) === file.inode) return handle;
  await handle.close();
  return undefined;
}

/** `value`, or `otherwise` where the file is missing, a link, or not ours to look at for being replaced just now. */
export async function orMissing<T>(value: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await value;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ELOOP' || code === 'ENXIO' || code === 'ENOTDIR') return otherwise;
    throw error;
  }
}
