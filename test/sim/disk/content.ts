/** The bytes of a file of the simulated disk, and what changes them. */

export type Change =
  { is: 'write'; offset: number; bytes: Buffer; order?: number } | { is: 'truncate'; length: number };

/** Bytes of a file. */
export interface Content {
  size(): number;
  apply(change: Change): void;
  copyTo(target: Buffer, offset: number, length: number, position: number): number;
  /** All of it; valid until the next change. */
  slice(): Buffer;
  clone(): Content;
}

export function createContent(initial: Buffer = Buffer.alloc(0)): Content {
  let bytes = initial;
  let size = initial.length;

  function grow(length: number): void {
    if (length > bytes.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * bytes.length));
      bytes.copy(larger, 0, 0, size);
      bytes = larger;
    }
    // What a truncation left behind the end reads as NUL.
    if (length > size) bytes.fill(0, size, length);
    size = length;
  }

  return {
    size: () => size,
    apply(change) {
      if (change.is === 'write') {
        if (change.bytes.length === 0) return;
        grow(Math.max(size, change.offset + change.bytes.length));
        change.bytes.copy(bytes, change.offset);
      } else if (change.length > size) grow(change.length);
      else size = change.length;
    },
    copyTo: (target, offset, length, position) =>
      position >= size ? 0 : bytes.copy(target, offset, position, Math.min(size, position + length)),
    slice: () => bytes.subarray(0, size),
    clone: () => createContent(Buffer.from(bytes.subarray(0, size))),
  };
}
