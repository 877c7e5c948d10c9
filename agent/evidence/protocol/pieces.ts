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
  /** In the order of their offsets. */
  runs(): Run[];
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
    runs: () => joined(pieces),
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

function joined(pieces: readonly Piece[]): Run[] {
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
      bytes: Buffer.concat(group.map(({ bytes }) => bytes)),
      marks: group.map(({ start, time }) => ({ at: start - offset, time })),
    };
  });
}

/** When the byte at `at` of the run came. */
export function timeAt({ marks }: Run, at: number): number {
  return (marks.findLast((mark) => mark.at <= at) ?? marks[0])?.time ?? 0;
}
