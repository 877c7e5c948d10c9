/**
 * Makes a journal's last segment sound again: it is cut at the first line with a NUL byte (a part that never reached
 * the disk), and otherwise behind its last line that is a complete JSON object.
 */
import type { FileSystem } from '../files/file-system.ts';
import { syncDirectory } from '../files/replace.ts';
import { pathOf, type Active, type Folder, type Segment } from './folder.ts';
import { parseLine, readLines } from './segment.ts';

/** What recovery cut off. */
export interface Recovered {
  path: string;
  /** Bytes that stayed. */
  kept: number;
  /** Bytes that went. */
  cut: number;
  reason: 'unterminated line' | 'NUL bytes' | 'not a JSON object';
}

export async function recover(
  folder: Folder,
  segment: Segment,
  fsync: boolean,
): Promise<{ active: Active; recovered: Recovered | undefined }> {
  const { directory, fileSystem } = folder;
  const path = pathOf(folder, segment);
  const { kept, lines, reason } = await inspect(path, fileSystem);
  const handle = await fileSystem.open(path, 'r+');
  try {
    let recovered: Recovered | undefined;
    if (reason !== undefined) {
      recovered = { path, kept, cut: segment.size - kept, reason };
      await handle.truncate(kept);
    }
    // What is kept counts from now on, and a process that was killed may not have synced it.
    if (fsync || recovered !== undefined) await handle.sync();
    // Nor its name, where it died just when it had made it.
    await syncDirectory(directory, fileSystem);
    segment.size = kept;
    return { active: { segment, handle, lines, file: await fileSystem.stat(path), replaced: false }, recovered };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** How much of the last segment is sound. */
async function inspect(
  file: string,
  fileSystem: FileSystem,
): Promise<{ kept: number; lines: number; reason?: Recovered['reason'] }> {
  let kept = 0;
  let lines = 0;
  let seen = 0;
  let reason: Recovered['reason'] | undefined;
  for await (const batch of readLines(file, 0, Infinity, fileSystem)) {
    for (const line of batch) {
      if (line.hole) return { kept: line.start, lines: seen, reason: 'NUL bytes' };
      if (line.complete && line.bytes && parseLine(line.bytes)) {
        seen += 1;
        kept = line.end;
        lines = seen;
        reason = undefined;
      } else {
        // In the middle, it is damage for the readers to skip; only at the end it is cut off.
        if (line.complete) seen += 1;
        reason = line.complete ? 'not a JSON object' : 'unterminated line';
      }
    }
  }
  return reason === undefined ? { kept, lines } : { kept, lines, reason };
}
