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
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline as connect, Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isNativeError } from 'node:util/types';
import { crc32, createGunzip } from 'node:zlib';
import { extract, type ExtractEvents } from 'tar-stream';
import { openPromise, type Entry } from 'yauzl';
import { errorCode } from '../files/errors.ts';
import { isTar, kindOf, MAGIC_BYTES } from '../files/magic.ts';
import {
  ArchiveError,
  createShelf,
  finishShelf,
  isAside,
  leadsOut,
  placeEntry,
  safeName,
  type Unpacked,
} from './shelf.ts';

const MAX_UNPACKED_BYTES = 256 << 20;
/** Rules are packed to a tenth, and generated ones to a fiftieth. What is small may be more. */
const MAX_RATIO = 250;
const ALWAYS_BYTES = 8 << 20;

/** Also without the mark, which is known by its checksum. The library's types do not have it. */
const READ_OLD_TAR: object = { allowUnknownFormat: true };

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
  await pipeline(unpacked(file, isGzip, limit), writer(target));
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
    const target = await placeEntry(
      shelf,
      isFolder ? `${name}/` : name,
      // What the library does not know, as a sparse file, has none.
      isFolder || type === 'file' ? undefined : (type ?? 'special entry'),
    );
    if (type === 'file' && target !== undefined) await writeEntry(entry, target, reading);
    else entry.resume();
  }
  await reading;
  return finishShelf(shelf);
}

type TarEntry = ExtractEvents['entry'][1];

/**
 * An entry whose archive has ended too early before anybody reads it never ends.
 * @param reading Of the archive.
 */
async function writeEntry(entry: TarEntry, target: string, reading: Promise<void>): Promise<void> {
  const output = writer(target);
  const written = pipeline(entry, output);
  try {
    await Promise.race([written, reading.then(() => written)]);
  } catch (error) {
    output.destroy();
    throw error;
  }
}

/** Neither zip's library nor zlib looks at the sum of what comes out. */
function checkingSum({ fileName, crc32: expected }: Pick<Entry, 'fileName' | 'crc32'>): Transform {
  let sum = 0;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      sum = crc32(chunk, sum);
      done(null, chunk);
    },
    flush(done) {
      done(sum === expected ? null : new ArchiveError(`is no whole zip file: ${fileName} is not what was packed`));
    },
  });
}

async function unpackZip(file: string, directory: string, limit: Limit): Promise<Unpacked> {
  const shelf = createShelf(directory);
  const counted = counting(limit);
  const archive = await openPromise(file, { lazyEntries: true, autoClose: false }).catch(notWhole);
  try {
    for await (const entry of archive.eachEntry()) {
      const target = await placeEntry(shelf, entry.fileName, linkOf(entry));
      if (target === undefined) continue;
      if (!entry.canDecodeFileData() && isAside(target)) continue;
      if (!entry.canDecodeFileData()) {
        const how = entry.isEncrypted() ? 'encrypted' : `packed in a way (${entry.compressionMethod}) that is not read`;
        throw new ArchiveError(`${entry.fileName} is ${how}`);
      }
      await pipeline(await archive.openReadStreamPromise(entry), counted(), checkingSum(entry), writer(target));
    }
  } catch (error) {
    notWhole(error);
  } finally {
    archive.close();
  }
  return finishShelf(shelf);
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

/** Opens while it is written to: a stream that fails while nothing listens to it would end the process. */
function writer(path: string): WriteStream {
  return createWriteStream(path, { flags: 'wx', mode: 0o644 });
}
