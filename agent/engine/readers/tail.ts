/**
 * Follows the alert files of one generation as one stream of bytes, across rotation, and gives what its decoder finds.
 *
 * Files: `<base>`, and `<base>.<number>` once rotated (ascending numbers, then `<base>`); with `stamped`,
 * `<base>.<number>` only, of which the highest is live. A file is left only when a successor exists and a read after
 * that gave nothing.
 *
 * Offsets: the stream's first byte is 0. A file starts where the one before it ends; what was deleted still counts, see
 * tail-deletion.ts. No size is believed: the folder belongs to the engine, which may be hostile.
 *
 * Not promised: files that someone else deletes, or puts in before files already read, shift the offsets of a later
 * run. What was cut off by truncation before it was read is lost; it is one damage item, but nobody knows its length.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Decoded, Decoder } from '../alert.ts';
import { addGap, deleteDone, gapOf, newDeletion, resumeDeletion, type Deletion } from './tail-deletion.ts';
import {
  isLive,
  listFiles,
  nodeFileSystem,
  openListed,
  type Listed,
  type TailFiles,
  type TailFileSystem,
} from './tail-files.ts';
import { afterMillis, createNotice, createWake, type Wake } from './wake.ts';

export interface TailOptions extends Omit<TailFiles, 'fileSystem'> {
  /** Folder of the agent's own, out of the engine's reach; made when needed. */
  stateDirectory: string;
  /** Given bytes from `from` on. Where the stream has a gap, it gets `end()` and then further bytes. */
  decoder: Decoder;
  /** Stream offset of the first byte to read: behind the last item that was taken. */
  from: number;
  /** How long to wait at most before looking for new bytes without notice from the system. */
  pollMillis?: number;
  /** After so long without new bytes, what the decoder holds back is asked for (`flush`). */
  flushMillis?: number;
  /** Bytes to read at once. */
  maxChunk?: number;
  /** As `stop()`. */
  signal?: AbortSignal;
  fileSystem?: TailFileSystem;
  after?: typeof afterMillis;
  notice?: typeof createNotice;
}

export interface Tail extends AsyncIterable<Decoded[]> {
  /** To be called once. Batches are never empty; spans are stream offsets. Rejects when the files can't be read. */
  [Symbol.asyncIterator](): AsyncGenerator<Decoded[], void, undefined>;
  /** The writer is gone: the iteration gives what is there, then ends. */
  finish(): void;
  /** The iteration ends at once; nothing more is read. */
  stop(): void;
  /**
   * Deletes rotated files that end at or before this stream offset and were read. Does nothing once the iteration is
   * over. Rejects when the state can't be written (then nothing was deleted) or a file not be deleted (then the next
   * call tries again).
   */
  deleteConsumed(offset: number): Promise<void>;
}

interface Current {
  handle: FileHandle;
  inode: string;
  /** Stream offset of the file's first byte. */
  start: number;
  /** Bytes of it that were read. */
  position: number;
  /** A successor was seen: the next read that gives nothing is the last one. */
  sealed: boolean;
}

interface State {
  readonly files: TailFiles;
  readonly deletion: Deletion;
  readonly decoder: Decoder;
  /** Bytes. */
  readonly maxChunk: number;
  readonly waits: { poll: number; flush: number };
  readonly wake: Wake;
  readonly asked: { finish: boolean; stop: boolean };
  over: boolean;
  current: Current | undefined;
  /** Stream offset that the decoder's 0 stands for. */
  origin: number;
  /** Stream offset behind the last byte given to the decoder. */
  position: number;
  /** The decoder may hold something back. */
  unflushed: boolean;
}

export function createTail(options: TailOptions): Tail {
  const { directory, stateDirectory, base, stamped, decoder, from, signal } = options;
  const { pollMillis = 250, flushMillis = 20, maxChunk = 256 * 1024, fileSystem = nodeFileSystem } = options;
  const { after = afterMillis, notice = createNotice } = options;
  const files = { directory, base, stamped, fileSystem };
  const state: State = {
    files,
    deletion: newDeletion(files, stateDirectory),
    decoder,
    maxChunk,
    waits: { poll: pollMillis, flush: Math.min(flushMillis, pollMillis) },
    wake: createWake(after),
    asked: { finish: false, stop: false },
    over: false,
    current: undefined,
    origin: from,
    position: from,
    unflushed: false,
  };
  return {
    [Symbol.asyncIterator]: () => iterate(state, notice(directory, state.wake.now), signal),
    finish: () => ask(state, 'finish'),
    stop: () => ask(state, 'stop'),
    async deleteConsumed(offset) {
      if (!state.over) await deleteDone(state.deletion, state, offset);
    },
  };
}

function ask({ asked, wake }: State, what: 'finish' | 'stop'): void {
  asked[what] = true;
  wake.now();
}

async function* iterate(
  state: State,
  notice: ReturnType<typeof createNotice>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Decoded[], void, undefined> {
  const stop = (): void => ask(state, 'stop');
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) state.asked.stop = true;
  try {
    await resumeDeletion(state.deletion);
    yield* rounds(state, notice);
  } finally {
    state.over = true;
    signal?.removeEventListener('abort', stop);
    notice.stop();
    await state.current?.handle.close();
    await state.deletion.changes;
  }
}

async function* rounds(
  state: State,
  notice: ReturnType<typeof createNotice>,
): AsyncGenerator<Decoded[], void, undefined> {
  const { decoder, asked, wake } = state;
  while (!asked.stop) {
    // Taken before looking: what comes after that makes another round.
    const last = asked.finish;
    wake.arm();
    notice.start();
    const items: Decoded[] = [];
    const more = state.current ? await readOn(state, state.current, items) : await begin(state, items);
    if (asked.stop) return;
    if (items.length > 0) yield items;
    if (more || asked.stop) continue;
    const rest = last ? shifted(state, decoder.end()) : await waitForMore(state);
    if (rest.length > 0) yield rest;
    if (last) return;
  }
}

/** @returns whether there may be more to read at once. */
async function readOn(state: State, file: Current, items: Decoded[]): Promise<boolean> {
  const { decoder, asked } = state;
  const chunk = await read(state, file, items);
  if (asked.stop) return false;
  if (chunk) {
    file.position += chunk.length;
    state.position += chunk.length;
    items.push(...shifted(state, decoder.push(chunk)));
    state.unflushed = true;
    return true;
  }
  if (file.sealed) return moveOn(state, file, items);
  file.sealed = (await successor(state, file)) !== undefined;
  return file.sealed;
}

/** @returns what the decoder held back, when nothing came for a while. */
async function waitForMore(state: State): Promise<Decoded[]> {
  const { decoder, waits, wake, asked } = state;
  const flush = state.unflushed && decoder.flush !== undefined;
  const woken = await wake.wait(flush ? waits.flush : waits.poll);
  if (woken || !flush || asked.stop) return [];
  state.unflushed = false;
  return shifted(state, decoder.flush?.() ?? []);
}

function shifted({ origin }: State, items: Decoded[]): Decoded[] {
  return origin === 0 ? items : items.map((item) => ({ ...item, start: item.start + origin, end: item.end + origin }));
}

/** Finds the file that holds `position`, or the first one behind it. False while there is none. */
async function begin(state: State, items: Decoded[]): Promise<boolean> {
  const { files, deletion } = state;
  const { done } = deletion;
  let start = deletion.deleted.consumed;
  skipTo(state, start, items);
  const listed = await listFiles(files);
  if (listed.length > 0) done.length = 0;
  for (const file of listed) {
    start += gapOf(deletion, file.inode);
    const end = start + file.size;
    if (file === listed.at(-1) || end > state.position) return openFirst(state, file, start, items);
    done.push({ inode: file.inode, end });
    start = end;
  }
  return false;
}

/** @param start Stream offset of the file's first byte. */
async function openFirst(state: State, file: Listed, start: number, items: Decoded[]): Promise<boolean> {
  const { position } = state;
  if (position > start + file.size) {
    // The stream is shorter than what was taken from it: its end was lost with the machine's caches, or cut off.
    if (!(await open(state, file, position - file.size, file.size))) return false;
    items.push(damage('the alert files are shorter than they were', position));
    return true;
  }
  if (!(await open(state, file, start, Math.max(0, position - start)))) return false;
  skipTo(state, start, items);
  return true;
}

async function open(state: State, file: Listed, start: number, position: number): Promise<boolean> {
  const handle = await openListed(state.files, file);
  if (handle) state.current = { handle, inode: file.inode, start, position, sealed: false };
  return handle !== undefined;
}

/** Bytes up to `offset` are gone. */
function skipTo(state: State, offset: number, items: Decoded[]): void {
  const { decoder, position } = state;
  if (offset <= position) return;
  items.push(...shifted(state, decoder.end()));
  items.push(damage('bytes were deleted or cut off before they were read', position, offset));
  state.origin += offset - position;
  state.position = offset;
}

/** The file to read after this one. */
async function successor({ files, deletion }: State, { inode }: Current): Promise<Listed | undefined> {
  if (await isLive(files, inode)) return undefined;
  const listed = await listFiles(files);
  const at = listed.findIndex((file) => file.inode === inode);
  return at < 0 ? listed.find((file) => !deletion.done.some((entry) => entry.inode === file.inode)) : listed[at + 1];
}

async function moveOn(state: State, file: Current, items: Decoded[]): Promise<boolean> {
  const { deletion } = state;
  const next = await successor(state, file);
  if (!next) return false;
  const end = file.start + file.position;
  const start = end + gapOf(deletion, next.inode);
  if (!(await open(state, next, start, 0))) return false;
  deletion.done.push({ inode: file.inode, end });
  await file.handle.close();
  skipTo(state, start, items);
  return true;
}

/** The next bytes of the current file; undefined at its end. */
async function read(state: State, file: Current, items: Decoded[]): Promise<Buffer | undefined> {
  const { size } = await file.handle.stat();
  if (size < file.position) {
    await noteTruncation(state, file, items);
    return Buffer.alloc(0);
  }
  if (size === file.position) return undefined;
  const buffer = Buffer.allocUnsafe(Math.min(state.maxChunk, size - file.position));
  const { bytesRead } = await file.handle.read(buffer, 0, buffer.length, file.position);
  return bytesRead === 0 ? undefined : buffer.subarray(0, bytesRead);
}

async function noteTruncation(state: State, file: Current, items: Decoded[]): Promise<void> {
  await addGap(state.deletion, file.inode, file.position);
  file.start += file.position;
  file.position = 0;
  items.push(...shifted(state, state.decoder.end()));
  items.push(damage('the alert file was truncated', state.position));
}

function damage(reason: string, start: number, end = start): Decoded {
  return { kind: 'damage', reason, start, end };
}
