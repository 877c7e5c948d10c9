/**
 * Splits a stream of bytes into JSON objects, one a line, and finds the next intact object after damage.
 *
 * - An item is an object, or a run of bytes between intact objects of one line (one damage each). A line's end and
 *   white space between objects belong to no item.
 * - A torn line may have the next object glued on behind it, and objects may have lost the line end between them:
 *   behind damage, reading goes on at the next place where an object's first bytes (`marker`) stand.
 * - A line longer than `MAX_ITEM` is one damage, to its end, whatever it holds. At most `MAX_ITEM` bytes and one chunk
 *   are held.
 * - After `end()` more bytes may follow; offsets go on counting.
 *
 * Not promised: a changed byte that leaves an object well-formed and in range is not noticed: there is no checksum.
 */
import type { Alert, Decoded, Decoder } from '../alert.ts';

/** Longest object, in bytes. */
export const MAX_ITEM = 256 * 1024;
/** How often reading starts anew within one line: bounds the work that a hostile line makes. */
const MAX_ATTEMPTS = 128;

/** How many lines an object may extend over. */
const MAX_LINES = 16;

const NEWLINE = 0x0a;
const LINE_END = Buffer.from('\n');
const BRACE = 0x7b;

/** A line both ways: `chars[i]` is `bytes[i]` (ISO 8859-1). So string functions search it and offsets count bytes. */
export interface Line {
  bytes: Buffer;
  chars: string;
}

/** What stands at a position of a line; `end` is the offset behind the object. */
export type ObjectAt =
  | { kind: 'alert'; alert: Alert; end: number }
  /** An intact object that is no alert: passed over. */
  | { kind: 'other'; end: number }
  /** An object that is well-formed but can't be an alert. */
  | { kind: 'invalid'; reason: string; end: number }
  /** No intact object. */
  | { kind: 'broken'; reason: string }
  /** An object that ends neither here nor broken: the next line may continue it. */
  | { kind: 'open'; reason: string };

export interface ObjectFormat {
  /** The bytes that begin each object. */
  marker: string;
  /** Reads the object that starts at `at`. Must not throw. */
  read(line: Line, at: number): ObjectAt;
}

interface State {
  readonly format: ObjectFormat;
  /** Stream offset of the first byte of `partial`, or of the overlong line. */
  start: number;
  /** The line begun, in pieces; and how many bytes of it were seen. */
  partial: Buffer[];
  length: number;
  /** Lines of an object that a line end didn't close. They stand before `partial`. */
  unclosed: { bytes: Buffer; start: number } | undefined;
  /** How many lines that object has by now. */
  unclosedLines: number;
}

export function createJsonLinesDecoder(format: ObjectFormat): Decoder {
  const state: State = { format, start: 0, partial: [], length: 0, unclosed: undefined, unclosedLines: 0 };
  return {
    push: (chunk) => push(state, chunk),
    end() {
      const items: Decoded[] = [];
      if (state.length > 0) finishLine(state, 0, items);
      giveUpUnclosed(state, items);
      return items;
    },
  };
}

function push(state: State, chunk: Buffer): Decoded[] {
  const items: Decoded[] = [];
  let from = 0;
  for (;;) {
    const newline = chunk.indexOf(NEWLINE, from);
    if (newline < 0) break;
    addPiece(state, chunk.subarray(from, newline));
    finishLine(state, 1, items);
    from = newline + 1;
  }
  // A copy, so that neither a caller's buffer that is reused nor a whole chunk for its last bytes stays in use.
  if (from < chunk.length) addPiece(state, Buffer.from(chunk.subarray(from)));
  return items;
}

function addPiece(state: State, piece: Buffer): void {
  if (piece.length === 0) return;
  state.length += piece.length;
  if (state.length <= MAX_ITEM) state.partial.push(piece);
  else state.partial = [];
}

/** The line [start, start + length) is complete; `lineEnd` is 1 when a line end follows it, 0 at the stream's end. */
function finishLine(state: State, lineEnd: 0 | 1, items: Decoded[]): void {
  const { start, length, partial } = state;
  state.partial = [];
  state.length = 0;
  state.start = start + length + lineEnd;
  if (length > MAX_ITEM) {
    giveUpUnclosed(state, items);
    items.push({ kind: 'damage', reason: `longer than ${MAX_ITEM} bytes`, start, end: start + length });
    return;
  }
  const bytes = partial.length === 1 && partial[0] ? partial[0] : Buffer.concat(partial);
  if (isTooLong(state, length)) giveUpUnclosed(state, items);
  const { unclosed } = state;
  if (unclosed) {
    state.unclosed = undefined;
    readLine(state, Buffer.concat([unclosed.bytes, LINE_END, bytes]), unclosed.start, lineEnd === 0, items);
  } else {
    state.unclosedLines = 0;
    readLine(state, bytes, start, lineEnd === 0, items);
  }
}

/** Whether what is held can't have another line of this length. */
function isTooLong({ unclosed, unclosedLines }: State, length: number): boolean {
  if (!unclosed) return false;
  return unclosedLines >= MAX_LINES || unclosed.bytes.length + 1 + length > MAX_ITEM;
}

/** What was held can't be continued any more. */
function giveUpUnclosed(state: State, items: Decoded[]): void {
  const { unclosed } = state;
  if (!unclosed) return;
  state.unclosed = undefined;
  state.unclosedLines = 0;
  readLine(state, unclosed.bytes, unclosed.start, true, items);
}

/** Reads a whole line. With `final`, an open object counts as broken; else it is kept in `unclosed`. */
function readLine(state: State, bytes: Buffer, base: number, final: boolean, items: Decoded[]): void {
  const { format } = state;
  const line: Line = { bytes, chars: bytes.toString('latin1') };
  let at = 0;
  let damage: { from: number; reason: string } | undefined;
  let attempts = 0;
  const closeDamage = (end: number): void => {
    if (damage) items.push({ kind: 'damage', reason: damage.reason, start: base + damage.from, end: base + end });
    damage = undefined;
  };
  while (at < bytes.length) {
    if (isSpace(bytes[at])) {
      at++;
      continue;
    }
    const object: ObjectAt =
      bytes[at] === BRACE ? format.read(line, at) : { kind: 'broken', reason: 'not the start of an object' };
    if (object.kind === 'open' && !final) {
      closeDamage(at);
      state.unclosed = { bytes: Buffer.from(bytes.subarray(at)), start: base + at };
      state.unclosedLines++;
      return;
    }
    if (object.kind === 'broken' || object.kind === 'open') {
      damage ??= { from: at, reason: object.reason };
      const next = ++attempts < MAX_ATTEMPTS ? line.chars.indexOf(format.marker, at + 1) : -1;
      at = next < 0 ? bytes.length : next;
      continue;
    }
    closeDamage(at);
    if (object.kind === 'alert')
      items.push({ kind: 'alert', alert: object.alert, start: base + at, end: base + object.end });
    if (object.kind === 'invalid')
      items.push({ kind: 'damage', reason: object.reason, start: base + at, end: base + object.end });
    at = object.end;
  }
  closeDamage(trimmedLength(bytes));
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0d || byte === 0x09 || byte === 0x0a;
}

function trimmedLength(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && isSpace(bytes[end - 1])) end--;
  return end;
}
