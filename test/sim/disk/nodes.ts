/**
 * Files and folders of the simulated disk: as processes see them, and what of that is on the disk. All of it is at once
 * and never fails but for what is not there.
 */
import type { FileSystem } from '../../../agent/files/file-system.ts';
import { createContent, type Change, type Content } from './content.ts';

export interface File {
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

export interface Folder {
  is: 'folder';
  ino: number;
  names: Map<string, Node>;
  durable: Map<string, Node>;
  unsynced: ((names: Map<string, Node>) => void)[];
}

/** A symbolic link; nothing here follows it. */
export interface Link {
  is: 'link';
  ino: number;
  target: string;
}

export type Node = File | Folder | Link;

export interface Tree {
  readonly root: Folder;
  /** How many were made. */
  inodes: number;
  /** Wall clock, ms since the epoch. */
  readonly wall: () => number;
}

/** @param roots Folders that are there, on the disk. */
export function createTree(wall: () => number, roots: readonly string[]): Tree {
  const root: Folder = { is: 'folder', ino: 1, names: new Map(), durable: new Map(), unsynced: [] };
  const tree = { root, inodes: 1, wall };
  for (const path of roots) for (const [parent, name] of steps(tree, path)) ensureRoot(tree, parent, name);
  return tree;
}

function ensureRoot(tree: Tree, parent: Folder, name: string): void {
  const folder = parent.names.get(name) ?? newFolder(tree);
  parent.names.set(name, folder);
  parent.durable.set(name, folder);
}

/** For each part of a path: the folder it is in, its name, and the path up to it. */
export function* steps({ root }: Tree, path: string): Generator<[Folder, string, string]> {
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

export function find({ root }: Tree, path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const name of path.split('/').filter((part) => part !== '')) {
    node = node?.is === 'folder' ? node.names.get(name) : undefined;
  }
  return node;
}

export function nodeAt(tree: Tree, path: string): Node {
  const node = find(tree, path);
  if (node === undefined) throw errno('ENOENT', 'open', path);
  return node;
}

export function folderAt(tree: Tree, path: string): Folder {
  const node = nodeAt(tree, path);
  if (node.is !== 'folder') throw errno('ENOTDIR', 'open', path);
  return node;
}

export function fileAt(tree: Tree, path: string): File {
  const node = nodeAt(tree, path);
  if (node.is !== 'file') throw errno('EISDIR', 'open', path);
  return node;
}

export function asFile(node: Node, path: string): File {
  if (node.is === 'file') return node;
  throw errno('EISDIR', 'read', path);
}

export function newFile(tree: Tree, path: string): File {
  const [folder, name] = placeOf(tree, path);
  const time = tree.wall();
  const file: File = {
    is: 'file',
    ino: ++tree.inodes,
    cache: createContent(),
    durable: createContent(),
    unsynced: [],
    born: time,
    modified: time,
  };
  changeNames(folder, (names) => void names.set(name, file));
  return file;
}

function newFolder(tree: Tree): Folder {
  return { is: 'folder', ino: ++tree.inodes, names: new Map(), durable: new Map(), unsynced: [] };
}

export function newLink(tree: Tree, path: string, target: string): void {
  if (find(tree, path) !== undefined) throw errno('EEXIST', 'symlink', path);
  const [folder, name] = placeOf(tree, path);
  const link: Link = { is: 'link', ino: ++tree.inodes, target };
  changeNames(folder, (names) => void names.set(name, link));
}

export function linkAt(tree: Tree, path: string): Link {
  const node = nodeAt(tree, path);
  if (node.is !== 'link') throw errno('EINVAL', 'readlink', path);
  return node;
}

/** @returns the first that was made. */
export function makeFolders(tree: Tree, path: string): string | undefined {
  let first: string | undefined;
  for (const [parent, name, whole] of steps(tree, path)) {
    if (parent.names.has(name)) continue;
    const folder = newFolder(tree);
    changeNames(parent, (names) => void names.set(name, folder));
    first ??= whole;
  }
  return first;
}

/**
 * Into another folder, it is on the disk at once, with the folders above: there or here, as file systems with a journal
 * do.
 */
export function renameNode(tree: Tree, from: string, to: string): void {
  const node = nodeAt(tree, from);
  const [folder, name] = placeOf(tree, to);
  const [source, old] = placeOf(tree, from);
  if (source !== folder) {
    changeNames(folder, (names) => void names.set(name, node));
    changeNames(source, (names) => void names.delete(old));
    for (const [above] of steps(tree, folderOf(to))) syncAll(above);
    for (const changed of [folder, source]) syncAll(changed);
    return;
  }
  changeNames(folder, (names) => {
    names.delete(old);
    names.set(name, node);
  });
}

export function forgetName(tree: Tree, path: string): void {
  const [folder, name] = placeOf(tree, path);
  changeNames(folder, (names) => void names.delete(name));
}

function changeNames(folder: Folder, next: (names: Map<string, Node>) => void): void {
  next(folder.names);
  folder.unsynced.push(next);
}

export function changeFile({ wall }: Tree, file: File, next: Change): void {
  file.cache.apply(next);
  file.unsynced.push(next);
  file.modified = wall();
}

/** Puts all of it on the disk. */
export function syncAll(node: Node): void {
  if (node.is === 'link') return;
  if (node.is === 'file') for (const next of node.unsynced) node.durable.apply(next);
  else for (const next of node.unsynced) next(node.durable);
  node.unsynced = [];
}

function placeOf(tree: Tree, path: string): [Folder, string] {
  const folder = folderOf(path);
  return [folderAt(tree, folder), path.slice(folder.length + 1)];
}

export function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

export function statOf(node: Node): Awaited<ReturnType<FileSystem['stat']>> {
  if (node.is !== 'file') return { dev: 1, ino: node.ino, size: 4096, mtimeMs: 0, birthtimeMs: 0 };
  return { dev: 1, ino: node.ino, size: node.cache.size(), mtimeMs: node.modified, birthtimeMs: node.born };
}

export function errno(code: string, name: string, path: string): Error & { code: string } {
  return Object.assign(new Error(`${code}: ${name} '${path}'`), { code });
}
