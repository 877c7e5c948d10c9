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
 * Not simulated: links that are followed, permissions, memory maps, inodes that are used again, bits that rot.
 */
import type { LeaseFiles } from '../../agent/endpoints/lease-file.ts';
import type { FileSystem, OpenFile } from '../../agent/files/file-system.ts';
import type { StoreFiles } from '../../agent/rulesets/store.ts';
import type { VersionFiles } from '../../agent/rulesets/version-files.ts';
import type { VirtualClock } from './clock.ts';
import {
  asFile,
  changeFile,
  createTree,
  errno,
  fileAt,
  find,
  folderAt,
  folderOf,
  forgetName,
  linkAt,
  makeFolders,
  newFile,
  newLink,
  nodeAt,
  renameNode,
  statOf,
  steps,
  syncAll,
  type File,
  type Node,
  type Tree,
} from './disk/nodes.ts';
import { cutPower } from './disk/power-cut.ts';

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
  /** Likewise. */
  storeFiles: StoreFiles;
  versionFiles: VersionFiles;
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
  /** What a link leads to. */
  target(path: string): string | undefined;
}

/** What is set, or looked at, from outside. */
type Settings = {
  -readonly [Name in 'weather' | 'crashAt' | 'crashed' | 'onUnlink' | 'onRename' | 'trace']: Disk[Name];
};

interface State {
  readonly tree: Tree;
  readonly clock: VirtualClock;
  readonly random: () => number;
  /** The disk itself. */
  readonly settings: Settings;
  calls: number;
  digest: number;
  /** Files and folders with a lost sync. */
  readonly owed: Set<Node>;
  /** Writes of other processes, and how many of them the system wrote. */
  outsideWrites: number;
  flushed: number;
  watchers: Map<string, Set<() => void>>;
}

export function createDisk(clock: VirtualClock, random: () => number, roots: readonly string[]): Disk {
  const settings: Settings = {
    weather: FAIR,
    crashAt: Infinity,
    crashed: false,
    onUnlink: () => undefined,
    onRename: () => undefined,
    trace: undefined,
  };
  const state: State = {
    tree: createTree(clock.wall, roots),
    clock,
    random,
    settings,
    calls: 0,
    digest: 0x811c_9dc5,
    owed: new Set(),
    outsideWrites: 0,
    flushed: 0,
    watchers: new Map(),
  };
  return Object.assign(
    settings,
    fileSystemOf(state),
    {
      files: leaseFilesOf(state),
      storeFiles: storeFilesOf(state),
      versionFiles: versionFilesOf(state),
      outside: outsideOf(state),
    },
    {
      calls: () => state.calls,
      digest: () => state.digest,
      lostSyncs: () => state.owed.size > 0,
      ...looksOf(state),
      watch: (path: string, changed: () => void) => watch(state, path, changed),
      restart: (how: 'kill' | 'power cut') => restart(state, how),
    },
  );
}

function fileSystemOf(state: State): Pick<Disk, keyof FileSystem | 'rm'> {
  const { tree } = state;
  return {
    open: (path, flags) =>
      call(state, 'open', path, flags === 'wx+' || flags === 'w', () =>
        handleOf(state, openNode(tree, path, flags), path),
      ),
    mkdir: (path) => call(state, 'mkdir', path, true, () => makeFolders(tree, path)),
    readdir: (path) =>
      call(state, 'readdir', path, false, () =>
        [...folderAt(tree, path).names].map(([name, node]) => ({ name, isFile: () => node.is === 'file' })),
      ),
    readFile: (path) => call(state, 'readFile', path, false, () => textAt(tree, path)),
    rename: (from, to) => call(state, 'rename', to, false, () => moveFile(state, from, to)),
    stat: (path) => call(state, 'stat', path, false, () => statOf(nodeAt(tree, path))),
    unlink: (path) => call(state, 'unlink', path, false, () => unlinkNode(state, path)),
    rm: (path) => removeAll(state, path),
  };
}

function leaseFilesOf(state: State): LeaseFiles {
  const { tree } = state;
  return {
    read: (path) => perform(state, 'readFile', path, false, () => textAt(tree, path)),
    append(path, text) {
      const bytes = Buffer.from(text);
      const file = perform(state, 'open', path, true, () => openNode(tree, path, 'a'));
      perform(state, 'write', path, true, ...writeOf(state, () => asFile(file, path), bytes, undefined));
      perform(state, 'sync', path, false, () => syncNode(state, file));
    },
    replace(path, text) {
      const next = `${path}.new`;
      const folder = folderOf(path);
      perform(state, 'mkdir', folder, true, () => makeFolders(tree, folder));
      const file = perform(state, 'open', next, true, () => openNode(tree, next, 'w'));
      perform(state, 'write', next, true, ...writeOf(state, () => asFile(file, next), Buffer.from(text), 0));
      perform(state, 'sync', next, false, () => syncNode(state, file));
      perform(state, 'rename', path, false, () => moveFile(state, next, path));
      perform(state, 'sync', folder, false, () => syncNode(state, nodeAt(tree, folder)));
    },
  };
}

function storeFilesOf(state: State): StoreFiles {
  const { tree } = state;
  const leaseFiles = leaseFilesOf(state);
  return {
    makeDirectory(path) {
      perform(state, 'mkdir', path, true, () => makeFolders(tree, path));
      perform(state, 'sync', folderOf(path), false, () => syncNode(state, nodeAt(tree, folderOf(path))));
    },
    names: (path) => perform(state, 'readdir', path, false, () => [...folderAt(tree, path).names.keys()]),
    read: (path) => perform(state, 'readFile', path, false, () => bytesAt(tree, path)),
    replace: (path, pieces) => leaseFiles.replace(path, [...pieces].map(String).join('')),
    remove: (path) => perform(state, 'unlink', path, false, () => unlinkNode(state, path)),
  };
}

function versionFilesOf(state: State): VersionFiles {
  const { tree } = state;
  const files = fileSystemOf(state);
  return {
    open: (path, flags, mode) => files.open(path, flags, mode),
    mkdir: (path, options) => files.mkdir(path, options),
    rename: (from, to) => files.rename(from, to),
    stat: (path) => files.stat(path),
    readdir: (path) =>
      call(state, 'readdir', path, false, () =>
        [...folderAt(tree, path).names].map(([name, node]) => ({
          name,
          isFile: () => node.is === 'file',
          isDirectory: () => node.is === 'folder',
        })),
      ),
    readFile: (path) => call(state, 'readFile', path, false, () => bytesAt(tree, path)),
    async writeFile(path, content) {
      const handle = await files.open(path, 'w');
      await handle.writeFile(content).finally(() => handle.close());
    },
    lstat: (path) =>
      call(state, 'lstat', path, false, () => {
        const node = nodeAt(tree, path);
        return { mtimeMs: statOf(node).mtimeMs, isSymbolicLink: () => node.is === 'link' };
      }),
    readlink: (path) => call(state, 'readlink', path, false, () => linkAt(tree, path).target),
    symlink: (target, path) => call(state, 'symlink', path, true, () => newLink(tree, path, target)),
    rm: (path) => removeAll(state, path),
  };
}

function outsideOf(state: State): OutsideDisk {
  const { tree } = state;
  return {
    makeFolder(path) {
      makeFolders(tree, path);
      for (const [parent] of steps(tree, path)) syncAll(parent);
    },
    makeFile(path, content) {
      const file = newFile(tree, path);
      changeFile(tree, file, { is: 'write', offset: 0, bytes: Buffer.from(content) });
      syncAll(file);
      syncAll(folderAt(tree, folderOf(path)));
    },
    append(path, bytes) {
      const node = find(tree, path) ?? newFile(tree, path);
      if (node.is !== 'file') throw errno('EISDIR', 'open', path);
      changeFile(tree, node, { is: 'write', offset: node.cache.size(), bytes, order: ++state.outsideWrites });
      tellOf(state, path);
      return node.ino;
    },
    rename(from, to) {
      moveFile(state, from, to);
      tellOf(state, to);
    },
    flush: () => void (state.flushed = state.outsideWrites),
  };
}

function looksOf({ tree }: State): Pick<Disk, 'peek' | 'list' | 'facts' | 'target'> {
  return {
    peek(path) {
      const node = find(tree, path);
      return node?.is === 'file' ? node.cache.slice() : undefined;
    },
    list(path) {
      const node = find(tree, path);
      return node?.is === 'folder' ? [...node.names.keys()].toSorted() : [];
    },
    facts(path) {
      const node = find(tree, path);
      return node === undefined ? undefined : statOf(node);
    },
    target(path) {
      const node = find(tree, path);
      return node?.is === 'link' ? node.target : undefined;
    },
  };
}

function watch({ watchers }: State, path: string, changed: () => void): () => void {
  const watching = watchers.get(path) ?? new Set();
  watchers.set(path, watching.add(changed));
  return () => void watching.delete(changed);
}

function tellOf({ watchers }: State, path: string): void {
  for (const changed of watchers.get(folderOf(path)) ?? []) changed();
}

function restart(state: State, how: 'kill' | 'power cut'): void {
  const { tree, random, settings, owed, flushed, outsideWrites } = state;
  state.watchers = new Map();
  if (how === 'power cut') {
    cutPower(tree.root, flushed + Math.floor(random() * (outsideWrites - flushed + 1)), random);
    owed.clear();
  }
  settings.crashed = false;
  settings.crashAt = Infinity;
}

/** @param room whether it needs some. @param torn what a crash within the call may leave of it. */
function call<T>(
  state: State,
  name: string,
  path: string,
  room: boolean,
  effect: () => T,
  torn?: () => void,
): Promise<T> {
  const { random, settings, clock } = state;
  const sync = name === 'sync';
  const slow = sync && random() < settings.weather.late ? 100 + random() * 20_000 : 0;
  const millis = slow + random() * (sync ? 8 : 0.2);
  return new Promise((resolve, reject) => {
    clock.after(millis, () => {
      if (settings.crashed) return;
      try {
        const result = perform(state, name, path, room, effect, torn);
        if (!settings.crashed) resolve(result);
      } catch (error) {
        if (!settings.crashed) reject(error);
      }
    });
  });
}

/** Now. Who dies within it is told of an error, of which nobody hears. */
function perform<T>(state: State, name: string, path: string, room: boolean, effect: () => T, torn?: () => void): T {
  const { settings, tree } = state;
  if (settings.crashed) throw errno('EIO', name, path);
  state.calls += 1;
  if (state.calls >= settings.crashAt) {
    die(state, name, path, effect, torn);
    throw errno('EIO', name, path);
  }
  const code = fault(state, room);
  note(state, name, path, code ?? 'ok');
  if (code === undefined) return effect();
  if (name === 'sync') loseSome(state, find(tree, path));
  torn?.();
  throw errno(code, name, path);
}

function die(state: State, name: string, path: string, effect: () => unknown, torn: (() => void) | undefined): void {
  state.settings.crashed = true;
  const left = state.random();
  note(state, name, path, `dies ${left.toFixed(3)}`);
  if (left < 0.4) {
    try {
      effect();
    } catch {
      // Nobody is there to hear of it.
    }
  } else if (left < 0.7) torn?.();
}

function note(state: State, name: string, path: string, outcome: string): void {
  const time = state.clock.now();
  state.digest = Math.imul(state.digest ^ name.charCodeAt(1) ^ path.length ^ (time * 1000), 0x0100_0193);
  state.settings.trace?.(`${time.toFixed(3)} ${state.calls} ${name} ${path} ${outcome}`);
}

function fault({ random, settings }: State, room: boolean): 'ENOSPC' | 'EIO' | undefined {
  if (room && random() < settings.weather.full) return 'ENOSPC';
  return random() < settings.weather.broken ? 'EIO' : undefined;
}

function openNode(tree: Tree, path: string, flags: string): Node {
  const there = find(tree, path);
  if (flags === 'wx+' && there !== undefined) throw errno('EEXIST', 'open', path);
  if (there === undefined && flags !== 'wx+' && flags !== 'w' && flags !== 'a') throw errno('ENOENT', 'open', path);
  const node = there ?? newFile(tree, path);
  if (flags === 'w' && node.is === 'file') changeFile(tree, node, { is: 'truncate', length: 0 });
  return node;
}

function textAt(tree: Tree, path: string): string {
  return fileAt(tree, path).cache.slice().toString();
}

function bytesAt(tree: Tree, path: string): Buffer {
  return Buffer.from(fileAt(tree, path).cache.slice());
}

/** @param offset undefined: at the end. @returns what a write does, and what of it is there where it fails. */
function writeOf(
  { tree, random }: State,
  fileOf: () => File,
  bytes: Buffer,
  offset: number | undefined,
): [() => void, () => void] {
  const write = (part: Buffer): void => {
    const file = fileOf();
    changeFile(tree, file, { is: 'write', offset: offset ?? file.cache.size(), bytes: part });
  };
  return [() => write(bytes), () => write(bytes.subarray(0, Math.floor(random() * bytes.length)))];
}

function handleOf(state: State, node: Node, path: string): DiskFile {
  const { tree } = state;
  const file = (): File => asFile(node, path);
  const sync = (): Promise<void> => call(state, 'sync', path, false, () => syncNode(state, node));
  return {
    stat: () => call(state, 'fstat', path, false, () => statOf(node)),
    read: (buffer, offset, length, position) =>
      call(state, 'read', path, false, () => ({ bytesRead: file().cache.copyTo(buffer, offset, length, position) })),
    write: (buffer, offset, length, position) => {
      const bytes = buffer.subarray(offset, offset + length);
      const all = (): { bytesWritten: number } => writeSome(state, file(), bytes, position);
      return call(state, 'write', path, true, all, writeOf(state, file, bytes, position)[1]);
    },
    writeFile: (content) => call(state, 'writeFile', path, true, ...writeOf(state, file, Buffer.from(content), 0)),
    sync,
    datasync: sync,
    truncate: (length) =>
      call(state, 'truncate', path, false, () => changeFile(tree, file(), { is: 'truncate', length })),
    close: () => call(state, 'close', path, false, () => undefined).catch(() => undefined),
  };
}

function writeSome(
  { random, settings, tree }: State,
  file: File,
  bytes: Buffer,
  position: number,
): { bytesWritten: number } {
  const short = random() < settings.weather.short;
  const taken = short ? bytes.subarray(0, Math.ceil(random() * bytes.length)) : bytes;
  changeFile(tree, file, { is: 'write', offset: position, bytes: taken });
  return { bytesWritten: taken.length };
}

function syncNode({ random, settings, owed }: State, node: Node): void {
  if (node.is === 'link') return;
  if (random() < settings.weather.lost) {
    if (node.unsynced.length > 0) owed.add(node);
    return;
  }
  owed.delete(node);
  syncAll(node);
}

function loseSome({ random }: State, node: Node | undefined): void {
  if (node?.is === 'file') node.unsynced = node.unsynced.filter(() => random() < 0.5);
}

function moveFile({ tree, settings }: State, from: string, to: string): void {
  renameNode(tree, from, to);
  settings.onRename(to);
}

function unlinkNode({ tree, settings }: State, path: string): void {
  if (nodeAt(tree, path).is === 'folder') throw errno('EISDIR', 'unlink', path);
  settings.onUnlink(path);
  forgetName(tree, path);
}

async function removeAll(state: State, path: string): Promise<void> {
  const { tree } = state;
  const node = find(tree, path);
  if (node === undefined) return;
  if (node.is !== 'folder') return call(state, 'unlink', path, false, () => unlinkNode(state, path));
  const list = (): string[] => [...folderAt(tree, path).names.keys()];
  const names = await call(state, 'readdir', path, false, list);
  await Promise.all(names.map((name) => removeAll(state, `${path}/${name}`)));
  await call(state, 'rmdir', path, false, () => forgetName(tree, path));
}
