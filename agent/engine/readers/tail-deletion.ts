/**
 * Deletes the files of a tail that are done with, and remembers how many bytes they had: what was deleted still counts.
 *
 * On disk: `<stateDirectory>/<base>.consumed.json`, written durably, together with what is to be deleted, before
 * anything is: a crash in between neither shifts offsets nor leaves a file behind for good. The files' names are on
 * disk before it names them, and gone from it before it forgets them: nor does a power cut.
 */
import { join } from 'node:path';
import { isRecord } from '../../files/record.ts';
import { replaceFile, syncDirectory } from '../../files/replace.ts';
import { listFiles, orMissing, type TailFiles, type TailFileSystem } from './tail-files.ts';

/** The state file's content. */
interface Deleted {
  version: 1;
  /** Stream offset of the first file that is left. */
  consumed: number;
  /** Files whose bytes are within `consumed` already, and that may still exist. */
  deleting: { name: string; inode: string }[];
  /** Bytes that were read from a file and then truncated away: they count before the file's content. */
  gaps: { inode: string; bytes: number }[];
}

/** A file that was read to its end, [start, end) of the stream. */
interface Done {
  inode: string;
  end: number;
}

export interface Deletion {
  readonly files: TailFiles;
  readonly stateDirectory: string;
  /** As it is on disk. */
  deleted: Deleted;
  /** Files that may be deleted, oldest first. */
  readonly done: Done[];
  /** Serialises what writes the state. */
  changes: Promise<unknown>;
}

const NOTHING: Deleted = { version: 1, consumed: 0, deleting: [], gaps: [] };

export function newDeletion(files: TailFiles, stateDirectory: string): Deletion {
  return { files, stateDirectory, deleted: NOTHING, done: [], changes: Promise.resolve() };
}

/** Reads what an earlier run did, and ends what it had begun. */
export async function resumeDeletion(deletion: Deletion): Promise<void> {
  const { files, stateDirectory } = deletion;
  await change(deletion, async () => {
    deletion.deleted = await readDeleted(files.fileSystem, statePath(deletion));
    // Whoever wrote it may have died before it was on disk, and nothing is deleted before.
    if (deletion.deleted.deleting.length > 0) await syncDirectory(stateDirectory, files.fileSystem);
    await sweep(deletion);
  });
  const { gaps } = deletion.deleted;
  if (gaps.length === 0) return;
  const inodes = new Set((await listFiles(files)).map(({ inode }) => inode));
  deletion.deleted = { ...deletion.deleted, gaps: gaps.filter(({ inode }) => inodes.has(inode)) };
}

/** Bytes that count before the file's content. */
export function gapOf({ deleted }: Deletion, inode: string): number {
  return deleted.gaps.find((gap) => gap.inode === inode)?.bytes ?? 0;
}

/** So many bytes of the file were read, and then truncated away. */
export async function addGap(deletion: Deletion, inode: string, read: number): Promise<void> {
  const gap = { inode, bytes: gapOf(deletion, inode) + read };
  await change(deletion, () => {
    const { deleted } = deletion;
    return write(deletion, { ...deleted, gaps: [...deleted.gaps.filter((other) => other.inode !== inode), gap] });
  });
}

/** @param reading The file that is being read, which stays, and whether anything still is. */
export async function deleteDone(
  deletion: Deletion,
  reading: { readonly over: boolean; readonly current: { inode: string } | undefined },
  offset: number,
): Promise<void> {
  await change(deletion, async () => {
    await sweep(deletion);
    const { files, deleted, done } = deletion;
    const gone = done.filter(({ end }) => end <= offset);
    const last = gone.at(-1);
    if (reading.over || !last) return;
    const inodes = new Set(gone.map(({ inode }) => inode));
    const deleting = (await listFiles(files)).filter(
      ({ name, inode }) => name !== files.base && inode !== reading.current?.inode && inodes.has(inode),
    );
    await syncNames(deletion);
    await write(deletion, {
      version: 1,
      consumed: last.end,
      deleting: deleting.map(({ name, inode }) => ({ name, inode })),
      gaps: deleted.gaps.filter(({ inode }) => !inodes.has(inode)),
    });
    done.splice(0, gone.length);
    await sweep(deletion);
  });
}

/** Deletes what the state says is deleted, as far as it still exists. */
async function sweep(deletion: Deletion): Promise<void> {
  const { files, deleted } = deletion;
  if (deleted.deleting.length === 0) return;
  const there = await listFiles(files);
  for (const { name, inode } of deleted.deleting) {
    // Both, for a new file may have got the inode of one that is gone.
    if (there.some((file) => file.name === name && file.inode === inode))
      await orMissing(files.fileSystem.unlink(join(files.directory, name)), undefined);
  }
  await syncNames(deletion);
  await write(deletion, { ...deleted, deleting: [] });
}

/** The engine syncs none. */
async function syncNames({ files }: Deletion): Promise<void> {
  await orMissing(syncDirectory(files.directory, files.fileSystem), undefined);
}

function change(deletion: Deletion, make: () => Promise<void>): Promise<void> {
  const result = deletion.changes.then(make);
  deletion.changes = result.catch(() => undefined);
  return result;
}

function statePath({ files, stateDirectory }: Deletion): string {
  return join(stateDirectory, `${files.base}.consumed.json`);
}

async function write(deletion: Deletion, next: Deleted): Promise<void> {
  const { files, stateDirectory } = deletion;
  await files.fileSystem.mkdir(stateDirectory);
  await replaceFile(statePath(deletion), JSON.stringify(next), 0o600, files.fileSystem);
  deletion.deleted = next;
}

async function readDeleted(fileSystem: TailFileSystem, path: string): Promise<Deleted> {
  const content = await orMissing(fileSystem.readText(path), '');
  if (content === '') return NOTHING;
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    value = undefined;
  }
  if (!isDeleted(value)) throw new Error(`${path} does not say how much was deleted; without that no offset is right`);
  return value;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isDeleted(value: unknown): value is Deleted {
  return (
    isRecord(value) &&
    value['version'] === 1 &&
    isCount(value['consumed']) &&
    Array.isArray(value['deleting']) &&
    value['deleting'].every(
      (entry) => isRecord(entry) && typeof entry['name'] === 'string' && typeof entry['inode'] === 'string',
    ) &&
    Array.isArray(value['gaps']) &&
    value['gaps'].every((entry) => isRecord(entry) && typeof entry['inode'] === 'string' && isCount(entry['bytes']))
  );
}
