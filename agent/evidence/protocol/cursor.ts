/** Reads numbers and vectors of a binary protocol, big-endian. */

/** The bytes end before what is read does. */
export class CutShort extends Error {}

export interface Cursor {
  readonly left: number;
  u8(): number;
  u16(): number;
  u24(): number;
  u32(): number;
  take(length: number): Buffer;
  /** A vector, behind its length in so many bytes. */
  vector(lengthBytes: 1 | 2 | 3): Buffer;
}

/** Each read: @throws CutShort. */
export function cursorOf(bytes: Buffer): Cursor {
  let at = 0;

  function take(length: number): Buffer {
    if (at + length > bytes.length) throw new CutShort();
    at += length;
    return bytes.subarray(at - length, at);
  }

  const number = (length: number): number => take(length).readUIntBE(0, length);
  return {
    get left() {
      return bytes.length - at;
    },
    u8: () => number(1),
    u16: () => number(2),
    u24: () => number(3),
    u32: () => number(4),
    take,
    vector: (lengthBytes) => take(number(lengthBytes)),
  };
}

/** Numbers of 16 bits; an odd byte at the end is none. */
export function numbers16(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length >>> 1 }, (_, index) => bytes.readUInt16BE(2 * index));
}

/** Runs `read`; what it found before the bytes ended is in what it filled. */
export function untilCut(read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof CutShort)) throw error;
  }
}
