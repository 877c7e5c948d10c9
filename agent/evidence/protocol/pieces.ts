/**
 * Bytes that came in pieces, in any order and some of them twice, put together by their offsets.
 *
 * What came first stays, as Linux and Wireshark have it. Bytes and pieces are bounded: what is beyond is left out, and
 * said by `isCut`.
 */

/** Contiguous bytes. */
export interface Run {
  offset: number;
  bytes: Buffer;
  /** Where its pieces begin in `bytes`, and when each of them came. */
  marks: readonly Mark[];
}

interface Mark {
  at: number;
  time: number;
}

interface Piece {
  start: number;
  bytes: Buffer;
  time: number;
}

export interface Pieces {
  add(start: number, bytes: Buffer, time: number): void;
  /** In the order of their offsets. @param allocate Of so many bytes, where pieces are put together. */
  runs(allocate?: (bytes: number) => Buffer): Run[];
  readonly isCut: boolean;
  /** Bytes that are there. */
  readonly size: number;
}

const MAX_PIECES = 16_384;

export function createPieces(maxBytes: number): Pieces {
  const pieces: Piece[] = [];
  let room = maxBytes;
  let isCut = false;

  /** A piece that overlaps no other. */
  function insert(index: number, start: number, bytes: Buffer, time: number): void {
    const length = Math.min(bytes.length, room);
    if (length < bytes.length || pieces.length >= MAX_PIECES) isCut = true;
    if (length === 0 || pieces.length >= MAX_PIECES) return;
    room -= length;
    pieces.splice(index, 0, { start, bytes: bytes.subarray(0, length), time });
  }

  function add(start: number, bytes: Buffer, time: number): void {
    const end = start + bytes.length;
    let at = start;
    let index = firstBehind(pieces, start);
    while (at < end) {
      const next = pieces[index];
      const gapEnd = Math.min(end, next?.start ?? end);
      if (at < gapEnd) {
        const before = pieces.length;
        insert(index, at, bytes.subarray(at - start, gapEnd - start), time);
        index += pieces.length - before;
      }
      if (next === undefined) return;
      at = Math.max(at, next.start + next.bytes.length);
      index++;
    }
  }

  return {
    add,
    runs: (allocate = Buffer.allocUnsafe.bind(Buffer)) => joined(pieces, allocate),
    get isCut() {
      return isCut;
    },
    get size() {
      return maxBytes - room;
    },
  };
}

/** The index of the first piece that ends behind `offset`. */
function firstBehind(pieces: readonly Piece[], offset: number): number {
  let low = 0;
  let high = pieces.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const piece = pieces[middle];
    if (piece !== undefined && piece.start + piece.bytes.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function joined(pieces: readonly Piece[], allocate: (bytes: number) => Buffer): Run[] {
  const groups: Piece[][] = [];
  let end = Number.NaN;
  for (const piece of pieces) {
    if (piece.start === end) groups.at(-1)?.push(piece);
    else groups.push([piece]);
    end = piece.start + piece.bytes.length;
  }
  return groups.map((group) => {
    const offset = group[0]?.start ?? 0;
    return {
      offset,
      bytes: together(group, allocate),
      marks: group.map(({ start, time }) => ({ at: start - offset, time })),
    };
  });
}

/** One alone is not copied. */
function together(group: readonly Piece[], allocate: (bytes: number) => Buffer): Buffer {
  const [first] = group;
  if (first !== undefined && group.length === 1) return first.bytes;
  const size = group.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const all = allocate(size).subarray(0, size);
  let at = 0;
  for (const { bytes } of group) at += bytes.copy(all, at);
  return all;
}

/** When the byte at `at` of the run came. */
export function timeAt({ marks }: Run, at: number): number {
  return (marks.findLast((mark) => mark.at <= at) ?? marks[0])?.time ?? 0;
}
