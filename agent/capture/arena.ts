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

interface State {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** In the order of the stream; those that were taken and not released come first. */
  pieces: Piece[];
  committed: number;
  consumed: number;
  /** Of the place that was reserved last. */
  end: number;
}

export function createArena(bytes: Buffer): Arena {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const state: State = { bytes, view, pieces: [], committed: 0, consumed: 0, end: 0 };
  return {
    bytes,
    view,
    reserve: (least) => reserve(state, least),
    get end() {
      return state.end;
    },
    commit: (from, to) => commit(state, from, to),
    get waiting() {
      return state.committed - state.consumed;
    },
    consume: (write) => consume(state, write),
    release: (position) => release(state, position),
    get consumed() {
      return state.consumed;
    },
    clear: (position, unread) => clear(state, position, unread),
  };
}

function reserve(state: State, least: number): number {
  const { bytes, pieces } = state;
  const first = pieces[0];
  const last = pieces.at(-1);
  if (first === undefined || last === undefined) {
    state.end = bytes.length;
    return least <= state.end ? 0 : -1;
  }
  if (last.to > first.from) {
    state.end = bytes.length;
    if (state.end - last.to >= least) return last.to;
    state.end = first.from;
    return state.end >= least ? 0 : -1;
  }
  state.end = first.from;
  return state.end - last.to >= least ? last.to : -1;
}

function commit(state: State, from: number, to: number): void {
  if (to === from) return;
  const { pieces, committed } = state;
  const last = pieces.at(-1);
  if (last?.to === from && to - last.from <= MERGED_BYTES) last.to = to;
  else pieces.push({ from, to, position: committed });
  state.committed += to - from;
}

function consume(state: State, write: (from: number, to: number) => number): number {
  const { pieces, consumed } = state;
  const piece = pieces.find(({ from, to, position }) => position + to - from > consumed);
  if (piece === undefined) return 0;
  const count = write(piece.from + consumed - piece.position, piece.to);
  if (count > 0) state.consumed += count;
  return count;
}

function release(state: State, position: number): void {
  let released = 0;
  for (const piece of state.pieces) {
    if (piece.position + piece.to - piece.from > position) break;
    released++;
  }
  if (released > 0) state.pieces = state.pieces.slice(released);
}

function clear(state: State, position: number, unread: (record: number) => void): void {
  for (const piece of state.pieces) {
    for (let record = piece.from; record < piece.to;) {
      const next = record + RECORD_HEADER + state.view.getUint32(record + 8, true);
      if (piece.position + next - piece.from > position) unread(record);
      record = next;
    }
  }
  state.pieces = [];
  state.committed = state.consumed = 0;
}
