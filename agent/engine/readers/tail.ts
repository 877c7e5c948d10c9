/**
 * Follows the alert files of one generation as one stream of bytes, across rotation, and gives what its decoder finds.
 *
 * Files: `<base>`, and `<base>.<number>` once rotated (ascending numbers, then `<base>`); with `stamped`,
 * `<base>.<number>` only, of which the highest is live. A file is known by its inode, not its name. It is left only
 * when a successor exists and a read after that gave nothing.
 *
 * Offsets: the stream's first byte is 0. A file starts where the one before it ends; what was deleted still counts. The
 * deleted total is in `<stateDirectory>/<base>.consumed.json`, written durably, together with what is to be deleted,
 * before anything is: a crash in between neither shifts offsets nor leaves a file behind for good. The files' names are
 * on disk before it names them, and gone from it before it forgets them: nor does a power cut.
 *
 * The folder belongs to the engine, which may be hostile: no link, pipe or folder is read, no size believed.
 *
 * Not promised: files that someone else deletes, or puts in before files already read, shift the offsets of a later
 * run. What was cut off by truncation before it was read is lost; it is one damage item, but nobody knows its length.
 */
import { watch, constants, type BigIntStats, type FSWatcher } from 'node:fs';
import * as promises from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../../files/errors.ts';
import { isRecord } from '../../files/record.ts';
import { replaceFile, syncDirectory } from '../../files/replace.ts';
import type { Decoded, Decoder } from '../alert.ts';

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

export interface TailOptions {
  /** The engine's output folder. It may come later, as the files may. */
  directory: string;
  /** Folder of the agent's own, out of the engine's reach; made when needed. */
  stateDirectory: string;
  /** File name without a number. */
  base: string;
  stamped: boolean;
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

/** A file of the stream, as listed. */
interface Listed {
  name: string;
  inode: string;
  size: number;
}

/** A file that was read to its end, [start, end) of the stream. */
interface Done {
  inode: string;
  end: number;
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

/** The state file's content. */
interface State {
  version: 1;
  /** Stream offset of the first file that is left. */
  consumed: number;
  /** Files whose bytes are within `consumed` already, and that may still exist. */
  deleting: { name: string; inode: string }[];
  /** Bytes that were read from a file and then truncated away: they count before the file's content. */
  gaps: { inode: string; bytes: number }[];
}

/** A directory is listed until two listings agree, but not more often than this. */
const MAX_LISTINGS = 10;

export function createTail(options: TailOptions): Tail {
  const { directory, stateDirectory, base, stamped, decoder, from, signal } = options;
  const { pollMillis = 250, flushMillis = 20, maxChunk = 256 * 1024, fileSystem = nodeFileSystem } = options;
  const { after = afterMillis, notice: newNotice = createNotice } = options;
  const statePath = join(stateDirectory, `${base}.consumed.json`);

  const asked = { finish: false, stop: false };
  let over = false;
  let state: State = { version: 1, consumed: 0, deleting: [], gaps: [] };
  let current: Current | undefined;
  const done: Done[] = [];
  /** Stream offset that the decoder's 0 stands for. */
  let origin = from;
  /** Stream offset behind the last byte given to the decoder. */
  let position = from;
  /** Serialises what writes the state. */
  let changes: Promise<unknown> = Promise.resolve();

  const wake = createWake(after);

  const shifted = (items: Decoded[]): Decoded[] =>
    origin === 0 ? items : items.map((item) => ({ ...item, start: item.start + origin, end: item.end + origin }));

  /** The stream's files, oldest first. */
  async function list(): Promise<Listed[]> {
    let before = await listOnce();
    for (let listings = 1; listings < MAX_LISTINGS; listings++) {
      // A rename during a listing may hide a file from it, but not from two that agree.
      const now = await listOnce();
      if (sameFiles(before, now)) return now;
      before = now;
    }
    return before;
  }

  async function listOnce(): Promise<Listed[]> {
    const names = await orMissing(fileSystem.readdir(directory), []);
    const numbered = names
      .map((name) => ({ name, number: numberOf(name) }))
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
  function numberOf(name: string): string | undefined {
    const match = name.startsWith(`${base}.`) ? /^0*(\d{1,20})$/.exec(name.slice(base.length + 1)) : null;
    return match?.[1];
  }

  /** Opens what was listed, unless it is no regular file or another one by now. */
  async function open(file: Listed, start: number, at: number): Promise<boolean> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await orMissing<FileHandle | undefined>(
      fileSystem.open(join(directory, file.name), flags),
      undefined,
    );
    if (!handle) return false;
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile() || String(stats.ino) !== file.inode) {
      await handle.close();
      return false;
    }
    current = { handle, inode: file.inode, start, position: at, sealed: false };
    return true;
  }

  const gapOf = (inode: string): number => state.gaps.find((gap) => gap.inode === inode)?.bytes ?? 0;

  /** Finds the file that holds `from`, or the first one behind it. False while there is none. */
  async function openFirst(items: Decoded[]): Promise<boolean> {
    const files = await list();
    const last = files.at(-1);
    if (!last) return false;
    let start = state.consumed;
    done.length = 0;
    for (const file of files) {
      start += gapOf(file.inode);
      const end = start + file.size;
      if (file !== last && end <= position) {
        done.push({ inode: file.inode, end });
        start = end;
        continue;
      }
      if (position > end) {
        // The stream is shorter than what was taken from it: its end was lost with the machine's caches, or cut off.
        if (!(await open(file, position - file.size, file.size))) return false;
        items.push({
          kind: 'damage',
          reason: 'the alert files are shorter than they were',
          start: position,
          end: position,
        });
        return true;
      }
      if (!(await open(file, start, Math.max(0, position - start)))) return false;
      skipTo(start, items);
      return true;
    }
    return false;
  }

  /** Bytes up to `offset` are gone. */
  function skipTo(offset: number, items: Decoded[]): void {
    if (offset <= position) return;
    items.push(...shifted(decoder.end()));
    items.push({
      kind: 'damage',
      reason: 'bytes were deleted or cut off before they were read',
      start: position,
      end: offset,
    });
    origin += offset - position;
    position = offset;
  }

  /** The file to read after the current one. */
  async function successor(): Promise<Listed | undefined> {
    const { inode } = current ?? {};
    if (!stamped) {
      const live = await orMissing<BigIntStats | undefined>(fileSystem.lstat(join(directory, base)), undefined);
      if (live && String(live.ino) === inode) return undefined;
    }
    const files = await list();
    const at = files.findIndex((file) => file.inode === inode);
    return at < 0 ? files.find((file) => !done.some((entry) => entry.inode === file.inode)) : files[at + 1];
  }

  async function moveOn(file: Current, items: Decoded[]): Promise<boolean> {
    const next = await successor();
    if (!next) return false;
    const end = file.start + file.position;
    if (!(await open(next, end + gapOf(next.inode), 0))) return false;
    done.push({ inode: file.inode, end });
    await file.handle.close();
    skipTo(current?.start ?? end, items);
    return true;
  }

  /** The next bytes of the current file; undefined at its end. */
  async function read(file: Current, items: Decoded[]): Promise<Buffer | undefined> {
    const { size } = await file.handle.stat();
    if (size < file.position) {
      await truncated(file, items);
      return Buffer.alloc(0);
    }
    if (size === file.position) return undefined;
    const buffer = Buffer.allocUnsafe(Math.min(maxChunk, size - file.position));
    const { bytesRead } = await file.handle.read(buffer, 0, buffer.length, file.position);
    return bytesRead === 0 ? undefined : buffer.subarray(0, bytesRead);
  }

  async function truncated(file: Current, items: Decoded[]): Promise<void> {
    const gap = { inode: file.inode, bytes: gapOf(file.inode) + file.position };
    await change(() =>
      writeState({ ...state, gaps: [...state.gaps.filter(({ inode }) => inode !== file.inode), gap] }),
    );
    file.start += file.position;
    file.position = 0;
    items.push(...shifted(decoder.end()));
    items.push({ kind: 'damage', reason: 'the alert file was truncated', start: position, end: position });
  }

  function change<T>(make: () => Promise<T>): Promise<T> {
    const result = changes.then(make);
    changes = result.catch(() => undefined);
    return result;
  }

  async function writeState(next: State): Promise<void> {
    await fileSystem.mkdir(stateDirectory);
    await replaceFile(statePath, JSON.stringify(next), 0o600, fileSystem);
    state = next;
  }

  /** The engine syncs none. */
  async function syncNames(): Promise<void> {
    await orMissing(syncDirectory(directory, fileSystem), undefined);
  }

  /** Deletes what the state says is deleted, as far as it still exists. */
  async function sweep(): Promise<void> {
    if (state.deleting.length === 0) return;
    const files = await list();
    for (const { name, inode } of state.deleting) {
      // Both, for a new file may have got the inode of one that is gone.
      if (files.some((file) => file.name === name && file.inode === inode))
        await orMissing(fileSystem.unlink(join(directory, name)), undefined);
    }
    await syncNames();
    await writeState({ ...state, deleting: [] });
  }

  async function deleteDone(offset: number): Promise<void> {
    await sweep();
    const gone = done.filter(({ end }) => end <= offset);
    const last = gone.at(-1);
    if (over || !last) return;
    const files = await list();
    const deleting = files.filter(
      ({ name, inode }) => name !== base && inode !== current?.inode && gone.some((entry) => entry.inode === inode),
    );
    await syncNames();
    await writeState({
      version: 1,
      consumed: last.end,
      deleting: deleting.map(({ name, inode }) => ({ name, inode })),
      gaps: state.gaps.filter(({ inode }) => !gone.some((entry) => entry.inode === inode)),
    });
    done.splice(0, gone.length);
    await sweep();
  }

  async function begin(): Promise<void> {
    await change(async () => {
      state = await readState(fileSystem, statePath);
      // Whoever wrote it may have died before it was on disk, and nothing is deleted before.
      if (state.deleting.length > 0) await syncDirectory(stateDirectory, fileSystem);
      await sweep();
    });
    if (state.gaps.length === 0) return;
    const inodes = new Set((await list()).map(({ inode }) => inode));
    state.gaps = state.gaps.filter(({ inode }) => inodes.has(inode));
  }

  async function* iterate(): AsyncGenerator<Decoded[], void, undefined> {
    const stop = (): void => {
      asked.stop = true;
      wake.now();
    };
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted === true) asked.stop = true;
    const notice = newNotice(directory, wake.now);
    /** The decoder may hold something back. */
    let unflushed = false;
    try {
      await begin();
      while (!asked.stop) {
        // Taken before looking: what comes after that makes another round.
        const last = asked.finish;
        wake.arm();
        notice.start();
        const items: Decoded[] = [];
        let more = false;
        if (current) {
          const file = current;
          const chunk = await read(file, items);
          if (asked.stop) return;
          if (chunk) {
            file.position += chunk.length;
            position += chunk.length;
            items.push(...shifted(decoder.push(chunk)));
            unflushed = true;
            more = true;
          } else if (file.sealed) more = await moveOn(file, items);
          else {
            file.sealed = (await successor()) !== undefined;
            more = file.sealed;
          }
        } else {
          if (position < state.consumed) skipTo(state.consumed, items);
          more = await openFirst(items);
        }
        if (asked.stop) return;
        if (items.length > 0) yield items;
        if (more || asked.stop) continue;
        if (last) {
          const rest = shifted(decoder.end());
          if (rest.length > 0) yield rest;
          return;
        }
        const flush = unflushed && decoder.flush !== undefined;
        const woken = await wake.wait(flush ? Math.min(flushMillis, pollMillis) : pollMillis);
        if (woken || !flush || asked.stop) continue;
        unflushed = false;
        const flushed = shifted(decoder.flush?.() ?? []);
        if (flushed.length > 0) yield flushed;
      }
    } finally {
      over = true;
      signal?.removeEventListener('abort', stop);
      notice.stop();
      await current?.handle.close();
      await changes;
    }
  }

  return {
    [Symbol.asyncIterator]: iterate,
    finish() {
      asked.finish = true;
      wake.now();
    },
    stop() {
      asked.stop = true;
      wake.now();
    },
    async deleteConsumed(offset) {
      if (!over) await change(() => deleteDone(offset));
    },
  };
}

/** `value`, or `otherwise` where the file is missing, a link, or not ours to look at for being replaced just now. */
async function orMissing<T>(value: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await value;
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT' || code === 'ELOOP' || code === 'ENXIO' || code === 'ENOTDIR') return otherwise;
    throw error;
  }
}

function sameFiles(a: Listed[], b: Listed[]): boolean {
  return a.length === b.length && a.every((file, i) => file.name === b[i]?.name && file.inode === b[i]?.inode);
}

/** Decimal numbers of any length, without leading zeros. */
function compareNumbers(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : Number(a > b);
}

async function readState(fileSystem: TailFileSystem, path: string): Promise<State> {
  const content = await orMissing(fileSystem.readText(path), '');
  if (content === '') return { version: 1, consumed: 0, deleting: [], gaps: [] };
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    value = undefined;
  }
  if (!isState(value)) throw new Error(`${path} does not say how much was deleted; without that no offset is right`);
  return value;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isState(value: unknown): value is State {
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

/** A wait that a call ends. A call between `arm` and `wait` ends the wait at once. */
function createWake(after: typeof afterMillis): {
  arm(): void;
  now: () => void;
  wait(millis: number): Promise<boolean>;
} {
  let woken = false;
  let resolve: (() => void) | undefined;
  return {
    arm() {
      woken = false;
    },
    now() {
      woken = true;
      resolve?.();
    },
    async wait(millis) {
      if (woken) return true;
      await new Promise<void>((done) => {
        const callOff = after(millis, done);
        resolve = () => {
          callOff();
          done();
        };
      });
      resolve = undefined;
      return woken;
    },
  };
}

/** @returns the function that calls it off. */
function afterMillis(millis: number, action: () => void): () => void {
  const timer = setTimeout(action, millis);
  return () => clearTimeout(timer);
}

/**
 * Tells of changes in the directory, as far as the system can: without inotify, or before the directory exists, there
 * is only the poll.
 */
function createNotice(directory: string, changed: () => void): { start(): void; stop(): void } {
  let watcher: FSWatcher | undefined;
  const stop = (): void => {
    watcher?.close();
    watcher = undefined;
  };
  return {
    start() {
      if (watcher) return;
      try {
        watcher = watch(directory, { persistent: false }, changed);
        watcher.on('error', stop);
      } catch {
        watcher = undefined;
      }
    },
    stop,
  };
}
