/**
 * Whether an engine can read a capture file by itself: then no packet is copied on its way.
 *
 * It can where it would see in the file just what it would get from us: a classic pcap in this machine's order of
 * bytes, of Ethernet frames, whole, with times that an engine can hold. All else goes through the FIFO (feed.ts).
 * Only the headers of the records are read, so a gigabyte in large frames takes some 0.1 s.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Sandbox } from '../engine/sandbox.ts';
import { STDIN } from './head.ts';
import { isOrdinary } from './times.ts';

/** What a plain file holds. */
export interface PlainFile {
  /** Absolute: an engine runs in a folder of its own. */
  path: string;
  packets: number;
  bytes: number;
  /** Longer on the wire than in the file. */
  truncated: number;
}

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const MAGICS = new Set([0xa1b2_c3d4, 0xa1b2_3c4d]);
const VERSION = 0x0004_0002;
/** With its upper bits clear: frames without a check sequence. */
const ETHERNET = 1;
const LEAST_FRAME = 14;
/** What Snort and Suricata take. */
const MAX_FRAME = 65_535;
const WINDOW = 256 << 10;
/** Behind a larger packet only the next header is read. */
const LARGE_PACKET = 8 << 10;
/** Records between two turns for others: some milliseconds. */
const TURN = 4096;

/**
 * @param most Of its packets, those that count; for the whole file `Infinity`.
 * @returns undefined where the file is not plain, or can't be read, or `stop` came.
 */
export async function readPlain(
  path: string,
  sandbox: Sandbox,
  most: number,
  stop?: AbortSignal,
): Promise<PlainFile | undefined> {
  if (path === STDIN) return undefined;
  let file: number | undefined;
  try {
    if (!isReadableBy(sandbox.uid, resolve(path))) return undefined;
    file = openSync(path, 'r');
    return await scan(file, resolve(path), most, stop);
  } catch {
    // Through the FIFO it is said what is wrong.
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Whether the file's own header is that of a plain one. */
export function beginsPlain(path: string, { uid }: Sandbox): boolean {
  if (path === STDIN) return false;
  let file: number | undefined;
  try {
    if (!isReadableBy(uid, resolve(path))) return false;
    file = openSync(path, 'r');
    return readFileHeader(createWindow(file, fstatSync(file).size)) !== undefined;
  } catch {
    return false;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Whether it is a file that everybody may read: an engine has no rights of its owner or group. */
function isReadableBy(uid: number | undefined, path: string): boolean {
  const found = statSync(path);
  if (!found.isFile()) return false;
  if (uid === undefined || uid === 0) return true;
  if ((found.mode & 0o004) === 0) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

async function scan(file: number, path: string, most: number, stop?: AbortSignal): Promise<PlainFile | undefined> {
  const { size: bytes } = fstatSync(file);
  const window = createWindow(file, bytes);
  const snaplen = readFileHeader(window);
  if (snaplen === undefined) return undefined;
  const plain: PlainFile = { path, packets: 0, bytes, truncated: 0 };
  let at = FILE_HEADER;
  for (; at < bytes && plain.packets < most; plain.packets++) {
    if (plain.packets % TURN === 0) await nextTurn();
    if (stop?.aborted || !window.holds(at, RECORD_HEADER)) return undefined;
    const captured = window.uint32(at + 8);
    const length = window.uint32(at + 12);
    const isPlain = isOrdinary(window.uint32(at)) && captured >= LEAST_FRAME && captured <= snaplen;
    if (!isPlain || length < captured) return undefined;
    if (captured < length) plain.truncated++;
    at += RECORD_HEADER + captured;
    window.expectLarge(captured > LARGE_PACKET);
  }
  return (at === bytes && plain.packets > 0) || plain.packets === most ? plain : undefined;
}

/** @returns the most bytes that a record has; undefined where the file is not plain. */
function readFileHeader(window: Window): number | undefined {
  if (!window.holds(0, FILE_HEADER)) return undefined;
  const isPlain = MAGICS.has(window.uint32(0)) && window.uint32(4) === VERSION && window.uint32(20) === ETHERNET;
  return isPlain ? Math.min(window.uint32(16), MAX_FRAME) : undefined;
}

type Window = ReturnType<typeof createWindow>;

/** The part of a file that was read last. */
function createWindow(file: number, size: number) {
  const buffer = Buffer.allocUnsafeSlow(WINDOW);
  let from = 0;
  let end = 0;
  let isLarge = false;

  /** Whether the file has these bytes; reads them where need be. */
  function holds(at: number, length: number): boolean {
    if (at + length > size) return false;
    if (at >= from && at + length <= end) return true;
    from = at;
    end = at + readSync(file, buffer, 0, isLarge ? length : WINDOW, at);
    return at + length <= end;
  }

  return {
    holds,
    uint32: (at: number): number => buffer.readUInt32LE(at - from),
    expectLarge(large: boolean): void {
      isLarge = large;
    },
  };
}
