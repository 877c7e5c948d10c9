/**
 * What a file is that is not what was expected, by its first bytes: archives, compressed files and others that are
 * often mistaken for it.
 */

const MAGIC: readonly (readonly [prefix: string, name: string])[] = [
  ['1f8b', 'gzip'],
  ['1f9d', 'compress (.Z)'],
  ['28b52ffd', 'zstd'],
  ['fd377a58', 'xz'],
  ['425a68', 'bzip2'],
  ['04224d18', 'lz4'],
  ['4c5a4950', 'lzip'],
  ['504b0304', 'zip'],
  ['504b0506', 'an empty zip'],
  ['377abcaf271c', '7z'],
  ['526172211a07', 'rar'],
  ['736e6f6f', 'a snoop file'],
  ['25504446', 'a PDF file'],
  ['7f454c46', 'a program'],
];

/** Bytes of a file that are enough to tell. */
export const MAGIC_BYTES = 512;

/** Undefined where it is none of those that are known here. */
export function kindOf(head: Buffer): string | undefined {
  const hex = head.subarray(0, 8).toString('hex');
  const found = MAGIC.find(([prefix]) => hex.startsWith(prefix))?.[1];
  if (found !== undefined) return found;
  return isTar(head) ? 'a tar archive' : undefined;
}

/** By its mark, or where it is older than that by the checksum of its first header. */
export function isTar(head: Buffer): boolean {
  if (head.toString('latin1', 257, 262) === 'ustar') return true;
  if (head.length < 512 || head[0] === 0) return false;
  const stated = /^[ 0]*([0-7]{1,6})[\0 ]/.exec(head.toString('latin1', 148, 156))?.[1];
  let sum = 8 * 0x20;
  for (const [index, byte] of head.subarray(0, 512).entries()) if (index < 148 || index > 155) sum += byte;
  return stated !== undefined && Number.parseInt(stated, 8) === sum;
}
