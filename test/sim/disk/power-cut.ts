/**
 * What a power cut leaves: of a file's writes that were not synced any, each whole, not at all, up to some byte, or
 * with NUL bytes in place of some sectors; of a folder's changes the first so many, as file systems with a journal do.
 */
import type { Change } from './content.ts';
import type { Node } from './nodes.ts';

const SECTOR = 512;

/** @param written Of what other processes wrote, so many writes are on the disk. */
export function cutPower(node: Node, written: number, random: () => number): void {
  // Its target is there with its name.
  if (node.is === 'link') return;
  if (node.is === 'file') {
    for (const next of node.unsynced)
      for (const survived of remains(next, written, random)) node.durable.apply(survived);
    node.cache = node.durable.clone();
    node.unsynced = [];
    return;
  }
  for (const next of node.unsynced.slice(0, Math.floor(random() * (node.unsynced.length + 1)))) next(node.durable);
  node.names = new Map(node.durable);
  node.unsynced = [];
  for (const child of node.names.values()) cutPower(child, written, random);
}

/** What is left of a change that was not synced. */
function remains(next: Change, written: number, random: () => number): Change[] {
  const order = next.is === 'write' ? next.order : undefined;
  if (order !== undefined && order !== written + 1) return order <= written ? [next] : [];
  const kind = order === undefined ? Math.floor(random() * 4) : 2;
  if (kind === 0) return [];
  if (kind === 1 || next.is === 'truncate') return [next];
  if (kind === 2) return [{ ...next, bytes: next.bytes.subarray(0, Math.floor(random() * next.bytes.length)) }];
  const bytes = Buffer.from(next.bytes);
  // Sectors are the disk's, not the write's.
  for (let at = -(next.offset % SECTOR); at < bytes.length; at += SECTOR) {
    if (random() < 0.5) bytes.fill(0, Math.max(0, at), Math.min(bytes.length, at + SECTOR));
  }
  return [{ ...next, bytes }];
}
