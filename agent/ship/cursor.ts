/**
 * How far a sink is: `<sink>.cursor.json`, `{ version: 1, cursor, delivered, duplicates, deadLettered, evicted }`, with
 * `filtered` and `digested` where there are such.
 *
 * Invariant: `cursor.event = delivered + deadLettered + evicted + filtered + digested`; `duplicates` are a part of
 * `delivered`.
 *
 * After a crash it is the old one or the new one.
 *
 * Recovery: without the file, the sink begins at the journal's oldest event. A file that makes no sense is kept aside
 * as `<sink>.cursor.json.damaged`, and the same happens. A cursor behind the journal's end is one of another journal,
 * or the journal was cut back: the sink begins at the oldest event too, with all counters at 0. The destination sees
 * some events twice then.
 *
 * Not promised: that another journal is noticed when it has at least as many events as the one before.
 */
import path from 'node:path';
import { errorCode } from '../files/errors.ts';
import { nodeFileSystem } from '../files/file-system.ts';
import type { FileSystem } from '../files/file-system.ts';
import { isThere, makeDirectory } from '../files/folder.ts';
import { isRecord } from '../files/record.ts';
import { replaceFile } from '../files/replace.ts';
import type { Cursor } from '../journal/journal.ts';

export interface Progress {
  /** Behind the last event that was settled with all before it. */
  cursor: Cursor;
  delivered: number;
  /** Of those delivered, how many the destination had already. */
  duplicates: number;
  deadLettered: number;
  evicted: number;
  /** Not for this sink, as `when` of its configuration says. */
  filtered: number;
  /** A delivered one stands for them. */
  digested: number;
}

export function noProgress(): Progress {
  return {
    cursor: { segment: 0, offset: 0, event: 0 },
    delivered: 0,
    duplicates: 0,
    deadLettered: 0,
    evicted: 0,
    filtered: 0,
    digested: 0,
  };
}

/** @returns the reason when the sink begins anew. @throws the system's error when the file can't be read or moved. */
export async function loadProgress(
  file: string,
  end: Cursor,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<{ progress: Progress; reason?: string }> {
  let text: string;
  try {
    text = await fileSystem.readFile(file, 'utf8');
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    return { progress: noProgress(), reason: 'there is no cursor yet' };
  }
  const progress = parse(text);
  if (progress === undefined) {
    await fileSystem.rename(file, `${file}.damaged`);
    return { progress: noProgress(), reason: `the cursor is damaged; it is kept as ${file}.damaged` };
  }
  if (progress.cursor.event > end.event) {
    const reason = `the cursor is at event ${progress.cursor.event}, but the journal ends at ${end.event}: it was deleted or cut back`;
    return { progress: noProgress(), reason };
  }
  return { progress };
}

/** Only looks; undefined where there is none that makes sense, or it can't be read. */
export async function readProgress(
  file: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<Progress | undefined> {
  try {
    return parse(await fileSystem.readFile(file, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Creates the folder (0750) where needed. @throws the system's error; then the old file is still there. */
export async function saveProgress(
  file: string,
  progress: Progress,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<void> {
  // Where the file is, the folder is on disk.
  if (!(await isThere(file, fileSystem))) await makeDirectory(path.dirname(file), 0o750, fileSystem);
  const { filtered, digested, ...others } = progress;
  const text = JSON.stringify({
    version: 1,
    ...others,
    ...(filtered === 0 ? {} : { filtered }),
    ...(digested === 0 ? {} : { digested }),
  });
  await replaceFile(file, `${text}\n`, 0o640, fileSystem);
}

function parse(text: string): Progress | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value) || value.version !== 1 || !isRecord(value.cursor)) return undefined;
  const { segment, offset, event } = value.cursor;
  const { delivered, duplicates, deadLettered, evicted, filtered = 0, digested = 0 } = value;
  if (!isCount(segment) || !isCount(offset) || !isCount(event)) return undefined;
  if (!isCount(delivered) || !isCount(duplicates) || !isCount(deadLettered) || !isCount(evicted)) return undefined;
  if (!isCount(filtered) || !isCount(digested)) return undefined;
  if (event !== delivered + deadLettered + evicted + filtered + digested) return undefined;
  if (duplicates > delivered || segment > event) return undefined;
  return { cursor: { segment, offset, event }, delivered, duplicates, deadLettered, evicted, filtered, digested };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
