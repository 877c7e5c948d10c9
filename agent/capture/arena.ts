/**
 * The memory that packets go through: the source fills it, the engine's FIFO is fed from it, without a copy between.
 *
 * A ring of bytes. What was committed is given out in order, and its place is used again only when the reader of the
 * FIFO has read it: a FIFO that was given pages shows whatever is in them when it is read. Positions in the stream are
 * counted from 0, in bytes.
 */
import { RECORD_HEADER } from './record.ts';

/** Pieces are released whole, so they are kept small. */
const MERGED_BYTES = 64 * 1024;

interface Piece {
  from: number;
  to: number;
  /** Where `from` is in the stream. */
  position: number;
}

export interface Arena {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** A place for at least `least` bytes in one piece, up to `end`; -1: there is none. `commit` takes it. */
  reserve: (least: number) => number;
  /** Where the place that `reserve` gave ends. */
  readonly end: number;
  /** Adds whole records to the stream. They are behind the last ones, or at a place of `reserve`. */
  commit(from: number, to: number): void;
  /** Bytes that were committed and not taken. */
  readonly waiting: number;
  /**
   * Of the first bytes that wait: offers them in one piece, and takes as many as `write` says it took.
   * @returns what it said.
   */
  consume(write: (from: number, to: number) => number): number;
  /** All before this position of the stream was read: its place is free, up to the piece that is read now. */
  release(position: number): void;
  /** How much of the stream was taken. */
  readonly consumed: number;
  /** Empties it. `unread` is called with the offset of each record whose end is behind `position`. */
  clear(position: number, unread: (record: number) => void): void;
}

export function createArena(bytes: Buffer): Arena {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  /** In the order of the stream; those that were taken and not released come first. */
  let pieces: Piece[] = [];
  let committed = 0;
  let consumed = 0;
  let end = 0;

  function reserve(least: number): number {
    const first = pieces[0];
    const last = pieces.at(-1);
    if (first === undefined || last === undefined) {
      end = bytes.length;
      return least <= end ? 0 : -1;
    }
    if (last.to > first.from) {
      end = bytes.length;
      if (end - last.to >= least) return last.to;
      end = first.from;
      return end >= least ? 0 : -1;
    }
    end = first.from;
    return end - last.to >= least ? last.to : -1;
  }

  function commit(from: number, to: number): void {
    if (to === from) return;
    const last = pieces.at(-1);
    if (last?.to === from && to - last.from <= MERGED_BYTES) last.to = to;
    else pieces.push({ from, to, position: committed });
    committed += to - from;
  }

  function consume(write: (from: number, to: number) => number): number {
    const piece = pieces.find(({ from, to, position }) => position + to - from > consumed);
    if (piece === undefined) return 0;
    const count = write(piece.from + consumed - piece.position, piece.to);
    if (count > 0) consumed += count;
    return count;
  }

  function release(position: number): void {
    let released = 0;
    for (const piece of pieces) {
      if (piece.position + piece.to - piece.from > position) break;
      released++;
    }
    if (released > 0) pieces = pieces.slice(released);
  }

  function clear(position: number, unread: (record: number) => void): void {
    for (const piece of pieces) {
      for (let record = piece.from; record < piece.to;) {
        const next = record + RECORD_HEADER + view.getUint32(record + 8, true);
        if (piece.position + next - piece.from > position) unread(record);
        record = next;
      }
    }
    pieces = [];
    committed = consumed = 0;
  }

  return {
    bytes,
    view,
    reserve,
    get end() {
      return end;
    },
    commit,
    get waiting() {
      return committed - consumed;
    },
    consume,
    release,
    get consumed() {
      return consumed;
    },
    clear,
  };
}
