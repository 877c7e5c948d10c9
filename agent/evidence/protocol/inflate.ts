/** The beginning of what is compressed, whatever it would grow to: memory and time are bounded. */
import { brotliDecompressSync, constants, gunzipSync, inflateRawSync, inflateSync } from 'node:zlib';

/** Of the decoded bytes. */
const MAX_BYTES = 128 << 10;
const MAX_INPUT = 64 << 10;
/** Deflate makes no more than 1,032 bytes of one: from so few on, it always fits. */
const LEAST_INPUT = 64;

type Inflate = (bytes: Buffer) => Buffer;

const options = { maxOutputLength: MAX_BYTES, finishFlush: constants.Z_SYNC_FLUSH };

const BY_NAME: Readonly<Record<string, readonly Inflate[]>> = {
  gzip: [(bytes) => gunzipSync(bytes, options)],
  'x-gzip': [(bytes) => gunzipSync(bytes, options)],
  // With zlib's header, or without, as some servers send it.
  deflate: [(bytes) => inflateSync(bytes, options), (bytes) => inflateRawSync(bytes, options)],
  br: [
    (bytes) =>
      brotliDecompressSync(bytes, { maxOutputLength: MAX_BYTES, finishFlush: constants.BROTLI_OPERATION_FLUSH }),
  ],
};

/**
 * @param encoding As `Content-Encoding` names it; of several the last, whose result may still be encoded.
 * @returns the bytes as they are where nothing is known of the encoding. @throws where they are not of it.
 */
export function inflated(bytes: Buffer, encoding: string): Buffer {
  const [, name = ''] = /(?:^|,)\s{0,8}([a-z-]{1,16})\s{0,8}$/.exec(encoding.toLowerCase().slice(-64)) ?? [];
  const ways = BY_NAME[name];
  if (ways === undefined || bytes.length === 0) return bytes;
  let failure: unknown;
  for (const way of ways) {
    try {
      return beginning(bytes.subarray(0, MAX_INPUT), way);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** Less and less of it, until what comes out has room. */
function beginning(bytes: Buffer, way: Inflate): Buffer {
  for (let length = bytes.length; ; length >>>= 2) {
    try {
      return way(bytes.subarray(0, length));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE' || length <= LEAST_INPUT) throw error;
    }
  }
}
