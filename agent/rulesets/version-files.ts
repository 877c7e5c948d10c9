/**
 * The calls by which downloaded versions reach the disk, node's own or those of a simulated one, and where they are.
 */
import type { Dirent, Stats } from 'node:fs';
import * as nodeFiles from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncDirectory, type ReplaceFileSystem } from '../files/replace.ts';

/** As node:fs/promises; errors are those of node:fs. */
export interface VersionFiles extends ReplaceFileSystem {
  mkdir(path: string, options: { recursive: true; mode: number }): Promise<string | undefined>;
  readdir(path: string, options: { withFileTypes: true }): Promise<Pick<Dirent, 'name' | 'isFile' | 'isDirectory'>[]>;
  readFile(path: string): Promise<Buffer>;
  writeFile(path: string, content: string, options: { mode: number }): Promise<void>;
  lstat(path: string): Promise<Pick<Stats, 'mtimeMs' | 'isSymbolicLink'>>;
  stat(path: string): Promise<Pick<Stats, 'dev' | 'ino' | 'size' | 'mtimeMs' | 'birthtimeMs'>>;
  readlink(path: string): Promise<string>;
  symlink(target: string, path: string): Promise<void>;
  rm(path: string, options: { recursive?: true; force: true }): Promise<void>;
}

export const nodeVersionFiles: VersionFiles = nodeFiles;

/** Where the versions of a set are. */
export const versionsOf = (rulesDirectory: string, set: string): string => join(rulesDirectory, '.versions', set);

/** The link is gone, and what it led to can go, when this resolves. */
export async function removeLink(link: string, files: VersionFiles): Promise<void> {
  await files.rm(link, { force: true });
  await syncDirectory(dirname(link), files);
}

/** Replaces a link in one step; it is on the disk when this resolves. */
export async function pointTo(link: string, target: string, files: VersionFiles): Promise<void> {
  const directory = dirname(link);
  const next = join(directory, `.${basename(link)}.new-${process.pid}`);
  await files.rm(next, { force: true });
  await files.symlink(target, next);
  await files.rename(next, link);
  await syncDirectory(directory, files);
}
