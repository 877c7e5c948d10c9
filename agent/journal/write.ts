/**
 * Writes batches to a journal's active segment. A batch is one write and one fdatasync, and never split over two
 * segments; what a failed write left is cut off before the next. A segment is synced before the next one is created.
 */
import type { Stats } from 'node:fs';
import { errorCode } from '../files/errors.ts';
import type { FileSystem } from '../files/file-system.ts';
import { createSegment, makeAgain, pathOf, type Active, type Folder } from './folder.ts';
import { isExpired } from './retention.ts';
import { readLines } from './segment.ts';

export interface Writer {
  readonly folder: Folder;
  /** When a segment is closed: bytes, and milliseconds since its first and its last write. */
  readonly limits: { segmentSize: number; segmentAge: number; maxAge: number };
  readonly fsync: boolean;
  active: Active;
  /** Whether bytes behind the active segment's size may be left from a failed write. */
  torn: boolean;
  /** Events. */
  appended: number;
  /** Segments that somebody else deleted, moved or changed. */
  replacedSegments: number;
}

/** @param count Lines of the batch. */
export async function write(writer: Writer, batch: Buffer, count: number): Promise<void> {
  await prepare(writer, batch.length);
  const { active, folder, fsync } = writer;
  const { segment, handle } = active;
  writer.torn = true;
  try {
    for (let written = 0; written < batch.length;) {
      const bytes = await folder.io.write(handle, batch, written, segment.size + written);
      if (bytes === 0) throw new Error('the file system took no bytes');
      written += bytes;
    }
    if (fsync) await folder.io.sync(handle);
  } catch (error) {
    // If this fails too, it is tried again before the next write, and by recovery.
    await cutBack(writer).catch(() => undefined);
    throw error;
  }
  writer.torn = false;
  const time = folder.now();
  if (segment.size === 0) segment.firstWrite = time;
  segment.lastWrite = time;
  segment.size += batch.length;
  active.lines += count;
  writer.appended += count;
}

/** Closes the active segment where its age asks for it. What fails here fails in the next write too, which says so. */
export async function closeOld(writer: Writer): Promise<void> {
  if (isTooOld(writer)) await prepare(writer, 0).catch(() => undefined);
}

/** Makes what was written durable, for the last time. */
export async function endWriting(writer: Writer): Promise<void> {
  if (writer.torn) await cutBack(writer);
  await writer.folder.io.sync(writer.active.handle);
}

/** Makes sure that the active segment is the journal's own, of its age, and has room. @param bytes To be written. */
async function prepare(writer: Writer, bytes: number): Promise<void> {
  if (writer.torn) await cutBack(writer);
  const { folder, limits, active } = writer;
  const { segment, lines, file } = active;
  const there = await statIfThere(pathOf(folder, segment), folder.fileSystem);
  if (there === undefined || there.ino !== file.ino || there.dev !== file.dev || there.size !== segment.size) {
    if (!active.replaced) writer.replacedSegments += 1;
    active.replaced = true;
  }
  if (active.replaced) {
    await replace(writer, there);
  } else if (segment.size > 0 && (segment.size + bytes > limits.segmentSize || isTooOld(writer))) {
    await rotate(writer, lines);
  }
}

/** Begins another segment, behind one that somebody else deleted, moved or changed. */
async function replace(writer: Writer, there: { size: number } | undefined): Promise<void> {
  const { folder, active } = writer;
  const { segment, lines } = active;
  if (there === undefined) {
    await makeAgain(folder);
    return rotate(writer, lines);
  }
  segment.size = there.size;
  return rotate(writer, Math.max(lines, await countLines(pathOf(folder, segment), folder.fileSystem)));
}

/** @param lines of the active segment. When this fails, the active one stays. */
async function rotate(writer: Writer, lines: number): Promise<void> {
  const { folder, active } = writer;
  await folder.io.sync(active.handle);
  writer.active = await createSegment(folder, active.segment.sequence + lines);
  await active.handle.close();
}

/** Whether the active segment has to be closed for its age. */
function isTooOld({ folder, limits, active: { segment } }: Writer): boolean {
  const time = folder.now();
  // A clock that jumped back: the age counts from there.
  segment.firstWrite = Math.min(segment.firstWrite, time);
  return time - segment.firstWrite >= limits.segmentAge || isExpired(limits, segment, time);
}

async function cutBack(writer: Writer): Promise<void> {
  const { folder, active } = writer;
  await folder.io.truncate(active.handle, active.segment.size);
  writer.torn = false;
}

async function statIfThere(
  file: string,
  fileSystem: FileSystem,
): Promise<Pick<Stats, 'dev' | 'ino' | 'size'> | undefined> {
  try {
    return await fileSystem.stat(file);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function countLines(file: string, fileSystem: FileSystem): Promise<number> {
  let count = 0;
  for await (const lines of readLines(file, 0, Infinity, fileSystem)) {
    count += lines.filter(({ complete }) => complete).length;
  }
  return count;
}
