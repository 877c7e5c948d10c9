/**
 * Takes the rule files, and what goes beside them, out of what was downloaded: a tar or a zip, a rule file, or one of
 * them in gzip, told by content.
 *
 *     <folder>/<name>                  files of the first folder with rules
 *     <folder>/<its folders>/<name>    files of any other: two files of one name are two files
 *
 * Files that rules name (data.ts) lie where they lay, seen from the rules.
 *
 * Invariants: nothing is written outside the folder, whatever the names are, and nothing but plain files: an archive
 * that tries more is refused. Bounded: entries, unpacked bytes, and how many times its own size that may be.
 */
import { constants, createReadStream } from 'node:fs';
import { copyFile, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline as connect, Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isNativeError } from 'node:util/types';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { openPromise, type Entry } from 'yauzl';
import { CATEGORIES_FILE } from '../engine/folder.ts';
import { errorCode } from '../files/errors.ts';
import { isTar, kindOf, MAGIC_BYTES } from '../files/magic.ts';
import { mentionedFiles } from './data.ts';
import { LIST_NAME } from './reputation.ts';

const MAX_ENTRIES = 10_000;
export const MAX_UNPACKED_BYTES = 256 << 20;
/** Rules are packed to a tenth, and generated ones to a fiftieth. What is small may be more. */
const MAX_RATIO = 250;
const ALWAYS_BYTES = 8 << 20;
const MAX_FOLDER_NAME = 100;
/** What goes beside the rules: what they may be used for, and what their classes and references mean. */
const KEPT =
  /^(?:LICENSE|COPYING|VRT-License)(?:\.txt)?$|^(?:(?:classification|reference|threshold)\.config|threshold\.conf)$/i;
/** Where files wait that rules may name. */
const ASIDE = '.aside';
/** A step of the path of such a file: nothing hidden, and no blanks. */
const DATA_STEP = /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}$/;
/** What may hold rules that are not looked for there. */
const INNER = /\.(?:tar|tgz|gz|zip|bz2|xz|7z|rar)$/i;

/** Also without the mark, which is known by its checksum. The library's types do not have it. */
const READ_OLD_TAR: object = { allowUnknownFormat: true };

/** Says what is wrong with what was downloaded. */
export class ArchiveError extends Error {}

export interface Unpacked {
  /** An archive within it, if it has any. */
  inner?: string;
}

/**
 * @param file What was downloaded. @param name What a rule file that is no archive is to be called.
 * @throws ArchiveError
 */
export async function unpackRules(
  file: string,
  name: string,
  directory: string,
  maxBytes = MAX_UNPACKED_BYTES,
): Promise<Unpacked> {
  const limit = await limitOf(file, maxBytes);
  const head = await firstBytes(createReadStream(file, { end: MAGIC_BYTES - 1 }), MAGIC_BYTES);
  const kind = kindOf(head);
  if (kind === 'zip') return unpackZip(file, directory, limit);
  const isGzip = kind === 'gzip';
  const inner = isGzip ? await firstBytes(unpacked(file, isGzip, limit), MAGIC_BYTES) : head;
  if (isTar(inner)) return unpackTar(unpacked(file, isGzip, limit), directory);
  const unread = kindOf(inner);
  if (unread !== undefined) {
    throw new ArchiveError(
      `is ${unread}${isGzip ? ' within gzip' : ''}: expected .tar.gz, .tar, .zip, .rules or .rules.gz`,
    );
  }
  const target = join(directory, safeName(name.replace(/\.gz$/, '')) ?? 'downloaded.rules');
  await pipeline(unpacked(file, isGzip, limit), await writer(target));
  return {};
}

interface Limit {
  bytes: number;
  reason: string;
}

async function limitOf(file: string, maxBytes: number): Promise<Limit> {
  const { size } = await stat(file);
  const byRatio = Math.max(ALWAYS_BYTES, MAX_RATIO * size);
  return byRatio < maxBytes
    ? { bytes: byRatio, reason: `unpacks to more than ${MAX_RATIO} times its size` }
    : { bytes: maxBytes, reason: `unpacks to more than ${maxBytes} bytes` };
}

/** Lets pass what the limit allows, of all streams together. */
function counting(limit: Limit): () => Transform {
  let bytes = 0;
  return () =>
    new Transform({
      transform(chunk: Buffer, _, done) {
        bytes += chunk.length;
        if (bytes > limit.bytes) done(new ArchiveError(limit.reason));
        else done(null, chunk);
      },
    });
}

function unpacked(file: string, isGzip: boolean, limit: Limit): Readable {
  const stream = createReadStream(file);
  const counted = counting(limit)();
  // It destroys all of them with the first that fails, or that is not read to its end.
  if (isGzip) connect(stream, createGunzip(), counted, () => undefined);
  else connect(stream, counted, () => undefined);
  return counted;
}

async function firstBytes(stream: Readable, count: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= count) break;
  }
  return Buffer.concat(chunks).subarray(0, count);
}

async function unpackTar(bytes: Readable, directory: string): Promise<Unpacked> {
  const archive = extract(READ_OLD_TAR);
  const shelf = createShelf(directory);
  const reading = pipeline(bytes, archive);
  // It ends with the loop below; a failure shows there too.
  reading.catch(() => undefined);
  for await (const entry of archive) {
    const { name, type } = entry.header;
    const isFolder = type === 'directory';
    const target = await shelf.place(isFolder ? `${name}/` : name, isFolder || type === 'file' ? undefined : type);
    if (type === 'file' && target !== undefined) await pipeline(entry, await writer(target));
    else entry.resume();
  }
  await reading;
  return shelf.finish();
}

async function unpackZip(file: string, directory: string, limit: Limit): Promise<Unpacked> {
  const shelf = createShelf(directory);
  const counted = counting(limit);
  const archive = await openPromise(file, { lazyEntries: true, autoClose: false }).catch(notWhole);
  try {
    for await (const entry of archive.eachEntry()) {
      const target = await shelf.place(entry.fileName, linkOf(entry));
      if (target === undefined) continue;
      if (!entry.canDecodeFileData() && isAside(target)) continue;
      if (!entry.canDecodeFileData()) {
        const how = entry.isEncrypted() ? 'encrypted' : `packed in a way (${entry.compressionMethod}) that is not read`;
        throw new ArchiveError(`${entry.fileName} is ${how}`);
      }
      await pipeline(await archive.openReadStreamPromise(entry), counted(), await writer(target));
    }
  } catch (error) {
    notWhole(error);
  } finally {
    archive.close();
  }
  return shelf.finish();
}

/** Of an archive that was made on Unix: what a file is is in the upper half. */
function linkOf({ versionMadeBy, externalFileAttributes }: Entry): string | undefined {
  const type = (externalFileAttributes >>> 16) & 0o170_000;
  if (versionMadeBy >> 8 !== 3 || type === 0 || type === 0o100_000 || type === 0o040_000) return undefined;
  return type === 0o120_000 ? 'symlink' : 'special file';
}

/** The library's errors are about the archive, but for those that have a code of the file system. */
function notWhole(error: unknown): never {
  if (error instanceof ArchiveError || !isNativeError(error)) throw error;
  const code = errorCode(error);
  if (code !== undefined && !code.startsWith('Z_')) throw error;
  const [, name] = /^(?:absolute path|invalid relative path): (.*)$/s.exec(error.message) ?? [];
  if (name !== undefined) throw leadsOut(name);
  throw new ArchiveError(`is no whole zip file: ${error.message}`);
}

function leadsOut(name: string): ArchiveError {
  return new ArchiveError(`has an entry that leads out of it, ${name.slice(0, 200)}: it is not used`);
}

/** Decides where each entry goes, and refuses those that try more. */
function createShelf(directory: string) {
  const taken = new Set<string>();
  /** Files that rules may name, by their path in the archive, until all rules are there. */
  const aside = new Map<string, string>();
  /** By the folder's name in the archive; the first one's files need no folder. */
  const folders = new Map<string, string>();
  let entries = 0;
  let inner: string | undefined;

  function folderOf(steps: readonly string[]): string {
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

  /** @param link What it is, if it is no file. @returns where it is to be written; undefined for what is not taken. */
  async function place(name: string, link: string | undefined): Promise<string | undefined> {
    if (++entries > MAX_ENTRIES) throw new ArchiveError(`has more than ${MAX_ENTRIES} entries`);
    const steps = name.split('/').filter((step) => step !== '' && step !== '.');
    if (name.startsWith('/') || steps.includes('..') || name.includes('\0')) throw leadsOut(name);
    const last = steps.pop() ?? '';
    if (name.endsWith('/')) return undefined;
    const safe = safeName(last);
    if (INNER.test(last)) inner ??= name;
    if (safe === undefined) return link === undefined ? putAside([...steps, last]) : undefined;
    const isRules = safe.endsWith('.rules');
    if (link !== undefined) {
      if (isRules) throw new ArchiveError(`${name} is a ${link}, not a file: it is not used`);
      return undefined;
    }
    const target = join(directory, isRules ? folderOf(steps) : '', safe);
    if (taken.has(target)) {
      // The licence of a part, say: the first one is that of the whole.
      if (!isRules) return undefined;
      throw new ArchiveError(`has ${name} twice`);
    }
    taken.add(target);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    return target;
  }

  async function putAside(steps: readonly string[]): Promise<string | undefined> {
    const path = steps.join('/');
    if (steps.length === 0 || aside.has(path) || !steps.every((step) => DATA_STEP.test(step))) return undefined;
    await mkdir(join(directory, ASIDE), { recursive: true });
    const target = join(directory, ASIDE, String(aside.size));
    aside.set(path, target);
    return target;
  }

  /** Brings the files that rules name to their places, seen from the rules or from the top; the others go. */
  async function finish(): Promise<Unpacked> {
    const named = await filesNamed([...taken].filter((file) => file.endsWith('.rules')));
    for (const [path, from] of aside) {
      const places = [...folders].flatMap(([folder, name]) => {
        const prefix = folder === '' ? '' : `${folder}/`;
        return path.startsWith(prefix) ? [join(directory, name, path.slice(prefix.length))] : [];
      });
      for (const target of [...places, join(directory, path)]) {
        const isNamed = named.has(target) || isListOf(target, named);
        if (!isNamed || taken.has(target)) continue;
        taken.add(target);
        await mkdir(dirname(target), { recursive: true, mode: 0o755 });
        await copyFile(from, target, constants.COPYFILE_EXCL).catch(ifThere);
      }
    }
    await rm(join(directory, ASIDE), { recursive: true, force: true });
    return inner === undefined ? {} : { inner };
  }

  /** Where files may be that rules name: beside these, or below the set's folder. */
  async function filesNamed(rules: readonly string[]): Promise<Set<string>> {
    const named = new Set<string>();
    for (const file of rules) {
      for (const path of mentionedFiles(await readFile(file, 'latin1')))
        for (const folder of [dirname(file), directory]) named.add(join(folder, path));
    }
    return named;
  }

  return { place, finish };
}

/** Reputations lie beside their categories. */
function isListOf(target: string, named: ReadonlySet<string>): boolean {
  return LIST_NAME.test(basename(target)) && named.has(join(dirname(target), CATEGORIES_FILE));
}

/** Whether it is one of the files that rules may name. */
const isAside = (target: string): boolean => basename(dirname(target)) === ASIDE;

/** Undefined for what is no rule file, and what does not go beside them. */
function safeName(name: string): string | undefined {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}$/.test(name) && (name.endsWith('.rules') || KEPT.test(name))) return name;
  return undefined;
}

/** One that could not be unpacked is missing where a rule names it, and told of there. */
function ifThere(error: unknown): void {
  if (errorCode(error) !== 'ENOENT') throw error;
}

async function writer(path: string) {
  return (await open(path, 'wx', 0o644)).createWriteStream();
}
