/**
 * A version of a rule set as one file: a tar.gz with the files of its folder. The same files make the same bytes, so
 * that a server which packs again gives nodes nothing new.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { syncDirectory } from '../files/replace.ts';

/** What only the one who installed it needs. */
const OWN = 'version.json';

/** @param directory Of the version. @param files Where it is written, as `<sha256>.tar.gz`. */
export async function packVersion(directory: string, files: string): Promise<{ digest: string; bytes: number }> {
  const paths = await filesIn(directory);
  const archive = pack();
  const filled = (async () => {
    for (const path of paths) await addFile(archive, path, await readFile(join(directory, path)));
    archive.finalize();
  })();
  const sha256 = createHash('sha256');
  let bytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      sha256.update(chunk);
      done(null, chunk);
    },
  });
  const next = join(files, `.new-${process.pid}`);
  const written = pipeline(archive, createGzip({ level: 9 }), count, createWriteStream(next, { mode: 0o644 }));
  // What fails first is the reason.
  await Promise.all([written, filled.catch((error: Error) => archive.destroy(error))]);
  await sync(next);
  const digest = sha256.digest('hex');
  await rename(next, join(files, nameOf(digest)));
  await syncDirectory(files);
  return { digest, bytes };
}

export const nameOf = (digest: string): string => `${digest}.tar.gz`;

function addFile(archive: ReturnType<typeof pack>, name: string, content: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry({ name, mode: 0o644, mtime: new Date(0) }, content, (error) =>
      error == null ? resolve() : reject(error),
    );
  });
}

/** Those of a folder before those of the folders in it, each by name. */
async function filesIn(directory: string, below = ''): Promise<string[]> {
  const entries = (await readdir(join(directory, below), { withFileTypes: true })).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  );
  const paths: string[] = [];
  for (const entry of entries) if (entry.isFile() && entry.name !== OWN) paths.push(join(below, entry.name));
  for (const entry of entries)
    if (entry.isDirectory()) paths.push(...(await filesIn(directory, join(below, entry.name))));
  return paths;
}

async function sync(file: string): Promise<void> {
  const handle = await open(file, 'r');
  await handle.sync().finally(() => handle.close());
}
