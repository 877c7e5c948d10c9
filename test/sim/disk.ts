/**
 * A disk in memory that keeps after a power cut no more than POSIX promises, and fails as disks do.
 *
 * What is written is in the cache at once, and on the disk when its file was synced; a name when its folder was. A
 * power cut leaves of what was not synced: of a file's writes any, each whole, not at all, up to some byte, or with NUL
 * bytes in place of some sectors; of a folder's changes the first so many, as file systems with a journal do. A kill of
 * the process leaves the cache as it is.
 *
 * After a sync that failed, what it should have written may never reach the disk, although later ones succeed: as Linux
 * does. A sync that is lost says it succeeded and did nothing; the next one may do its work.
 *
 * Another process, the engine, writes at once and without fail (`outside`). It syncs nothing: of what it wrote, a power
 * cut leaves what it wrote first, as file systems do that order their writes.
 *
 * Not simulated: folders that are renamed, links, permissions, locks, memory maps, inodes that are used again, bits
 * that rot.
 */
import type { LeaseFiles } from '../../agent/endpoints/lease-file.ts';
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

type Change = { is: 'write'; offset: number; bytes: Buffer; order?: number } | { is: 'truncate'; length: number };

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

/** As another process does it. */
export interface OutsideDisk {
  /** They are on the disk at once. */
  makeFolder(path: string): void;
  makeFile(path: string, content: string): void;
  /** @returns the file's inode. */
  append(path: string, bytes: Buffer): number;
  rename(from: string, to: string): void;
  /** The system has written what was written so far. */
  flush(): void;
}

/** What is known of a file. */
export interface Facts {
  ino: number;
  size: number;
}

/** As node's FileHandle. */
export interface DiskFile extends OpenFile {
  stat(): Promise<Facts>;
}

export interface Disk extends FileSystem {
  open(path: string, flags: string, mode?: number): Promise<DiskFile>;
  /** As node's, with `recursive` and `force`. */
  rm(path: string): Promise<void>;
  /** For code that lets nothing else run until the disk has it. */
  files: LeaseFiles;
  outside: OutsideDisk;
  /** Tells of changes in a folder that another process makes. @returns the function that ends it. */
  watch(path: string, changed: () => void): () => void;
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
  /** What every call was and did, to be compared; nothing is said where it is absent. */
  trace: ((line: string) => void) | undefined;
  /** Of every call: the same for the same seed. */
  digest(): number;
  /** A new process comes. @param how what the old one's end left. */
  restart(how: 'kill' | 'power cut'): void;
  /** Without failing, and at once: for the oracle. */
  peek(path: string): Buffer | undefined;
  list(path: string): string[];
  facts(path: string): Facts | undefined;
}

export function createDisk(clock: VirtualClock, random: () => number, roots: readonly string[]): Disk {
  let inodes = 0;
  let calls = 0;
  let crashed = false;
  let digest = 0x811c_9dc5;
  /** Files and folders with a lost sync. */
  const owed = new Set<Node>();
  /** Writes of other processes, and how many of them the system wrote. */
  let outsideWrites = 0;
  let flushed = 0;
  let watchers = new Map<string, Set<() => void>>();
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
    trace: undefined,
    digest: () => digest,
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
    rm: removeAll,
    files: {
      read: (path) => perform('readFile', path, false, () => fileAt(path).cache.slice().toString()),
      append(path, text) {
        const bytes = Buffer.from(text);
        const file = perform('open', path, true, () => openNode(path, 'a'));
        perform('write', path, true, ...writeOf(() => asFile(file, path), bytes, undefined));
      },
      replace(path, text) {
        const next = `${path}.new`;
        perform('mkdir', folderOf(path), true, () => makeFolders(folderOf(path)));
        const file = perform('open', next, true, () => openNode(next, 'w'));
        perform('write', next, true, ...writeOf(() => asFile(file, next), Buffer.from(text), 0));
        perform('sync', next, false, () => syncNode(file));
        perform('rename', path, false, () => renameFile(next, path));
        perform('sync', folderOf(path), false, () => syncNode(nodeAt(folderOf(path))));
      },
    },
    outside: {
      makeFolder(path) {
        makeFolders(path);
        for (const [parent] of steps(path)) syncAll(parent);
      },
      makeFile(path, content) {
        const file = newFile(path);
        change(file, { is: 'write', offset: 0, bytes: Buffer.from(content) });
        syncAll(file);
        syncAll(folderAt(folderOf(path)));
      },
      append(path, bytes) {
        const node = find(path) ?? newFile(path);
        if (node.is !== 'file') throw errno('EISDIR', 'open', path);
        change(node, { is: 'write', offset: node.cache.size(), bytes, order: ++outsideWrites });
        tellOf(path);
        return node.ino;
      },
      rename(from, to) {
        renameFile(from, to);
        tellOf(to);
      },
      flush: () => void (flushed = outsideWrites),
    },
    watch(path, changed) {
      const watching = watchers.get(path) ?? new Set();
      watchers.set(path, watching.add(changed));
      return () => void watching.delete(changed);
    },
    restart(how) {
      watchers = new Map();
      if (how === 'power cut') cutPower(root, flushed + Math.floor(random() * (outsideWrites - flushed + 1)));
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
    facts(path) {
      const node = find(path);
      return node === undefined ? undefined : statOf(node);
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
        try {
          const result = perform(name, path, room, effect, torn);
          if (!crashed) resolve(result);
        } catch (error) {
          if (!crashed) reject(error);
        }
      });
    });
  }

  /** Now. Who dies within it is told of an error, of which nobody hears. */
  function perform<T>(name: string, path: string, room: boolean, effect: () => T, torn?: () => void): T {
    if (crashed) throw errno('EIO', name, path);
    calls += 1;
    if (calls >= disk.crashAt) {
      die(name, path, effect, torn);
      throw errno('EIO', name, path);
    }
    const code = fault(room);
    note(name, path, code ?? 'ok');
    if (code === undefined) return effect();
    if (name === 'sync') loseSome(path);
    torn?.();
    throw errno(code, name, path);
  }

  function die(name: string, path: string, effect: () => unknown, torn: (() => void) | undefined): void {
    crashed = true;
    const left = random();
    note(name, path, `dies ${left.toFixed(3)}`);
    if (left < 0.4) {
      try {
        effect();
      } catch {
        // Nobody is there to hear of it.
      }
    } else if (left < 0.7) torn?.();
  }

  function note(name: string, path: string, outcome: string): void {
    const time = clock.now();
    digest = Math.imul(digest ^ name.charCodeAt(1) ^ path.length ^ (time * 1000), 0x0100_0193);
    disk.trace?.(`${time.toFixed(3)} ${calls} ${name} ${path} ${outcome}`);
  }

  function fault(room: boolean): 'ENOSPC' | 'EIO' | undefined {
    if (room && random() < disk.weather.full) return 'ENOSPC';
    return random() < disk.weather.broken ? 'EIO' : undefined;
  }

  function openFile(path: string, flags: string): DiskFile {
    return handleOf(openNode(path, flags), path);
  }

  function openNode(path: string, flags: string): Node {
    const there = find(path);
    if (flags === 'wx+' && there !== undefined) throw errno('EEXIST', 'open', path);
    if (there === undefined && flags !== 'wx+' && flags !== 'w' && flags !== 'a') throw errno('ENOENT', 'open', path);
    const node = there ?? newFile(path);
    if (flags === 'w' && node.is === 'file') change(node, { is: 'truncate', length: 0 });
    return node;
  }

  function asFile(node: Node, path: string): File {
    if (node.is === 'file') return node;
    throw errno('EISDIR', 'read', path);
  }

  /** @param offset undefined: at the end. @returns what a write does, and what of it is there where it fails. */
  function writeOf(fileOf: () => File, bytes: Buffer, offset: number | undefined): [() => void, () => void] {
    const write = (part: Buffer): void => {
      const file = fileOf();
      change(file, { is: 'write', offset: offset ?? file.cache.size(), bytes: part });
    };
    return [() => write(bytes), () => write(bytes.subarray(0, Math.floor(random() * bytes.length)))];
  }

  function handleOf(node: Node, path: string): DiskFile {
    const file = (): File => asFile(node, path);
    const sync = (): Promise<void> => call('sync', path, false, () => syncNode(node));
    return {
      stat: () => call('fstat', path, false, () => statOf(node)),
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
        return call('write', path, true, all, writeOf(file, bytes, position)[1]);
      },
      writeFile: (content) => {
        const bytes = Buffer.from(content);
        return call('writeFile', path, true, ...writeOf(file, bytes, 0));
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
    syncAll(node);
  }

  function syncAll(node: Node): void {
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
    forgetName(path);
  }

  function forgetName(path: string): void {
    const [folder, name] = placeOf(path);
    rename(folder, (names) => void names.delete(name));
  }

  async function removeAll(path: string): Promise<void> {
    const node = find(path);
    if (node === undefined) return;
    if (node.is === 'file') return disk.unlink(path);
    const entries = await disk.readdir(path, { withFileTypes: true });
    await Promise.all(entries.map(({ name }) => removeAll(`${path}/${name}`)));
    await call('rmdir', path, false, () => forgetName(path));
  }

  function tellOf(path: string): void {
    for (const changed of watchers.get(folderOf(path)) ?? []) changed();
  }

  /** @param written Of what other processes wrote, so many writes are on the disk. */
  function cutPower(node: Node, written: number): void {
    if (node.is === 'file') {
      for (const next of node.unsynced) for (const survived of remains(next, written)) node.durable.apply(survived);
      node.cache = node.durable.clone();
      node.unsynced = [];
      return;
    }
    for (const next of node.unsynced.slice(0, Math.floor(random() * (node.unsynced.length + 1)))) next(node.durable);
    node.names = new Map(node.durable);
    node.unsynced = [];
    for (const child of node.names.values()) cutPower(child, written);
  }

  /** What a power cut leaves of a change that was not synced. */
  function remains(next: Change, written: number): Change[] {
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
    const folder = folderOf(path);
    return [folderAt(folder), path.slice(folder.length + 1)];
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

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
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
