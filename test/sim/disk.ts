/**
 * A disk in memory that keeps after a power cut no more than POSIX promises, and fails as disks do.
 *
 * What is written is in the cache at once, and on the disk when its file was synced; a name when its folder was. A power cut leaves of
 * what was not synced: of a file's writes any, each whole, not at all, up to some byte, or with NUL bytes in place of some sectors; of a
 * folder's changes the first so many, as file systems with a journal do. A kill of the process leaves the cache as it is.
 *
 * After a sync that failed, what it should have written may never reach the disk, although later ones succeed: as Linux does.
 * A sync that is lost says it succeeded and did nothing; the next one may do its work.
 *
 * Not simulated: folders that are renamed, links, permissions, locks, memory maps, files that somebody else changes, bits that rot.
 */
import type { FileSystem, OpenFile } from '../../agent/files/file-system.ts';
import type { VirtualClock } from './clock.ts';

const SECTOR = 512;

/** Probabilities, 0..1, for each call. */
export interface Weather {
  /** ENOSPC of what needs room. */
  full: number;
  /** EIO of any call. */
  broken: number;
  /** Writes that take a part. */
  short: number;
  /** Syncs that take seconds. */
  late: number;
  /** Syncs that do nothing. */
  lost: number;
}

export const FAIR: Weather = { full: 0, broken: 0, short: 0, late: 0, lost: 0 };

type Change = { is: 'write'; offset: number; bytes: Buffer } | { is: 'truncate'; length: number };

interface File {
  is: 'file';
  ino: number;
  /** As processes see it. */
  cache: Content;
  durable: Content;
  /** Of the cache, what is not on the disk. */
  unsynced: Change[];
  born: number;
  modified: number;
}

interface Folder {
  is: 'folder';
  ino: number;
  names: Map<string, Node>;
  durable: Map<string, Node>;
  unsynced: ((names: Map<string, Node>) => void)[];
}

type Node = File | Folder;

export interface Disk extends FileSystem {
  weather: Weather;
  /** Calls that were made since the disk began. */
  calls(): number;
  /** The process dies within this call, counted from the disk's beginning. */
  crashAt: number;
  readonly crashed: boolean;
  /** Whether a sync was lost whose work no later one did. */
  lostSyncs(): boolean;
  /** Called with the path before a file goes, and after one got its name by rename. */
  onUnlink: (path: string) => void;
  onRename: (path: string) => void;
  /** What every call was and did, to be compared. */
  trace: (line: string) => void;
  /** A new process comes. @param how what the old one's end left. */
  restart(how: 'kill' | 'power cut'): void;
  /** Without failing, and at once: for the oracle. */
  peek(path: string): Buffer | undefined;
  list(path: string): string[];
}

export function createDisk(clock: VirtualClock, random: () => number, roots: readonly string[]): Disk {
  let inodes = 0;
  let calls = 0;
  let crashed = false;
  /** Files and folders with a lost sync. */
  const owed = new Set<Node>();
  const root = newFolder();
  for (const path of roots) for (const [parent, name] of steps(path)) ensureRoot(parent, name);

  const disk: Disk = {
    weather: FAIR,
    crashAt: Infinity,
    calls: () => calls,
    get crashed() {
      return crashed;
    },
    lostSyncs: () => owed.size > 0,
    onUnlink: () => undefined,
    onRename: () => undefined,
    trace: () => undefined,
    open: (path, flags) => call('open', path, flags === 'wx+' || flags === 'w', () => openFile(path, flags)),
    mkdir: (path) => call('mkdir', path, true, () => makeFolders(path)),
    readdir: (path) =>
      call('readdir', path, false, () =>
        [...folderAt(path).names].map(([name, node]) => ({ name, isFile: () => node.is === 'file' })),
      ),
    readFile: (path) => call('readFile', path, false, () => fileAt(path).cache.slice().toString()),
    rename: (from, to) => call('rename', to, false, () => renameFile(from, to)),
    stat: (path) => call('stat', path, false, () => statOf(nodeAt(path))),
    unlink: (path) => call('unlink', path, false, () => unlinkFile(path)),
    restart(how) {
      if (how === 'power cut') cutPower(root);
      if (how === 'power cut') owed.clear();
      crashed = false;
      disk.crashAt = Infinity;
    },
    peek(path) {
      const node = find(path);
      return node?.is === 'file' ? node.cache.slice() : undefined;
    },
    list(path) {
      const node = find(path);
      return node?.is === 'folder' ? [...node.names.keys()].toSorted() : [];
    },
  };

  /** @param room whether it needs some. @param torn what a crash within the call may leave of it. */
  function call<T>(name: string, path: string, room: boolean, effect: () => T, torn?: () => void): Promise<T> {
    const sync = name === 'sync';
    const slow = sync && random() < disk.weather.late ? 100 + random() * 20_000 : 0;
    const millis = slow + random() * (sync ? 8 : 0.2);
    return new Promise((resolve, reject) => {
      clock.after(millis, () => {
        if (crashed) return;
        calls += 1;
        if (calls >= disk.crashAt) {
          die(name, path, effect, torn);
          return;
        }
        const code = fault(room);
        disk.trace(`${clock.now().toFixed(3)} ${calls} ${name} ${path} ${code ?? 'ok'}`);
        if (code !== undefined) {
          if (sync) loseSome(path);
          torn?.();
          reject(errno(code, name, path));
          return;
        }
        try {
          resolve(effect());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  function die(name: string, path: string, effect: () => unknown, torn: (() => void) | undefined): void {
    crashed = true;
    const left = random();
    disk.trace(`${clock.now().toFixed(3)} ${calls} ${name} ${path} dies ${left.toFixed(3)}`);
    if (left < 0.4) {
      try {
        effect();
      } catch {
        // Nobody is there to hear of it.
      }
    } else if (left < 0.7) torn?.();
  }

  function fault(room: boolean): 'ENOSPC' | 'EIO' | undefined {
    if (room && random() < disk.weather.full) return 'ENOSPC';
    return random() < disk.weather.broken ? 'EIO' : undefined;
  }

  function openFile(path: string, flags: string): OpenFile {
    const there = find(path);
    if (flags === 'wx+' && there !== undefined) throw errno('EEXIST', 'open', path);
    if (there === undefined && flags !== 'wx+' && flags !== 'w') throw errno('ENOENT', 'open', path);
    const node = there ?? newFile(path);
    if (flags === 'w' && node.is === 'file') change(node, { is: 'truncate', length: 0 });
    return handleOf(node, path);
  }

  function handleOf(node: Node, path: string): OpenFile {
    const file = (): File => {
      if (node.is === 'file') return node;
      throw errno('EISDIR', 'read', path);
    };
    const sync = (): Promise<void> => call('sync', path, false, () => syncNode(node));
    const write = (bytes: Buffer, offset: number): (() => void) => {
      const part = (): Buffer => bytes.subarray(0, Math.floor(random() * bytes.length));
      return () => change(file(), { is: 'write', offset, bytes: part() });
    };
    return {
      read: (buffer, offset, length, position) =>
        call('read', path, false, () => ({ bytesRead: file().cache.copyTo(buffer, offset, length, position) })),
      write: (buffer, offset, length, position) => {
        const bytes = buffer.subarray(offset, offset + length);
        const all = (): { bytesWritten: number } => {
          const short = random() < disk.weather.short;
          const taken = short ? bytes.subarray(0, Math.ceil(random() * bytes.length)) : bytes;
          change(file(), { is: 'write', offset: position, bytes: taken });
          return { bytesWritten: taken.length };
        };
        return call('write', path, true, all, write(bytes, position));
      },
      writeFile: (content) => {
        const bytes = Buffer.from(content);
        return call('writeFile', path, true, () => change(file(), { is: 'write', offset: 0, bytes }), write(bytes, 0));
      },
      sync,
      datasync: sync,
      truncate: (length) => call('truncate', path, false, () => change(file(), { is: 'truncate', length })),
      close: () => call('close', path, false, () => undefined).catch(() => undefined),
    };
  }

  function change(file: File, next: Change): void {
    file.cache.apply(next);
    file.unsynced.push(next);
    file.modified = clock.wall();
  }

  function syncNode(node: Node): void {
    if (random() < disk.weather.lost) {
      if (node.unsynced.length > 0) owed.add(node);
      return;
    }
    owed.delete(node);
    if (node.is === 'file') for (const next of node.unsynced) node.durable.apply(next);
    else for (const next of node.unsynced) next(node.durable);
    node.unsynced = [];
  }

  function loseSome(path: string): void {
    const node = find(path);
    if (node?.is === 'file') node.unsynced = node.unsynced.filter(() => random() < 0.5);
  }

  function makeFolders(path: string): string | undefined {
    let first: string | undefined;
    for (const [parent, name, whole] of steps(path)) {
      if (parent.names.has(name)) continue;
      const folder = newFolder();
      rename(parent, (names) => void names.set(name, folder));
      first ??= whole;
    }
    return first;
  }

  function rename(folder: Folder, next: (names: Map<string, Node>) => void): void {
    next(folder.names);
    folder.unsynced.push(next);
  }

  function renameFile(from: string, to: string): void {
    const file = fileAt(from);
    const [folder, name] = placeOf(to);
    const [source, old] = placeOf(from);
    if (source !== folder) throw errno('EXDEV', 'rename', from);
    rename(folder, (names) => {
      names.delete(old);
      names.set(name, file);
    });
    disk.onRename(to);
  }

  function unlinkFile(path: string): void {
    fileAt(path);
    disk.onUnlink(path);
    const [folder, name] = placeOf(path);
    rename(folder, (names) => void names.delete(name));
  }

  function cutPower(node: Node): void {
    if (node.is === 'file') {
      for (const next of node.unsynced) for (const survived of remains(next)) node.durable.apply(survived);
      node.cache = node.durable.clone();
      node.unsynced = [];
      return;
    }
    for (const next of node.unsynced.slice(0, Math.floor(random() * (node.unsynced.length + 1)))) next(node.durable);
    node.names = new Map(node.durable);
    node.unsynced = [];
    for (const child of node.names.values()) cutPower(child);
  }

  /** What a power cut leaves of a change that was not synced. */
  function remains(next: Change): Change[] {
    const kind = Math.floor(random() * 4);
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

  function newFile(path: string): File {
    const [folder, name] = placeOf(path);
    const time = clock.wall();
    const file: File = {
      is: 'file',
      ino: ++inodes,
      cache: createContent(),
      durable: createContent(),
      unsynced: [],
      born: time,
      modified: time,
    };
    rename(folder, (names) => void names.set(name, file));
    return file;
  }

  function newFolder(): Folder {
    return { is: 'folder', ino: ++inodes, names: new Map(), durable: new Map(), unsynced: [] };
  }

  function ensureRoot(parent: Folder, name: string): void {
    const folder = parent.names.get(name) ?? newFolder();
    parent.names.set(name, folder);
    parent.durable.set(name, folder);
  }

  /** For each part of a path: the folder it is in, its name, and the path up to it. */
  function* steps(path: string): Generator<[Folder, string, string]> {
    let folder = root;
    let whole = '';
    for (const name of path.split('/').filter((part) => part !== '')) {
      whole += `/${name}`;
      yield [folder, name, whole];
      const next = folder.names.get(name);
      if (next?.is !== 'folder') throw errno('ENOENT', 'open', path);
      folder = next;
    }
  }

  function placeOf(path: string): [Folder, string] {
    const slash = path.lastIndexOf('/');
    return [folderAt(path.slice(0, slash)), path.slice(slash + 1)];
  }

  function find(path: string): Node | undefined {
    let node: Node | undefined = root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      node = node?.is === 'folder' ? node.names.get(name) : undefined;
    }
    return node;
  }

  function nodeAt(path: string): Node {
    const node = find(path);
    if (node === undefined) throw errno('ENOENT', 'open', path);
    return node;
  }

  function folderAt(path: string): Folder {
    const node = nodeAt(path);
    if (node.is !== 'folder') throw errno('ENOTDIR', 'open', path);
    return node;
  }

  function fileAt(path: string): File {
    const node = nodeAt(path);
    if (node.is !== 'file') throw errno('EISDIR', 'open', path);
    return node;
  }

  return disk;
}

function statOf(node: Node): Awaited<ReturnType<FileSystem['stat']>> {
  if (node.is === 'folder') return { dev: 1, ino: node.ino, size: 4096, mtimeMs: 0, birthtimeMs: 0 };
  return { dev: 1, ino: node.ino, size: node.cache.size(), mtimeMs: node.modified, birthtimeMs: node.born };
}

/** Bytes of a file. */
interface Content {
  size(): number;
  apply(change: Change): void;
  copyTo(target: Buffer, offset: number, length: number, position: number): number;
  /** All of it; valid until the next change. */
  slice(): Buffer;
  clone(): Content;
}

function createContent(initial: Buffer = Buffer.alloc(0)): Content {
  let bytes = initial;
  let size = initial.length;

  function grow(length: number): void {
    if (length > bytes.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * bytes.length));
      bytes.copy(larger, 0, 0, size);
      bytes = larger;
    }
    // What a truncation left behind the end reads as NUL.
    if (length > size) bytes.fill(0, size, length);
    size = length;
  }

  return {
    size: () => size,
    apply(change) {
      if (change.is === 'write') {
        if (change.bytes.length === 0) return;
        grow(Math.max(size, change.offset + change.bytes.length));
        change.bytes.copy(bytes, change.offset);
      } else if (change.length > size) grow(change.length);
      else size = change.length;
    },
    copyTo: (target, offset, length, position) =>
      position >= size ? 0 : bytes.copy(target, offset, position, Math.min(size, position + length)),
    slice: () => bytes.subarray(0, size),
    clone: () => createContent(Buffer.from(bytes.subarray(0, size))),
  };
}

function errno(code: string, name: string, path: string): Error & { code: string } {
  return Object.assign(new Error(`${code}: ${name} '${path}'`), { code });
}
