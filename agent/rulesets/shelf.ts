/**
 * Where the entries of an archive go: rule files into the folder of their set, and what rules may name aside, until all
 * rules are there.
 */
import { constants } from 'node:fs';
import { copyFile, mkdir, readFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CATEGORIES_FILE } from '../engine/folder.ts';
import { errorCode } from '../files/errors.ts';
import { mentionedFiles } from './data.ts';
import { decodeRules } from './encoding.ts';
import { LIST_NAME } from './reputation.ts';

const MAX_ENTRIES = 10_000;
const MAX_FOLDER_NAME = 100;
const MAX_FILE_NAME = 200;
/** What goes beside the rules: what they may be used for, and what their classes and references mean. */
const KEPT =
  /^(?:LICENSE|COPYING|VRT-License)(?:\.txt)?$|^(?:(?:classification|reference|threshold)\.config|threshold\.conf)$/i;
/** Where files wait that rules may name. */
const ASIDE = '.aside';
/** A step of the path of such a file: nothing hidden, and no blanks. */
const DATA_STEP = /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}$/;
/** What may hold rules that are not looked for there. */
const INNER = /\.(?:tar|tgz|gz|zip|bz2|xz|7z|rar)$/i;

/** Says what is wrong with what was downloaded. */
export class ArchiveError extends Error {}

export interface Unpacked {
  /** An archive within it, if it has any. */
  inner?: string;
}

export interface Shelf {
  /** Of the set. */
  readonly directory: string;
  entries: number;
  /** Files that are there, or about to be written. */
  readonly taken: Set<string>;
  /** Files that rules may name, by their path in the archive, until all rules are there. */
  readonly aside: Map<string, string>;
  /** By the folder's name in the archive; the first one's files need no folder. */
  readonly folders: Map<string, string>;
  /** The first archive within. */
  inner: string | undefined;
}

export function createShelf(directory: string): Shelf {
  return { directory, entries: 0, taken: new Set(), aside: new Map(), folders: new Map(), inner: undefined };
}

/**
 * @param link What it is, if it is no file.
 * @returns where it is to be written; undefined for what is not taken.
 * @throws ArchiveError for an entry that tries more.
 */
export async function placeEntry(shelf: Shelf, name: string, link: string | undefined): Promise<string | undefined> {
  if (++shelf.entries > MAX_ENTRIES) throw new ArchiveError(`has more than ${MAX_ENTRIES} entries`);
  const steps = name.split('/').filter((step) => step !== '' && step !== '.');
  if (name.startsWith('/') || steps.includes('..') || name.includes('\0')) throw leadsOut(name);
  const last = steps.pop() ?? '';
  if (name.endsWith('/')) return undefined;
  const safe = safeName(last);
  if (INNER.test(last)) shelf.inner ??= name;
  if (safe === undefined) return link === undefined ? putAside(shelf, [...steps, last]) : undefined;
  const isRules = safe.endsWith('.rules');
  if (link !== undefined) {
    if (isRules) throw new ArchiveError(`${name} is a ${link}, not a file: it is not used`);
    return undefined;
  }
  const folder = join(shelf.directory, isRules ? folderOf(shelf, steps) : '');
  const target = safe === last ? join(folder, safe) : freePlace(shelf, folder, safe);
  if (shelf.taken.has(target)) {
    // The licence of a part, say: the first one is that of the whole.
    if (!isRules) return undefined;
    throw new ArchiveError(`has ${name} twice`);
  }
  await makeRoom(shelf, target);
  return target;
}

/** The folder in the set for the files of a folder in the archive. */
function folderOf({ folders }: Shelf, steps: readonly string[]): string {
  const key = steps.join('/');
  const known = folders.get(key);
  if (known !== undefined) return known;
  const wanted = key
    .replaceAll(/[^\w.+-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(-MAX_FOLDER_NAME);
  const names = new Set(folders.values());
  let name = folders.size === 0 ? '' : wanted || 'rules';
  for (let number = 2; names.has(name); number++) name = `${wanted}-${number}`;
  folders.set(key, name);
  return name;
}

/** For a file that got another name, by which there may be one. */
function freePlace({ taken }: Shelf, folder: string, name: string): string {
  for (let number = 1; ; number++) {
    const target = join(folder, number === 1 ? name : `${number}-${name}`);
    if (!taken.has(target)) return target;
  }
}

async function makeRoom({ taken }: Shelf, target: string): Promise<void> {
  taken.add(target);
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
}

async function putAside({ directory, aside }: Shelf, steps: readonly string[]): Promise<string | undefined> {
  const path = steps.join('/');
  if (steps.length === 0 || aside.has(path) || !steps.every((step) => DATA_STEP.test(step))) return undefined;
  await mkdir(join(directory, ASIDE), { recursive: true });
  const target = join(directory, ASIDE, String(aside.size));
  aside.set(path, target);
  return target;
}

/** Brings the files that rules name to their places, seen from the rules or from the top; the others go. */
export async function finishShelf(shelf: Shelf): Promise<Unpacked> {
  const { directory, taken, aside, inner } = shelf;
  const named = await filesNamed(shelf);
  for (const [path, from] of aside) {
    for (const target of [...placesOf(shelf, path), join(directory, path)]) {
      const isNamed = named.has(target) || isListOf(target, named);
      if (!isNamed || taken.has(target)) continue;
      await makeRoom(shelf, target);
      await copyFile(from, target, constants.COPYFILE_EXCL).catch(ifThere);
    }
  }
  await rm(join(directory, ASIDE), { recursive: true, force: true });
  return inner === undefined ? {} : { inner };
}

/** Where files may be that rules name: beside these, or below the set's folder. */
async function filesNamed({ directory, taken }: Shelf): Promise<Set<string>> {
  const named = new Set<string>();
  for (const file of [...taken].filter((path) => path.endsWith('.rules'))) {
    const decoded = decodeRules(await readFile(file));
    for (const path of mentionedFiles('text' in decoded ? decoded.text : ''))
      for (const folder of [dirname(file), directory]) named.add(join(folder, path));
  }
  return named;
}

/** Where a file of the archive is in the set, seen from each folder with rules that it is below. */
function placesOf({ directory, folders }: Shelf, path: string): string[] {
  return [...folders].flatMap(([folder, name]) => {
    const prefix = folder === '' ? '' : `${folder}/`;
    return path.startsWith(prefix) ? [join(directory, name, path.slice(prefix.length))] : [];
  });
}

/** Reputations lie beside their categories. */
function isListOf(target: string, named: ReadonlySet<string>): boolean {
  return LIST_NAME.test(basename(target)) && named.has(join(dirname(target), CATEGORIES_FILE));
}

/** Whether it is one of the files that rules may name. */
export const isAside = (target: string): boolean => basename(dirname(target)) === ASIDE;

/**
 * Undefined for what is no rule file, or hidden, and what does not go beside them. A rule file whose name has blanks and
 * the like gets one without.
 */
export function safeName(name: string): string | undefined {
  if (KEPT.test(name)) return name;
  if (!name.endsWith('.rules') || name.startsWith('.')) return undefined;
  const stem = name
    .slice(0, -'.rules'.length)
    .replaceAll(/[^A-Za-z0-9_.+-]+/g, '-')
    .slice(-MAX_FILE_NAME)
    .replace(/^[-.+]+/, '');
  return `${stem || 'unnamed'}.rules`;
}

export function leadsOut(name: string): ArchiveError {
  return new ArchiveError(`has an entry that leads out of it, ${name.slice(0, 200)}: it is not used`);
}

/** One that could not be unpacked is missing where a rule names it, and told of there. */
function ifThere(error: unknown): void {
  if (errorCode(error) !== 'ENOENT') throw error;
}
