/** The bytes of a capture file, in pieces of bounded size. */
import { createReadStream } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { addAbortSignal } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { headOf, STDIN } from './head.ts';

export const CHUNK_BYTES = 256 * 1024;

/**
 * A file's bytes, decompressed when it is gzip. A piece is there until the next one is asked for. Reading on after
 * `stop` is an error.
 */
export async function readChunks(file: string, stop: AbortSignal): Promise<AsyncIterable<Buffer>> {
  if (file === STDIN) return cut(addAbortSignal(stop, process.stdin) as AsyncIterable<Buffer>);
  const isGzip = (await headOf(file)).kind === 'gzip';
  if (!isGzip && (await stat(file)).isFile()) return readAhead(await open(file), stop);
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  if (!isGzip) return addAbortSignal(stop, stream) as AsyncIterable<Buffer>;
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  stream.on('error', (error: Error) => gunzip.destroy(error));
  return addAbortSignal(stop, stream.pipe(gunzip)) as AsyncIterable<Buffer>;
}

/** What others give, in pieces of at most a chunk. */
async function* cut(chunks: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) yield chunk.subarray(at, at + CHUNK_BYTES);
}

/** The next chunk is read while one is in use: two buffers take turns. */
async function* readAhead(handle: FileHandle, stop: AbortSignal): AsyncIterable<Buffer> {
  try {
    let [current, next] = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];
    let reading = handle.read(current, 0, CHUNK_BYTES, null);
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      stop.throwIfAborted();
      reading = handle.read(next, 0, CHUNK_BYTES, null);
      // A failure shows when its turn comes.
      reading.catch(() => undefined);
      yield current.subarray(0, bytesRead);
      [current, next] = [next, current];
    }
  } finally {
    await handle.close();
  }
}
