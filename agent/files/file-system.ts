/** The calls by which the journal, cursors and dead letters reach the disk: node's own, or those of a simulated one. */
import type { Dirent, Stats } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';

/** As node's FileHandle. */
export interface OpenFile {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  write(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesWritten: number }>;
  writeFile(content: string): Promise<void>;
  sync(): Promise<void>;
  datasync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

/** As node:fs/promises; errors are those of node:fs. */
export interface FileSystem {
  open(path: string, flags: string, mode?: number): Promise<OpenFile>;
  /** @returns the first folder that was made. */
  mkdir(path: string, options: { recursive: true; mode: number }): Promise<string | undefined>;
  readdir(path: string, options: { withFileTypes: true }): Promise<Pick<Dirent, 'name' | 'isFile'>[]>;
  readFile(path: string, encoding: 'utf8'): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  stat(path: string): Promise<Pick<Stats, 'dev' | 'ino' | 'size' | 'mtimeMs' | 'birthtimeMs'>>;
  unlink(path: string): Promise<void>;
}

export const nodeFileSystem: FileSystem = { open, mkdir, readdir, readFile, rename, stat, unlink };
